"""Reading whole lines from logs that grow, rotate, shrink or vanish meanwhile."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import IO, NamedTuple, cast

import msgspec

from llmscope.event_log._lock import close_quietly

FINGERPRINT_BYTES = 1024
# A reader that is far behind takes its backlog in pieces of this size, which stay in the processor's cache
# until they have been decoded.
READ_BYTES = 256 << 10
# A file in which so much stands without a newline has a line that is too long to be one.
CHUNK_BYTES = 4 << 20
# How much of what was read last is compared before reading on: a file that was truncated and has
# since grown past the offset shows other bytes there. Enough for a line with its request id: lines
# end alike, and a shorter stretch could be found again at the same place by chance.
_OVERLAP_BYTES = 4096
# A generation that was renamed away is looked at for this long: a writer that had found itself at the
# path just before may be about to write.
RETIRED_SECONDS = 5.0
# File systems stamp changes by a clock that ticks every few milliseconds.
STAMP_GRAIN_NS = 50_000_000


# What stands beside a log and is no generation of it.
_NOT_ROTATED = (".lock", ".checkpoint", ".checkpoint.new")


class Fingerprint(NamedTuple):
    """What a log file is known by: SHA-256 (hex) of its first `length` decompressed bytes."""

    sha256: str
    length: int

    def __str__(self) -> str:
        return f"{self.sha256[:32]}:{self.length}"


class Position(msgspec.Struct, frozen=True, gc=False):
    """A place in a log: everything before `offset` in the file `fingerprint` has been read."""

    fingerprint: str
    offset: int


class Chunk(NamedTuple):
    """Whole lines, newline-ended, of the file generation `source` from byte `offset` on."""

    source: int
    offset: int
    data: bytes


class LeftGeneration(NamedTuple):
    """How far a generation was read that is no longer at the path.

    Attributes:
        head: its first bytes, at most 1024.
        offset: everything before it has been read.
        modified_ns: when it had been written to last, nanoseconds since 1970.
        identity: device and inode while it is still a file of its own; None after a truncation.
    """

    head: bytes
    offset: int
    modified_ns: int
    identity: tuple[int, int] | None


FileEnd = tuple[tuple[int, int], int]
"""A file (device and inode) and its size, at which it ends in a newline."""


@dataclass(slots=True)
class _OpenLog:
    fd: int
    identity: tuple[int, int]
    source: int
    offset: int = 0
    overlap: bytes = b""
    overlong: bool = False
    unread: bool = False  # at the last look nothing of it had been read
    known_as: str = ""  # the fingerprint of the first `known_by` bytes
    known_by: int = -1
    head: bytes = b""
    modified_ns: int = 0
    retired_at: float = 0.0


def fingerprint_of(head: bytes) -> Fingerprint:
    """The fingerprint of a file whose first bytes are `head` (only the first 1024 count)."""
    head = head[:FINGERPRINT_BYTES]
    return Fingerprint(hashlib.sha256(head).hexdigest(), len(head))


def open_log(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a log for reading, decompressing it if it is gzip (told by its first bytes, not its name)."""
    path = Path(path)
    with path.open("rb") as plain:
        compressed = plain.read(2) == b"\x1f\x8b"
    if compressed:
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def iter_lines(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Each line of `data` with the byte offset it begins at, without its newline; a last
    unterminated line included. `offset` is that of `data` in its file."""
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        yield offset + start, data[start:end]
        start = end + 1
    if start < len(data):
        yield offset + start, data[start:]


def rotated_siblings(path: str | os.PathLike[str]) -> list[Path]:
    """The rotated generations of a log (`<path>.*`, gzip too), newest first by modification time."""
    path = Path(path)
    if not path.parent.is_dir():
        return []
    siblings: list[tuple[int, Path]] = []
    for sibling in path.parent.iterdir():
        if not sibling.name.startswith(path.name + ".") or sibling.name.endswith(_NOT_ROTATED):
            continue
        try:
            stat = sibling.stat()
        except FileNotFoundError:  # renamed or compressed between listing and looking
            continue
        if S_ISREG(stat.st_mode):
            siblings.append((stat.st_mtime_ns, sibling))
    return [sibling for _, sibling in sorted(siblings, reverse=True)]


class LogTail:
    """Follows one log file from where it was read last, through rename rotation, copy-truncate and
    deletion. One `stat` per poll when nothing is new.

    Attributes:
        left: the generations that are no longer at the path, since somebody last cleared the list:
            between two looks there may have been others, which only a look at the rotated siblings finds.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.left: list[LeftGeneration] = []
        self._open: _OpenLog | None = None
        self._retired: list[_OpenLog] = []
        self._generations = 0
        self._borrowed = 0
        self._is_at_path = False  # whether the last poll saw the open file there
        self._size_at_path = 0  # how large it was then
        self._missing_since_ns = 0
        self._folder_changed_ns = 0
        self._last_position: Position | None = None

    def poll(self) -> Iterable[Chunk]:
        """Every whole line that was appended since the last call, oldest first, as it is read.

        An unterminated tail stays pending until its newline arrives. Of a file that was renamed
        away the rest is read before its successor is opened, and what a writer that was about to
        write still brings is read later.
        """
        current = self._open
        self._is_at_path = False
        try:
            named = os.stat(self.path)  # noqa: PTH116  once per decision of the gate
        except FileNotFoundError:
            return self._read_news(None)
        if current is not None and current.identity == (named.st_dev, named.st_ino):
            self._is_at_path = True
            self._size_at_path = size = named.st_size
            if size == current.offset > 0 and not self._retired:
                return ()
        return self._read_news(named)

    def _read_news(self, named: os.stat_result | None) -> Iterator[Chunk]:
        if self._retired:
            yield from self._read_retired()
        current = self._open
        if named is None:
            if current is not None:
                yield from self._read(current, os.fstat(current.fd))
                self._retire(current)
                self._open = None
            if self._folder_has_changed():
                self._leave_unseen(self._missing_since_ns)
                self._missing_since_ns = time.time_ns()
            return
        if current is None or not self._is_at_path:
            if current is not None:
                yield from self._read(current, os.fstat(current.fd))
                self._retire(current)
            else:
                self._leave_unseen(self._missing_since_ns)
            self._open = current = self._open_path()
            if current is None:
                return
            named = os.fstat(current.fd)
            self._is_at_path, self._size_at_path = True, named.st_size
        if named.st_size != current.offset:
            if current.unread:  # it may have been filled and truncated before: no byte is known to compare
                self._leave_unseen(current.modified_ns)
            yield from self._read(current, named)
        elif not current.offset and named.st_mtime_ns != current.modified_ns:
            self._restart(current)  # empty, and was written to meanwhile: truncated since
        current.unread = not current.offset
        if current.unread:
            current.modified_ns = named.st_mtime_ns

    def has_read_all(self) -> bool:
        """Whether nothing is left to read of the file that the last poll saw at the path, by its length."""
        log = self._open
        if log is None or self._retired or self.left or not self._is_at_path:
            return False
        return 0 < log.offset == os.lseek(log.fd, 0, os.SEEK_END)

    def seek(self, offset: int) -> None:
        """Continue from `offset` of the file that is there now (a line must begin there)."""
        self.close()
        self._open = self._open_path()
        self.seek_open(offset)

    def seek_open(self, offset: int) -> None:
        """Continue from `offset` of the generation that is open (a line must begin there)."""
        if self._open is not None:
            self._open.offset = offset
            self._remember_overlap(self._open)

    def skip_own(self, offset: int, written: bytes) -> bool:
        """Take `written` at `offset` as read, because this process has just appended it itself.

        False (and nothing is skipped) unless the tail stands exactly there.
        """
        current = self._open
        if current is None or current.offset != offset:
            return False
        if len(current.head) < FINGERPRINT_BYTES:
            _extend_head(current, written)
        current.offset = end = offset + len(written)
        if self._size_at_path == offset:
            self._size_at_path = end
        current.overlap = written[-_OVERLAP_BYTES:]
        return True

    @property
    def descriptor(self) -> int | None:
        """The open descriptor, for positioned reads; None before the file exists."""
        return None if self._open is None else self._open.fd

    @property
    def position(self) -> Position | None:
        """How far the present file has been read, or the last one while there is none; None at first."""
        current = self._open
        if current is None:
            return self._last_position
        if current.known_by != len(current.head):
            # Of what has been read, not of what is there now: that may be another file's beginning already.
            current.known_as, current.known_by = str(fingerprint_of(current.head)), len(current.head)
        return Position(current.known_as, current.offset)

    def follow_for_a_while(self, descriptor: int, offset: int) -> None:
        """Look at a rotated file that was read up to `offset`, where a line begins, as at one that this tail
        had open itself when it was renamed away: a writer may be about to write to it. The descriptor stays
        the caller's."""
        opened = os.fstat(descriptor)
        self._borrowed += 1
        log = _OpenLog(os.dup(descriptor), (opened.st_dev, opened.st_ino), -self._borrowed, offset)
        self._remember_overlap(log)
        log.retired_at = time.monotonic()
        self._retired.append(log)

    def note_read(self, head: bytes, offset: int) -> None:
        """While there is no present file: a generation that begins with `head` was read up to `offset`, later
        than those that this tail has read itself."""
        if self._open is None and offset:
            self._last_position = Position(str(fingerprint_of(head[:offset])), offset)

    @property
    def end(self) -> FileEnd | None:
        """The file that the last poll saw at the path and its size, when all of it has been read and it ends
        with a line; else None."""
        current = self._open
        if current is None or not self._is_at_path or current.offset != self._size_at_path:
            return None
        return None if current.overlong else (current.identity, current.offset)

    @property
    def offset(self) -> int:
        """Bytes read of the present file generation."""
        return 0 if self._open is None else self._open.offset

    @property
    def source(self) -> int:
        """A number for the present file generation: it grows at each rotation or truncation."""
        return self._generations

    @property
    def was_renamed(self) -> bool:
        """Whether a file that this tail had at the path was renamed away a moment ago."""
        return any(log.source > 0 for log in self._retired)

    @property
    def identities(self) -> set[tuple[int, int]]:
        """Device and inode of every file that is being followed."""
        followed = self._retired if self._open is None else [*self._retired, self._open]
        return {log.identity for log in followed}

    def head_of(self, source: int) -> bytes:
        """The first bytes (at most 1024) of the followed generation `source`."""
        current = self._open
        if current is not None and current.source == source:
            return current.head
        return next((log.head for log in self._retired if log.source == source), b"")

    def close(self) -> None:
        """Close all descriptors; a later poll starts from the beginning of the file."""
        retired, self._retired = self._retired, []
        for log in retired:
            close_quietly(log.fd)
        if self._open is not None:
            close_quietly(self._open.fd)
            self._open = None

    def _open_path(self) -> _OpenLog | None:
        try:
            # Without waiting for the other end, should somebody have put a pipe in the log's place.
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            self._missing_since_ns = time.time_ns()
            return None
        opened = os.fstat(fd)
        self._generations += 1
        return _OpenLog(fd, (opened.st_dev, opened.st_ino), self._generations, modified_ns=opened.st_mtime_ns)

    def _leave_unseen(self, modified_ns: int) -> None:
        """There may have been generations, written to since `modified_ns`, of which nothing was seen."""
        self.left.append(LeftGeneration(b"", 0, modified_ns, None))

    def _folder_has_changed(self) -> bool:
        """Whether a file may have come and gone since the last look at the folder of a missing log."""
        try:
            changed_ns = os.stat(os.path.dirname(self.path) or ".").st_mtime_ns  # noqa: PTH116, PTH120  per decision
        except FileNotFoundError:
            return False
        seen_ns, self._folder_changed_ns = self._folder_changed_ns, changed_ns
        return changed_ns != seen_ns or time.time_ns() - changed_ns < STAMP_GRAIN_NS

    def _retire(self, log: _OpenLog) -> None:
        self._last_position = self.position
        self.left.append(LeftGeneration(log.head, log.offset, log.modified_ns, log.identity))
        log.retired_at = time.monotonic()
        self._retired.append(log)

    def _read_retired(self) -> Iterator[Chunk]:
        for log in list(self._retired):
            # Asked before the size is: a writer that held the lock meanwhile has written by then, and
            # one that takes it later sees that the file was renamed.
            is_last_look = time.monotonic() - log.retired_at >= RETIRED_SECONDS and _is_unlocked(log.fd)
            yield from self._read(log, os.fstat(log.fd))
            if is_last_look:
                self._retired.remove(log)
                close_quietly(log.fd)

    def _read(self, log: _OpenLog, stat: os.stat_result) -> Iterator[Chunk]:
        size = stat.st_size
        if size < log.offset:
            self._restart(log)
        wanted = READ_BYTES
        while log.offset < size:
            known = len(log.overlap)
            wanted = min(size - log.offset, wanted, CHUNK_BYTES)
            data = os.pread(log.fd, known + wanted, log.offset - known)
            if not data.startswith(log.overlap):
                self._restart(log)
                continue
            end = data.rfind(b"\n", known) + 1
            chunk = None
            if end == 0:
                read = len(data) - known
                if read == wanted < min(CHUNK_BYTES, size - log.offset):
                    wanted = CHUNK_BYTES
                    continue
                if read < CHUNK_BYTES:
                    return
                log.overlong, end = True, len(data)  # no line is this long: pass over it to its newline
            elif log.overlong:
                begin = data.find(b"\n", known) + 1
                log.overlong = False
                if begin < end:
                    chunk = Chunk(log.source, log.offset + begin - known, data[begin:end])
            else:
                chunk = Chunk(log.source, log.offset, data[known:end])
            if len(log.head) < FINGERPRINT_BYTES:
                _extend_head(log, data[known:end])
            log.offset += end - known
            log.overlap = data[max(0, end - _OVERLAP_BYTES) : end]
            log.modified_ns = stat.st_mtime_ns
            wanted = READ_BYTES
            if chunk is not None:
                yield chunk

    def _restart(self, log: _OpenLog) -> None:
        """Copy-truncate: what the path holds now is another file in the same place."""
        self.left.append(LeftGeneration(log.head, log.offset, log.modified_ns, None))
        self._generations += 1
        log.source, log.offset, log.overlap, log.overlong = self._generations, 0, b"", False
        log.known_by, log.head = -1, b""

    def _remember_overlap(self, log: _OpenLog) -> None:
        stat = os.fstat(log.fd)
        log.unread = not stat.st_size
        log.head = os.pread(log.fd, min(FINGERPRINT_BYTES, log.offset), 0)
        log.modified_ns = stat.st_mtime_ns
        length = min(_OVERLAP_BYTES, log.offset)
        log.overlap = os.pread(log.fd, length, log.offset - length)

    def __del__(self) -> None:
        self.close()


def _extend_head(log: _OpenLog, read: bytes) -> None:
    """Keep the first bytes of what was read from the beginning of a file without a gap."""
    if len(log.head) == log.offset < FINGERPRINT_BYTES:
        log.head = (log.head + read)[:FINGERPRINT_BYTES]


def _is_unlocked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True
