"""One ingest: fix how far each log is read, take it, commit rows, rejects and offsets together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import duckdb

from governance_pipeline.errors import IngestBusy
from governance_pipeline.ingest._files import LogFile, close_all, open_all
from governance_pipeline.ingest._ledger import KnownFile, Ledger, Likeness, advance
from governance_pipeline.ingest._lines import whole_lines
from governance_pipeline.ingest._load import INCOMING_LINES, INCOMING_REJECTS, FileLoader
from governance_pipeline.ingest._readers import LineReader, reader_for
from governance_pipeline.log_files import Log
from governance_pipeline.sql_files import load_sql
from llmscope.log_names import Named

_FIRST_WAIT_SECONDS = 0.01
_LONGEST_WAIT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class FileReport:
    """What one ingest took from one log file.

    Attributes:
        log: telemetry or decisions.
        path: where the file was seen.
        file_id: its id in `raw.ingest_files`; None when nothing of it has ever been taken.
        start: first byte that was new.
        end: byte at which the next ingest continues.
        rows, rejects, blanks: what the lines in between became.
        pending_bytes: an unterminated tail, left for later.
        problem: why the rest could not be read, else None.
    """

    log: Log
    path: str
    file_id: int | None
    start: int
    end: int
    rows: int
    rejects: int
    blanks: int
    pending_bytes: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one ingest took, file by file."""

    files: tuple[FileReport, ...]

    @property
    def new_rows(self) -> int:
        """Valid lines."""
        return sum(file.rows for file in self.files)

    @property
    def new_rejects(self) -> int:
        """Lines put into quarantine."""
        return sum(file.rejects for file in self.files)

    @property
    def blanks(self) -> int:
        """Blank lines."""
        return sum(file.blanks for file in self.files)

    @property
    def bytes_read(self) -> int:
        """Decompressed bytes that were new."""
        return sum(file.end - file.start for file in self.files)

    @property
    def pending_bytes(self) -> int:
        """Bytes of unterminated tails, left for later."""
        return sum(file.pending_bytes for file in self.files)

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read, with its path."""
        return tuple(f"{file.path}: {file.problem}" for file in self.files if file.problem is not None)


def ingest(
    con: duckdb.DuckDBPyConnection,
    *,
    telemetry: Sequence[Named],
    decisions: Sequence[Named],
    complete: bool = False,
    wait_seconds: float = 10.0,
) -> IngestReport:
    """Take what is new in the logs into `raw`, exactly once, in one transaction.

    How far telemetry is read is fixed first, how far decisions second: a decision is appended before its
    telemetry, so no telemetry is taken before its decision.

    Args:
        con: a warehouse (`warehouse.connect`), in no transaction, used by nobody else meanwhile.
        telemetry, decisions: paths, each with its rotated siblings, or patterns. Missing files are empty.
        complete: the files are handed over as they are and will not grow: no siblings are looked for,
            and an unterminated last line is a line.
        wait_seconds: how long to wait for another ingest through another connection of this process.

    Raises:
        IngestBusy: that other ingest went on for longer.
        IngestError: a file cannot be read, or two readers disagree.
        duckdb.Error: DuckDB could not take the rows (a full disk, for one); nothing is committed.
    """
    with _insertion_in_any_order(con):
        return _ingest(con, telemetry, decisions, complete, wait_seconds)


@contextmanager
def _insertion_in_any_order(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let each of DuckDB's threads fill row groups of its own and write each as it is full. Kept in the order
    of the file, small pieces would be put together first (1.3 times the processor time); kept until five are
    full, they take another 100 MB a thread."""
    load_sql("raw/begin_bulk_insertion").execute(con)
    try:
        yield
    finally:
        load_sql("raw/end_bulk_insertion").execute(con)


def _ingest(
    con: duckdb.DuckDBPyConnection,
    telemetry: Sequence[Named],
    decisions: Sequence[Named],
    complete: bool,
    wait_seconds: float,
) -> IngestReport:
    _begin_turn(con, wait_seconds)
    opened: list[tuple[Log, LogFile]] = []
    try:
        ledger = Ledger(con)
        finished = ledger.finished_compressed
        ends_fixed_in_this_order: tuple[tuple[Log, Sequence[Named]], ...] = (
            ("telemetry", telemetry),
            ("decisions", decisions),
        )
        for log, named in ends_fixed_in_this_order:
            files = open_all(named, siblings=not complete, already_taken=finished)
            opened.extend((log, file) for file in files)
        report = _Run(con, ledger, complete).take(opened)
        if ledger.save(con):
            con.commit()
        else:
            con.rollback()
    except BaseException:  # an interrupt, too, must leave nothing half taken; it is raised on
        con.rollback()
        con.unregister(INCOMING_LINES)
        con.unregister(INCOMING_REJECTS)
        raise
    finally:
        close_all(file for _, file in opened)
    return report


def _begin_turn(con: duckdb.DuckDBPyConnection, wait_seconds: float) -> None:
    """Begin the transaction in which nobody else ingests."""
    deadline = time.monotonic() + wait_seconds
    wait = _FIRST_WAIT_SECONDS
    while True:
        con.begin()
        try:
            load_sql("raw/take_turn").execute(con)
        except duckdb.TransactionException as exc:
            con.rollback()
            if time.monotonic() + wait > deadline:
                raise IngestBusy(
                    f"another ingest into this warehouse has been under way for {wait_seconds} s"
                ) from exc
        except BaseException:  # as in `_ingest`
            con.rollback()
            raise
        else:
            return
        time.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_WAIT_SECONDS)


class _Run:
    """The files of one ingest, within its transaction."""

    def __init__(self, con: duckdb.DuckDBPyConnection, ledger: Ledger, complete: bool) -> None:
        self._con = con
        self._ledger = ledger
        self._complete = complete
        self._readers: dict[Log, LineReader] = {}
        self._met: set[int] = set()

    def take(self, opened: Sequence[tuple[Log, LogFile]]) -> IngestReport:
        """Take every file. Those that look truncated come last: by then it is known whether the whole of
        one stands elsewhere, which makes it a copy that is still being written."""
        reports = []
        shrunk = []
        for log, file in opened:
            likeness, known = self._ledger.recognise(file, log)
            if likeness is Likeness.TRUNCATED:
                shrunk.append((log, file))
            else:
                reports.append(self._take_file(log, file, known))
        for log, file in shrunk:
            likeness, known = self._ledger.recognise(file, log)
            if known is not None and (known.file_id in self._met or file.problem is not None):
                reports.append(_untouched(log, file, known))
            else:
                reports.append(self._take_file(log, file, None))
        return IngestReport(tuple(reports))

    def _take_file(self, log: Log, file: LogFile, known: KnownFile | None) -> FileReport:
        reader = self._reader(log)
        file_id = self._ledger.next_file_id() if known is None else known.file_id
        start = 0 if known is None else known.ingested_bytes
        may_end_unterminated = self._complete or file.compressed
        loader = FileLoader(self._con, reader, file_id, str(file.path), start)
        loader.take(
            whole_lines(file.read_into, start, complete=lambda: may_end_unterminated and file.problem is None)
        )
        end = loader.end
        problem = file.problem  # going back in a gzip file forgets it
        if end > 0:
            self._met.add(file_id)
            before = known or KnownFile(file_id, log, str(file.path), "", 0, 0, b"")
            before = replace(
                before,
                path=str(file.path),
                problem=problem,
                compressed_identity=None if problem else file.compressed_identity,
            )
            counts = (loader.rows, loader.rejects, loader.blanks)
            tail = file.before(end)
            self._ledger.record(advance(before, file.first_bytes, tail, end, counts))
        return FileReport(
            log=log,
            path=str(file.path),
            file_id=file_id if end > 0 else None,
            start=start,
            end=end,
            rows=loader.rows,
            rejects=loader.rejects,
            blanks=loader.blanks,
            pending_bytes=file.pending_bytes(end),
            problem=problem,
        )

    def _reader(self, log: Log) -> LineReader:
        if log not in self._readers:
            self._readers[log] = reader_for(log)
        return self._readers[log]


def _untouched(log: Log, file: LogFile, known: KnownFile) -> FileReport:
    taken = known.ingested_bytes
    return FileReport(log, str(file.path), known.file_id, taken, taken, 0, 0, 0, 0, file.problem)
