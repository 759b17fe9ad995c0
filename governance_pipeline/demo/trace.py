"""The Azure LLM inference trace 2023: where it lies and what its rows say.

Source: the Azure Public Dataset, CC BY 4.0; the attribution lies beside the files (README.md).
Nothing here is invented: arrival instants and token counts as published. What the demo makes of
them (tenants, budgets, an outage) belongs to `story`.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from governance_pipeline.demo.errors import TraceError
from llmscope.errors import MalformedLine
from llmscope.timestamps import parse_micros, to_micros

HOUR_US = 3_600_000_000
CODE, CHAT = "code-completion", "chat"
# Each file is the traffic of one service; a service is one feature here.
TRACE_FILES = {
    CODE: "azure_llm_inference_trace_2023_code.csv.gz",
    CHAT: "azure_llm_inference_trace_2023_conv.csv.gz",
}
_COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of the trace.

    Attributes:
        arrival_us: when it arrived in November 2023, microseconds since 1970 (the seventh
            fractional digit is cut).
        feature_id: which of the two services it went to.
        number: its place in that service's file, from 0.
        context_tokens: tokens that went in.
        generated_tokens: tokens that came out.
    """

    arrival_us: int
    feature_id: str
    number: int
    context_tokens: int
    generated_tokens: int


def trace_folder() -> Path:
    """The folder of the gzipped trace: inside the installed package, else in the checkout.

    Raises:
        TraceError: it is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    candidates = (package / "_data" / "traces", package.parent / "fixtures" / "traces")
    for folder in candidates:
        if all((folder / name).is_file() for name in TRACE_FILES.values()):
            return folder
    places = " nor in ".join(str(folder) for folder in candidates)
    raise TraceError(f"the Azure trace is neither in {places}: reinstall the package or restore the checkout")


def load_trace(folder: Path | None = None) -> tuple[TraceRow, ...]:
    """All 28,185 rows of both services, in order of arrival (ties: code first, then file order).

    Raises:
        TraceError: a file is missing or one of its rows cannot be read.
    """
    folder = trace_folder() if folder is None else folder
    rows: list[TraceRow] = []
    for feature_id, name in TRACE_FILES.items():
        rows.extend(_read(folder / name, feature_id))
    rows.sort(key=lambda row: row.arrival_us)
    return tuple(rows)


def every_nth(rows: Iterable[TraceRow], n: int) -> tuple[TraceRow, ...]:
    """A thinner trace of the same shape: every `n`-th row of each service."""
    return tuple(row for row in rows if row.number % n == 0)


def shift_hours(rows: Sequence[TraceRow], now: datetime) -> int:
    """By how many whole hours the trace moves so that its last request lies within the hour before `now`.

    Whole hours keep minutes, seconds and the alignment to every window of the gate; the last
    arrival is then at most one hour before `now`, and not after it.
    """
    if not rows:
        raise TraceError("an empty trace cannot be replayed")
    return (to_micros(now) - max(row.arrival_us for row in rows)) // HOUR_US


def _read(path: Path, feature_id: str) -> list[TraceRow]:
    try:
        with gzip.open(path, "rt", encoding="ascii", newline="") as lines:
            reader = csv.reader(lines)
            header = next(reader, None)
            if header != _COLUMNS:
                raise TraceError(f"{path}: expected the columns {_COLUMNS}, found {header}")
            return [
                TraceRow(parse_micros(stamp), feature_id, number, int(context), int(generated))
                for number, (stamp, context, generated) in enumerate(reader)
            ]
    except (OSError, EOFError, ValueError, MalformedLine) as exc:
        if isinstance(exc, TraceError):
            raise
        raise TraceError(f"{path}: cannot be read as the trace: {exc}") from exc
