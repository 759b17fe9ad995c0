"""The rotated generations of a log, where in a file a window begins, and how far a file has been folded.

A log is in time order but for a bounded disorder, so where a window begins is found by bisection.
Which generations a window reaches into is told by the lines in them, never by names or file times.
What does not belong here: what the lines mean (`history`).
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from llmscope.errors import MalformedLine
from llmscope.event_log import (
    FINGERPRINT_BYTES,
    READ_BYTES,
    RETIRED_SECONDS,
    open_log,
    rotated_siblings,
)
from llmscope.timestamps import MICROS, parse_micros

logger = logging.getLogger("policy_runtime")

# How far out of order lines may stand for the bisection to find every one of a window.
DISORDER_US = 15 * 60 * MICROS
# Below this the rest is read in full rather than halved further.
_BISECT_UNTIL_BYTES = 64 << 10
_PROBE_BYTES = 64 << 10
# Enough for the longest line there may be.
_MOST_FIRST_PROBES = 17
# How much of what was folded last is compared before folding on.
OVERLAP_BYTES = 4096
# Rotation renames and compresses while we look; each round finds what the last one missed.
_MOST_ROUNDS = 20


class NotAsFolded(Exception):
    """A file that was folded, and that the window reaches into, is gone or another one by now."""


class FoldedFile(msgspec.Struct, array_like=True, frozen=True):
    """How far a log file has been folded into a ledger.

    Attributes:
        begins_sha256: of its first `begins_bytes` bytes, by which it is known.
        offset: everything before it has been folded, or is dated before the window.
        ends_sha256: of the `ends_bytes` bytes before the offset.
        latest_us: the latest instant of a line folded from it, microseconds since 1970.
    """

    begins_sha256: bytes
    begins_bytes: int
    offset: int
    ends_sha256: bytes
    ends_bytes: int
    latest_us: int

    @classmethod
    def of(cls, head: bytes, offset: int, end: bytes, latest_us: int) -> FoldedFile:
        """From the first bytes and the last ones before the offset."""
        head, end = head[: min(FINGERPRINT_BYTES, offset)], end[-OVERLAP_BYTES:]
        return cls(_sha256(head), len(head), offset, _sha256(end), len(end), latest_us)

    def begins(self, head: bytes) -> bool:
        """Whether a file with these first bytes is this one, as far as they tell."""
        return len(head) >= self.begins_bytes and _sha256(head[: self.begins_bytes]) == self.begins_sha256

    def ends(self, end: bytes) -> bool:
        """Whether these are the bytes before the offset."""
        return len(end) == self.ends_bytes and _sha256(end) == self.ends_sha256


class Generation:
    """One rotated file, held open so that renaming and compressing it does not matter any more.

    Attributes:
        identity: device and inode.
        modified_ns: when it was written to last, nanoseconds since 1970.
        head: its first (decompressed) bytes, at most 1024.
        size: its bytes on disk.
        first_us: when its first datable line says it was written; None when the first MiB holds none.
        last_us: the latest instant in its last 64 KiB; None when they hold none, or it is compressed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: IO[bytes] = open_log(path)
        stat = os.fstat(self._stream.fileno())
        self.identity = (stat.st_dev, stat.st_ino)
        self.modified_ns = stat.st_mtime_ns
        self.size = stat.st_size
        self._plain = os.pread(self._stream.fileno(), 2, 0) != b"\x1f\x8b"
        start = self._read(max(_PROBE_BYTES, FINGERPRINT_BYTES))
        self.head = start[:FINGERPRINT_BYTES]
        self.first_us = self._first_stamp(start)
        self.last_us = self._last_stamp() if self._plain else None

    def has_grown(self) -> bool:
        """Whether there is more of it than when it was opened."""
        return os.fstat(self._stream.fileno()).st_size != self.size

    def may_hold(self, since_us: int) -> bool:
        """Whether a line dated `since_us` or later may be in it."""
        return self.last_us is None or self.last_us >= since_us - DISORDER_US

    def pieces(self, since_us: int, begin: int = 0) -> Iterator[tuple[int, bytes]]:
        """(offset, whole lines) of all that may be dated `since_us` or later, from byte `begin` on."""
        if self._plain:
            begin = max(begin, first_offset_since(self._stream.fileno(), self.size, since_us))
        offset, rest = self._seek(begin), b""
        while data := self._read(READ_BYTES):
            data = rest + data
            end = data.rfind(b"\n") + 1
            if end:
                yield offset, data[:end]
            offset, rest = offset + end, data[end:]
        if rest:
            yield offset, rest

    def holds(self, folded: FoldedFile) -> bool:
        """Whether all that was folded is in this file, which begins as that one did."""
        if not self._plain and self._unpacked_bytes() == folded.offset % (1 << 32):
            return True  # compressed since, or before; it is not unpacked for what is folded already
        begin = folded.offset - folded.ends_bytes
        if self._plain:
            return folded.ends(os.pread(self._stream.fileno(), folded.ends_bytes, begin))
        return self._seek(begin) == begin and folded.ends(self._read(folded.ends_bytes))

    def has_beyond(self, offset: int) -> bool:
        """Whether anything stands behind the byte `offset`."""
        return self.size > offset if self._plain else self._unpacked_bytes() != offset % (1 << 32)

    def _unpacked_bytes(self) -> int:
        """What a compressed file says of its length, modulo 2^32 (RFC 1952, ISIZE)."""
        return int.from_bytes(os.pread(self._stream.fileno(), 4, max(0, self.size - 4)), "little")

    def descriptor_if_late(self) -> int | None:
        """The open descriptor of a plain file that was written to within the last seconds: a writer that its
        rotation overtook may be about to write to it."""
        is_late = time.time_ns() - self.modified_ns < RETIRED_SECONDS * 1_000_000_000
        return self._stream.fileno() if self._plain and is_late else None

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
        begin = max(0, self.size - _PROBE_BYTES)
        lines = os.pread(self._stream.fileno(), _PROBE_BYTES, begin).split(b"\n")
        return max(_stamps(lines), default=None)


class UnreadGeneration(NamedTuple):
    """A rotated file that is there and cannot be opened.

    Attributes:
        identity: device and inode.
        modified_us: when it was written to last, microseconds since 1970.
        reason: which, and why.
    """

    identity: tuple[int, int]
    modified_us: int
    reason: str


def open_generations(
    path: Path, followed: set[tuple[int, int]]
) -> tuple[list[Generation], list[UnreadGeneration]]:
    """Every rotated sibling of the log but those `followed` already, the latest first, and those that
    cannot be opened.

    The caller closes them. Files that are renamed meanwhile are still found: the folder is listed
    until a listing shows nothing new.
    """
    known = set(followed)
    generations: list[Generation] = []
    unread: list[UnreadGeneration] = []
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
                identity = stat.st_dev, stat.st_ino
                known.add(identity)
                reason = f"{sibling.name}: {exc.strerror}"
                unread.append(UnreadGeneration(identity, stat.st_mtime_ns // 1000, reason))
                continue
            if generation.identity in known:
                generation.close()
                continue
            known.add(generation.identity)
            generations.append(generation)
            found_new = True
        # Opened before all of it was there: what it is packed from may be gone by now.
        for grown in [found for found in generations if found.has_grown()]:
            generations.remove(grown)
            known.discard(grown.identity)
            grown.close()
            found_new = True
        if not found_new:
            break
    latest = 1 << 62
    generations.sort(key=lambda found: latest if found.first_us is None else found.first_us, reverse=True)
    return generations, unread


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


def resume(
    folded: Sequence[FoldedFile], generations: Sequence[Generation], live: int | None, since_us: int
) -> tuple[dict[Generation, FoldedFile], FoldedFile | None]:
    """How far each of the generations, and the file open on the descriptor `live`, has been folded.

    Raises:
        NotAsFolded: what was folded of the window that begins at `since_us` is not all there.
    """
    resumed = {
        generation: found
        for generation in generations
        if (found := _most_folded(folded, generation.head, generation.holds)) is not None
    }
    there = {file.begins_sha256: file.offset for file in resumed.values()}
    resumed_live = None
    if live is not None:
        resumed_live = _most_folded(
            folded,
            os.pread(live, FINGERPRINT_BYTES, 0),
            lambda file: file.ends(os.pread(live, file.ends_bytes, file.offset - file.ends_bytes)),
        )
        if resumed_live is not None:
            there[resumed_live.begins_sha256] = resumed_live.offset
    for file in folded:
        if file.latest_us >= since_us - DISORDER_US and file.offset > there.get(file.begins_sha256, -1):
            raise NotAsFolded("a log file that was folded is gone, or is not what it was")
    return resumed, resumed_live


def _most_folded(
    folded: Sequence[FoldedFile], head: bytes, holds: Callable[[FoldedFile], bool]
) -> FoldedFile | None:
    """The most that was folded of the file that begins with `head`; the longest match decides."""
    known = [file for file in folded if file.begins(head)]
    longest = max((file.begins_bytes for file in known), default=0)
    whole = [file for file in known if file.begins_bytes == longest and holds(file)]
    return max(whole, key=lambda file: file.offset, default=None)


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


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _stamps(lines: list[bytes]) -> Iterator[int]:
    return (at_us for at_us in map(timestamp_of, lines) if at_us is not None)
