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
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from governance_pipeline.errors import ArchiveDamaged
from governance_pipeline.freshness import is_ingested
from governance_pipeline.log_files import Log, rotated_files
from governance_pipeline.settings import Settings
from governance_pipeline.sql_files import load_sql
from llmscope.clock import Clock, SystemClock
from llmscope.event_log import FINGERPRINT_BYTES, open_log
from policy_runtime import Policy, PolicyFileError, load_policy
from policy_runtime.policy_file import parse_policy

_FINGERPRINT_DIGITS = 32
# A bucket of the longest window is an hour's fifth, disorder in a log half an hour.
_GATE_SLACK = timedelta(hours=1)
# No window is longer than a calendar month or a baseline of 31 days, and a reservation lives no longer.
_LONGEST_REACH = timedelta(days=2 * 32)
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

    log: Log
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
class RotatedFile:
    """A log file that nobody writes any more, and where it stands.

    Attributes:
        log: telemetry or decisions.
        path: the file.
        segment: what it is in the archive, or will be; None while it is not ingested to its end.
        latest_line: the instant of its latest line, None when none is known.
        is_archived: whether the archive holds it.
        is_needed: whether a gate that starts now reads it, so that it must stay.
    """

    log: Log
    path: Path
    segment: ArchivedSegment | None
    latest_line: datetime | None
    is_archived: bool
    is_needed: bool


@dataclass(frozen=True, slots=True)
class Archiving:
    """What one archiving did.

    Attributes:
        archived: files that are new in the archive.
        removed: files that were removed, because the archive holds them and no gate needs them.
        kept: files that were to be removed and stay, because a gate that starts now reads them.
    """

    archived: tuple[RotatedFile, ...]
    removed: tuple[RotatedFile, ...]
    kept: tuple[RotatedFile, ...]


def archive_segments(
    con: duckdb.DuckDBPyConnection, settings: Settings, *, remove: bool = False, clock: Clock | None = None
) -> Archiving:
    """Archive every rotated segment of both logs that has been ingested to its end.

    Args:
        con: the warehouse, which tells what has been ingested.
        settings: where logs and archive are.
        remove: remove the log files that the archive holds, but for those that a gate needs (`gate_horizon`).
        clock: what time it is.

    Raises:
        ArchiveDamaged: what stands in the archive does not read back as the segment; its log file stays.
        OSError: the archive cannot be written.
    """
    archived, removed, kept = [], [], []
    for file in rotated_segments(con, settings, clock=clock):
        if file.segment is None:
            continue
        if not file.is_archived:
            if not _write(file.path, file.segment):
                continue
            archived.append(file)
        if remove and file.is_needed:
            kept.append(file)
        elif remove:
            _require_held(file.path, file.segment)
            file.path.unlink()
            removed.append(file)
    return Archiving(tuple(archived), tuple(removed), tuple(kept))


def rotated_segments(
    con: duckdb.DuckDBPyConnection, settings: Settings, *, clock: Clock | None = None
) -> list[RotatedFile]:
    """The rotated files of both logs, oldest first, and what archiving would find of each."""
    sources = _rows(load_sql("reports/segments").execute(con))
    horizon = gate_horizon(con, settings, clock=clock)
    found = []
    for log, named in settings.logs.items():
        for path in rotated_files(named):
            source = _source_of(path, [source for source in sources if source["log"] == log])
            if source is None:
                found.append(RotatedFile(log, path, None, None, is_archived=False, is_needed=True))
                continue
            segment, latest = _segment_of(settings, source), source["latest_line"]
            is_needed = latest is not None and latest >= horizon
            found.append(RotatedFile(log, path, segment, latest, segment.path.exists(), is_needed))
    return found


def gate_horizon(
    con: duckdb.DuckDBPyConnection, settings: Settings, *, clock: Clock | None = None
) -> datetime:
    """How far back a gate that starts now reads: over the longest window of the policy in force and of every
    policy that the decision log says was loaded (several gates may share the logs), the longest life of a
    reservation or window of requests before it (`Policy.reach_us`), and an hour for buckets that leave late
    and lines out of order.

    Raises:
        policy_runtime.errors.PolicyFileError: the policy in force cannot be used as written.
    """
    reach = _reach_of(load_policy(settings.policy_path).policy)
    for (text,) in load_sql("reports/policies_loaded").execute(con).fetchall():
        try:
            reach = max(reach, _reach_of(parse_policy(text, "a policy in the decision log").policy))
        except PolicyFileError:
            reach = max(reach, _LONGEST_REACH)  # loaded by another version: as if it had every window
    return (clock or SystemClock()).now() - reach


def _reach_of(policy: Policy) -> timedelta:
    reach_us = policy.longest_window_us + max(policy.ttl_us, policy.longest_request_window_us)
    return timedelta(microseconds=reach_us) + _GATE_SLACK


def archived_segments(settings: Settings) -> list[ArchivedSegment]:
    """What is in the archive, by log and name."""
    found = []
    for log in settings.logs:
        for path in sorted((settings.archive_path / log).glob("*.parquet")):
            fingerprint, size = path.stem.split("-")
            found.append(ArchivedSegment(log, fingerprint, int(size), path))
    return found


@contextmanager
def segments_to_take(con: duckdb.DuckDBPyConnection, settings: Settings) -> Iterator[dict[Log, list[Path]]]:
    """Log files with the archived segments that this warehouse has not taken, by log, for the length of the
    block; in the usual case there are none.

    Raises:
        ArchiveDamaged: a segment does not read back as what was archived.
    """
    sources = _rows(load_sql("publish/sources").execute(con))
    wanted = [
        segment
        for segment in archived_segments(settings)
        if not any(_is_taken(segment, source) for source in sources)
    ]
    folder = settings.archive_path / f".restored-{os.getpid()}"
    try:
        paths: dict[Log, list[Path]] = {log: [] for log in settings.logs}
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
    for _ in read_lines(building):
        pass
    _sync(building)
    building.replace(segment.path)
    _sync(segment.path.parent)
    return True


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk before the log file goes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_held(path: Path, segment: ArchivedSegment) -> None:
    """Read both through once more.

    Raises:
        ArchiveDamaged: the archived segment is not, byte for byte, the log file.
    """
    archived, on_disk = hashlib.sha256(), hashlib.sha256()
    for line in read_lines(segment.path):
        archived.update(line)
    with open_log(path) as log:
        while piece := log.read(_BATCH_BYTES):
            on_disk.update(piece)
    if archived.digest() != on_disk.digest():
        raise ArchiveDamaged(f"{segment.path} is not what stands in {path}, which stays. Remove the former")


def _restore(segment: ArchivedSegment, folder: Path) -> Path:
    """The segment as a log file again, with the age of the one that was archived."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{segment.path.stem}.jsonl"
    line = b"\n"
    with path.open("wb") as log:
        for line in read_lines(segment.path):
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


def read_lines(path: Path) -> Iterator[bytes]:
    """Every line of an archived segment's file, with its newline if it had one.

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
        raise ArchiveDamaged(f"{path} cannot be read: {exc}. {_REMEDY}") from exc
    if digest.hexdigest() != expected:
        raise ArchiveDamaged(f"{path} does not hold what was archived. {_REMEDY}")


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
    folder = settings.archive_path / str(source["log"])
    return ArchivedSegment(source["log"], fingerprint, size, folder / f"{fingerprint}-{size:012d}.parquet")


def _rows(result: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    columns = [column[0] for column in result.description or ()]
    return [dict(zip(columns, row, strict=True)) for row in result.fetchall()]
