"""The archive: rotated log segments that were ingested to their end, as Parquet files that are truth too.

    archive/telemetry/<fingerprint>-<bytes>.parquet       one row a line: line_offset, line (its very bytes)

A segment is archived whole or not at all, is read back and compared before its log file may be removed, and
is read again by whatever warehouse has not taken it: a fresh one, or one that is being rebuilt.

What does not belong here: the live log, which is never archived, and what the lines mean.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from governance_pipeline.errors import ArchiveDamaged
from governance_pipeline.freshness import is_ingested
from governance_pipeline.settings import Settings
from governance_pipeline.sql_files import load_sql
from llmscope.event_log import FINGERPRINT_BYTES, open_log, rotated_siblings

LOGS = ("telemetry", "decisions")
_FINGERPRINT_DIGITS = 32
_BATCH_BYTES = 16 << 20
_SCHEMA = pa.schema([("line_offset", pa.int64()), ("line", pa.large_binary())])
_MODIFIED = b"modified_ns"
_SHA256 = b"sha256"
_REMEDY = "Bring back the log file that it was made of, or a copy of the archive"


@dataclass(frozen=True, slots=True)
class ArchivedSegment:
    """A log segment in the archive.

    Attributes:
        log: telemetry or decisions.
        fingerprint: the first 32 hex digits of the SHA-256 of its beginning.
        size_bytes: its length, decompressed.
        path: the Parquet file.
    """

    log: str
    fingerprint: str
    size_bytes: int
    path: Path

    def holds(self, source: Mapping[str, Any]) -> bool:
        """Whether all that was ingested of a file stands in this segment."""
        return (
            source["log"] == self.log
            and str(source["fingerprint"]).startswith(self.fingerprint)
            and int(source["ingested_bytes"]) <= self.size_bytes
        )


@dataclass(frozen=True, slots=True)
class Archiving:
    """What one archiving did.

    Attributes:
        archived: segments that are new in the archive.
        removed: log files that were removed, because the archive holds them.
    """

    archived: tuple[ArchivedSegment, ...]
    removed: tuple[Path, ...]


def archive_segments(
    con: duckdb.DuckDBPyConnection, settings: Settings, *, remove: bool = False
) -> Archiving:
    """Archive every rotated segment of both logs that has been ingested to its end.

    Args:
        con: the warehouse, which tells what has been ingested.
        settings: where logs and archive are.
        remove: remove the log files that the archive holds. A gate that starts reads rotated segments as far
            back as its longest window: remove only what is older.

    Raises:
        ArchiveDamaged: what was written does not read back as the segment; its log file stays.
        OSError: the archive cannot be written.
    """
    sources = _ingested_sources(con)
    archived, removed = [], []
    for log in LOGS:
        for path in rotated_siblings(_log_path(settings, log)):
            source = _source_of(path, [source for source in sources if source["log"] == log])
            if source is None:
                continue
            segment = _segment_of(settings, source)
            if not segment.path.exists():
                if not _write(path, segment):
                    continue
                archived.append(segment)
            if remove:
                path.unlink()
                removed.append(path)
    return Archiving(tuple(archived), tuple(removed))


def archived_segments(settings: Settings) -> list[ArchivedSegment]:
    """What is in the archive, by log and name."""
    found = []
    for log in LOGS:
        for path in sorted((archive_path(settings) / log).glob("*.parquet")):
            fingerprint, size = path.stem.split("-")
            found.append(ArchivedSegment(log, fingerprint, int(size), path))
    return found


def archive_path(settings: Settings) -> Path:
    """The folder of the archive."""
    return settings.home / "archive"


@contextmanager
def segments_to_take(con: duckdb.DuckDBPyConnection, settings: Settings) -> Iterator[dict[str, list[Path]]]:
    """Log files with the archived segments that this warehouse has not taken, by log, for the length of the
    block; in the usual case there are none.

    Raises:
        ArchiveDamaged: a segment does not read back as what was archived.
    """
    sources = _ingested_sources(con)
    wanted = [
        segment
        for segment in archived_segments(settings)
        if not any(_is_taken(segment, source) for source in sources)
    ]
    folder = archive_path(settings) / f".restored-{os.getpid()}"
    try:
        paths: dict[str, list[Path]] = {log: [] for log in LOGS}
        for segment in wanted:
            paths[segment.log].append(_restore(segment, folder / segment.log))
        yield paths
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_taken(segment: ArchivedSegment, source: Mapping[str, Any]) -> bool:
    return (
        source["log"] == segment.log
        and str(source["fingerprint"]).startswith(segment.fingerprint)
        and int(source["ingested_bytes"]) >= segment.size_bytes
    )


def _write(path: Path, segment: ArchivedSegment) -> bool:
    """Write the segment at `path`; False, and nothing written, when the file holds more than was ingested."""
    segment.path.parent.mkdir(parents=True, exist_ok=True)
    building = segment.path.with_suffix(".building")
    digest, offset = hashlib.sha256(), 0
    with open_log(path) as log, pq.ParquetWriter(building, _SCHEMA, compression="zstd") as writer:
        while lines := log.readlines(_BATCH_BYTES):
            offsets = []
            for line in lines:
                offsets.append(offset)
                offset += len(line)
                digest.update(line)
            writer.write_batch(
                pa.record_batch([pa.array(offsets), pa.array(lines, pa.large_binary())], _SCHEMA)
            )
        modified = str(path.stat().st_mtime_ns).encode()
        writer.add_key_value_metadata({_MODIFIED: modified, _SHA256: digest.hexdigest().encode()})
    if offset != segment.size_bytes:
        building.unlink()
        return False
    for _ in _lines_of(building):
        pass
    with building.open("rb") as written:
        os.fsync(written.fileno())
    building.replace(segment.path)
    return True


def _restore(segment: ArchivedSegment, folder: Path) -> Path:
    """The segment as a log file again, with the age of the one that was archived."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{segment.path.stem}.jsonl"
    line = b"\n"
    with path.open("wb") as log:
        for line in _lines_of(segment.path):
            log.write(line)
    if not line.endswith(b"\n"):
        # Only in a compressed file is an unterminated tail a line.
        compressed = path.with_suffix(".jsonl.gz")
        with path.open("rb") as plain, gzip.open(compressed, "wb", compresslevel=1) as log:
            shutil.copyfileobj(plain, log)
        path.unlink()
        path = compressed
    modified = int(pq.read_metadata(segment.path).metadata[_MODIFIED])
    os.utime(path, ns=(modified, modified))
    return path


def _lines_of(path: Path) -> Iterator[bytes]:
    """Every line of an archived segment.

    Raises:
        ArchiveDamaged: at the end, when together they are not what was archived.
    """
    digest = hashlib.sha256()
    try:
        with pq.ParquetFile(path) as file:
            expected = file.metadata.metadata[_SHA256].decode()
            for batch in file.iter_batches(columns=["line"]):
                for line in batch.column(0).to_pylist():
                    digest.update(line)
                    yield line
    except (pa.ArrowException, OSError, KeyError, TypeError) as exc:
        raise ArchiveDamaged(
            f"{path} cannot be read: {exc}. Bring back the log file that it was made of"
        ) from exc
    if digest.hexdigest() != expected:
        raise ArchiveDamaged(
            f"{path} does not hold what was archived. Bring back the log file it was made of"
        )


def _source_of(path: Path, sources: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The ingested file that stands at `path`, by its content."""
    try:
        with open_log(path) as file:
            head = file.read(FINGERPRINT_BYTES)
            return next((source for source in sources if is_ingested(file, head, source)), None)
    except FileNotFoundError:
        return None


def _segment_of(settings: Settings, source: Mapping[str, Any]) -> ArchivedSegment:
    fingerprint, size = str(source["fingerprint"])[:_FINGERPRINT_DIGITS], int(source["ingested_bytes"])
    folder = archive_path(settings) / str(source["log"])
    return ArchivedSegment(
        str(source["log"]), fingerprint, size, folder / f"{fingerprint}-{size:012d}.parquet"
    )


def _log_path(settings: Settings, log: str) -> Path:
    return settings.telemetry_path if log == "telemetry" else settings.decisions_path


def _ingested_sources(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    result = load_sql("publish/sources").execute(con)
    columns = [column[0] for column in result.description or ()]
    return [dict(zip(columns, row, strict=True)) for row in result.fetchall()]
