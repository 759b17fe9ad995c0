"""Appending whole lines to a file that others append to, rotate, truncate or delete."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path
from typing import Literal

from llmscope.errors import EventLogError, LineTooLong, LogLockTimeout, ShortWrite
from llmscope.event_log._lock import close_quietly, forget_descriptors_on_fork, waits
from llmscope.event_log._read import FileEnd

# Readers reject longer lines, so no writer makes one.
MAX_LINE_BYTES = 1 << 20

Durability = Literal["os", "fsync"]


class LogWriter:
    """Appends lines to one JSON Lines file.

    Args:
        path: the log; its folder and the file are created on the first append.
        durability: `os` leaves the line with the operating system (survives `kill -9`);
            `fsync` waits for the disk (survives a power cut, at 50 to 100 times the price).
    """

    def __init__(self, path: str | os.PathLike[str], *, durability: Durability = "os") -> None:
        self.path = Path(path)
        self.durability = durability
        self._fd: int | None = None
        self._identity = (0, 0)
        self._clean_end = -1  # a size at which the file is known to end in a newline
        self._thread_lock = threading.Lock()
        forget_descriptors_on_fork(self)

    def append(
        self, line: bytes, *, timeout_seconds: float = 2.0, unlocked_after_timeout: bool = False
    ) -> int:
        """Append one line (without its newline) under the file's lock; returns its byte offset.

        Args:
            timeout_seconds: how long to wait for the lock, in real time.
            unlocked_after_timeout: append without the lock then (`append_unserialised`), for a line that
                must not be lost, such as a bill while a stopped process holds the lock.

        Raises:
            LineTooLong, ShortWrite, LogLockTimeout, EventLogError: see `llmscope.errors`.
        """
        offset = self.try_append(line)
        if offset is not None:
            return offset
        for wait in waits(timeout_seconds):
            time.sleep(wait)
            offset = self.try_append(line)
            if offset is not None:
                return offset
        if unlocked_after_timeout:
            return self.append_unserialised(line)
        raise LogLockTimeout(f"{self.path}: locked by another process for {timeout_seconds} s")

    def try_append(self, line: bytes) -> int | None:
        """`append` without waiting: None when another writer holds the lock at this instant."""
        if not self._thread_lock.acquire(blocking=False):
            return None
        try:
            fd = self._current_descriptor()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            try:
                if not self._is_current():  # renamed between opening and locking
                    fd_locked, self._fd = fd, None
                    fcntl.flock(fd_locked, fcntl.LOCK_UN)
                    close_quietly(fd_locked)
                    return None
                return self._write(fd, line)
            finally:
                if self._fd == fd:
                    fcntl.flock(fd, fcntl.LOCK_UN)
        except EventLogError:
            raise
        except OSError as exc:
            raise EventLogError(
                exc.errno, f"cannot append to the log: {exc.strerror}", str(self.path)
            ) from exc
        finally:
            self._thread_lock.release()

    def append_serialised(self, line: bytes, seen: FileEnd | None = None) -> int:
        """Append while the caller holds the lock that serialises all of this file's writers.

        Args:
            line: with its newline, other than elsewhere: such a caller remembers what it has written.
            seen: the file that the caller, under that lock, has just seen at the path, and its size, at
                which it ends in a newline: neither is looked at before the line is written.

        Returns the line's byte offset; raises as `append` does, but never waits.
        """
        with self._thread_lock:
            try:
                fd = self._fd
                if fd is None or seen is None or seen[0] != self._identity or len(line) > MAX_LINE_BYTES:
                    return self._write(self._current_descriptor(), line[:-1])
                offset = self._write_at_end(fd, line)
                if offset != seen[1] and self._is_torn(fd, offset):
                    # Somebody without the lock came between and got no further: ours is lost in theirs.
                    offset = self._write(fd, line[:-1])
                return offset
            except EventLogError:
                raise
            except OSError as exc:
                raise EventLogError(
                    exc.errno, f"cannot append to the log: {exc.strerror}", str(self.path)
                ) from exc

    def append_unserialised(self, line: bytes) -> int:
        """One `O_APPEND` write without any lock, for a writer that could not get it in time.

        The line is whole, and a torn tail before it is ended by the same write; only what is torn
        between the look and the write could still swallow it, which is why a lock is normal.
        Returns the line's byte offset.
        """
        if len(line) >= MAX_LINE_BYTES:
            raise self._too_long(line)
        with self._thread_lock:
            try:
                fd = self._current_descriptor()
                torn = self._is_torn(fd, os.lseek(fd, 0, os.SEEK_END))
                data = b"\n" + line + b"\n" if torn else line + b"\n"
                if os.write(fd, data) != len(data):
                    raise ShortWrite(f"{self.path}: the disk took only part of a line")
                return os.lseek(fd, 0, os.SEEK_CUR) - len(line) - 1  # where an O_APPEND write ended
            except EventLogError:
                raise
            except OSError as exc:
                raise EventLogError(
                    exc.errno, f"cannot append to the log: {exc.strerror}", str(self.path)
                ) from exc

    def close(self) -> None:
        """Close the descriptor; a later append opens it again."""
        fd, self._fd = self._fd, None
        close_quietly(fd)

    def _is_current(self) -> bool:
        try:
            named = os.stat(self.path)  # noqa: PTH116  on the hot path, a third of the time
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == self._identity

    def _current_descriptor(self) -> int:
        fd = self._fd
        if fd is not None:
            if self._is_current():
                return fd
            self.close()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            fd = os.open(self.path, flags, 0o644)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, flags, 0o644)
        opened = os.fstat(fd)
        self._fd, self._identity, self._clean_end = fd, (opened.st_dev, opened.st_ino), -1
        return fd

    def _write(self, fd: int, line: bytes) -> int:
        """Append a line behind whatever is there; returns its byte offset."""
        if len(line) >= MAX_LINE_BYTES:
            raise self._too_long(line)
        size = os.lseek(fd, 0, os.SEEK_END)  # a quarter of what fstat costs
        if size != self._clean_end and self._is_torn(fd, size):
            return self._write_at_end(fd, b"\n" + line + b"\n") + 1
        return self._write_at_end(fd, line + b"\n")

    def _write_at_end(self, fd: int, data: bytes) -> int:
        """Append what ends in a newline; returns the byte offset at which it really begins."""
        self._clean_end = -1
        written = os.write(fd, data)
        end = os.lseek(fd, 0, os.SEEK_CUR)  # where an O_APPEND write ended, whoever wrote before it
        if written != len(data):
            os.ftruncate(fd, end - written)
            raise ShortWrite(f"{self.path}: the disk took {written} of {len(data)} bytes (is it full?)")
        if self.durability == "fsync":
            os.fsync(fd)
        self._clean_end = end
        return end - written

    def _too_long(self, line: bytes) -> LineTooLong:
        return LineTooLong(f"{self.path}: a line of {len(line)} bytes; the limit is {MAX_LINE_BYTES}")

    def _is_torn(self, fd: int, size: int) -> bool:
        """Whether the first `size` bytes end within a line."""
        return size > 0 and os.pread(fd, 1, size - 1) != b"\n"

    def _after_fork_in_child(self) -> None:
        self.close()
        self._thread_lock = threading.Lock()

    def __del__(self) -> None:
        close_quietly(self._fd)
