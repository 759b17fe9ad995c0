"""Which log files are known, by content, and how far each has been taken.

A file is the one whose recorded beginning it has and whose last taken bytes stand where they stood:
the longest such beginning decides, among equals the youngest file. A file with a known beginning that
is shorter than what was taken, or shows other bytes there, was truncated: it is another file.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

import duckdb

from governance_pipeline.ingest._files import OVERLAP_BYTES, LogFile
from governance_pipeline.log_files import Log
from governance_pipeline.sql_files import load_sql
from llmscope.event_log import FINGERPRINT_BYTES, fingerprint_of


@dataclass(frozen=True, slots=True)
class KnownFile:
    """One row of `raw.ingest_files`."""

    file_id: int
    log: Log
    path: str
    fingerprint: str
    fingerprint_length: int
    ingested_bytes: int
    overlap: bytes
    row_count: int = 0
    reject_count: int = 0
    blank_count: int = 0
    compressed_identity: str | None = None
    problem: str | None = None

    def begins(self, head: bytes) -> bool:
        """Whether a file with this head begins as this one does."""
        length = self.fingerprint_length
        return len(head) >= length and fingerprint_of(head[:length]).sha256 == self.fingerprint


class Likeness(enum.Enum):
    """What the ledger makes of a file."""

    KNOWN = "known"
    NEW = "new"
    TRUNCATED = "truncated"  # or a copy of a known file that is not finished yet


class Ledger:
    """The known files of one ingest run, as they were committed and as the run leaves them."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        rows = load_sql("raw/known_files").execute(con).fetchall()
        self._files = {row[0]: KnownFile(*row) for row in rows}
        self._committed = dict(self._files)

    @property
    def finished_compressed(self) -> frozenset[str]:
        """Identities of gzip files that have been read to their end."""
        return frozenset(
            file.compressed_identity for file in self._files.values() if file.compressed_identity is not None
        )

    def recognise(self, file: LogFile, log: Log) -> tuple[Likeness, KnownFile | None]:
        """Which known file this is; positions `file` where reading continues."""
        head = file.first_bytes
        candidates = sorted(
            (known for known in self._files.values() if known.log == log and known.begins(head)),
            key=lambda known: (known.fingerprint_length, known.file_id),
            reverse=True,
        )
        for known in candidates:
            if file.seek(known.ingested_bytes) == known.overlap:
                return Likeness.KNOWN, known
        problem = file.problem
        file.seek(0)
        if candidates:
            file.problem = problem
            return Likeness.TRUNCATED, candidates[0]
        return Likeness.NEW, None

    def next_file_id(self) -> int:
        """An id that no file has."""
        return max(self._files, default=0) + 1

    def record(self, known: KnownFile) -> None:
        """Keep what is now known of a file, for the rest of this run and for `save`."""
        self._files[known.file_id] = known

    def save(self, con: duckdb.DuckDBPyConnection) -> bool:
        """Write what changed, within the caller's transaction; returns whether anything did."""
        for file_id, known in self._files.items():
            before = self._committed.get(file_id)
            if before == known:
                continue
            name = "raw/add_file" if before is None else "raw/update_file"
            values = {slot: getattr(known, slot) for slot in KnownFile.__slots__}
            if before is not None:
                del values["log"]
            load_sql(name).execute_with(con, values)
        return self._files != self._committed


def advance(
    known: KnownFile, head: bytes, tail: bytes, taken: int, counts: tuple[int, int, int]
) -> KnownFile:
    """`known` after it was taken up to byte `taken`.

    Args:
        head: the file's first bytes, as many as a fingerprint covers, from what has been taken.
        tail: the last bytes taken, 64 or more if there are so many.
        counts: rows, rejects and blanks that were added.
    """
    fingerprint = fingerprint_of(head[: min(FINGERPRINT_BYTES, taken)])
    rows, rejects, blanks = counts
    return replace(
        known,
        fingerprint=fingerprint.sha256,
        fingerprint_length=fingerprint.length,
        ingested_bytes=taken,
        overlap=tail[-OVERLAP_BYTES:],
        row_count=known.row_count + rows,
        reject_count=known.reject_count + rejects,
        blank_count=known.blank_count + blanks,
    )
