"""How the demo speaks: tables that fit a terminal, sentences around them, progress on stderr.

What does not belong here: what the answers are, and the sentence that sums up each (`questions`).
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from governance_pipeline.questions import QUESTIONS
from governance_pipeline.wording import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_ROWS_SHOWN = 8
_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_BETWEEN_LINES = 5.0
_WIDTH_WITHOUT_TERMINAL = 80
_HEADING_WIDTH = 10

# The columns that carry the answer; the others are a `governance ask` away.
SHOWN_COLUMNS = {
    "cost_by_tenant_and_feature": (
        "tenant_id",
        "feature_id",
        "request_count",
        "total_cost_usd",
        "avg_cost_usd",
        "margin_per_request_usd",
    ),
    "experiment_cost_vs_outcome": (
        "experiment_id",
        "request_count",
        "avg_cost_usd",
        "cost_delta_pct",
        "success_rate",
        "verdict",
    ),
    "fallback_latency_masking": (
        "route_name",
        "is_fallback",
        "request_count",
        "p95_latency_ms",
        "winning_attempt_p95_ms",
        "masked_share",
        "verdict",
    ),
    "budget_pressure_by_namespace": (
        "budget_namespace",
        "allow_count",
        "downgrade_count",
        "deny_count",
        "peak_utilisation",
        "avoided_cost_usd",
        "downgrade_savings_usd",
    ),
    "unsafe_routes": (
        "route_name",
        "feature_id",
        "request_count",
        "avg_cost_usd",
        "margin_per_request_usd",
        "verdict",
    ),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the five answers: its columns and rows as asked, and the sentence that sums it up."""

    question: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    sentence: str


def tell_answer(console: Console, number: int, answer: Answer) -> None:
    """Print one answer: the question, a table of its leading rows, what was left out, the sentence."""
    console.rule(f"{number}. {QUESTIONS[answer.question].words}", align="left", style="dim")
    console.print(answer_table(answer), markup=False)
    left_out = left_out_note(answer)
    if left_out:
        console.print(left_out, style="dim", markup=False, highlight=False)
    console.print(f"→ {answer.sentence}", style="bold", markup=False, highlight=False)
    console.print()


def answer_table(answer: Answer) -> Table:
    """The leading rows and the telling columns of an answer, narrow enough for 80 characters."""
    from rich import box  # noqa: PLC0415  (rich is loaded only when something is drawn)
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    shown = [column for column in SHOWN_COLUMNS[answer.question] if column in answer.columns]
    places = [answer.columns.index(column) for column in shown]
    for column, place in zip(shown, places, strict=True):
        numeric = any(isinstance(row[place], int | float | Decimal) for row in answer.rows)
        table.add_column(_narrow(column), justify="right" if numeric else "left", overflow="fold")
    for row in answer.rows[:_ROWS_SHOWN]:
        table.add_row(*(cell(column, row[place]) for column, place in zip(shown, places, strict=True)))
    return table


def left_out_note(answer: Answer) -> str:
    """What the table does not show, empty when it shows everything."""
    more_rows = max(0, len(answer.rows) - _ROWS_SHOWN)
    more_columns = len(answer.columns) - len(SHOWN_COLUMNS[answer.question])
    parts = [
        counted(count, f"more {word}")
        for count, word in ((more_rows, "row"), (more_columns, "column"))
        if count > 0
    ]
    return f"{' and '.join(parts)}: governance ask {answer.question}" if parts else ""


def cell(column: str, value: Any) -> str:
    """A value for people: a dash for unknown, digits only where they say something."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Decimal | float):
        return _number(column, float(value))
    return str(value)


def _number(column: str, value: float) -> str:
    if column.endswith("_pct"):
        return f"{value:+.1f} %"
    if column.endswith(("_share", "_rate", "_utilisation")):
        return f"{value:.1%}"
    if column.endswith("_ms"):
        return f"{value:,.0f}"
    if "per_request" in column or column.startswith("avg_"):
        return f"{value:.5f}"
    return f"{value:,.2f}"


def _narrow(column: str) -> str:
    """A column's name broken at underscores into lines of about ten characters."""
    lines = [""]
    for word in re.findall("_?[^_]+", column):
        if lines[-1] and len(lines[-1]) + len(word) > _HEADING_WIDTH:
            lines.append("")
        lines[-1] += word
    return "\n".join(lines)


class ProgressLine:
    """Progress on stderr: a bar in a terminal, else a plain line every few seconds. Use with `with`.

    Args:
        console: where it goes.
        label: what is under way.
    """

    def __init__(self, console: Console, label: str) -> None:
        self._console = console
        self._label = label
        self._looked_at = 0.0
        self._told_at = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        if self._console.is_terminal:
            from rich.progress import (  # noqa: PLC0415  (rich is loaded only when something is drawn)
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
            )

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=self._console)
            self._task = self._bar.add_task(self._label, total=None)
            self._bar.start()
        else:
            self._console.print(self._label, markup=False, highlight=False)
        return self._tell

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _tell(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._looked_at < _SECONDS_BETWEEN_LOOKS and done < total:
            return
        self._looked_at = now
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif done == total or now - self._told_at >= _SECONDS_BETWEEN_LINES:
            self._told_at = now
            self._console.print(f"  {done:,} of {total:,}", markup=False, highlight=False)


def consoles(out: Console | None, err: Console | None) -> tuple[Console, Console]:
    """The consoles for the story (stdout unless given) and for progress (stderr unless given)."""
    from rich.console import Console  # noqa: PLC0415  (rich is loaded only when something is drawn)

    if out is None:
        out = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
    return out, err or Console(file=sys.stderr)
