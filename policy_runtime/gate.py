"""The gate as callers see it: `PolicyRuntime` decides every call before it is made and writes that down.

Any number of threads and processes on a host share one budget, because each decides under a lock on
logs that all of them read. What does not belong here: deciding (`deciding`), settling (`admission`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.clock import Clock, SystemClock
from llmscope.context import LLMRequestContext
from llmscope.event_log import LogWriter
from llmscope.gateway.policies import AUTO_MODEL, get_model_for_tier, get_route_policy
from llmscope.timestamps import from_micros, to_micros
from policy_runtime import records
from policy_runtime.admission import Admission, admitted_somewhere, settle_held
from policy_runtime.asking import Ask, ask_of, extended_until
from policy_runtime.billing import load_what_billing_needs
from policy_runtime.deciding import Decider
from policy_runtime.errors import PolicyFileError
from policy_runtime.followed_logs import followed_logs
from policy_runtime.policy_in_force import NO_RULES, PolicyInForce
from policy_runtime.settings import Settings
from policy_runtime.verdict import Verdict, verdict_of

if TYPE_CHECKING:
    from datetime import datetime

    from llmscope.gateway.client import GatewayResult
    from llmscope.gateway.streaming import AnswerStream
    from policy_runtime.decision_record import DecisionRecord
    from policy_runtime.ledger import Held
    from policy_runtime.policy import Policy
    from policy_runtime.policy_in_force import PolicySource
    from policy_runtime.status import EstimateQuality, LiveWindow

logger = logging.getLogger("policy_runtime")


class PolicyRuntime:
    """The gate of one process; processes that name the same logs share their budgets.

    Args:
        policy: a file's path, a mapping, a `Policy`, or None for what `Settings` finds.
        telemetry_path: the log llmscope appends to; None for what `Settings` finds.
        decisions_path: the log the gate appends to; None for what `Settings` finds.
        clock: time; None for the machine's.
        telemetry_paths: further telemetry logs to fold, by path or pattern, of programs that keep their own
            file; None for what `Settings` finds, and for none where `telemetry_path` is given.

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
        telemetry_paths: Sequence[str | os.PathLike[str]] | None = None,
    ) -> None:
        awaited_policy_path = None
        if policy is None or telemetry_path is None or decisions_path is None:
            settings = Settings.from_environment()
            if policy is None:
                policy, awaited_policy_path = settings.policy_path, settings.awaited_policy_path
            if telemetry_path is None and telemetry_paths is None:
                telemetry_paths = settings.telemetry_globs
            telemetry_path = telemetry_path or settings.telemetry_path
            decisions_path = decisions_path or settings.decisions_path
        self._in_force = PolicyInForce(policy)
        self._in_force.await_file(awaited_policy_path)
        self.telemetry_path = Path(telemetry_path)
        self.decisions_path = Path(decisions_path)
        self.clock: Clock = clock or SystemClock()
        self.telemetry_writer = LogWriter(self.telemetry_path)
        self._telemetry_names = telemetry_paths or ()
        self._followed = self._logs_to_follow()
        self._decider = Decider(self._in_force.loaded, self._followed, self.decisions_path, self.clock)
        load_what_billing_needs()

    @classmethod
    def from_settings(cls, settings: Settings | None = None, *, clock: Clock | None = None) -> PolicyRuntime:
        """The gate that `settings`, else the environment, describes; without a policy file, one without
        rules until there is one."""
        settings = settings or Settings.from_environment()
        gate = cls(
            settings.policy_path or NO_RULES,
            telemetry_path=settings.telemetry_path,
            decisions_path=settings.decisions_path,
            clock=clock,
            telemetry_paths=settings.telemetry_globs,
        )
        gate._in_force.await_file(settings.awaited_policy_path)
        return gate

    # -- public ----------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._in_force.loaded.policy

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

        call = await self._decided_call(
            prompt, model_tier, route_name, context, metadata, request_id, model, tokens_in,
            max_output_tokens, history,
        )  # fmt: skip
        result = await gateway_client.call_llm(**call)
        self.catch_up()
        return result

    @asynccontextmanager
    async def stream_llm(
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
    ) -> AsyncIterator[AnswerStream]:
        """`call_llm` for an answer that is read in pieces, see `llmscope.stream_llm`.

        Deciding happens on entering the block. However the stream ends, its line settles the reservation
        if the cost is known: a stream that was left costs its input and what was received.

        Raises:
            PolicyDenied: after the decision is on disk.
            ValueError: unknown route, tier or provider; before anything is decided.
        """
        from llmscope.gateway.streaming import stream_llm  # noqa: PLC0415  for who calls through it

        call = await self._decided_call(
            prompt, model_tier, route_name, context, metadata, request_id, model, tokens_in,
            max_output_tokens, history,
        )  # fmt: skip
        try:
            async with stream_llm(**call) as stream:
                yield stream
        finally:
            self.catch_up()

    async def _decided_call(
        self,
        prompt: str,
        model_tier: str,
        route_name: str,
        context: LLMRequestContext | None,
        metadata: Mapping[str, Any] | None,
        request_id: str | None,
        model: str | None,
        tokens_in: int | None,
        max_output_tokens: int | None,
        history: Sequence[str],
    ) -> dict[str, Any]:
        """Decide, and say how the call is to be made: the arguments of llmscope's own functions."""
        from llmscope.gateway.provider import get_provider  # noqa: PLC0415  for who calls through llmscope
        from llmscope.gateway.runtime import current_runtime  # noqa: PLC0415

        if model == AUTO_MODEL:
            model = None
        if history and tokens_in is None:
            tokens_in = current_runtime().longest_prompt_tokens(route_name, prompt, history)
        get_model_for_tier(route_name, model_tier)
        get_provider(get_route_policy(route_name).provider_name)
        ask = ask_of(
            self.policy, context, route_name, model_tier, prompt, tokens_in, max_output_tokens, model,
            request_id,
        )  # fmt: skip
        record = await self.decide_async(ask)
        return {
            "prompt": prompt,
            "model_tier": str(record.effective_model_tier),
            "route_name": route_name,
            "metadata": dict(metadata) if metadata else None,
            "context": context,
            "request_id": str(record.request_id),
            "model": str(record.model) if model is not None else None,
            "max_output_tokens": max_output_tokens,
            "clock": self.clock,
            "telemetry_path": self.telemetry_path,
            "history": history,
        }

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
        policy = self._in_force.loaded.policy
        ask = ask_of(
            policy, context, route_name, model_tier, prompt, tokens_in, max_output_tokens, model, request_id,
            ttl_seconds,
        )  # fmt: skip
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
        """What would be decided now. Appends nothing, reserves nothing.

        It takes turns with the other threads of this process: a coroutine that must not wait for one,
        such as one that reads long logs at its start, calls it through `asyncio.to_thread`.
        """
        ask = ask_of(
            self.policy, context, route_name, model_tier, prompt, tokens_in, max_output_tokens, model
        )
        return verdict_of(self._decider.look(ask))

    def settle(self, request_id: str, **bill: Any) -> None:
        """Settle a request that this or another process admitted.

        Takes what `Admission.settle` takes. Attribution, route and model are copied from the
        decision; the request must have been admitted within the longest window.

        Raises:
            UnknownRequest: no admission of that id is known.
            AlreadySettled: a known bill for it is in the log.
            EventLogError: the bill could not be written.
            GateUnavailable: the logs cannot be read.
        """
        settle_held(self, request_id, **bill)

    def extend(self, request_id: str, seconds: float) -> datetime:
        """Have the reservation of a request that this or another process admitted lapse `seconds` from now.

        Returns when it lapses: one longest window of the policy after the admission at the latest.

        Raises:
            UnknownRequest: no admission of that id is known.
            AlreadySettled: a known bill for it is in the log.
            ValueError: longer than the policy's longest window, or that much time has passed.
            EventLogError: the extension could not be written: the reservation lapses as before.
            GateUnavailable: the logs cannot be read.
        """
        admitted = admitted_somewhere(self, request_id).admitted
        return self.prolong(request_id, admitted.timestamp_us, admitted.expires_us, seconds, may_wait=True)

    def live_windows(self) -> list[LiveWindow]:
        """Every budget and rate limit with something in it, as it stands now.

        Raises:
            GateUnavailable: the logs cannot be read.
        """
        return self._decider.live_windows()

    def estimates(self) -> list[EstimateQuality]:
        """What settled requests were expected to cost and what was reserved for them, beside what they
        did cost, by route, model and tier, within the policy's longest window.

        Raises:
            GateUnavailable: the logs cannot be read.
        """
        return self._decider.estimates()

    def reload(self) -> bool:
        """Read the policy file again, and look which telemetry logs the patterns match by now. An invalid
        file is refused and recorded, the old policy stays.

        Returns whether a new policy is in force; usage survives, for it is folded again from the logs.

        Raises:
            PolicyFileError: why the file was refused.
        """
        try:
            is_new = self._in_force.read_again()
        except PolicyFileError as exc:
            self._decider.note(records.policy_refused(str(exc), self._in_force.loaded, self._now_us()))
            raise
        followed = self._logs_to_follow()
        if is_new or followed != self._followed:
            self._followed = followed
            self._decider.follow(self._in_force.loaded, followed)
        return is_new

    def close(self) -> None:
        """Close all files. The next call opens them again."""
        self._decider.close()
        self.telemetry_writer.close()

    # -- for Admission -----------------------------------------------------------------------------------

    def decide(self, ask: Ask) -> DecisionRecord:
        """Decide and append, waiting for the lock at most `lock_timeout_seconds`.

        Raises:
            PolicyDenied, GateUnavailable, RequestIdReused.
        """
        if self._in_force.file_has_changed():
            self._take_up_policy_file()
        return self._decider.decide(ask)

    async def decide_async(self, ask: Ask) -> DecisionRecord:
        """`decide` for a coroutine: the event loop runs on while anything is contended."""
        if self._in_force.file_has_changed():
            import asyncio  # noqa: PLC0415  the event loop's library is loaded by who runs one

            await asyncio.to_thread(self._take_up_policy_file)
        return await self._decider.decide_async(ask)

    def prolong(
        self, request_id: str, admitted_us: int, expires_us: int, seconds: float, *, may_wait: bool
    ) -> datetime:
        """`extend` for who knows when the request was admitted and would lapse.

        Args:
            may_wait: for the lock, as decisions do; on an event loop the line is written without it
                if it is taken at this instant.

        Raises:
            EventLogError: the extension could not be written.
        """
        now_us = self._now_us()
        until_us = extended_until(self.policy, admitted_us, expires_us, now_us, seconds)
        self._decider.extend(records.reservation_extended(request_id, until_us, now_us), may_wait=may_wait)
        return from_micros(until_us)

    def catch_up(self) -> None:
        """Fold what is new outside the lock, if no other thread is at it."""
        self._decider.catch_up()

    def held(self, request_id: str) -> tuple[Held | None, bool]:
        """The id's reservation (open or lapsed), and whether a known bill for it was folded."""
        return self._decider.held(request_id)

    # -- surroundings --------------------------------------------------------------------------------------

    def _now_us(self) -> int:
        return to_micros(self.clock.now())

    def _logs_to_follow(self) -> tuple[Path, ...]:
        return followed_logs(self.telemetry_path, self._telemetry_names, self.decisions_path)

    def _take_up_policy_file(self) -> None:
        try:
            self.reload()
        except PolicyFileError as exc:
            logger.error("the changed policy file is refused, the old policy stays in force: %s", exc)
