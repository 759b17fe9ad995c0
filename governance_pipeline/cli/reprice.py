"""`governance reprice`: what requests were billed beside what they would cost at other prices."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import click

from governance_pipeline.cli.named_logs import (
    NAMED_FILE,
    look_for,
    say_as_of,
    say_rejected,
    since_option,
)
from governance_pipeline.cli.output import Format, format_option, print_rows, say


@click.command(short_help="Show as-billed against repriced costs.")
@since_option
@click.option(
    "--prices",
    type=NAMED_FILE,
    help="A price list (YAML) that beats the built-in prices.",
)
@click.option(
    "--by", type=click.Choice(["model", "tenant"]), default="model", help="tenant: per model and tenant."
)
@click.option(
    "--telemetry",
    type=NAMED_FILE,
    help="Reprice this telemetry log (JSON Lines, gzip too) instead.",
)
@format_option
def reprice(
    since: str | None,
    prices: Path | None,
    by: Literal["model", "tenant"],
    telemetry: Path | None,
    form: Format,
) -> None:
    """Price every request again, by its own tokens, day and provider, and show it beside the bill.

    Nothing is rewritten: the logs keep what was billed. Without --prices the prices are those that calls are
    priced by today. delta_usd compares requests that have a cost both before and after.
    """
    from governance_pipeline import facts_at_hand, repricing  # noqa: PLC0415  (DuckDB only where needed)
    from governance_pipeline.settings import Settings  # noqa: PLC0415
    from llmscope.gateway.cost_model import price_book  # noqa: PLC0415
    from llmscope.gateway.price_list import read_price_list  # noqa: PLC0415

    settings = Settings.from_environment()
    book = price_book() if prices is None else price_book().with_list(read_price_list(prices))
    with ExitStack() as stack:
        if telemetry is not None:
            look_for(telemetry)
            facts = stack.enter_context(facts_at_hand.facts_of_logs([telemetry], [], complete=True))
        else:
            facts = stack.enter_context(facts_at_hand.facts_at_hand(settings))
        repriced = repricing.reprice(facts, book, since=since, by=by)
    if facts.origin == "logs" and telemetry is None:
        say(
            f"Nothing is published in {settings.answers_path} yet (`governance materialize` does that): "
            f"repriced from {settings.telemetry_path}."
        )
    say_rejected(facts.rejected_lines)
    print_rows(repriced.columns, repriced.rows, form)
    say(repriced.sentence)
    say_as_of(facts.as_of, repriced.since)
