"""Telling cheaply that nothing happened to several logs since they were last looked at by path.

What does not belong here: reading them (`_read`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from llmscope.event_log._lock import close_quietly
from llmscope.event_log._read import STAMP_GRAIN_NS, LogTail

# What a folder's stamp does not show (another folder moved or mounted to its place, a file system that keeps
# no such stamp) is seen by the next look by path, and this is how long that may be put off.
_LOOK_SECONDS = 0.010
_SECOND_NS = 1_000_000_000


@dataclass(slots=True)
class _Folder:
    fd: int
    identity: tuple[int, int]
    stamp_ns: int = 0  # when it had been changed last, the last time that all logs were seen at their paths


class LogWatch:
    """Watches the logs of tails that are polled one after the other: `is_quiet` before polling them, and
    when it is not, `before_polls` and `after_polls` around that.

    Creating, renaming, replacing and removing a log change its folder's time of change; writing and
    truncating change its length. Asking for these takes a third of the time of a look at two paths.
    """

    def __init__(self, tails: Sequence[LogTail]) -> None:
        self._tails = tuple(tails)
        self._paths = {os.path.dirname(tail.path) or "." for tail in tails}  # noqa: PTH120  as `LogTail`
        self._folders: dict[str, _Folder] = {}
        self._is_looking = False
        self._quiet_until = 0.0
        self._has_links = False

    def is_quiet(self) -> bool:
        """Whether polling the tails would bring nothing."""
        for tail in self._tails:
            if not tail.has_read_all():
                return False
        if time.monotonic() >= self._quiet_until:
            return False
        for folder in self._folders.values():
            if os.fstat(folder.fd).st_mtime_ns != folder.stamp_ns:
                self._quiet_until = 0.0
                return False
        return True

    def before_polls(self) -> None:
        """To be called before the tails are polled."""
        if time.monotonic() >= self._quiet_until:  # else a log has grown, no more
            self._quiet_until = 0.0
            try:
                self._note_folders()
                self._is_looking = True
            except OSError:  # the polls tell
                self.close()

    def after_polls(self) -> None:
        """To be called when all tails have been polled."""
        if not self._is_looking:
            return
        self._is_looking = False
        now_ns = time.time_ns()
        # A whole second may be all that the file system keeps.
        if not self._has_links and all(
            folder.stamp_ns % _SECOND_NS and now_ns - folder.stamp_ns > STAMP_GRAIN_NS
            for folder in self._folders.values()
        ):
            self._quiet_until = time.monotonic() + _LOOK_SECONDS

    def close(self) -> None:
        """Close all descriptors; nothing is quiet before the next polls."""
        folders, self._folders = self._folders, {}
        self._is_looking, self._quiet_until = False, 0.0
        for folder in folders.values():
            close_quietly(folder.fd)

    def _note_folders(self) -> None:
        """Note when the folders that are at the paths now were changed last, and look what is new in them."""
        has_changed = False
        for path in self._paths:
            named = os.stat(path)  # noqa: PTH116  as `LogTail`
            folder = self._folders.get(path)
            if folder is None or folder.identity != (named.st_dev, named.st_ino):
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                named = os.fstat(fd)
                if folder is not None:
                    close_quietly(folder.fd)
                folder = self._folders[path] = _Folder(fd, (named.st_dev, named.st_ino))
            has_changed |= folder.stamp_ns != named.st_mtime_ns
            folder.stamp_ns = named.st_mtime_ns
        if has_changed:
            self._has_links = any(os.path.islink(tail.path) for tail in self._tails)  # noqa: PTH114

    def __del__(self) -> None:
        self.close()
