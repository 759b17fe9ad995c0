"""One call on its way: what was asked, what became of it, and how it is told.

What does not belong here: the order of the stages (`pipeline`), what bytes an event is (`event`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llmscope.context import LLMRequestContext
from llmscope.envelope import SCHEMA_VERSION, CircuitState, CostSource, EnvelopeStatus, LLMRequestEnvelope
from llmscope.errors import ConfigurationError, GuardBlocked, LlmscopeError
from llmscope.gateway import instrumentation, semconv, telemetry
from llmscope.gateway.attempts import CallRecord, Reply, category_of, is_unbilled, milliseconds
from llmscope.gateway.cost_model import rate_for
from llmscope.gateway.event import encode_event, event_of
from llmscope.gateway.policies import ModelTier, RoutePolicy
from llmscope.gateway.provider import ProviderBase
from llmscope.gateway.stages import CacheOutcome, Direction, GuardVerdict, RouteParts, RoutingChoice, Target
from llmscope.money import from_nano
from llmscope.timestamps import format_instant

logger = logging.getLogger("llmscope")

NOTHING_FOUND = "clean"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that was bought, with its bill.

    Attributes:
        provider: the name by which the provider calls itself.
        cost_nano: what it cost, nano-USD; None when nobody knows.
        price_version: of the price that it was billed by; None when none was found.
    """

    text: str
    tokens_in: int
    tokens_out: int
    provider: str
    model: str
    finish_reason: str | None = None
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cost_nano: int | None = None
    price_version: str | None = None


@dataclass
class Call:
    """See the module.

    Attributes:
        model: the model asked for by name; None for the tier's.
        requested: where the call goes if nothing comes between.
        targets: provider and model of the first choice and of what may follow it, in order.
        find_provider: the registry, as it is when the call is made.
        position: which target is being asked.
        answers: every answer bought, in order: one, or several in a cascade.
        has_asked: whether anything may have been sent to anybody.
    """

    request_id: str
    route_name: str
    model_tier: ModelTier
    model: str | None
    prompt: str
    history: tuple[str, ...]
    policy: RoutePolicy
    parts: RouteParts
    metadata: dict[str, Any]
    context: LLMRequestContext
    max_output_tokens: int
    requested: Target
    targets: list[tuple[Target, ProviderBase]]
    find_provider: Callable[[str], ProviderBase]
    record: CallRecord
    telemetry_path: str | os.PathLike[str] | None
    started: float = 0.0
    position: int = 0
    fell_back: bool = False
    fallback_reason: str | None = None
    has_asked: bool = False
    may_be_billed: bool = False
    answers: list[Answer] = field(default_factory=list)
    choice: RoutingChoice | None = None
    outcome: CacheOutcome | None = None
    found_in_prompt: frozenset[str] | None = None
    has_pii: bool | None = None
    was_redacted: bool | None = None

    @property
    def retry_attempts(self) -> int:
        """How many more times a failing provider is asked."""
        attempts = self.record.retry.attempts
        return self.policy.retry_attempts if attempts is None else attempts

    @property
    def provider(self) -> ProviderBase:
        """The provider being asked."""
        return self.targets[self.position][1]

    @property
    def target(self) -> Target:
        """The target being asked."""
        return self.targets[self.position][0]

    # What the stages note -----------------------------------------------------------------------------

    def take_choice(self, choice: RoutingChoice) -> None:
        """Go where a router says; what the route falls back to follows after it."""
        self.choice = choice
        targets = list(choice.targets)
        own = [Target(*fallback) for fallback in self.policy.fallbacks]
        targets += [target for target in own if target not in targets]
        self.targets = [(target, self.find_provider(target.provider)) for target in targets]

    def take_reply(self, reply: tuple[str, int, int]) -> Answer:
        """Note an answer; one that nobody can price has no cost, which is not 0."""
        text, tokens_in, tokens_out = reply
        model = self.target.model
        more = reply if isinstance(reply, Reply) else Reply(reply)
        cost_nano = price_version = None
        if more.usage_known:
            try:
                rate = rate_for(model, self.record.clock.now(), self.target.provider)
                cost_nano = rate.cost_nano(
                    tokens_in,
                    tokens_out,
                    more.cache_read_tokens,
                    more.cache_write_tokens,
                    more.cache_write_1h_tokens,
                )
                price_version = rate.price_version
            except ConfigurationError as unpriced:
                logger.warning("request %s: its cost stays unknown: %s", self.request_id, unpriced)
        answer = Answer(
            text=text,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            provider=str(self.provider.provider_name),
            model=model,
            finish_reason=more.finish_reason,
            cache_read_tokens=more.cache_read_tokens,
            cache_write_tokens=more.cache_write_tokens,
            cache_write_1h_tokens=more.cache_write_1h_tokens,
            cost_nano=cost_nano,
            price_version=price_version,
        )
        self.answers.append(answer)
        if self.parts.escalation is not None and self.record.attempts:
            self.record.attempts[-1]["cost_usd"] = None if cost_nano is None else from_nano(cost_nano)
        return answer

    def take_verdict(self, verdict: GuardVerdict, direction: Direction) -> None:
        """Note what a guard found."""
        self.has_pii = bool(self.has_pii) or verdict.has_pii
        self.was_redacted = bool(self.was_redacted) or verdict.action == "redact"
        if direction == "in":
            self.found_in_prompt = (self.found_in_prompt or frozenset()) | set(verdict.classes)

    def falls_back(self, error: Exception) -> bool:
        """Whether another target is to be asked after `error`; if so, it is the current one now."""
        category = category_of(self.provider, error)
        self.may_be_billed = self.may_be_billed or not is_unbilled(self.provider, error)
        left = self.record.seconds_left()
        if (
            category == "invalid_request"
            or self.position + 1 >= len(self.targets)
            or (left is not None and left <= 0)
        ):
            return False
        if not self.fell_back:
            self.fell_back, self.fallback_reason = True, category
        self.position += 1
        return True

    # How it is told -----------------------------------------------------------------------------------

    def answer_envelope(self) -> LLMRequestEnvelope:
        """The envelope of a call that was answered."""
        envelope = self._envelope()
        if self.outcome is not None and self.outcome.is_hit:
            kept = self.outcome.answer
            envelope.status = EnvelopeStatus.CACHED
            envelope.provider_selected, envelope.model_selected = kept.provider, kept.model
            envelope.finish_reason = kept.finish_reason
            envelope.tokens_in = envelope.tokens_out = envelope.tokens_total = 0
            envelope.estimated_cost_usd, envelope.cost_source = 0.0, CostSource.CACHED_ZERO
            envelope.cache_saved_usd = None if kept.cost_nano is None else from_nano(kept.cost_nano)
            envelope.retry_count, envelope.attempts = None, None
            return envelope
        answer = self.answers[-1]
        envelope.provider_selected, envelope.model_selected = answer.provider, answer.model
        envelope.finish_reason = answer.finish_reason
        self.bill(envelope)
        return envelope

    def error_envelope(self, error: BaseException) -> LLMRequestEnvelope:
        """The envelope of a failure: what was bought before it is on it; known to be free only if every
        attempt was."""
        envelope = self._envelope()
        envelope.status = EnvelopeStatus.DENIED if isinstance(error, GuardBlocked) else EnvelopeStatus.ERROR
        envelope.error_type = category_of(self.provider, error)
        self.bill(envelope)
        was_left = self.has_asked and not isinstance(error, Exception)
        if was_left or self.may_be_billed or self.record.may_be_billed:
            envelope.estimated_cost_usd, envelope.cost_source = None, CostSource.DEGRADED_UNKNOWN
            envelope.price_version = None
        return envelope

    def bill(self, envelope: LLMRequestEnvelope) -> None:
        """Tokens and cost of every answer that was bought; the sum is unknown if one of them is."""
        answers = self.answers
        envelope.tokens_in = sum(answer.tokens_in for answer in answers)
        envelope.tokens_out = sum(answer.tokens_out for answer in answers)
        envelope.tokens_total = envelope.tokens_in + envelope.tokens_out
        envelope.cache_read_tokens = sum(answer.cache_read_tokens for answer in answers) or None
        envelope.cache_write_tokens = sum(answer.cache_write_tokens for answer in answers) or None
        envelope.cache_write_1h_tokens = sum(answer.cache_write_1h_tokens for answer in answers) or None
        costs = [answer.cost_nano for answer in answers]
        if None not in costs:
            envelope.estimated_cost_usd = from_nano(sum(cost for cost in costs if cost is not None))
            envelope.cost_source = CostSource.ESTIMATED_LOCAL_SNAPSHOT
            envelope.price_version = answers[-1].price_version if answers else None

    def _envelope(self) -> LLMRequestEnvelope:
        target, provider = self.targets[self.position]
        attempts = self.record.attempts
        decision = self.choice.decision if self.choice else self.metadata.get("routing_decision")
        now = self.record.clock.monotonic()
        breaker_of = self.parts.breaker_of
        outcome = self.outcome
        return LLMRequestEnvelope(
            schema_version=SCHEMA_VERSION,
            request_id=self.request_id,
            route=self.route_name,
            provider_requested=self.requested.provider,
            model_requested=self.model or self.policy.model_for_tier[self.model_tier],
            provider_selected=str(provider.provider_name),
            model_selected=target.model,
            model_tier=self.model_tier,
            routing_decision=decision if isinstance(decision, str) else None,
            routing_reason=self.choice.reason if self.choice else None,
            latency_ms=milliseconds(now - self.started),
            retry_count=len(attempts) - self.record.targets_attempted if attempts else None,
            fallback_triggered=self.fell_back,
            fallback_reason=self.fallback_reason,
            circuit_state=breaker_of(target.provider).state(now) if breaker_of else CircuitState.CLOSED,
            policy_input_class=(
                None
                if self.found_in_prompt is None
                else ",".join(sorted(self.found_in_prompt)) or NOTHING_FOUND
            ),
            redaction_applied=self.was_redacted,
            pii_detected=self.has_pii,
            cache_eligible=True if self.parts.cache is not None else None,
            cache_strategy=outcome.strategy if outcome else None,
            cache_hit=outcome.is_hit if outcome else False,
            cache_key_fingerprint=outcome.key_fingerprint if outcome else None,
            cache_key_algorithm=outcome.key_algorithm if outcome else None,
            cache_lookup_confidence=outcome.confidence if outcome else None,
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
            cache_read_tokens=envelope.cache_read_tokens or 0,
            cache_write_tokens=envelope.cache_write_tokens or 0,
        )
        if self.metadata:
            line = encode_event(event, {**self.metadata, "selected_model": model})
        else:
            event["selected_model"] = model
            line = encode_event(event)
        return telemetry.telemetry_path(self.telemetry_path), line

    def request_attributes(self) -> dict[str, semconv.AttrValue | None]:
        """What the span says before anything is sent."""
        target, provider = self.targets[0]
        tags = self.context.to_audit_tags()
        return {
            semconv.ATTR_GEN_AI_SYSTEM: str(provider.provider_name),
            semconv.ATTR_GEN_AI_OPERATION_NAME: semconv.VAL_GEN_AI_OPERATION_CHAT,
            semconv.ATTR_GEN_AI_REQUEST_MODEL: target.model,
            semconv.ATTR_GEN_AI_REQUEST_MAX_TOKENS: self.max_output_tokens,
            semconv.ATTR_GATEWAY_ROUTE: self.route_name,
            semconv.ATTR_GATEWAY_MODEL_TIER: self.model_tier,
            semconv.ATTR_GATEWAY_REQUEST_ID: self.request_id,
            semconv.ATTR_GATEWAY_TENANT_ID: self.context.tenant_id or telemetry.DEFAULT_TENANT,
            semconv.ATTR_GATEWAY_CALLER_ID: self.context.caller_id,
            semconv.ATTR_GATEWAY_USE_CASE: self.context.use_case,
            semconv.ATTR_GATEWAY_RETRY_ATTEMPTS_ALLOWED: self.retry_attempts,
            semconv.ATTR_GATEWAY_CACHE_ENABLED: self.parts.cache is not None,
            semconv.ATTR_GATEWAY_PROVIDER: str(provider.provider_name),
            **{semconv.ATTR_GATEWAY_AUDIT_PREFIX + name: value for name, value in tags.items()},
        }

    @staticmethod
    def response_attributes(envelope: LLMRequestEnvelope) -> dict[str, semconv.AttrValue | None]:
        """What the span says of the answer."""
        return {
            semconv.ATTR_GEN_AI_USAGE_INPUT_TOKENS: envelope.tokens_in,
            semconv.ATTR_GEN_AI_USAGE_OUTPUT_TOKENS: envelope.tokens_out,
            semconv.ATTR_GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: envelope.cache_read_tokens,
            semconv.ATTR_GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: envelope.cache_write_tokens,
            semconv.ATTR_GEN_AI_RESPONSE_MODEL: envelope.model_selected,
            semconv.ATTR_GEN_AI_RESPONSE_FINISH_REASONS: (
                [envelope.finish_reason] if envelope.finish_reason else None
            ),
            semconv.ATTR_GATEWAY_ESTIMATED_COST_USD: envelope.estimated_cost_usd,
            semconv.ATTR_GATEWAY_CACHE_HIT: envelope.cache_hit,
        }
