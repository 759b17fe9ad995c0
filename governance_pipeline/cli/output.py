"""How the command speaks: rows to stdout in one of three forms, sentences and progress to stderr.

What does not belong here: what the rows mean.
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, TypeVar

import click
import msgspec

from llmscope.timestamps import format_instant

Format = Literal["table", "json", "csv"]
_JSON = msgspec.json.Encoder()
_Command = TypeVar("_Command", bound=Callable[..., Any])
# Wide enough for the widest answer when nobody looks at a terminal.
_WIDTH_WITHOUT_TERMINAL = 260


def format_option(command: _Command) -> _Command:
    """`--format table|json|csv` for a command that prints rows."""
    option = click.option(
        "--format",
        "form",
        type=click.Choice(["table", "json", "csv"]),
        default="table",
        show_default=True,
        help="table for people; json (one array) and csv for programs.",
    )
    return option(command)


def say(sentence: str) -> None:
    """One sentence for people, on stderr; where nobody listens any more the work goes on."""
    with suppress(BrokenPipeError):
        click.echo(sentence, err=True)


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], form: Format) -> None:
    """Rows on stdout: money as numbers, unknown as null (json), nothing (csv) or a dash (table)."""
    if form == "json":
        document = [dict(zip(columns, (_plain(value) for value in row), strict=True)) for row in rows]
        click.echo(_JSON.encode(document))
    elif form == "csv":
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(value) for value in row])
        click.echo(text.getvalue(), nl=False)
    else:
        _print_table(columns, rows)


def _plain(value: Any) -> Any:
    """A value as JSON carries it."""
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, Decimal):
        return msgspec.Raw(f"{value:f}".encode())  # every digit, as a number
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _cell(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    plain = _plain(value)
    if plain is None:
        return ""
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, date):
        return plain.isoformat()
    if isinstance(plain, list | dict):
        return _JSON.encode(plain).decode()
    return str(plain)


def _shown(column: str, value: Any) -> str:
    """A value for people: rounded where the digits say nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal | float):
        if column.endswith(("_share", "_rate", "_utilisation", "_pct")) or "p_value" in column:
            return f"{value:.4g}"
        if column.endswith("_ms"):
            return f"{value:,.0f}"
        return f"{value:,.6f}" if "usd" in column else f"{value:,.6g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return _cell(value)


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    from rich import box  # noqa: PLC0415  (rich is loaded only when a table is drawn)
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    held = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numeric = any(isinstance(row[index], int | float | Decimal) for row in held)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in held:
        table.add_row(*(_shown(column, value) for column, value in zip(columns, row, strict=True)))
    console.print(table, markup=False)
