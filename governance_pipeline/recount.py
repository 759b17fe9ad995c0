"""The logs counted again, from their bytes and by another code path than ingest: what the blocking checks
hold the warehouse against.

Lines are counted as the file has them; money is folded with the gate's own reader (`llmscope.telemetry_line`)
in integer nano-dollars and the rule "the first known cost of an id counts". Nothing here asks DuckDB.

What does not belong here: the comparison (`checks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from governance_pipeline.freshness import is_ingested
from governance_pipeline.log_files import Named, find_log_files
from llmscope.errors import MalformedLine
from llmscope.event_log import FINGERPRINT_BYTES, open_log
from llmscope.telemetry_line import read_usage, text_of
from llmscope.timestamps import parse_micros
from policy_runtime import decode_decision, is_decision

HOUR_US = 3_600_000_000
DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class IngestedFile:
    """A log file that was ingested and is on disk.

    Attributes:
        file_id: its number in the warehouse.
        path: where it is now.
        fingerprint: SHA-256 (hex) of its first bytes.
        ingested_bytes: how much of it was ingested, decompressed.
    """

    file_id: int
    path: Path
    fingerprint: str
    ingested_bytes: int


@dataclass(frozen=True, slots=True)
class LineCount:
    """Lines of the ingested part of a file: those with something in them, and blank ones."""

    filled: int
    blank: int


@dataclass(frozen=True, slots=True)
class Spend:
    """What one namespace spent in one hour: requests, those of unknown cost, and nano-USD."""

    requests: int = 0
    unknown: int = 0
    nano: int = 0


# (charged namespace, start of the hour in microseconds since 1970)
Cell = tuple[str, int]


@dataclass(slots=True)
class _Counting:
    """The bill that counts for an id so far, and where it stands in the order of lines."""

    known: bool
    order: tuple[int, str, int]
    cost_nano: int
    namespace: str | None


def find_on_disk(named: Sequence[Named], ingested: Iterable[Mapping[str, Any]]) -> dict[int, IngestedFile]:
    """Which ingested files are on disk, by file id: recognised by their beginning, not their name.

    Args:
        named: what the log consists of (`Settings.logs`).
        ingested: of each: file_id, fingerprint, fingerprint_length, ingested_bytes, overlap (hex).
    """
    found: dict[int, IngestedFile] = {}
    sources = list(ingested)
    for path in find_log_files(named):
        with open_log(path) as file:
            head = file.read(FINGERPRINT_BYTES)
            for source in sources:
                file_id = int(source["file_id"])
                if file_id not in found and is_ingested(file, head, source):
                    found[file_id] = IngestedFile(
                        file_id, path, str(source["fingerprint"]), int(source["ingested_bytes"])
                    )
    return found


def count_lines(file: IngestedFile) -> LineCount:
    """Count the lines in the ingested part of a file."""
    filled = blank = 0
    for _, line in _lines(file):
        if not line.strip():
            blank += 1
        else:
            filled += 1
    return LineCount(filled, blank)


def fold_spend(
    telemetry: Iterable[IngestedFile], decisions: Iterable[IngestedFile], excluded_ids: frozenset[str]
) -> dict[Cell, Spend]:
    """Spend per charged namespace and hour, as the gate's reader reads the lines.

    Args:
        telemetry, decisions: the files to fold.
        excluded_ids: requests whose counting line lies elsewhere.
    """
    charged = _charged_namespaces(decisions)
    cells: dict[Cell, Spend] = {}
    for request_id, bill in _counting_bills(telemetry).items():
        if request_id in excluded_ids:
            continue
        decided = charged.get(request_id)
        namespace = decided or bill.namespace or DEFAULT_NAMESPACE
        cell = (namespace, bill.order[0] // HOUR_US * HOUR_US)
        before = cells.get(cell, Spend())
        cells[cell] = Spend(
            before.requests + 1, before.unknown + (not bill.known), before.nano + bill.cost_nano
        )
    return cells


def _counting_bills(telemetry: Iterable[IngestedFile]) -> dict[str, _Counting]:
    bills: dict[str, _Counting] = {}
    for file in telemetry:
        for offset, line in _lines(file):
            try:
                usage = read_usage(line, f"line:{file.file_id}:{offset}")
            except MalformedLine:
                continue
            if usage is None:
                continue
            known = usage.cost_nano is not None
            order = (usage.timestamp_us, file.fingerprint, offset)
            before = bills.get(usage.request_id)
            if before is None or (known, before.order) > (before.known, order):
                bills[usage.request_id] = _Counting(
                    known, order, usage.cost_nano or 0, usage.budget_namespace
                )
    return bills


def _charged_namespaces(decisions: Iterable[IngestedFile]) -> dict[str, str | None]:
    """The namespace that each request's first decision charged, else the one it named."""
    first: dict[str, tuple[tuple[int, str, int], str | None]] = {}
    for file in decisions:
        for offset, line in _lines(file):
            try:
                record = decode_decision(line)
            except MalformedLine:
                continue
            if not is_decision(record) or record.request_id is None or record.timestamp is None:
                continue
            order = (parse_micros(record.timestamp), file.fingerprint, offset)
            request_id = text_of(record.request_id) or ""
            before = first.get(request_id)
            if before is None or order < before[0]:
                first[request_id] = (order, text_of(record.charged_namespace, record.budget_namespace))
    return {request_id: charged for request_id, (_, charged) in first.items()}


def _lines(file: IngestedFile) -> Iterator[tuple[int, bytes]]:
    """Lines of the ingested part with their offsets. An over-long line comes whole."""
    offset = 0
    with open_log(file.path) as opened:
        while offset < file.ingested_bytes:
            line = opened.readline()
            if not line:
                return
            yield offset, line.rstrip(b"\n")
            offset += len(line)
