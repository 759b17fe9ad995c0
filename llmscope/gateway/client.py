"""The one way to a provider: `call_llm` routes, retries, falls back, prices, and tells the log.

Whatever happens, one line of telemetry is written: for an answer, for the error that the caller then
sees, and for a cancellation. A failing log never costs the caller an answer that was paid for.

What does not belong here: whether a call may be made at all (`policy_runtime`), vendors (`provider`),
what the line looks like (`event`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmscope.clock import Clock, SystemClock
from llmscope.context import LLMRequestContext
from llmscope.envelope import SCHEMA_VERSION, CostSource, EnvelopeStatus, LLMRequestEnvelope
from llmscope.errors import ConfigurationError, LlmscopeError
from llmscope.gateway import instrumentation, semconv, telemetry
from llmscope.gateway.attempts import (
    CallRecord,
    Reply,
    backoff_seconds,
    category_of,
    current_call,
    is_unbilled,
    milliseconds,
)
from llmscope.gateway.cost_model import rate_for
from llmscope.gateway.event import encode_event, event_of
from llmscope.gateway.policies import ModelTier, RoutePolicy, get_model_for_tier, get_route_policy
from llmscope.gateway.provider import ProviderBase, get_provider
from llmscope.money import from_nano
from llmscope.timestamps import format_instant

logger = logging.getLogger("llmscope")

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

    Raises:
        ConfigurationError: unknown route, tier or provider; nothing was sent and nothing is logged.
        Exception: the provider's own, of the last attempt, once the line is written.
    """
    policy = get_route_policy(route_name)
    chosen = model or get_model_for_tier(route_name, model_tier)
    targets = _targets(policy, chosen)
    call = _Call(
        request_id=request_id or str(uuid.uuid4()),
        route_name=route_name,
        model_tier=model_tier,
        policy=policy,
        metadata=dict(metadata or {}),
        context=context if context is not None else LLMRequestContext.from_metadata(metadata),
        max_output_tokens=max_output_tokens if max_output_tokens is not None else policy.max_output_tokens,
        targets=targets,
        record=CallRecord(clock=clock or _SYSTEM_CLOCK),
        telemetry_path=telemetry_path,
    )
    with instrumentation.call_span(chosen) as span:
        span.set(call.request_attributes())
        trace_id, span_id = span.ids()
        started = call.record.clock.monotonic()
        try:
            reply = await call.dispatch(prompt)
        except BaseException as error:
            envelope = call.error_envelope(error, started)
            span.fail(error, str(envelope.error_type))
            envelope.trace_id, envelope.span_id = trace_id, span_id
            if isinstance(error, (Exception, asyncio.CancelledError)):
                await call.tell(envelope)
            else:  # the interpreter or the loop is going down: nothing can be awaited any more
                call.tell_now(envelope)
            raise
        envelope = call.answer_envelope(reply, started)
        envelope.trace_id, envelope.span_id = trace_id, span_id
        span.set(
            {
                semconv.ATTR_GEN_AI_USAGE_INPUT_TOKENS: envelope.tokens_in,
                semconv.ATTR_GEN_AI_USAGE_OUTPUT_TOKENS: envelope.tokens_out,
                semconv.ATTR_GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: envelope.cache_read_tokens,
                semconv.ATTR_GEN_AI_RESPONSE_MODEL: envelope.model_selected,
                semconv.ATTR_GEN_AI_RESPONSE_FINISH_REASONS: (
                    [envelope.finish_reason] if envelope.finish_reason else None
                ),
                semconv.ATTR_GATEWAY_ESTIMATED_COST_USD: envelope.estimated_cost_usd,
                semconv.ATTR_GATEWAY_CACHE_HIT: False,
            }
        )
        await call.tell(envelope)
    text, tokens_in, tokens_out = reply
    return GatewayResult(
        text=text,
        selected_model=str(envelope.model_selected),
        request_id=call.request_id,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        estimated_cost_usd=envelope.estimated_cost_usd,
        cache_hit=False,
        finish_reason=envelope.finish_reason,
        provider=envelope.provider_selected,
        latency_ms=envelope.latency_ms,
    )


async def _call_provider(
    provider: ProviderBase,
    prompt: str,
    model: str,
    max_output_tokens: int,
    retry_attempts: int,
) -> tuple[str, int, int]:
    """One provider, with retries: `(text, tokens_in, tokens_out)`, or its last error.

    Tests replace this function. The loop is our own because no retry library takes an injected clock.
    """
    record = current_call.get() or CallRecord()
    retry = 0
    while True:
        started = record.clock.monotonic()
        try:
            response = await provider.complete(prompt, model, max_output_tokens)
        except asyncio.CancelledError:
            record.add(str(provider.provider_name), model, started, "cancelled")
            raise
        except Exception as error:
            record.add_failure(provider, model, started, error)
            if retry >= retry_attempts or not provider.is_retryable(error):
                raise
            wait = backoff_seconds(provider, error, retry)
            if wait is None:
                raise
        else:
            record.add(str(provider.provider_name), model, started)
            return Reply.of(response)
        await record.clock.sleep(wait)
        retry += 1


def _targets(policy: RoutePolicy, model: str) -> list[tuple[ProviderBase, str]]:
    """Provider and model of the first choice and of each fallback; all resolved before anything is sent."""
    names = [(policy.provider_name, model), *policy.fallbacks]
    return [(get_provider(name), target_model) for name, target_model in names]


@dataclass
class _Call:
    """One call on its way, and how it is told."""

    request_id: str
    route_name: str
    model_tier: ModelTier
    policy: RoutePolicy
    metadata: dict[str, Any]
    context: LLMRequestContext
    max_output_tokens: int
    targets: list[tuple[ProviderBase, str]]
    record: CallRecord
    telemetry_path: str | os.PathLike[str] | None
    position: int = 0
    fallback_reason: str | None = None
    may_be_billed: bool = False

    async def dispatch(self, prompt: str) -> tuple[str, int, int]:
        """The first answer that any target gives.

        Raises:
            Exception: of the last target tried.
        """
        token = current_call.set(self.record)
        try:
            while True:
                provider, model = self.targets[self.position]
                try:
                    return await _call_provider(
                        provider=provider,
                        prompt=prompt,
                        model=model,
                        max_output_tokens=self.max_output_tokens,
                        retry_attempts=self.policy.retry_attempts,
                    )
                except Exception as error:
                    category = category_of(provider, error)
                    self.may_be_billed = self.may_be_billed or not is_unbilled(provider, error)
                    if category == "invalid_request" or self.position + 1 >= len(self.targets):
                        raise
                    if self.position == 0:
                        self.fallback_reason = category
                    self.position += 1
        finally:
            current_call.reset(token)

    def answer_envelope(self, reply: tuple[str, int, int], started: float) -> LLMRequestEnvelope:
        """The envelope of an answer; an answer that nobody can price has no cost, which is not 0."""
        _, tokens_in, tokens_out = reply
        envelope = self._envelope(started)
        envelope.status = EnvelopeStatus.OK
        envelope.tokens_in, envelope.tokens_out = tokens_in, tokens_out
        envelope.tokens_total = tokens_in + tokens_out
        cached = 0
        if isinstance(reply, Reply):
            envelope.finish_reason = reply.finish_reason
            cached = reply.cache_read_tokens
            envelope.cache_read_tokens = cached or None
        if not isinstance(reply, Reply) or reply.usage_known:
            try:
                rate = rate_for(str(envelope.model_selected))
                envelope.estimated_cost_usd = from_nano(rate.cost_nano(tokens_in, tokens_out, cached))
            except ConfigurationError as unpriced:
                logger.warning("request %s: its cost stays unknown: %s", self.request_id, unpriced)
            else:
                envelope.cost_source = CostSource.ESTIMATED_LOCAL_SNAPSHOT
                envelope.price_version = rate.price_version
        return envelope

    def error_envelope(self, error: BaseException, started: float) -> LLMRequestEnvelope:
        """The envelope of a failure: known to be free only if every attempt was."""
        provider, _ = self.targets[self.position]
        envelope = self._envelope(started)
        envelope.status = EnvelopeStatus.ERROR
        envelope.error_type = category_of(provider, error)
        envelope.tokens_in = envelope.tokens_out = envelope.tokens_total = 0
        if isinstance(error, Exception) and not (self.may_be_billed or self.record.may_be_billed):
            envelope.estimated_cost_usd = 0.0
            envelope.cost_source = CostSource.ESTIMATED_LOCAL_SNAPSHOT
        return envelope

    def _envelope(self, started: float) -> LLMRequestEnvelope:
        provider, model = self.targets[self.position]
        first_provider, first_model = self.targets[0]
        attempts = self.record.attempts
        routing_decision = self.metadata.get("routing_decision")
        return LLMRequestEnvelope(
            schema_version=SCHEMA_VERSION,
            request_id=self.request_id,
            route=self.route_name,
            provider_requested=str(first_provider.provider_name),
            model_requested=first_model,
            provider_selected=str(provider.provider_name),
            model_selected=model,
            model_tier=self.model_tier,
            routing_decision=routing_decision if isinstance(routing_decision, str) else None,
            latency_ms=milliseconds(self.record.clock.monotonic() - started),
            retry_count=max(0, len(attempts) - 1 - self.position) if attempts else None,
            fallback_triggered=self.position > 0,
            fallback_reason=self.fallback_reason,
            cache_hit=False,
            attempts=attempts or None,
            **telemetry.attribution_of(self.context),
        )

    async def tell(self, envelope: LLMRequestEnvelope) -> None:
        """Write the call's line; a failure is reported to the program's log and goes no further."""
        try:
            await telemetry.write_line_async(*self._line(envelope))
        except (LlmscopeError, OSError) as error:
            self._report(error)

    def tell_now(self, envelope: LLMRequestEnvelope) -> None:
        """`tell` where nothing can be awaited."""
        try:
            telemetry.write_line(*self._line(envelope))
        except (LlmscopeError, OSError) as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        logger.error("request %s: its telemetry line could not be written: %s", self.request_id, error)

    def _line(self, envelope: LLMRequestEnvelope) -> tuple[os.PathLike[str], bytes]:
        provider, model = str(envelope.provider_selected), str(envelope.model_selected)
        event = event_of(
            envelope,
            timestamp=format_instant(self.record.clock.now()),
            provider=provider,
            model=model,
        )
        instrumentation.record_request(
            provider=provider,
            model=model,
            route=self.route_name,
            model_tier=self.model_tier,
            status=event["status"],
            latency_ms=envelope.latency_ms or 0.0,
            tokens_in=envelope.tokens_in or 0,
            tokens_out=envelope.tokens_out or 0,
            cost_usd=envelope.estimated_cost_usd,
            error_type=envelope.error_type,
        )
        line = encode_event(event, {**self.metadata, "selected_model": model})
        return telemetry.telemetry_path(self.telemetry_path), line

    def request_attributes(self) -> dict[str, semconv.AttrValue | None]:
        """What the span says before anything is sent."""
        provider, model = self.targets[0]
        tags = self.context.to_audit_tags()
        return {
            semconv.ATTR_GEN_AI_SYSTEM: str(provider.provider_name),
            semconv.ATTR_GEN_AI_OPERATION_NAME: semconv.VAL_GEN_AI_OPERATION_CHAT,
            semconv.ATTR_GEN_AI_REQUEST_MODEL: model,
            semconv.ATTR_GEN_AI_REQUEST_MAX_TOKENS: self.max_output_tokens,
            semconv.ATTR_GATEWAY_ROUTE: self.route_name,
            semconv.ATTR_GATEWAY_MODEL_TIER: self.model_tier,
            semconv.ATTR_GATEWAY_REQUEST_ID: self.request_id,
            semconv.ATTR_GATEWAY_TENANT_ID: self.context.tenant_id or telemetry.DEFAULT_TENANT,
            semconv.ATTR_GATEWAY_CALLER_ID: self.context.caller_id,
            semconv.ATTR_GATEWAY_USE_CASE: self.context.use_case,
            semconv.ATTR_GATEWAY_RETRY_ATTEMPTS_ALLOWED: self.policy.retry_attempts,
            semconv.ATTR_GATEWAY_CACHE_ENABLED: self.policy.cache_enabled,
            semconv.ATTR_GATEWAY_PROVIDER: str(provider.provider_name),
            **{semconv.ATTR_GATEWAY_AUDIT_PREFIX + name: value for name, value in tags.items()},
        }
