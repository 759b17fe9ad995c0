"""The rotated generations of a log, and where in a file a window begins.

A log is in time order but for a bounded disorder, so where a window begins is found by bisection.
Which generations a window reaches into is told by the lines in them, never by names or file times.
What does not belong here: what the lines mean (`history`).
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from llmscope.errors import MalformedLine
from llmscope.event_log import FINGERPRINT_BYTES, open_log, rotated_siblings
from llmscope.timestamps import MICROS, parse_micros

logger = logging.getLogger("policy_runtime")

# How far out of order lines may stand for the bisection to find every one of a window.
DISORDER_US = 15 * 60 * MICROS
# Below this the rest is read in full rather than halved further.
_BISECT_UNTIL_BYTES = 64 << 10
_PROBE_BYTES = 64 << 10
# Enough for the longest line there may be.
_MOST_FIRST_PROBES = 17
_PIECE_BYTES = 4 << 20
# Rotation renames and compresses while we look; each round finds what the last one missed.
_MOST_ROUNDS = 20


class Generation:
    """One rotated file, held open so that renaming and compressing it does not matter any more.

    Attributes:
        identity: device and inode.
        modified_ns: when it was written to last, nanoseconds since 1970.
        head: its first (decompressed) bytes, at most 1024.
        first_us: when its first datable line says it was written; None when the first MiB holds none.
        last_us: the latest instant in its last 64 KiB; None when they hold none, or it is compressed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: IO[bytes] = open_log(path)
        stat = os.fstat(self._stream.fileno())
        self.identity = (stat.st_dev, stat.st_ino)
        self.modified_ns = stat.st_mtime_ns
        self._size = stat.st_size
        self._plain = os.pread(self._stream.fileno(), 2, 0) != b"\x1f\x8b"
        start = self._read(max(_PROBE_BYTES, FINGERPRINT_BYTES))
        self.head = start[:FINGERPRINT_BYTES]
        self.first_us = self._first_stamp(start)
        self.last_us = self._last_stamp() if self._plain else None

    def may_hold(self, since_us: int) -> bool:
        """Whether a line dated `since_us` or later may be in it."""
        return self.last_us is None or self.last_us >= since_us - DISORDER_US

    def pieces(self, since_us: int, begin: int = 0) -> Iterator[tuple[int, bytes]]:
        """(offset, whole lines) of all that may be dated `since_us` or later, from byte `begin` on."""
        if self._plain:
            begin = max(begin, first_offset_since(self._stream.fileno(), self._size, since_us))
        offset, rest = self._seek(begin), b""
        while data := self._read(_PIECE_BYTES):
            data = rest + data
            end = data.rfind(b"\n") + 1
            if end:
                yield offset, data[:end]
            offset, rest = offset + end, data[end:]
        if rest:
            yield offset, rest

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except (EOFError, zlib.error, OSError) as exc:
            if self._plain:
                raise
            # As long as it is being written a compressed file ends nowhere; the plain one is still there.
            logger.warning("%s cannot be decompressed any further: %s", self.path, exc)
            return b""

    def _seek(self, offset: int) -> int:
        try:
            return self._stream.seek(offset)
        except (EOFError, zlib.error, OSError) as exc:
            if self._plain:
                raise
            logger.warning("%s cannot be decompressed up to byte %d: %s", self.path, offset, exc)
            return offset

    def _first_stamp(self, start: bytes) -> int | None:
        for _ in range(_MOST_FIRST_PROBES):
            first_us = next(_stamps(start.split(b"\n")), None)
            if first_us is not None:
                return first_us
            more = self._read(_PROBE_BYTES)
            if not more:
                break
            start = start[start.rfind(b"\n") + 1 :] + more
        return None

    def _last_stamp(self) -> int | None:
        begin = max(0, self._size - _PROBE_BYTES)
        lines = os.pread(self._stream.fileno(), _PROBE_BYTES, begin).split(b"\n")
        return max(_stamps(lines), default=None)


def open_generations(path: Path, followed: set[tuple[int, int]]) -> list[Generation]:
    """Every rotated sibling of the log but those `followed` already, the latest first.

    The caller closes them. Files that are renamed meanwhile are still found: the folder is listed
    until a listing shows nothing new.
    """
    known = set(followed)
    generations: list[Generation] = []
    for _ in range(_MOST_ROUNDS):
        found_new = False
        for sibling in rotated_siblings(path):
            try:
                stat = sibling.stat()
                if (stat.st_dev, stat.st_ino) in known:
                    continue
                generation = Generation(sibling)
            except FileNotFoundError:
                found_new = True  # under another name by now
                continue
            except OSError as exc:
                logger.error(
                    "the rotated log %s cannot be read, its spending is not counted: %s", sibling, exc
                )
                known.add((stat.st_dev, stat.st_ino))
                continue
            if generation.identity in known:
                generation.close()
                continue
            known.add(generation.identity)
            generations.append(generation)
            found_new = True
        if not found_new:
            break
    latest = 1 << 62
    return sorted(
        generations, key=lambda found: latest if found.first_us is None else found.first_us, reverse=True
    )


def generations_since(generations: list[Generation], since_us: int) -> list[Generation]:
    """Those of `generations` (the latest first) that a window beginning at `since_us` reaches into,
    the earliest first."""
    # A generation that began before the window did ends all those before it before the window, too.
    began = [found.first_us for found in generations if found.first_us is not None]
    over_us = max((first_us for first_us in began if first_us < since_us - DISORDER_US), default=0)
    return [
        generation
        for generation in reversed(generations)
        if generation.may_hold(since_us)
        and (generation.first_us is None or generation.first_us >= over_us - DISORDER_US)
    ]


def first_offset_since(fd: int, size: int, since_us: int) -> int:
    """A line's beginning before which every line is dated before `since_us`, given bounded disorder.

    Bisects by the lines' timestamps, allowing 15 minutes of disorder. A probe looks at all lines of a
    block, so that a few with a date far in the past mislead nobody.
    """
    target_us = since_us - DISORDER_US
    low, high = 0, size
    while high - low > _BISECT_UNTIL_BYTES:
        middle = (low + high) // 2
        found = _dated_block(fd, middle, high)
        if found is None:
            high = middle
            continue
        begin, latest_us = found
        if latest_us < target_us:
            low = begin
        else:
            high = middle
    return low


def _dated_block(fd: int, start: int, end: int) -> tuple[int, int] | None:
    """Where the first datable line that begins after `start` begins, and the latest instant in the
    stretch of 64 KiB that decided it."""
    position = start
    pending = b""
    while position < end:
        data = os.pread(fd, min(_PROBE_BYTES, end - position), position)
        if not data:
            return None
        block = pending + data
        block_start = position - len(pending)
        begin = block.find(b"\n") + 1
        first: int | None = None
        latest_us = 0
        while 0 < begin < len(block):
            stop = block.find(b"\n", begin)
            if stop < 0:
                break
            at_us = timestamp_of(block[begin:stop])
            if at_us is not None:
                first = block_start + begin if first is None else first
                latest_us = max(latest_us, at_us)
            begin = stop + 1
        if first is not None:
            return first, latest_us
        pending = block[max(0, begin - 1) :] if begin else b""
        position += len(data)
    return None


class _Stamped(msgspec.Struct, gc=False):
    timestamp: str | None = None


_STAMPED = msgspec.json.Decoder(_Stamped)


def timestamp_of(line: bytes) -> int | None:
    """The instant a line says it was written, in microseconds since 1970; None when it says none."""
    try:
        stamp = _STAMPED.decode(line).timestamp
        return None if stamp is None else parse_micros(stamp)
    except (msgspec.DecodeError, UnicodeDecodeError, MalformedLine, RecursionError):
        return None


def _stamps(lines: list[bytes]) -> Iterator[int]:
    return (at_us for at_us in map(timestamp_of, lines) if at_us is not None)
