"""The logs counted again, from their bytes and by another code path than ingest: what the blocking checks
hold the warehouse against.

Lines are counted as the file has them; money is folded with the gate's own reader (`llmscope.telemetry_line`)
in integer nano-dollars and the rule "the first known cost of an id counts". Nothing here asks DuckDB.

What does not belong here: keeping what was counted for the next time (`recount_state`), and the comparison
(`checks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from governance_pipeline.freshness import is_ingested
from governance_pipeline.log_files import find_log_files
from llmscope.errors import MalformedLine
from llmscope.event_log import FINGERPRINT_BYTES, open_log
from llmscope.log_names import Named
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

    def plus(self, other: Spend, sign: int = 1) -> Spend:
        """The sum of both; the difference with -1 for `sign`."""
        return Spend(
            self.requests + sign * other.requests,
            self.unknown + sign * other.unknown,
            self.nano + sign * other.nano,
        )


# (charged namespace, start of the hour in microseconds since 1970)
Cell = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line stands in the order of lines, but for the fingerprint of its file."""

    timestamp_us: int
    file_id: int
    offset: int


@dataclass(frozen=True, slots=True)
class Bill:
    """A telemetry line that bills a request; `cost_nano` None where the cost is unknown."""

    place: Place
    cost_nano: int | None
    namespace: str | None


@dataclass(frozen=True, slots=True)
class Charge:
    """A decision on a request: the namespace that it charged, else the one that it named."""

    place: Place
    namespace: str | None


@dataclass(slots=True)
class SpendFold:
    """The gate's fold of bills and decisions over some requests.

    Attributes:
        fingerprints: of each file, by which lines of one instant are ordered.
        bills, charges: by request, the bill that counts so far and the first decision.
        billed, charged: requests whose bill or decision is another one than in the beginning.
        changes: what has been added to each cell since.
    """

    fingerprints: Mapping[int, str]
    bills: dict[str, Bill] = field(default_factory=dict)
    charges: dict[str, Charge] = field(default_factory=dict)
    billed: set[str] = field(default_factory=set)
    charged: set[str] = field(default_factory=set)
    changes: dict[Cell, Spend] = field(default_factory=dict)

    def add_bill(self, request_id: str, bill: Bill) -> None:
        """The first known cost of an id counts; while none is known, its first line."""
        before = self.bills.get(request_id)
        if before is not None and self._rank(before) <= self._rank(bill):
            return
        self._count(request_id, -1)
        self.bills[request_id] = bill
        self.billed.add(request_id)
        self._count(request_id, +1)

    def add_charge(self, request_id: str, charge: Charge) -> None:
        """The first decision on an id counts."""
        before = self.charges.get(request_id)
        if before is not None and self._order(before.place) <= self._order(charge.place):
            return
        self._count(request_id, -1)
        self.charges[request_id] = charge
        self.charged.add(request_id)
        self._count(request_id, +1)

    def _count(self, request_id: str, sign: int) -> None:
        bill = self.bills.get(request_id)
        if bill is None:
            return
        cell, spend = contribution_of(bill, self.charges.get(request_id))
        self.changes[cell] = self.changes.get(cell, Spend()).plus(spend, sign)

    def _rank(self, bill: Bill) -> tuple[bool, tuple[int, str, int]]:
        return bill.cost_nano is None, self._order(bill.place)

    def _order(self, place: Place) -> tuple[int, str, int]:
        return place.timestamp_us, self.fingerprints[place.file_id], place.offset


def contribution_of(bill: Bill, charge: Charge | None) -> tuple[Cell, Spend]:
    """What a request adds to which cell."""
    namespace = (charge.namespace if charge is not None else None) or bill.namespace or DEFAULT_NAMESPACE
    cell = (namespace, bill.place.timestamp_us // HOUR_US * HOUR_US)
    return cell, Spend(1, bill.cost_nano is None, bill.cost_nano or 0)


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


def count_lines(file: IngestedFile, offset: int = 0) -> LineCount:
    """Count the lines in the ingested part of a file, from one that begins at `offset`."""
    filled = blank = 0
    for _, line in _lines(file, offset):
        if not line.strip():
            blank += 1
        else:
            filled += 1
    return LineCount(filled, blank)


def read_bills(file: IngestedFile, offset: int = 0) -> Iterator[tuple[str, Bill]]:
    """Every bill in the ingested part of a telemetry file from `offset` on, with its request."""
    for start, line in _lines(file, offset):
        try:
            usage = read_usage(line, f"line:{file.file_id}:{start}")
        except MalformedLine:
            continue
        if usage is not None:
            place = Place(usage.timestamp_us, file.file_id, start)
            yield usage.request_id, Bill(place, usage.cost_nano, usage.budget_namespace)


def read_charges(file: IngestedFile, offset: int = 0) -> Iterator[tuple[str, Charge]]:
    """Every decision in the ingested part of a decision file from `offset` on, with its request."""
    for start, line in _lines(file, offset):
        try:
            record = decode_decision(line)
        except MalformedLine:
            continue
        request_id = text_of(record.request_id)
        if is_decision(record) and request_id is not None and record.timestamp is not None:
            place = Place(parse_micros(record.timestamp), file.file_id, start)
            yield request_id, Charge(place, text_of(record.charged_namespace, record.budget_namespace))


def _lines(file: IngestedFile, offset: int) -> Iterator[tuple[int, bytes]]:
    """Lines of the ingested part with their offsets. An over-long line comes whole."""
    with open_log(file.path) as opened:
        opened.seek(offset)
        while offset < file.ingested_bytes:
            line = opened.readline()
            if not line:
                return
            yield offset, line.rstrip(b"\n")
            offset += len(line)
