"""What the logs hold that has not been ingested: told from files and offsets, never from event times.

What does not belong here: reading the lines (`ingest`), and whether it is too much (`checks`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from governance_pipeline.log_files import Log, find_log_files, is_compressed
from llmscope.event_log import FINGERPRINT_BYTES, open_log
from llmscope.log_names import Named

_SCAN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Unread:
    """The part of one log file that lies beyond what was ingested.

    Attributes:
        log: telemetry or decisions.
        path: the file.
        offset: where the unread part begins, in decompressed bytes.
        size_bytes: how much there is (of a gzip file, the size of the file itself).
        has_whole_line: whether an ingest would find a line in it; a torn tail alone is pending.
        modified_at: when the file was last written, seconds since 1970: no unread byte is younger.
    """

    log: str
    path: Path
    offset: int
    size_bytes: int
    has_whole_line: bool
    modified_at: float


def unread_in(logs: Mapping[Log, Sequence[Named]], sources: Sequence[Mapping[str, Any]]) -> list[Unread]:
    """Compare both logs and their rotated generations with what has been ingested.

    Args:
        logs: what each consists of (`Settings.logs`).
        sources: one mapping per ingested file: log, fingerprint, fingerprint_length, ingested_bytes,
            overlap (hex), compressed_identity (`checks.ingested_sources`, or a manifest's sources).
    """
    found = []
    for log, named in logs.items():
        known = [source for source in sources if source["log"] == log]
        for path in find_log_files(named):
            unread = _unread_of(log, path, known)
            if unread is not None:
                found.append(unread)
    return found


def _unread_of(log: str, path: Path, known: Sequence[Mapping[str, Any]]) -> Unread | None:
    try:
        stat = path.stat()
        with open_log(path) as file:
            head = file.read(FINGERPRINT_BYTES)
            if is_compressed(path):
                if _compressed_identity(stat) in {source["compressed_identity"] for source in known}:
                    return None
                return Unread(log, path, 0, stat.st_size, True, stat.st_mtime)
            offset = _ingested_bytes(file, head, known)
            if stat.st_size <= offset:
                return None
            file.seek(offset)
            has_line = _has_newline(iter(lambda: file.read(_SCAN_BYTES), b""))
    except FileNotFoundError:
        return None
    return Unread(log, path, offset, stat.st_size - offset, has_line, stat.st_mtime)


def is_ingested(file: IO[bytes], head: bytes, source: Mapping[str, Any]) -> bool:
    """Whether `file`, which begins with `head`, is the one that `source` tells of: it begins as that did, and
    the bytes that were taken last stand where they stood (a file truncated since then is another file)."""
    length = int(source["fingerprint_length"])
    if len(head) < length or hashlib.sha256(head[:length]).hexdigest() != source["fingerprint"]:
        return False
    overlap = bytes.fromhex(source["overlap"])
    file.seek(int(source["ingested_bytes"]) - len(overlap))
    return file.read(len(overlap)) == overlap


def _ingested_bytes(file: IO[bytes], head: bytes, known: Iterable[Mapping[str, Any]]) -> int:
    """How far the file was ingested: the longest fingerprint that fits decides."""
    best_length, taken = 0, 0
    for source in known:
        if int(source["fingerprint_length"]) > best_length and is_ingested(file, head, source):
            best_length, taken = int(source["fingerprint_length"]), int(source["ingested_bytes"])
    return taken


def _compressed_identity(stat: os.stat_result) -> str:
    return f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}"


def _has_newline(blocks: Iterable[bytes]) -> bool:
    return any(b"\n" in block for block in blocks)
