"""`governance explain` and `governance rejects`: single lines of the logs, told or shown."""

from __future__ import annotations

from typing import Any

import click

from governance_pipeline.cli.main import Finding
from governance_pipeline.cli.output import Format, format_option, print_rows, say
from governance_pipeline.wording import counted

_HEAD_SHOWN = 80


@click.command(short_help="Tell what became of one request, and why.")
@click.argument("request_id")
@format_option
def explain(request_id: str, form: Format) -> None:
    """Tell what was decided about REQUEST_ID, why, and what became of it: from the logs alone."""
    from governance_pipeline.cli.explain import as_row, follow, in_words  # noqa: PLC0415
    from governance_pipeline.settings import Settings  # noqa: PLC0415
    from llmscope.clock import SystemClock  # noqa: PLC0415
    from llmscope.timestamps import to_micros  # noqa: PLC0415

    settings = Settings.from_environment()
    trail = follow(request_id, settings)
    if not trail.found:
        raise Finding(
            f"request {request_id!r} stands neither in {settings.decisions_path} "
            f"nor in {settings.telemetry_path}"
        )
    now_us = to_micros(SystemClock().now())
    if form == "table":
        for line in in_words(trail, now_us):
            click.echo(line)
        return
    row = as_row(trail, now_us)
    print_rows(tuple(row), [tuple(row.values())], form)


@click.command(short_help="List the log lines in quarantine.")
@click.option("--limit", type=click.IntRange(min=1), help="Show at most this many, the latest.")
@format_option
def rejects(limit: int | None, form: Format) -> None:
    """List quarantined lines: file, byte offset, reason and beginning."""
    from governance_pipeline import warehouse  # noqa: PLC0415
    from governance_pipeline.settings import Settings  # noqa: PLC0415
    from governance_pipeline.sql_files import load_sql  # noqa: PLC0415

    settings = Settings.from_environment()
    columns: tuple[str, ...] = ("log", "path", "line_offset", "line_bytes", "reason", "detail", "line_head")
    rows: list[tuple[Any, ...]] = []
    total = 0
    if settings.warehouse_path.is_file():
        with warehouse.connect(settings.warehouse_path) as con:
            rows = load_sql("reports/rejected_lines").execute(con, row_limit=limit).fetchall()
            [(total,)] = load_sql("reports/rejected_line_count").execute(con).fetchall()
    else:
        say(f"There is no warehouse yet ({settings.warehouse_path}); `governance materialize` makes one.")
    if form == "table":
        rows = [(*row[:-1], _beginning(row[-1])) for row in rows]
    print_rows(columns, rows, form)
    rejected = counted(total, "line was rejected", "lines were rejected") if total else "No line was rejected"
    say(f"{rejected}.")


def _beginning(head: bytes) -> str:
    text = head[:_HEAD_SHOWN].decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
