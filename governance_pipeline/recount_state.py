"""What has been counted again so far, kept in the warehouse: a refresh counts again the lines that are new.

Counting is Python's (`recount`); DuckDB only keeps what it came to (`ops.recounted_…`), which commits
together with how far each file was read. It is thrown away, and everything counted from the first byte, when
it does not fit the files: one began otherwise, was read further than it was ingested, or went before it was
read to its end. Bills and decisions of a file are kept only once its fingerprint is final (1,024 bytes), for
that decides ties; those of a shorter one are folded each time.

What does not belong here: the comparison with the tables (`checks`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeVar

import duckdb
import pyarrow as pa

from governance_pipeline.log_files import Log
from governance_pipeline.recount import (
    Bill,
    Cell,
    Charge,
    IngestedFile,
    LineCount,
    Place,
    Spend,
    SpendFold,
    contribution_of,
    count_lines,
    read_bills,
    read_charges,
)
from governance_pipeline.sql_files import load_sql
from governance_pipeline.warehouse import transaction
from llmscope.event_log import FINGERPRINT_BYTES

# Bounds what a fold from the first byte holds in memory.
_LINES_AT_ONCE = 100_000
_Counted = Literal["lines", "spend"]
_T = TypeVar("_T", Bill, Charge)
_NANO_TYPE = pa.decimal128(38, 0)


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A log file that was ingested, and where it is now if it is on disk."""

    file_id: int
    log: Log
    fingerprint: str
    ingested_bytes: int
    on_disk: IngestedFile | None


@dataclass(frozen=True, slots=True)
class RecountedLines:
    """Lines of the files that could be counted, by file id; `is_repeatable` as in `RecountedSpend`."""

    files: Mapping[int, LineCount]
    is_repeatable: bool


@dataclass(frozen=True, slots=True)
class RecountedSpend:
    """Spend as the logs have it.

    Attributes:
        cells: per charged namespace and hour.
        file_ids: the files of both logs that it was folded from.
        requests_of_other_files: how many requests another file has a say in; they are left out.
        is_repeatable: whether all of these are on disk, and some were folded earlier: then it can be folded
            again from their first bytes.
    """

    cells: Mapping[Cell, Spend]
    file_ids: Sequence[int]
    requests_of_other_files: int
    is_repeatable: bool


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far a file was counted."""

    fingerprint: str
    counted_bytes: int
    filled: int
    blank: int


def recount_lines(con: duckdb.DuckDBPyConnection, files: Sequence[KnownFile]) -> RecountedLines:
    """Count the lines of the files of one log that are new since they were counted last.

    Args:
        con: the warehouse, in no transaction.
        files: every ingested file of the log.
    """
    before = _fitting_progress(con, "lines", files)
    counts: dict[int, LineCount] = {}
    with transaction(con):
        for file in files:
            known = before.get(file.file_id, _Progress(file.fingerprint, 0, 0, 0))
            if file.on_disk is not None and known.counted_bytes < file.ingested_bytes:
                added = count_lines(file.on_disk, known.counted_bytes)
                known = _Progress(
                    file.fingerprint,
                    file.ingested_bytes,
                    known.filled + added.filled,
                    known.blank + added.blank,
                )
                _keep_progress(con, "lines", file.file_id, known)
            elif file.on_disk is None and file.file_id not in before:
                continue
            counts[file.file_id] = LineCount(known.filled, known.blank)
    return RecountedLines(counts, _is_repeatable(files, before))


def recount_spend(con: duckdb.DuckDBPyConnection, files: Sequence[KnownFile]) -> RecountedSpend:
    """Fold the lines of both logs that are new since they were folded last.

    Args:
        con: the warehouse, in no transaction.
        files: every ingested file of both logs.
    """
    before = _fitting_progress(con, "spend", files)
    fingerprints = {file.file_id: file.fingerprint for file in files}
    growing = [file for file in files if file.ingested_bytes < FINGERPRINT_BYTES]
    folded = [file for file in files if file.on_disk is not None or file.file_id in before]
    with transaction(con):
        for file in folded:
            if file not in growing:
                _fold_file(con, file, before.get(file.file_id), fingerprints)
    con.begin()
    try:
        for file in growing:
            _fold_file(con, file, None, fingerprints)
        file_ids = [file.file_id for file in folded]
        cells = _all_cells(con)
        elsewhere = 0
        if len(folded) < len(files):
            _take_requests_of_other_files(con, cells, file_ids)
            rows = load_sql("checks/requests_of_other_files").execute(con, file_ids=file_ids).fetchall()
            [(elsewhere,)] = rows
    finally:
        con.rollback()
    cells = {cell: spend for cell, spend in cells.items() if spend != Spend()}
    return RecountedSpend(cells, file_ids, elsewhere, _is_repeatable(files, before))


def forget_recount(con: duckdb.DuckDBPyConnection, counted: _Counted, files: Iterable[KnownFile]) -> None:
    """Have these files counted from their first bytes the next time; of spend, all files."""
    with transaction(con):
        load_sql("checks/forget_recount").execute(
            con, counted=counted, file_ids=[file.file_id for file in files]
        )
        if counted == "spend":
            load_sql("checks/forget_recounted_spend").execute(con)


def _is_repeatable(files: Sequence[KnownFile], before: Mapping[int, _Progress]) -> bool:
    return bool(before) and all(file.on_disk is not None for file in files if file.file_id in before)


def _fitting_progress(
    con: duckdb.DuckDBPyConnection, counted: _Counted, files: Sequence[KnownFile]
) -> dict[int, _Progress]:
    """How far each file was counted, by file id; of none, and nothing is kept, if that does not fit."""
    rows = load_sql("checks/recounted_files").execute(con, counted=counted).fetchall()
    known = {file.file_id: file for file in files}
    before = {row[0]: _Progress(*row[1:]) for row in rows if counted == "spend" or row[0] in known}
    if all(_fits(known.get(file_id), progress) for file_id, progress in before.items()):
        return before
    forget_recount(con, counted, files)
    return {}


def _fits(file: KnownFile | None, progress: _Progress) -> bool:
    if file is None or progress.counted_bytes > file.ingested_bytes:
        return False
    if file.on_disk is None:
        return progress.counted_bytes == file.ingested_bytes
    return progress.fingerprint == file.fingerprint or progress.counted_bytes < FINGERPRINT_BYTES


def _fold_file(
    con: duckdb.DuckDBPyConnection,
    file: KnownFile,
    before: _Progress | None,
    fingerprints: Mapping[int, str],
) -> None:
    if file.on_disk is None or (before is not None and before.counted_bytes == file.ingested_bytes):
        return
    offset = 0 if before is None else before.counted_bytes
    if file.log == "telemetry":
        _fold_lines(con, read_bills(file.on_disk, offset), SpendFold.add_bill, fingerprints)
    else:
        _fold_lines(con, read_charges(file.on_disk, offset), SpendFold.add_charge, fingerprints)
    _keep_progress(con, "spend", file.file_id, _Progress(file.fingerprint, file.ingested_bytes, 0, 0))


def _fold_lines(
    con: duckdb.DuckDBPyConnection,
    lines: Iterator[tuple[str, _T]],
    add: Callable[[SpendFold, str, _T], None],
    fingerprints: Mapping[int, str],
) -> None:
    while some := list(itertools.islice(lines, _LINES_AT_ONCE)):
        fold = _fold_of(con, {request_id for request_id, _ in some}, fingerprints)
        for request_id, line in some:
            add(fold, request_id, line)
        _keep_fold(con, fold)


def _fold_of(
    con: duckdb.DuckDBPyConnection, request_ids: Iterable[str], fingerprints: Mapping[int, str]
) -> SpendFold:
    """What is known of some requests."""
    con.register("recounted_ids", pa.table({"request_id": pa.array(list(request_ids), pa.string())}))
    bills = load_sql("checks/recounted_bills_of").execute(con).fetchall()
    charges = load_sql("checks/recounted_charges_of").execute(con).fetchall()
    con.unregister("recounted_ids")
    return SpendFold(
        fingerprints,
        {row[0]: _bill_of(row[1:]) for row in bills},
        {row[0]: _charge_of(row[1:]) for row in charges},
    )


def _bill_of(row: Sequence[Any]) -> Bill:
    timestamp_us, file_id, offset, cost_nano, namespace = row
    return Bill(Place(timestamp_us, file_id, offset), cost_nano, namespace)


def _charge_of(row: Sequence[Any]) -> Charge:
    timestamp_us, file_id, offset, namespace = row
    return Charge(Place(timestamp_us, file_id, offset), namespace)


def _keep_fold(con: duckdb.DuckDBPyConnection, fold: SpendFold) -> None:
    bills = {request_id: fold.bills[request_id] for request_id in fold.billed}
    if bills:
        table = _table_of(bills)
        costs = pa.array([bill.cost_nano for bill in bills.values()], pa.int64())
        con.register("recounted_changes", table.append_column("cost_nano", costs))
        load_sql("checks/keep_recounted_bills").execute(con)
    charges = {request_id: fold.charges[request_id] for request_id in fold.charged}
    if charges:
        con.register("recounted_changes", _table_of(charges))
        load_sql("checks/keep_recounted_charges").execute(con)
    if fold.changes:
        cells, spends = fold.changes.keys(), fold.changes.values()
        table = pa.table(
            {
                "namespace": pa.array([namespace for namespace, _ in cells], pa.string()),
                "hour_us": pa.array([hour for _, hour in cells], pa.int64()),
                "requests": pa.array([spend.requests for spend in spends], pa.int64()),
                "unknown": pa.array([spend.unknown for spend in spends], pa.int64()),
                "nano": pa.array([Decimal(spend.nano) for spend in spends], _NANO_TYPE),
            }
        )
        con.register("recounted_changes", table)
        load_sql("checks/keep_recounted_spend").execute(con)
    con.unregister("recounted_changes")


def _table_of(lines: Mapping[str, Bill] | Mapping[str, Charge]) -> pa.Table:
    values = lines.values()
    return pa.table(
        {
            "request_id": pa.array(list(lines), pa.string()),
            "timestamp_us": pa.array([line.place.timestamp_us for line in values], pa.int64()),
            "file_id": pa.array([line.place.file_id for line in values], pa.int64()),
            "line_offset": pa.array([line.place.offset for line in values], pa.int64()),
            "namespace": pa.array([line.namespace for line in values], pa.string()),
        }
    )


def _all_cells(con: duckdb.DuckDBPyConnection) -> dict[Cell, Spend]:
    rows = load_sql("checks/recounted_spend").execute(con).fetchall()
    return {
        (namespace, hour): Spend(requests, unknown, int(nano))
        for namespace, hour, requests, unknown, nano in rows
    }


def _take_requests_of_other_files(
    con: duckdb.DuckDBPyConnection, cells: dict[Cell, Spend], file_ids: Sequence[int]
) -> None:
    """Take from the cells the requests that files beside these have a say in."""
    rows = load_sql("checks/recounted_elsewhere").execute(con, file_ids=list(file_ids)).fetchall()
    for row in rows:
        cell, spend = contribution_of(_bill_of(row[:5]), _charge_of(row[5:]))
        cells[cell] = cells[cell].plus(spend, -1)


def _keep_progress(
    con: duckdb.DuckDBPyConnection, counted: _Counted, file_id: int, progress: _Progress
) -> None:
    load_sql("checks/keep_recounted_file").execute(
        con,
        counted=counted,
        file_id=file_id,
        fingerprint=progress.fingerprint,
        counted_bytes=progress.counted_bytes,
        filled=progress.filled,
        blank=progress.blank,
    )
