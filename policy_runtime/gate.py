"""The gate: `PolicyRuntime` decides every call before it is made and appends the decision.

Deciding happens under the admission lock: fold what is new in both logs, judge, append the decision
with its reservation, unlock. Any number of threads and processes on a host share one budget that way.
What does not belong here: the rules (`judgement`), the fold (`ledger`), settling (`admission`).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.clock import Clock, SystemClock
from llmscope.context import LLMRequestContext
from llmscope.errors import EventLogError
from llmscope.event_log import (
    FIRST_WAIT_SECONDS,
    LONGEST_WAIT_SECONDS,
    LogWriter,
    forget_descriptors_on_fork,
)
from llmscope.gateway.policies import AUTO_MODEL, get_model_for_tier, get_route_policy
from llmscope.timestamps import MICROS, to_micros
from policy_runtime import records
from policy_runtime.admission import Admission, settle_held
from policy_runtime.asking import Ask, ask_of, check_ttl, new_request_id
from policy_runtime.decision_log import DecisionLog
from policy_runtime.decision_record import DecisionRecord
from policy_runtime.errors import GateUnavailable, PolicyDenied, PolicyFileError, RequestIdReused
from policy_runtime.judgement import Judgement, judge
from policy_runtime.ledger import Admitted, Held, Ledger
from policy_runtime.live_state import LiveState
from policy_runtime.policy import Policy
from policy_runtime.policy_file import load_policy
from policy_runtime.settings import Settings
from policy_runtime.status import LiveWindow, live_windows
from policy_runtime.verdict import Verdict, verdict_of

if TYPE_CHECKING:
    from llmscope.gateway.client import GatewayResult

logger = logging.getLogger("policy_runtime")

_POLICY_LOOK_SECONDS = 1.0

PolicySource = str | os.PathLike[str] | Mapping[str, Any] | Policy | None


class PolicyRuntime:
    """The gate of one process; processes that name the same logs share their budgets.

    Args:
        policy: a file's path, a mapping, a `Policy`, or None for what `Settings` finds.
        telemetry_path: the log llmscope appends to; None for what `Settings` finds.
        decisions_path: the log the gate appends to; None for what `Settings` finds.
        clock: time; None for the machine's.
        telemetry_paths: further telemetry logs to fold, of programs that keep their own file.

    Raises:
        PolicyFileError: the policy cannot be enforced as written.
        SettingsError: the surroundings name something missing.
    """

    def __init__(
        self,
        policy: PolicySource = None,
        *,
        telemetry_path: str | os.PathLike[str] | None = None,
        decisions_path: str | os.PathLike[str] | None = None,
        clock: Clock | None = None,
        telemetry_paths: tuple[str | os.PathLike[str], ...] = (),
    ) -> None:
        if policy is None or telemetry_path is None or decisions_path is None:
            settings = Settings.from_environment()
            policy = settings.policy_path if policy is None else policy
            telemetry_path = telemetry_path or settings.telemetry_path
            decisions_path = decisions_path or settings.decisions_path
        self._loaded = load_policy(policy)
        self.telemetry_path = Path(telemetry_path)
        self.decisions_path = Path(decisions_path)
        self.clock: Clock = clock or SystemClock()
        self.telemetry_writer = LogWriter(self.telemetry_path)
        self._lock_is_slow = False
        self._policy_identity = _file_identity(self._loaded.path)
        self._refused_identity: tuple[int, int, int] | None = None
        self._policy_looked_at = time.monotonic()
        paths = (self.telemetry_path, *(Path(path) for path in telemetry_paths))
        self._state = LiveState(paths, self.decisions_path, self.clock, self._loaded.policy)
        self._log = DecisionLog(self.decisions_path, self._state)
        forget_descriptors_on_fork(self)

    @classmethod
    def from_settings(cls, settings: Settings | None = None, *, clock: Clock | None = None) -> PolicyRuntime:
        """The gate that the environment describes."""
        settings = settings or Settings.from_environment()
        return cls(
            settings.policy_path,
            telemetry_path=settings.telemetry_path,
            decisions_path=settings.decisions_path,
            clock=clock,
        )

    # -- public ----------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._loaded.policy

    async def call_llm(
        self,
        prompt: str,
        model_tier: str,
        route_name: str,
        *,
        context: LLMRequestContext | None = None,
        metadata: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        model: str | None = None,
        tokens_in: int | None = None,
        max_output_tokens: int | None = None,
        history: Sequence[str] = (),
    ) -> GatewayResult:
        """Decide, then call through llmscope at the effective tier.

        Args:
            model: a model by name, or `auto` for any that the route's router may choose for the tier.
            tokens_in: input tokens when they are known; else they are estimated from prompt and history.
            history: the turns before the prompt, oldest first, for a route with a context budget.

        Raises:
            PolicyDenied: after the decision is on disk.
            ValueError: unknown route, tier or provider; before anything is decided.
        """
        from llmscope.gateway import client as gateway_client  # noqa: PLC0415  for who calls through it
        from llmscope.gateway.provider import get_provider  # noqa: PLC0415
        from llmscope.gateway.runtime import current_runtime  # noqa: PLC0415

        if model == AUTO_MODEL:
            model = None
        if history and tokens_in is None:
            tokens_in = current_runtime().longest_prompt_tokens(route_name, prompt, history)
        get_model_for_tier(route_name, model_tier)
        get_provider(get_route_policy(route_name).provider_name)
        ask = ask_of(
            self.policy,
            context,
            route_name,
            model_tier,
            prompt,
            tokens_in,
            max_output_tokens,
            model,
            request_id,
        )
        record = await self.decide_async(ask)
        result = await gateway_client.call_llm(
            prompt,
            str(record.effective_model_tier),
            route_name,
            dict(metadata) if metadata else None,
            context,
            request_id=str(record.request_id),
            model=str(record.model) if model is not None else None,
            max_output_tokens=max_output_tokens,
            clock=self.clock,
            telemetry_path=self.telemetry_path,
            history=history,
        )
        self.catch_up()
        return result

    def admit(
        self,
        *,
        context: LLMRequestContext | None = None,
        route_name: str,
        model_tier: str,
        prompt: str | None = None,
        tokens_in: int | None = None,
        max_output_tokens: int | None = None,
        model: str | None = None,
        request_id: str | None = None,
        ttl_seconds: float | None = None,
    ) -> Admission:
        """An admission to enter with `with` or `async with`: the decision is made on entering.

        Raises:
            ValueError: neither prompt nor tokens_in, or a `ttl_seconds` that no cold start would find.
        """
        ask = ask_of(
            self.policy,
            context,
            route_name,
            model_tier,
            prompt,
            tokens_in,
            max_output_tokens,
            model,
            request_id,
            ttl_seconds,
        )
        return Admission(self, ask)

    def evaluate(
        self,
        *,
        context: LLMRequestContext | None = None,
        route_name: str,
        model_tier: str,
        prompt: str | None = None,
        tokens_in: int | None = None,
        max_output_tokens: int | None = None,
        model: str | None = None,
    ) -> Verdict:
        """What would be decided now. Appends nothing, reserves nothing."""
        ask = ask_of(
            self.policy, context, route_name, model_tier, prompt, tokens_in, max_output_tokens, model
        )
        with self._log.mutex:
            ledger, now_us, _ = self._state.current()
            judgement = judge(self.policy, ledger, ask, now_us)
        return verdict_of(judgement)

    def settle(self, request_id: str, **bill: Any) -> None:
        """Settle a request that this or another process admitted.

        Takes what `Admission.settle` takes. Attribution, route and model are copied from the
        decision; the request must have been admitted within the longest window.

        Raises:
            UnknownRequest: no admission of that id is known.
            AlreadySettled: a known bill for it is in the log.
        """
        settle_held(self, request_id, **bill)

    def live_windows(self) -> list[LiveWindow]:
        """Every budget and rate limit with something in it, as it stands now."""
        with self._log.mutex:
            ledger, now_us, _ = self._state.current()
            return live_windows(ledger, self.policy, now_us)

    def reload(self) -> bool:
        """Read the policy file again. An invalid one is refused and recorded, the old one stays.

        Returns whether a new policy is in force; usage survives, for it is folded again from the logs.

        Raises:
            PolicyFileError: why the file was refused.
        """
        path = self._loaded.path
        if path is None:
            return False
        identity = _file_identity(path)
        try:
            loaded = load_policy(path)
        except PolicyFileError as exc:
            self._refused_identity = identity
            self._log.note_apart(
                records.policy_refused(str(exc), self._loaded, self._now_us()),
                self.policy.lock_timeout_seconds,
            )
            raise
        self._policy_identity, self._refused_identity = identity, None
        if loaded.hash == self._loaded.hash:
            return False
        with self._log.mutex:
            self._loaded = loaded
            self._state.policy = loaded.policy
            self._state.forget()
        return True

    def close(self) -> None:
        """Close all files. The next call opens them again."""
        with self._log.mutex:
            self._state.forget()
        self._log.close()
        self.telemetry_writer.close()

    # -- for Admission -----------------------------------------------------------------------------------

    def decide(self, ask: Ask) -> DecisionRecord:
        """Decide and append, waiting for the lock at most `lock_timeout_seconds`.

        Raises:
            PolicyDenied, GateUnavailable, RequestIdReused.
        """
        self._follow_policy_file()
        deadline = time.monotonic() + self._lock_patience()
        wait = FIRST_WAIT_SECONDS
        while not self._log.try_enter():
            if time.monotonic() >= deadline:
                return self._decide_without_lock(ask)
            time.sleep(wait)
            wait = min(wait * 1.5, LONGEST_WAIT_SECONDS)
        return self._decide_entered(ask)

    async def decide_async(self, ask: Ask) -> DecisionRecord:
        """`decide` for a coroutine: the event loop runs on while the lock is contended."""
        self._follow_policy_file()
        if self._log.try_enter():
            return self._decide_entered(ask)
        from asyncio import sleep  # noqa: PLC0415  the event loop's library is loaded by who runs one

        deadline = time.monotonic() + self._lock_patience()
        wait = FIRST_WAIT_SECONDS
        while not self._log.try_enter():
            if time.monotonic() >= deadline:
                return self._decide_without_lock(ask)
            await sleep(wait)
            wait = min(wait * 1.5, LONGEST_WAIT_SECONDS)
        return self._decide_entered(ask)

    def extend(self, request_id: str, seconds: float) -> int:
        """Have a reservation lapse `seconds` from now; the new expiry in microseconds."""
        check_ttl(self.policy, seconds)
        now_us = self._now_us()
        expires_us = now_us + round(seconds * MICROS)
        self._log.note_apart(
            records.reservation_extended(request_id, expires_us, now_us), self.policy.lock_timeout_seconds
        )
        return expires_us

    def catch_up(self) -> None:
        """Fold what is new outside the lock, if no other thread is at it: the next decision, which holds
        the lock, then finds less to do."""
        if self._log.mutex.acquire(blocking=False):
            try:
                self._state.catch_up()
            finally:
                self._log.mutex.release()

    def held(self, request_id: str) -> tuple[Held | None, bool]:
        """The id's reservation (open or lapsed), and whether a known bill for it was folded."""
        with self._log.mutex:
            ledger, _, _ = self._state.current()
            return ledger.held(request_id), ledger.is_settled(request_id)

    # -- deciding ----------------------------------------------------------------------------------------

    def _lock_patience(self) -> float:
        return 0.0 if self._lock_is_slow else self.policy.lock_timeout_seconds

    def _decide_entered(self, ask: Ask) -> DecisionRecord:
        try:
            self._lock_is_slow = False
            return self._decide(ask, locked=True)
        finally:
            self._log.leave()

    def _decide_without_lock(self, ask: Ask) -> DecisionRecord:
        """The lock stayed taken: decide on what is known, and say so."""
        self._lock_is_slow = True
        with self._log.mutex:
            return self._decide(ask, locked=False)

    def _decide(self, ask: Ask, *, locked: bool) -> DecisionRecord:
        started = self.clock.monotonic()
        ledger, now_us, degraded = self._state.current()
        if not locked:
            degraded = "lock"
        request_id = ask.request_id or new_request_id()
        if ask.request_id is not None and ledger.knows(request_id):
            raise RequestIdReused(
                f"request id {request_id!r} was admitted or billed before; a second call under it would "
                "escape its budget: mint a new id"
            )
        judgement = judge(self.policy, ledger, ask, now_us)
        expires_us = now_us + ask.ttl_us
        record = records.decision_of(judgement, self._loaded, request_id, expires_us)
        if judgement.effective.price_version is None:
            degraded = degraded or "price: no price is known for this model"
        record.state, record.state_reason = ("degraded", degraded) if degraded else ("fresh", None)
        record.telemetry_position = self._state.telemetry_position()
        record.latency_ms = round((self.clock.monotonic() - started) * 1000, 3)
        self._announce(ledger, judgement, now_us, locked)
        self._append(ledger, ask, record, locked)
        ledger.last_decision_us = now_us
        if judgement.decision == "deny":
            raise PolicyDenied(record, judgement.retry_after_seconds)
        ledger.admit(
            Admitted(
                request_id,
                now_us,
                judgement.effective.reserved_nano,
                int(record.reserved_tokens or 0),
                expires_us,
                ask.labels,
                judgement.effective.model,
                judgement.effective.tier,
            )
        )
        return record

    def _announce(self, ledger: Ledger, judgement: Judgement, now_us: int, locked: bool) -> None:
        """Append what the log must know before this decision: the policy in force, crossings."""
        if ledger.policy_hash_in_log != self._loaded.hash:
            ledger.policy_hash_in_log = self._loaded.hash
            self._log.note(records.policy_loaded(self._loaded, now_us), locked=locked)
        for crossing in judgement.crossings:
            ledger.alerted(
                crossing.rule.id,
                crossing.scope,
                crossing.fraction,
                now_us,
                crossing.watermark.window_start_us,
            )
            self._log.note(records.budget_alert(crossing, now_us), locked=locked)

    def _append(self, ledger: Ledger, ask: Ask, record: DecisionRecord, locked: bool) -> None:
        """Append the decision; when the log cannot be written, the rules' `on_error` decide."""
        try:
            self._log.append(record, locked=locked)
        except EventLogError as exc:
            if record.decision == "deny":
                logger.error("a denial could not be recorded: %s", exc)
                return
            charged = self.policy.charged_namespace(ask.labels.budget_namespace)
            for book in ledger.books(charged):
                if book.rule.on_error == "deny" and book.rule.enforced:
                    raise GateUnavailable(
                        f"no decision could be recorded ({exc}), and rule {book.rule.id!r} "
                        "says on_error: deny"
                    ) from exc
            logger.error("allowed without a record, as on_error says: %s", exc)

    # -- surroundings --------------------------------------------------------------------------------------

    def _now_us(self) -> int:
        return to_micros(self.clock.now())

    def _follow_policy_file(self) -> None:
        """Reload when the policy file has changed, looking at it once a second at most."""
        now = time.monotonic()
        if self._loaded.path is None or now - self._policy_looked_at < _POLICY_LOOK_SECONDS:
            return
        self._policy_looked_at = now
        identity = _file_identity(self._loaded.path)
        if identity is None or identity in (self._policy_identity, self._refused_identity):
            return
        try:
            self.reload()
        except PolicyFileError as exc:
            logger.error("the changed policy file is refused, the old policy stays in force: %s", exc)

    def _after_fork_in_child(self) -> None:
        """A fork may have caught the ledger in the middle of a fold: the child starts its own."""
        self._state.forget()


def _file_identity(path: Path | None) -> tuple[int, int, int] | None:
    """What changes when a file is edited or replaced; None when it is not there."""
    if path is None:
        return None
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
