"""`governance stats`: the monitor view, per provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from governance_pipeline.cli.named_logs import (
    NAMED_FILE,
    look_for,
    say_as_of,
    say_rejected,
    since_option,
)
from governance_pipeline.cli.output import Format, format_option, print_rows, say

if TYPE_CHECKING:
    from governance_pipeline.monitor import Monitor

_RULE = "=" * 60


@click.command(short_help="Show requests, cost, latency and circuit of each provider.")
@since_option
@click.option(
    "--telemetry",
    type=NAMED_FILE,
    help="Look at this telemetry log (JSON Lines, gzip too) instead.",
)
@format_option
def stats(since: str | None, telemetry: Path | None, form: Format) -> None:
    """Show what each provider did: requests, success rate, tokens, cost, latency, and its circuit.

    All of it is read from the telemetry log; a circuit's state is the one that was seen there last.
    """
    from governance_pipeline.monitor import monitor  # noqa: PLC0415  (DuckDB is loaded where it is needed)
    from governance_pipeline.settings import Settings  # noqa: PLC0415

    if telemetry is not None:
        look_for(telemetry)
        seen = monitor([telemetry], since=since, complete=True)
    else:
        seen = monitor(Settings.from_environment().logs["telemetry"], since=since)
    if form != "table":
        print_rows(seen.columns, seen.rows, form)
    elif seen.request_count:
        for line in in_words(seen):
            click.echo(line)
    if not seen.request_count:
        say("There was no traffic." if seen.since is None else "There was no traffic in that time.")
    say_rejected(seen.rejected_lines)
    say_as_of(seen.as_of, seen.since)


def in_words(seen: Monitor) -> Iterator[str]:
    """The view as a person reads it, line by line."""
    providers = seen.by_name()
    yield from (_RULE, "LLM MONITORING STATISTICS", _RULE, "")
    yield f"Total Requests: {seen.request_count:,}"
    if seen.cache_hit_count:
        yield f"Answered from Cache: {seen.cache_hit_count:,}"
    yield f"Total Cost: ${seen.total_cost_usd:,.4f}"
    yield from ("", "Provider Statistics:")
    for row in providers:
        yield from ("", f"  {row['provider'].upper()}:", *(f"    {line}" for line in _provider(row)))
    yield from ("", "Circuit Breaker States:")
    for row in providers:
        yield f"  {row['provider']}: {_circuit(row)}"
    yield _RULE


def _provider(row: dict[str, Any]) -> Iterator[str]:
    yield f"Requests: {row['request_count']:,}"
    yield f"Success Rate: {_percent(row['success_rate'])}"
    yield f"Total Tokens: {row['tokens_in'] + row['tokens_out']:,}"
    unpriced = row["unpriced_count"]
    yield f"Total Cost: ${row['total_cost_usd']:,.4f}" + (f" (unknown for {unpriced:,})" if unpriced else "")
    latencies = ", ".join(f"P{share}: {_ms(row[f'latency_p{share}_ms'])}" for share in (50, 95, 99))
    yield f"Latency - {latencies}"


def _circuit(row: dict[str, Any]) -> str:
    told = f"Failures: {row['recent_failures']:,}, Error Rate: {_percent(row['recent_error_rate'])}"
    opened = row["circuit_opened_at"]
    since = f", since {opened:%Y-%m-%d %H:%M:%S} UTC" if opened is not None else ""
    return f"{row['circuit_state'] or 'not reported'} ({told}{since})"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"


def _ms(latency: float | None) -> str:
    return "unknown" if latency is None else f"{latency:,.0f}ms"
