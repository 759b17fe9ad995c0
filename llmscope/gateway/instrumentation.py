"""Spans and metrics of the gateway, by the OpenTelemetry API alone.

The API is imported at the first call, and does nothing until the application sets up an SDK; where it
is not installed, everything here does nothing. Neither prompt nor answer nor an exception's message
(providers quote prompts in them) becomes an attribute. What does not belong here: names (`semconv`),
exporters (`otel_setup`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmscope.gateway import semconv
from llmscope.gateway.semconv import AttrValue, resolve_attrs

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Span, Tracer

SCOPE = "llmscope"
SCOPE_VERSION = "0.1.0"


class CallSpan:
    """The span around one call; every method is safe when nobody is recording."""

    __slots__ = ("_span",)

    def __init__(self, span: Span | None) -> None:
        self._span = span

    def ids(self) -> tuple[str | None, str | None]:
        """Trace and span id in hex, for the event; None outside any trace."""
        if self._span is None:
            return None, None
        context = self._span.get_span_context()
        if not context.is_valid:
            return None, None
        return f"{context.trace_id:032x}", f"{context.span_id:016x}"

    def set(self, attributes: Mapping[str, AttrValue | None]) -> None:
        """Set attributes under the names that are opted in to; None is left out."""
        if self._span is not None and self._span.is_recording():
            known = {name: value for name, value in attributes.items() if value is not None}
            self._span.set_attributes(resolve_attrs(known))

    def fail(self, error: BaseException, category: str) -> None:
        """Mark the span as failed, with exactly one exception event."""
        if self._span is None or not self._span.is_recording():
            return
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        error_class = type(error).__name__
        self._span.add_event(semconv.EVENT_EXCEPTION, {semconv.ATTR_EXCEPTION_TYPE: error_class})
        self._span.set_status(Status(StatusCode.ERROR, category))
        self._span.set_attribute(semconv.ATTR_ERROR_TYPE, error_class)
        self._span.set_attribute(semconv.ATTR_GATEWAY_ERROR_CATEGORY, category)


@dataclass(frozen=True)
class Instruments:
    """A tracer and the four instruments, made once."""

    tracer: Tracer
    duration: Any
    tokens: Any
    cost: Any
    requests: Any

    @classmethod
    def create(cls, tracer: Tracer, meter: Meter) -> Instruments:
        return cls(
            tracer=tracer,
            duration=meter.create_histogram(
                semconv.METRIC_OPERATION_DURATION,
                unit="s",
                description="What the caller waited, failed attempts and backoff included",
                explicit_bucket_boundaries_advisory=semconv.DURATION_BUCKETS_SECONDS,
            ),
            tokens=meter.create_histogram(
                semconv.METRIC_TOKEN_USAGE,
                unit="{token}",
                description="Tokens of one successful call, input and output apart",
                explicit_bucket_boundaries_advisory=semconv.TOKEN_BUCKETS,
            ),
            cost=meter.create_counter(
                semconv.METRIC_ESTIMATED_COST_USD, unit="USD", description="Known cost of calls"
            ),
            requests=meter.create_counter(
                semconv.METRIC_REQUESTS, unit="{request}", description="Calls by route, tier and outcome"
            ),
        )


_instruments: list[Instruments | None] = []


def instruments() -> Instruments | None:
    """The process's instruments, from the global providers; None without the OpenTelemetry API."""
    if not _instruments:
        _instruments.append(_from_global_providers())
    return _instruments[0]


def _from_global_providers() -> Instruments | None:
    try:
        from opentelemetry import metrics, trace  # noqa: PLC0415  first use, not import
    except ImportError:
        return None
    # Both are proxies that follow the global providers, whenever those are set.
    return Instruments.create(trace.get_tracer(SCOPE, SCOPE_VERSION), metrics.get_meter(SCOPE, SCOPE_VERSION))


@contextmanager
def call_span(model: str) -> Iterator[CallSpan]:
    """A CLIENT span named `chat {model}`, current while the block runs."""
    ours = instruments()
    if ours is None:
        yield CallSpan(None)
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    with ours.tracer.start_as_current_span(
        f"{semconv.VAL_GEN_AI_OPERATION_CHAT} {model}",
        kind=SpanKind.CLIENT,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield CallSpan(span)


def record_request(
    *,
    provider: str,
    model: str,
    route: str,
    model_tier: str | None,
    status: str,
    latency_ms: float,
    tokens_in: int,
    tokens_out: int,
    cost_usd: float | None,
    error_type: str | None,
) -> None:
    """Record the four metrics of one finished request; an unknown cost adds nothing to the counter."""
    ours = instruments()
    if ours is None:
        return
    tier = model_tier or "unknown"
    base = resolve_attrs(
        {
            semconv.ATTR_GEN_AI_SYSTEM: provider,
            semconv.ATTR_GEN_AI_OPERATION_NAME: semconv.VAL_GEN_AI_OPERATION_CHAT,
            semconv.ATTR_GEN_AI_REQUEST_MODEL: model,
            semconv.ATTR_GATEWAY_ROUTE: route,
        }
    )
    failed = {semconv.ATTR_ERROR_TYPE: error_type} if status == "error" and error_type else {}
    ours.duration.record(latency_ms / 1000, {**base, **failed})
    if status == "success":
        kinds = (
            (semconv.VAL_GEN_AI_TOKEN_TYPE_INPUT, tokens_in),
            (semconv.VAL_GEN_AI_TOKEN_TYPE_OUTPUT, tokens_out),
        )
        for kind, count in kinds:
            ours.tokens.record(count, {**base, semconv.ATTR_GEN_AI_TOKEN_TYPE: kind})
    if cost_usd:
        ours.cost.add(cost_usd, {**base, semconv.ATTR_GATEWAY_MODEL_TIER: tier})
    ours.requests.add(
        1,
        {
            semconv.ATTR_GATEWAY_ROUTE: route,
            semconv.ATTR_GATEWAY_MODEL_TIER: tier,
            semconv.ATTR_STATUS: status,
        },
    )
