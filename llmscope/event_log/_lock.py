"""flock made safe for threads, forks and event loops.

An flock belongs to an open file description: a descriptor shared by threads or inherited through
fork excludes nobody, and a killed child can keep a lock its parent took. So each process opens its
own descriptor, forgets it in a forked child, and holds a `threading.Lock` beside it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

# A contended caller looks again after 50 µs, then ever later up to 2 ms: a held lock is released
# after tens of microseconds, a stopped holder should not be spun on.
_FIRST_WAIT_SECONDS = 50e-6
LONGEST_WAIT_SECONDS = 2e-3
_EXCLUSIVE_OR_FAIL = fcntl.LOCK_EX | fcntl.LOCK_NB


def waits(timeout_seconds: float) -> Iterator[float]:
    """How many seconds to wait before each further try for something contended, until `timeout_seconds`
    of real time have passed."""
    deadline = time.monotonic() + timeout_seconds
    wait = _FIRST_WAIT_SECONDS
    while time.monotonic() < deadline:
        yield wait
        wait = min(wait * 1.5, LONGEST_WAIT_SECONDS)


class ForgetsDescriptors(Protocol):
    """An object with descriptors that a forked child must not share with its parent."""

    def _after_fork_in_child(self) -> None: ...


_FORKABLE: weakref.WeakSet[ForgetsDescriptors] = weakref.WeakSet()


def forget_descriptors_on_fork(holder: ForgetsDescriptors) -> None:
    """Have `holder._after_fork_in_child()` called in every child that this process forks."""
    _FORKABLE.add(holder)


def _forget_all() -> None:
    for holder in list(_FORKABLE):
        holder._after_fork_in_child()


os.register_at_fork(after_in_child=_forget_all)


def close_quietly(fd: int | None) -> None:
    """Close a descriptor that may already be gone (a forked child, an interpreter going down)."""
    if fd is not None:
        try:
            os.close(fd)
        except OSError:
            return


class AdmissionLock:
    """Mutual exclusion between all threads and processes that name the same lock file.

    The file is created empty when missing and never written, renamed or removed.

    Attributes:
        thread_lock: held while the lock is; taken alone it excludes the threads of this process.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._fd: int | None = None
        self.thread_lock = threading.Lock()
        forget_descriptors_on_fork(self)

    def try_acquire(self) -> bool:
        """Take the lock if it is free; never waits.

        Raises:
            OSError: the lock file cannot be created or opened.
        """
        if not self.thread_lock.acquire(False):  # by its name it takes twice as long
            return False
        try:
            fd = self._fd
            if fd is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                fd = self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(fd, _EXCLUSIVE_OR_FAIL)
        except BlockingIOError:
            self.thread_lock.release()
            return False
        except BaseException:  # raised again: other threads must not wait for a lock that nobody holds
            self.thread_lock.release()
            raise
        return True

    def acquire(self, timeout_seconds: float) -> bool:
        """Take the lock within `timeout_seconds` of real time; False when it stayed taken."""
        if self.try_acquire():
            return True
        for wait in waits(timeout_seconds):
            time.sleep(wait)
            if self.try_acquire():
                return True
        return False

    def release(self) -> None:
        """Give the lock back. Only its holder may call this."""
        fd = self._fd
        if fd is not None:
            fcntl.flock(fd, fcntl.LOCK_UN)
        self.thread_lock.release()

    def close(self) -> None:
        """Close the descriptor; a later acquire opens it again."""
        fd, self._fd = self._fd, None
        close_quietly(fd)

    def _after_fork_in_child(self) -> None:
        self.close()
        self.thread_lock = threading.Lock()

    def __del__(self) -> None:
        close_quietly(self._fd)
