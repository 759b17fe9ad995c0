"""The lines of one file into DuckDB: one insert draws them as it takes them, its threads in turn.

What does not belong here: transactions. Everything happens inside the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa

from governance_pipeline.errors import ReadersDisagree
from governance_pipeline.ingest._lines import Block, LongLine
from governance_pipeline.ingest._readers import LINES_SCHEMA, LineReader, Reject, reject_of_long
from governance_pipeline.sql_files import load_sql

# By which names the statements know them. After a failure they stay registered until the caller has rolled
# back: DuckDB lets nothing be done before that.
INCOMING_LINES = "incoming_lines"
INCOMING_REJECTS = "incoming_rejects"
# Rejects wait until the insert that met them has ended, with up to 4 KiB each: an insert ends early for them.
_REJECTS_HELD = 4096
_TABLES = {"telemetry": "telemetry", "decisions": "policy_decisions"}


class FileLoader:
    """Takes the lines of one file.

    Args:
        con: inside the transaction that the offsets commit in; nobody else uses it meanwhile.
        reader: the reader of its log.
        file_id: the file.
        path: where it was seen.
        start: the first byte that is new.

    Attributes:
        rows, rejects, blanks: what the lines have become so far.
        end: where the next line begins.
    """

    def __init__(
        self, con: duckdb.DuckDBPyConnection, reader: LineReader, file_id: int, path: str, start: int
    ) -> None:
        self._con = con
        self._reader = reader
        self._file_id = file_id
        self._path = path
        self._held: list[Reject] = []
        self._failure: BaseException | None = None
        self.rows = 0
        self.rejects = 0
        self.blanks = 0
        self.end = start

    def take(self, pieces: Iterator[Block | LongLine]) -> None:
        """Have all of them in the tables when this returns.

        Raises:
            ReadersDisagree: SQL refuses a line that Python takes.
            duckdb.Error: DuckDB could not take them (a full disk, for one).
        """
        [(shape,)] = load_sql("raw/line_shape").execute(self._con, table_name=self._table).fetchall()
        taken = -1
        while taken < self.end:
            taken = self.end
            self._insert_lines(pieces, shape)
            self._insert_rejects()

    @property
    def _table(self) -> str:
        return _TABLES[self._reader.log]

    def _insert_lines(self, pieces: Iterator[Block | LongLine], shape: str) -> None:
        start, rows = self.end, self.rows
        self._con.register(
            INCOMING_LINES, pa.RecordBatchReader.from_batches(LINES_SCHEMA, self._valid_lines(pieces))
        )
        try:
            insert = load_sql(f"raw/insert_{self._reader.log}")
            [(inserted,)] = insert.execute(self._con, file_id=self._file_id, shape=shape).fetchall()
        except duckdb.Error as exc:
            if self._failure is not None:
                raise self._failure from None
            if isinstance(exc, duckdb.ConstraintException):
                raise ReadersDisagree(
                    f"{self._path}, after byte {start}: Python takes a line that SQL refuses: {exc}"
                ) from exc
            raise
        self._con.unregister(INCOMING_LINES)
        if inserted != self.rows - rows:
            raise ReadersDisagree(
                f"{self._path}, after byte {start}: SQL took {inserted} lines of {self.rows - rows}"
            )

    def _valid_lines(self, pieces: Iterator[Block | LongLine]) -> Iterator[pa.RecordBatch]:
        """The valid lines, block by block; ends when the pieces do, or when there are rejects to store."""
        try:
            for piece in pieces:
                self.end = piece.end
                if isinstance(piece, LongLine):
                    self._held.append(reject_of_long(piece))
                else:
                    batch = self._reader.read(piece)
                    self._held += batch.rejects
                    self.blanks += batch.blanks
                    self.rows += batch.lines.num_rows
                    yield batch.lines
                if len(self._held) >= _REJECTS_HELD:
                    return
        except GeneratorExit:
            raise
        except BaseException as exc:  # whatever it is, DuckDB makes an error of its own of it
            self._failure = exc
            raise

    def _insert_rejects(self) -> None:
        rejects, self._held = self._held, []
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
        self._con.register(INCOMING_REJECTS, table)
        load_sql("raw/insert_rejects").execute(
            self._con, file_id=self._file_id, log=self._reader.log, path=self._path
        )
        self._con.unregister(INCOMING_REJECTS)


def _storable(detail: str) -> str:
    """`detail` without the halves of surrogate pairs that UTF-8 cannot hold."""
    return detail.encode("utf-8", "replace").decode("utf-8")
