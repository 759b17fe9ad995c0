"""`governance ask`: one of the five questions, from the published answers or straight from log files."""

from __future__ import annotations

from pathlib import Path

import click

from governance_pipeline.cli.named_logs import (
    NAMED_FILE,
    look_for,
    say_as_of,
    say_rejected,
    since_option,
)
from governance_pipeline.cli.output import Format, format_option, print_rows, say


@click.command(short_help="Answer one of the five questions.")
@click.argument("question")
@click.option(
    "--telemetry",
    type=NAMED_FILE,
    help="Fold this telemetry log (JSON Lines, gzip too).",
)
@click.option("--decisions", type=NAMED_FILE, help="Fold this decision log.")
@click.option(
    "--threshold", type=float, help="unsafe_routes: average cost in USD above which a row is unsafe."
)
@since_option
@format_option
def ask(
    question: str,
    telemetry: Path | None,
    decisions: Path | None,
    threshold: float | None,
    since: str | None,
    form: Format,
) -> None:
    """Answer QUESTION: cost_by_tenant_and_feature, experiment_cost_vs_outcome,
    budget_pressure_by_namespace, fallback_latency_masking or unsafe_routes.

    With --telemetry or --decisions the answer comes straight from those files, a missing one being empty;
    else from the published answers, and where nothing is published yet, from the default logs.
    """
    from governance_pipeline import answers  # noqa: PLC0415  (DuckDB is loaded only where it is needed)
    from governance_pipeline.settings import Settings  # noqa: PLC0415

    settings = Settings.from_environment()
    if telemetry is not None or decisions is not None:
        look_for(telemetry, decisions)
        answer = answers.ask_files(
            question, telemetry, decisions, settings.economics_path, since=since, threshold=threshold
        )
    else:
        answer = answers.ask(question, settings, since=since, threshold=threshold)
        if answer.origin == "logs":
            say(
                f"Nothing is published in {settings.answers_path} yet (`governance materialize` does that): "
                f"answered from {settings.telemetry_path} and {settings.decisions_path}."
            )
    say_rejected(answer.rejected_lines)
    print_rows(answer.columns, answer.rows, form)
    say(answer.sentence)
    say_as_of(answer.as_of, answer.since)
