"""Batches of valid lines into DuckDB: many to one insert, while the next ones are being read.

What does not belong here: transactions. Everything happens inside the caller's.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import duckdb
import pyarrow as pa

from governance_pipeline.errors import ReadersDisagree
from governance_pipeline.ingest._readers import Batch, LineReader, Reject, reject_of
from governance_pipeline.sql_files import load_sql
from llmscope.errors import MalformedLine

# Whole row groups of 122,880 are compressed and written as they are inserted; smaller inserts go through
# the write-ahead log and are written twice.
_ROWS_PER_INSERT = 122_880
# Lines may be long: then an insert takes what has been read so far, so that memory stays bounded.
_BYTES_PER_INSERT = 128 << 20


class BatchLoader:
    """Loads the batches of one file. While DuckDB takes some, the next may be read.

    Args:
        con: inside the transaction that the offsets commit in; nobody else uses it meanwhile.
        reader: the reader that made the batches.
        file_id: the file they stand in.
        path: where that file was seen.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, reader: LineReader, file_id: int, path: str) -> None:
        self._con = con
        self._reader = reader
        self._file_id = file_id
        self._path = path
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ingest-load")
        self._loading: Future[None] | None = None
        self._waiting: list[Batch] = []
        self._waiting_rows = self._waiting_bytes = 0
        self.rows = 0
        self.rejects = 0
        self.blanks = 0

    def __enter__(self) -> BatchLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.shutdown(wait=True)

    def load(self, batch: Batch) -> None:
        """Take a batch over; it is loaded with the ones after it."""
        self._waiting.append(batch)
        self._waiting_rows += batch.rows
        self._waiting_bytes += len(batch.block.data)
        if self._waiting_rows >= _ROWS_PER_INSERT or self._waiting_bytes >= _BYTES_PER_INSERT:
            self._hand_over()

    def reject(self, rejects: list[Reject]) -> None:
        """Quarantine lines."""
        self.finish()
        self._insert_rejects(rejects)

    def finish(self) -> None:
        """Wait until everything handed over is in the tables.

        Raises:
            ReadersDisagree: Python and SQL read a line differently.
            duckdb.Error: DuckDB could not take it (a full disk, for one).
        """
        self._hand_over()
        self._wait()

    def _hand_over(self) -> None:
        """Have DuckDB take what is waiting once it has taken what it was given before."""
        self._wait()
        if self._waiting:
            self._loading = self._worker.submit(self._load, self._waiting)
        self._waiting = []
        self._waiting_rows = self._waiting_bytes = 0

    def _wait(self) -> None:
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.result()

    def _load(self, batches: list[Batch]) -> None:
        self.blanks += sum(batch.blanks for batch in batches)
        rejects = [reject for batch in batches for reject in batch.rejects]
        table = pa.concat_tables([pa.table(batch.columns) for batch in batches])
        if table.num_rows:
            self._con.register("incoming_lines", table)
            try:
                inserted = self._insert()
                if inserted < table.num_rows:
                    rejects = sorted(rejects + self._refused_instants(batches), key=_by_offset)
            finally:
                self._con.unregister("incoming_lines")
            self.rows += inserted
        self._insert_rejects(rejects)

    def _insert(self) -> int:
        """Insert the lines whose instants SQL can take; how many those were."""
        name = f"raw/insert_{self._reader.log}"
        [(inserted,)] = load_sql(name).execute(self._con, file_id=self._file_id).fetchall()
        return int(inserted)

    def _refused_instants(self, batches: list[Batch]) -> list[Reject]:
        """Rejects for the lines whose instants SQL cannot take, with the gate's reason."""
        rows = load_sql(f"raw/bad_instants_{self._reader.log}").execute(self._con).fetchall()
        refused = []
        for (offset,) in rows:
            line = next(batch for batch in reversed(batches) if batch.block.offset <= offset).line_at(offset)
            try:
                self._reader.check(line)
            except MalformedLine as malformed:
                refused.append(reject_of(offset, line, malformed))
            else:
                raise ReadersDisagree(
                    f"{self._path}, byte {offset}: Python takes an instant of this line that SQL refuses"
                )
        return refused

    def _insert_rejects(self, rejects: list[Reject]) -> None:
        if not rejects:
            return
        self.rejects += len(rejects)
        table = pa.table(
            {
                "line_offset": pa.array([reject.line_offset for reject in rejects], pa.int64()),
                "line_bytes": pa.array([reject.line_bytes for reject in rejects], pa.int64()),
                "reason": pa.array([reject.reason for reject in rejects], pa.string()),
                "detail": pa.array([_storable(reject.detail) for reject in rejects], pa.string()),
                "line_head": pa.array([reject.head for reject in rejects], pa.binary()),
            }
        )
        self._con.register("incoming_rejects", table)
        try:
            load_sql("raw/insert_rejects").execute(
                self._con, file_id=self._file_id, log=self._reader.log, path=self._path
            )
        finally:
            self._con.unregister("incoming_rejects")


def _by_offset(reject: Reject) -> int:
    return reject.line_offset


def _storable(detail: str) -> str:
    """`detail` without the halves of surrogate pairs that UTF-8 cannot hold."""
    return detail.encode("utf-8", "replace").decode("utf-8")
