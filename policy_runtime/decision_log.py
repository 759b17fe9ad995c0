"""The decision log of one gate: who may decide, and how what was decided gets on disk.

Entering takes the gate's own mutex and the admission lock that all processes share, or neither; nobody
holds the mutex while waiting for anything.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from llmscope.errors import EventLogError
from llmscope.event_log import (
    AdmissionLock,
    LogWriter,
    waits,
)
from policy_runtime.decision_record import DecisionRecord, encode_decision, encode_decision_lines
from policy_runtime.live_state import LiveState

logger = logging.getLogger("policy_runtime")

# A lock that cannot be taken is tried hundreds of times in a second.
_FAULT_TOLD_EVERY_SECONDS = 10.0


class DecisionLog:
    """Appends to `path`, serialised by `<path>.lock`."""

    def __init__(self, path: Path, state: LiveState) -> None:
        self.path = path
        self._state = state
        self._writer = LogWriter(path)
        self._lock = AdmissionLock(f"{path}.lock")
        self._fault_told_at = -_FAULT_TOLD_EVERY_SECONDS

    @property
    def mutex(self) -> threading.Lock:
        """Excludes the threads of this process from the gate's state."""
        return self._lock.thread_lock

    def try_enter(self) -> bool:
        """Take mutex and admission lock, or neither; never waits.

        A lock file that cannot be created is a lock that cannot be had: the decision is made without
        it and says so.
        """
        try:
            return self._lock.try_acquire()
        except OSError as exc:
            if time.monotonic() - self._fault_told_at >= _FAULT_TOLD_EVERY_SECONDS:
                self._fault_told_at = time.monotonic()
                logger.error("the admission lock cannot be taken: %s", exc)
        return False

    def enter_within(self, timeout_seconds: float) -> bool:
        """`try_enter` again and again, for a thread that may sleep; False when it could not be had."""
        for wait in waits(timeout_seconds):
            time.sleep(wait)
            if self.try_enter():
                return True
        return False

    def leave(self) -> None:
        """Give both back."""
        self._lock.release()

    def append(self, record: DecisionRecord, *, locked: bool) -> None:
        """Append one line; the caller holds the mutex, and the admission lock if `locked`.

        Raises:
            EventLogError: nothing of the line is left in the file.
        """
        if locked:
            line = encode_decision_lines((record,))
            tail = self._state.decisions_tail
            offset = self._writer.append_serialised(line, None if tail is None else tail.end)
            self._state.skip_own(offset, line)
        else:
            self._writer.append_unserialised(encode_decision(record))

    def note(self, event: DecisionRecord, *, locked: bool) -> None:
        """`append` for an event whose loss must not stop a decision; the loss is logged."""
        try:
            self.append(event, locked=locked)
        except EventLogError as exc:
            logger.error("a %s event could not be recorded: %s", event.event, exc)

    def note_apart(self, event: DecisionRecord, timeout_seconds: float) -> None:
        """Append an event that belongs to no decision, under the lock where it can be had in time.

        It is folded by the next poll like anybody else's line, so that there is one way to fold it.

        Raises:
            EventLogError: nothing of it is left in the file.
        """
        line = encode_decision(event)
        if not self.try_enter() and not self.enter_within(timeout_seconds):
            self._writer.append_unserialised(line)
            return
        try:
            self._writer.append_serialised(line + b"\n")
        finally:
            self.leave()

    def close(self) -> None:
        """Close the files; a later append opens them again."""
        self._writer.close()
        self._lock.close()
