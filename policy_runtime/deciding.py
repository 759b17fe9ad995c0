"""Deciding one request: fold what is new in both logs, judge, append the decision with its reservation.

It happens under the admission lock, or after a timeout without it and marked so. No coroutine waits for
a thread here: whatever is contended is tried again later. What does not belong here: the rules
(`judgement`), the fold (`ledger`), which policy is in force and what callers see (`gate`).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.errors import EventLogError
from llmscope.event_log import LONGEST_WAIT_SECONDS, forget_descriptors_on_fork, waits
from policy_runtime import records
from policy_runtime.asking import new_request_id
from policy_runtime.decision_log import DecisionLog
from policy_runtime.errors import GateUnavailable, PolicyDenied, RequestIdReused
from policy_runtime.judgement import Judgement, judge
from policy_runtime.ledger import Admitted, Held, Ledger
from policy_runtime.live_state import READ_FAILED, LiveState
from policy_runtime.status import EstimateQuality, LiveWindow, estimate_quality, live_windows

if TYPE_CHECKING:
    from llmscope.clock import Clock
    from policy_runtime.asking import Ask
    from policy_runtime.decision_record import DecisionRecord
    from policy_runtime.policy_file import LoadedPolicy

logger = logging.getLogger("policy_runtime")


class Decider:
    """The state of one gate, its decision log, and the policy that it decides by.

    Args:
        loaded: the policy in force.
        telemetry_paths: the logs that bills are read from.
        decisions_path: the log that decisions are appended to.
        clock: time.
    """

    def __init__(
        self, loaded: LoadedPolicy, telemetry_paths: tuple[Path, ...], decisions_path: Path, clock: Clock
    ) -> None:
        self._loaded = loaded
        self._common = records.decision_under(loaded)
        self._clock = clock
        self._state = LiveState(telemetry_paths, decisions_path, clock, loaded.policy)
        self._log = DecisionLog(decisions_path, self._state)
        self._lock_is_slow = False
        forget_descriptors_on_fork(self)

    # -- deciding ----------------------------------------------------------------------------------------

    def decide(self, ask: Ask) -> DecisionRecord:
        """Decide and append, waiting for the lock at most `lock_timeout_seconds`.

        Raises:
            PolicyDenied, GateUnavailable, RequestIdReused.
        """
        if not self._state.is_started:
            with self._log.mutex:
                self._read_logs()
        if self._log.try_enter() or self._log.enter_within(self._patience_seconds()):
            try:
                return self._decide(ask, locked=True)
            finally:
                self._log.leave()
        with self._log.mutex:
            return self._decide(ask, locked=False)

    async def decide_async(self, ask: Ask) -> DecisionRecord:
        """`decide` for a coroutine: the event loop runs on while lock or mutex are contended."""
        while not self._state.is_started:
            if self._log.mutex.acquire(blocking=False):
                try:
                    self._read_logs()
                finally:
                    self._log.mutex.release()
                break
            await _sleep(LONGEST_WAIT_SECONDS)
        if self._log.try_enter() or await self._enter_in_time():
            try:
                return self._decide(ask, locked=True)
            finally:
                self._log.leave()
        while not self._log.mutex.acquire(blocking=False):
            await _sleep(LONGEST_WAIT_SECONDS)
        try:
            return self._decide(ask, locked=False)
        finally:
            self._log.mutex.release()

    def look(self, ask: Ask) -> Judgement:
        """What would be decided now."""
        with self._log.mutex:
            ledger, now_us, degraded = self._state.current()
            unreadable = None if degraded is None else _unreadable(degraded)
            return judge(self._loaded.policy, ledger, ask, now_us, unreadable)

    # -- the state ---------------------------------------------------------------------------------------

    def held(self, request_id: str) -> tuple[Held | None, bool]:
        """The id's reservation (open or lapsed), and whether a known bill for it was folded.

        Raises:
            GateUnavailable: neither is known, and the logs cannot be read.
        """
        with self._log.mutex:
            ledger, _, degraded = self._state.current()
            held, is_settled = ledger.held(request_id), ledger.is_settled(request_id)
            if held is None and not is_settled:
                self._require_read(degraded)
            return held, is_settled

    def live_windows(self) -> list[LiveWindow]:
        """Every budget and rate limit with something in it, as it stands now.

        Raises:
            GateUnavailable: the logs cannot be read.
        """
        with self._log.mutex:
            ledger, now_us, degraded = self._state.current()
            self._require_read(degraded)
            return live_windows(ledger, self._loaded.policy, now_us)

    def estimates(self) -> list[EstimateQuality]:
        """How far estimates were off, by route, model and tier.

        Raises:
            GateUnavailable: the logs cannot be read.
        """
        with self._log.mutex:
            ledger, _, degraded = self._state.current()
            self._require_read(degraded)
            return estimate_quality(ledger)

    def catch_up(self) -> None:
        """Fold what is new outside the lock, if no other thread is at it: the next decision, which holds
        the lock, then finds less to do."""
        if self._log.mutex.acquire(blocking=False):
            try:
                self._state.catch_up()
            finally:
                self._log.mutex.release()

    def note(self, event: DecisionRecord) -> None:
        """Append an event that belongs to no decision and whose loss must stop nobody."""
        try:
            self._log.note_apart(event, self._loaded.policy.lock_timeout_seconds)
        except EventLogError as exc:
            logger.error("a %s event could not be recorded: %s", event.event, exc)

    def extend(self, extension: DecisionRecord, *, may_wait: bool) -> None:
        """Append the extension of a reservation, waiting for the lock as decisions do, if at all.

        Raises:
            EventLogError: it could not be written: the reservation lapses as before.
        """
        try:
            self._log.note_apart(extension, self._loaded.policy.lock_timeout_seconds if may_wait else 0.0)
        except EventLogError as exc:
            what = f"the reservation of request {extension.request_id} is not extended and lapses as before"
            raise EventLogError(f"{what}: {exc}") from exc

    def follow(self, loaded: LoadedPolicy, telemetry_paths: tuple[Path, ...]) -> None:
        """Decide by another policy, or over other logs, from now on; usage survives, for it is folded again
        from the logs."""
        with self._log.mutex:
            self._loaded, self._common = loaded, records.decision_under(loaded)
            self._state.follow(loaded.policy, telemetry_paths)

    def close(self) -> None:
        """Close all files. The next call opens them again."""
        with self._log.mutex:
            self._state.forget()
        self._log.close()

    # -- inside ------------------------------------------------------------------------------------------

    def _require_read(self, degraded: str | None) -> None:
        if degraded is not None and _unreadable(degraded):
            raise GateUnavailable(
                f"what was spent is not known, for the logs cannot be read ({degraded}): "
                f"{', '.join(map(str, self._state.paths))}"
            )

    def _patience_seconds(self) -> float:
        """After one timeout the lock is only tried until it is had again."""
        return 0.0 if self._lock_is_slow else self._loaded.policy.lock_timeout_seconds

    def _read_logs(self) -> None:
        """Start, which takes as long as the window is, before the lock is taken that others wait for."""
        if not self._state.is_started:
            self._state.current()

    async def _enter_in_time(self) -> bool:
        """`DecisionLog.enter_within` for a coroutine."""
        for wait in waits(self._patience_seconds()):
            await _sleep(wait)
            if self._log.try_enter():
                return True
        return False

    def _decide(self, ask: Ask, *, locked: bool) -> DecisionRecord:
        clock, state, loaded = self._clock, self._state, self._loaded
        self._lock_is_slow = not locked
        started = clock.monotonic()
        ledger, now_us, degraded = state.current()
        request_id = ask.request_id
        if request_id is None:
            request_id = new_request_id()
        elif ledger.knows(request_id):
            raise RequestIdReused(
                f"request id {request_id!r} was admitted or billed before; a second call under it would "
                "escape its budget: mint a new id"
            )
        unreadable = None if degraded is None else _unreadable(degraded)
        judgement = judge(loaded.policy, ledger, ask, now_us, unreadable)
        if not locked:
            degraded = "lock"
        elif degraded is None and judgement.effective.price_version is None:
            degraded = "price: no price is known for this model"
        expires_us = now_us + ask.ttl_us
        record = records.decision_of(judgement, self._common, request_id, expires_us, degraded)
        record.telemetry_position = state.telemetry_position()
        record.latency_ms = round((clock.monotonic() - started) * 1e6) / 1000  # a fifth of `round(…, 3)`
        if judgement.crossings or ledger.policy_hash_in_log != loaded.hash:
            self._announce(ledger, judgement, locked)
        try:
            self._log.append(record, locked=locked)
        except EventLogError as exc:
            self._go_on_unrecorded(ledger, judgement, exc)
        ledger.last_decision_us = now_us
        if judgement.decision == "deny":
            raise PolicyDenied(record, judgement.retry_after_seconds)
        effective = judgement.effective
        ledger.admit_new(
            Admitted(
                request_id,
                now_us,
                effective.reserved_nano,
                ask.tokens_in + effective.max_output_tokens,
                expires_us,
                ask.labels,
                effective.model,
                effective.tier,
                effective.expected_nano,
            )
        )
        return record

    def _announce(self, ledger: Ledger, judgement: Judgement, locked: bool) -> None:
        """Append what the log must know before this decision: the policy in force, crossings."""
        now_us = judgement.now_us
        if ledger.policy_hash_in_log != self._loaded.hash:
            ledger.policy_hash_in_log = self._loaded.hash
            self._log.note(records.policy_loaded(self._loaded, now_us), locked=locked)
        for crossing in judgement.crossings:
            window_start_us = crossing.watermark.window_start_us
            ledger.alerted(crossing.rule.id, crossing.scope, crossing.fraction, now_us, window_start_us)
            self._log.note(records.budget_alert(crossing, now_us), locked=locked)

    def _go_on_unrecorded(self, ledger: Ledger, judgement: Judgement, error: EventLogError) -> None:
        """The decision could not be written: the rules' `on_error` decide whether it holds.

        Raises:
            GateUnavailable: an enforced rule says to deny then.
        """
        if judgement.decision == "deny":
            logger.error("a denial could not be recorded: %s", error)
            return
        for book in ledger.books(judgement.charged):
            if book.rule.on_error == "deny" and book.rule.enforced:
                raise GateUnavailable(
                    f"no decision could be recorded ({error}), and rule {book.rule.id!r} says on_error: deny"
                ) from error
        logger.error("allowed without a record, as on_error says: %s", error)

    def _after_fork_in_child(self) -> None:
        """A fork may have caught the ledger in the middle of a fold: the child starts its own."""
        self._state.forget()


def _unreadable(degraded: str) -> str | None:
    """Why the state lacks what is in the logs, where that is what degrades it."""
    return degraded if degraded.startswith(READ_FAILED) else None


async def _sleep(seconds: float) -> None:
    import asyncio  # noqa: PLC0415  the event loop's library is loaded by who runs one

    await asyncio.sleep(seconds)
