"""Batches of valid lines into DuckDB, one batch behind the reading of the next.

What does not belong here: transactions. Everything happens inside the caller's.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from governance_pipeline.errors import ReadersDisagree
from governance_pipeline.ingest._readers import Batch, LineReader, Reject, reject_of
from governance_pipeline.sql_files import load_sql
from llmscope.errors import MalformedLine

# DuckDB hands Arrow batches to its threads one by one: two halves of a block keep two of them busy.
_PIECES_PER_BATCH = 2
_FEWEST_ROWS_PER_PIECE = 2048


class BatchLoader:
    """Loads the batches of one file. While DuckDB takes one, the next may be read.

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
        """Load a batch once the one before is in."""
        self.finish()
        self._loading = self._worker.submit(self._load, batch)

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
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.result()

    def _load(self, batch: Batch) -> None:
        self.blanks += batch.blanks
        table = pa.table(batch.columns)
        rejects = batch.rejects
        if table.num_rows:
            refused = self._refused_instants(batch, table)
            if refused:
                taken = pc.is_in(
                    table["line_offset"], value_set=pa.array([reject.line_offset for reject in refused])
                )
                table = table.filter(pc.invert(taken))
                rejects = sorted(rejects + refused, key=lambda reject: reject.line_offset)
            self._insert(table)
            self.rows += table.num_rows
        self._insert_rejects(rejects)

    def _insert(self, table: pa.Table) -> None:
        piece = max(_FEWEST_ROWS_PER_PIECE, -(-table.num_rows // _PIECES_PER_BATCH))
        pieces = pa.Table.from_batches(table.to_batches(max_chunksize=piece), schema=table.schema)
        self._con.register("incoming_lines", pieces)
        try:
            load_sql(f"raw/insert_{self._reader.log}").execute(self._con, file_id=self._file_id)
        finally:
            self._con.unregister("incoming_lines")

    def _refused_instants(self, batch: Batch, table: pa.Table) -> list[Reject]:
        """Rejects for the lines whose instants SQL cannot take, with the gate's reason."""
        self._con.register("incoming_lines", table)
        try:
            rows = load_sql(f"raw/bad_instants_{self._reader.log}").execute(self._con).fetchall()
        finally:
            self._con.unregister("incoming_lines")
        refused = []
        for (offset,) in rows:
            line = batch.line_at(offset)
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


def _storable(detail: str) -> str:
    """`detail` without the halves of surrogate pairs that UTF-8 cannot hold."""
    return detail.encode("utf-8", "replace").decode("utf-8")
