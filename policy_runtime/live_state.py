"""The ledger of a running gate: folded from both logs up to now, on demand.

What does not belong here: deciding and appending (`gate`).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.clock import Clock, SystemClock
from llmscope.event_log import LogTail, LogWatch
from llmscope.timestamps import MICROS, to_micros
from policy_runtime.decision_record import TelemetryPosition
from policy_runtime.generations import DISORDER_US, FoldedFile, NotAsFolded, UnreadGeneration
from policy_runtime.history import LogFollower
from policy_runtime.ledger import Ledger

if TYPE_CHECKING:
    from policy_runtime.policy import Policy

logger = logging.getLogger("policy_runtime")

# The decision log's clock may run this far ahead of ours before a stamp is called degraded.
CLOCK_TOLERANCE_US = 5 * MICROS
# How the reason begins when the logs could not be read.
READ_FAILED = "read"
# A start that had to read more than this leaves a checkpoint, and so does a running gate each time it has
# read as much or a little more: the next start reads no more than twice this, in a quarter of a second.
CHECKPOINT_EVERY_BYTES = 16 << 20


class LiveState:
    """Ledger and log followers of one gate. Its user holds the gate's mutex around every call."""

    def __init__(
        self,
        telemetry_paths: tuple[Path, ...],
        decisions_path: Path,
        clock: Clock,
        policy: Policy,
        *,
        gives_way: bool = False,
    ) -> None:
        self._telemetry_paths = telemetry_paths
        self._decisions_path = decisions_path
        self._clock = clock
        self._gives_way = gives_way
        self._clock_us = clock.now_us if type(clock) is SystemClock else lambda: to_micros(clock.now())
        self.policy = policy
        self._ledger: Ledger | None = None
        self._decisions: LogFollower | None = None
        self.decisions_tail: LogTail | None = None
        self._telemetry: list[LogFollower] = []
        self._watch: LogWatch | None = None
        self._unread: list[UnreadGeneration] = []
        self._renew_at_bytes = CHECKPOINT_EVERY_BYTES

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every log that is folded, decisions first."""
        return self._decisions_path, *self._telemetry_paths

    @property
    def is_started(self) -> bool:
        """Whether the logs have been read, so that `current` has only to read on."""
        return self._ledger is not None

    def current(self) -> tuple[Ledger, int, str | None]:
        """The ledger folded up to now, the instant of a decision made now, and why it would be
        degraded (`clock`, `read: …`), None when it is not.

        The instant is the clock's, or the last decision's where that lies ahead by up to five seconds.
        """
        degraded = None
        ledger = self._ledger
        try:
            if ledger is None:
                ledger = self._start(self._clock_us())
            else:
                self._fold_new(ledger)
            now_us = self._clock_us()
            if now_us < ledger.now_us - CLOCK_TOLERANCE_US:
                # Time stepped back: what had left the windows at the later instant belongs to them again.
                ledger = self._start(now_us)
                now_us = self._clock_us()
        except OSError as exc:
            logger.error("the logs cannot be read: %s", exc)
            degraded = f"{READ_FAILED}: {exc.strerror}"
            ledger = self._ledger or ledger or Ledger(self.policy)
            now_us = self._clock_us()
        if ledger.last_decision_us > now_us:
            if ledger.last_decision_us - now_us <= CLOCK_TOLERANCE_US:
                now_us = ledger.last_decision_us
            else:
                degraded = degraded or "clock"
        ledger.advance(now_us)
        if self._unread and degraded is None:
            degraded = self._missing_at(now_us)
        return ledger, now_us, degraded

    def _missing_at(self, now_us: int) -> str | None:
        """Why the ledger lacks what a rotated file in the window holds; None where there is none such."""
        since_us = now_us - self.policy.reach_us
        self._unread = [found for found in self._unread if found.modified_us >= since_us]
        return f"{READ_FAILED}: {self._unread[0].reason}" if self._unread else None

    def catch_up(self) -> None:
        """Fold what is new without deciding anything, so that the next decision finds less to do.

        A log that cannot be read is left for that decision to meet.
        """
        if self._ledger is not None:
            try:
                self._fold_new(self._ledger)
            except OSError as exc:
                logger.debug("the logs cannot be read: %s", exc)

    def forget(self) -> None:
        """Drop everything; the next `current` folds it from the logs again."""
        if self._decisions is not None:
            self._decisions.tail.close()
        for follower in self._telemetry:
            follower.tail.close()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._ledger, self._decisions, self._telemetry = None, None, []
        self.decisions_tail = None

    def follow(self, policy: Policy, telemetry_paths: tuple[Path, ...]) -> None:
        """`forget`, and fold these logs for this policy then."""
        self.policy, self._telemetry_paths = policy, telemetry_paths
        self.forget()

    def skip_own(self, offset: int, written: bytes) -> None:
        """Do not read back what this process has just appended to the decision log and folded."""
        tail, ledger = self.decisions_tail, self._ledger
        if tail is not None and ledger is not None:
            tail.skip_own(offset, written)
            ledger.folded_bytes += len(written)

    def telemetry_position(self) -> TelemetryPosition | None:
        """How much telemetry has been folded."""
        position = self._telemetry[0].tail.position if self._telemetry else None
        return None if position is None else TelemetryPosition(position.fingerprint, position.offset)

    def _fold_new(self, ledger: Ledger) -> None:
        watch = self._watch
        if watch is not None and not watch.is_quiet():
            watch.before_polls()
            # Of telemetry that is new the followers fold the decisions first.
            folded, fault = False, None
            for follower in self._telemetry:
                try:
                    folded |= follower.fold_new(ledger)
                except OSError as exc:  # raised below: what the other logs bring counts all the same
                    fault = fault or exc
            if self._decisions is not None and not (folded and fault is None):
                self._decisions.fold_new(ledger)
            self._note_unread()
            if fault is not None:
                raise fault
            watch.after_polls()
        if ledger.folded_bytes >= self._renew_at_bytes:
            self._renew_at_bytes = _next_checkpoint_at(ledger)
            _in_background(self._renew_checkpoint, daemon=True)

    def _start(self, now_us: int) -> Ledger:
        """Fold what the longest window needs, from the checkpoint on if there is one that fits."""
        # Loaded by who has a checkpoint to read or to write: the import of the gate is measured.
        from policy_runtime import checkpoint  # noqa: PLC0415

        self.forget()
        path = checkpoint.checkpoint_path(self._decisions_path)
        found = checkpoint.load(path, self.policy, now_us + CLOCK_TOLERANCE_US)
        ledger = None
        if found is not None:
            try:
                ledger = self._fold_logs(found[0], now_us, found[1])
            except NotAsFolded as exc:
                checkpoint.pass_over(path, str(exc))
        if ledger is None:
            ledger = self._fold_logs(Ledger(self.policy), now_us, [])
        if ledger.folded_bytes >= CHECKPOINT_EVERY_BYTES:
            self._leave_checkpoint(path, ledger)
        self._renew_at_bytes = _next_checkpoint_at(ledger)
        return ledger

    def _fold_logs(self, ledger: Ledger, now_us: int, folded: list[list[FoldedFile]]) -> Ledger:
        """Decisions first, so that every bill finds its reservation.

        Args:
            folded: of each log, decisions first, the files that are in `ledger` already.

        Raises:
            NotAsFolded: they are not there as they were.
        """
        if folded and len(folded) != 1 + len(self._telemetry_paths):
            raise NotAsFolded("it is of other logs")
        of_decisions, *of_telemetry = folded or [[] for _ in range(1 + len(self._telemetry_paths))]
        way = self._gives_way
        decisions = LogFollower(self._decisions_path, gives_way=way)
        telemetry = [LogFollower(path, after=decisions, gives_way=way) for path in self._telemetry_paths]
        since_us = now_us - self.policy.reach_us
        ledger.advance(now_us)  # what no window holds any more is not kept
        decisions.fold_since(ledger, since_us, of_decisions)
        fault = None
        for place, files in enumerate(of_telemetry):
            follower = telemetry[place]
            try:
                # Every decision that is folded finds its bill, else it would reserve for nothing.
                follower.fold_since(ledger, since_us - DISORDER_US, files)
            except OSError as exc:  # raised below: the others count, and this one is tried at each decision
                fault = fault or exc
                follower.tail.close()
                telemetry[place] = LogFollower(follower.path, after=decisions, gives_way=way)
        self._ledger, self._decisions, self._telemetry = ledger, decisions, telemetry
        self.decisions_tail = decisions.tail
        self._watch = LogWatch([decisions.tail, *(follower.tail for follower in telemetry)])
        self._note_unread()
        if fault is not None:
            raise fault
        return ledger

    def _note_unread(self) -> None:
        followers = [self._decisions, *self._telemetry]
        self._unread = [found for follower in followers if follower is not None for found in follower.unread]

    def _leave_checkpoint(self, path: Path, ledger: Ledger) -> None:
        """Have the checkpoint written of what has just been folded, in the background: the first decision
        waits for the logs, not for the next start's sake. The process does not end before it is written,
        so that short-lived ones leave it too."""
        from policy_runtime import checkpoint  # noqa: PLC0415  see `_start`
        from policy_runtime.ledger_state import LedgerCopy  # noqa: PLC0415

        files = [follower.folded_files() for follower in (self._decisions, *self._telemetry) if follower]
        settled = [folded for folded in files if folded is not None]
        if len(settled) < len(files):
            return
        snapshot = checkpoint.Snapshot(self.policy, settled, LedgerCopy(ledger))
        if self._gives_way:  # in the background already
            checkpoint.save(path, snapshot)
        else:
            _in_background(lambda: checkpoint.save(path, snapshot), daemon=False)

    def _renew_checkpoint(self) -> None:
        """Start apart from the gate, from its last checkpoint, for the sake of the next one: the gate's own
        state, its mutex and its locks are not touched."""
        apart = LiveState(
            self._telemetry_paths, self._decisions_path, self._clock, self.policy, gives_way=True
        )
        try:
            apart._start(apart._clock_us())
        except OSError as exc:
            logger.warning("no checkpoint could be made: %s", exc)
        finally:
            apart.forget()


def _in_background(work: Callable[[], object], *, daemon: bool) -> None:
    """Do the work of a checkpoint beside the gate's."""
    try:
        threading.Thread(target=work, name="governance-checkpoint", daemon=daemon).start()
    except RuntimeError as exc:  # no more threads, or the interpreter is on its way out
        logger.debug("no checkpoint is made now: %s", exc)


def _next_checkpoint_at(ledger: Ledger) -> int:
    """How many bytes the ledger will have folded then. Of many processes that fold the same bytes one is
    the first, and the others find its checkpoint."""
    return ledger.folded_bytes + CHECKPOINT_EVERY_BYTES + os.getpid() * 7919 % (CHECKPOINT_EVERY_BYTES + 1)
