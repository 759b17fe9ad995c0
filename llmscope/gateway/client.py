"""The one way to a provider: `call_llm`.

Whatever happens, one line of telemetry is written: for an answer, for the error that the caller then
sees, and for a cancellation. A failing log never costs the caller an answer that was paid for.

What does not belong here: whether a call may be made at all (`policy_runtime`), what it passes through
(`pipeline`), what its line says (`call`), vendors (`provider`).
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmscope.clock import Clock, SystemClock
from llmscope.context import LLMRequestContext
from llmscope.envelope import LLMRequestEnvelope
from llmscope.gateway import instrumentation, pipeline
from llmscope.gateway.attempts import CallRecord, Reply, attempt_until_done, current_call
from llmscope.gateway.call import Call
from llmscope.gateway.policies import AUTO_MODEL, ModelTier, get_model_for_tier, get_route_policy
from llmscope.gateway.provider import ProviderBase, get_provider
from llmscope.gateway.runtime import current_runtime
from llmscope.gateway.stages import Target

GatewayRouteName = str
"""The name of a route; `register_route` adds to the built-in ones."""

_SYSTEM_CLOCK = SystemClock()


@dataclass(frozen=True)
class GatewayResult:
    """What a caller gets.

    Attributes:
        estimated_cost_usd: what the answer cost; None when its model has no known price.
        finish_reason: see `ProviderResponse`.
        provider: the provider that answered.
        latency_ms: what the caller waited, failed attempts and backoff included.
    """

    text: str
    selected_model: str
    request_id: str
    tokens_in: int
    tokens_out: int
    estimated_cost_usd: float | None
    cache_hit: bool
    finish_reason: str | None = None
    provider: str | None = None
    latency_ms: float | None = None


async def call_llm(
    prompt: str,
    model_tier: ModelTier,
    route_name: str,
    metadata: Mapping[str, Any] | None = None,
    context: LLMRequestContext | None = None,
    *,
    request_id: str | None = None,
    model: str | None = None,
    max_output_tokens: int | None = None,
    clock: Clock | None = None,
    telemetry_path: str | os.PathLike[str] | None = None,
    history: Sequence[str] = (),
) -> GatewayResult:
    """Ask a model, and record what came of it.

    The route's provider is tried with retries, then each of the route's fallbacks likewise; an
    `invalid_request` ends it at once, because it would fail everywhere. After a fallback the recorded
    cost is that of the answer: what failed attempts before it may have cost, no provider reports.

    Args:
        prompt: what is sent. It is written nowhere.
        model_tier: which of the route's models.
        metadata: further keys for the event; also the context, for callers who give none.
        context: who it is for.
        request_id: the id that the gate has minted; a new one otherwise.
        model: instead of the tier's model.
        max_output_tokens: instead of the route's.
        clock: for waiting and for time stamps; the machine's by default.
        telemetry_path: instead of the configured log.
        history: the turns before the prompt, oldest first, for a route with a context budget.

    Raises:
        ConfigurationError: unknown route, tier or provider; nothing was sent and nothing is logged.
        LlmscopeError: what a stage of the route refuses, see `pipeline.answer`; its line is written.
        Exception: the provider's own, of the last attempt, once the line is written.
    """
    call = new_call(
        prompt,
        model_tier,
        route_name,
        metadata,
        context,
        history=history,
        request_id=request_id,
        model=model,
        max_output_tokens=max_output_tokens,
        clock=clock,
        telemetry_path=telemetry_path,
    )
    with instrumentation.call_span(call.target.model, call.request_attributes()) as span:
        trace_id, span_id = span.ids()
        try:
            text = await pipeline.answer(call, _call_provider)
        except BaseException as error:  # every ending has its line; the error goes on to the caller
            envelope = call.error_envelope(error)
            span.fail(error, str(envelope.error_type))
            envelope.trace_id, envelope.span_id = trace_id, span_id
            if isinstance(error, (Exception, asyncio.CancelledError)):
                await call.tell(envelope)
            else:  # the interpreter or the loop is going down: nothing can be awaited any more
                call.tell_now(envelope)
            raise
        envelope = call.answer_envelope()
        envelope.trace_id, envelope.span_id = trace_id, span_id
        span.set(call.response_attributes(envelope))
        await call.tell(envelope)
    return result_of(call, text, envelope)


def result_of(call: Call, text: str, envelope: LLMRequestEnvelope) -> GatewayResult:
    """What the caller of an answered call gets."""
    return GatewayResult(
        text=text,
        selected_model=str(envelope.model_selected),
        request_id=call.request_id,
        tokens_in=envelope.tokens_in or 0,
        tokens_out=envelope.tokens_out or 0,
        estimated_cost_usd=envelope.estimated_cost_usd,
        cache_hit=bool(envelope.cache_hit),
        finish_reason=envelope.finish_reason,
        provider=envelope.provider_selected,
        latency_ms=envelope.latency_ms,
    )


def new_call(
    prompt: str,
    model_tier: ModelTier,
    route_name: str,
    metadata: Mapping[str, Any] | None,
    context: LLMRequestContext | None,
    *,
    history: Sequence[str],
    request_id: str | None,
    model: str | None,
    max_output_tokens: int | None,
    clock: Clock | None,
    telemetry_path: str | os.PathLike[str] | None,
) -> Call:
    """A call that has not begun: every name in it resolved, nothing sent. See `call_llm`."""
    policy = get_route_policy(route_name)
    tiers_model = get_model_for_tier(route_name, model_tier)
    parts = current_runtime().parts_of(route_name)
    named = None if model == AUTO_MODEL else model
    targets = [Target(*target) for target in policy.targets(tiers_model, named)]
    record = CallRecord(clock=clock or _SYSTEM_CLOCK, breaker_of=parts.breaker_of, router=parts.router)
    record.request_id = request_id or str(uuid.uuid4())
    started = record.clock.monotonic()
    if parts.retry is not None:
        record.retry = parts.retry
        if parts.retry.deadline_seconds is not None:
            record.deadline_at = started + parts.retry.deadline_seconds
    return Call(
        request_id=record.request_id,
        route_name=route_name,
        model_tier=model_tier,
        model=model,
        prompt=prompt,
        history=tuple(history),
        policy=policy,
        parts=parts,
        metadata=dict(metadata or {}),
        context=context if context is not None else LLMRequestContext.from_metadata(metadata),
        max_output_tokens=max_output_tokens if max_output_tokens is not None else policy.max_output_tokens,
        requested=targets[0],
        targets=[(target, get_provider(target.provider)) for target in targets],
        find_provider=get_provider,
        record=record,
        telemetry_path=telemetry_path,
        started=started,
    )


async def _call_provider(
    provider: ProviderBase,
    prompt: str,
    model: str,
    max_output_tokens: int,
    retry_attempts: int,
) -> tuple[str, int, int]:
    """One provider, with retries: `(text, tokens_in, tokens_out)`, or its last error.

    Tests replace this function.
    """

    async def once() -> Reply:
        with instrumentation.vendor_spans_suppressed():
            return Reply.of(await provider.complete(prompt, model, max_output_tokens))

    record = current_call.get() or CallRecord()
    return await attempt_until_done(record, provider, model, retry_attempts, once)
