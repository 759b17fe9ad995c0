"""Spans and metrics of the gateway, by the OpenTelemetry API alone.

The API is imported at the first call, and does nothing until the application sets up an SDK; where it
is not installed, everything here does nothing. Neither prompt nor answer nor an exception's message
(providers quote prompts in them) becomes an attribute. What does not belong here: names (`semconv`),
the instruments (`metric_instruments`), exporters (`otel_setup`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmscope.gateway import semconv
from llmscope.gateway.metric_instruments import Instruments, RequestFigures
from llmscope.gateway.semconv import AttrValue, resolve_attrs

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

SCOPE = "llmscope"
SCOPE_VERSION = "0.1.0"
# Set in the context around a provider's SDK. The first is OpenTelemetry's own, which its
# instrumentations of libraries look for; the second that of instrumentations of language models.
_SUPPRESSING_KEYS = ("suppress_instrumentation", "suppress_language_model_instrumentation")


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
            self._span.set_attributes(_known(attributes))

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

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make it the current span while the block runs. In a generator the block must not hold a `yield`."""
        if self._span is None:
            yield
            return
        from opentelemetry.trace import use_span  # noqa: PLC0415

        with use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield

    def end(self) -> None:
        """End a span that `start_call_span` has started."""
        if self._span is not None:
            self._span.end()


_instruments: list[Instruments | None] = []


def instruments() -> Instruments | None:
    """The process's instruments; None without the OpenTelemetry API."""
    if not _instruments:
        _instruments.append(_from_global_providers())
    return _instruments[0]


def use_providers(tracers: TracerProvider | None, meters: MeterProvider | None) -> None:
    """Record with these providers from now on; None twice is back to the global ones."""
    _instruments.clear()
    if tracers is not None and meters is not None:
        _instruments.append(
            Instruments(tracers.get_tracer(SCOPE, SCOPE_VERSION), meters.get_meter(SCOPE, SCOPE_VERSION))
        )


def _from_global_providers() -> Instruments | None:
    try:
        from opentelemetry import metrics, trace  # noqa: PLC0415  first use, not import
    except ImportError:
        return None
    # Both are proxies that follow the global providers, whenever those are set.
    return Instruments(trace.get_tracer(SCOPE, SCOPE_VERSION), metrics.get_meter(SCOPE, SCOPE_VERSION))


@contextmanager
def call_span(model: str, attributes: Mapping[str, AttrValue | None] | None = None) -> Iterator[CallSpan]:
    """The span of `start_call_span`, current while the block runs and ended behind it."""
    span = start_call_span(model, attributes)
    try:
        with span.current():
            yield span
    finally:
        span.end()


def start_call_span(model: str, attributes: Mapping[str, AttrValue | None] | None = None) -> CallSpan:
    """A CLIENT span named `chat {model}`; whoever starts it ends it.

    Args:
        attributes: what is known before it begins; a sampler sees these and no later ones.
    """
    ours = instruments()
    if ours is None:
        return CallSpan(None)
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    span = ours.tracer.start_span(
        f"{semconv.VAL_GEN_AI_OPERATION_CHAT} {model}",
        kind=SpanKind.CLIENT,
        attributes=_known(attributes or {}),
        record_exception=False,
        set_status_on_exception=False,
    )
    return CallSpan(span)


@contextmanager
def vendor_spans_suppressed() -> Iterator[None]:
    """Keep instrumentations of vendor SDKs from adding a second span to ours while the block runs.

    It goes around one request to a provider, not around what a call does besides: an embedder or a
    moderation that asks a model of its own makes a span of its own. In a generator it must not stand
    around a `yield`.
    """
    if instruments() is None:
        yield
        return
    from opentelemetry import context, trace  # noqa: PLC0415

    if not trace.get_current_span().is_recording():  # then nobody else's span would be recorded either
        yield
        return

    quiet = context.get_current()
    for key in _SUPPRESSING_KEYS:
        quiet = context.set_value(key, True, quiet)
    token = context.attach(quiet)
    try:
        yield
    finally:
        context.detach(token)


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
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
) -> None:
    """Record the metrics of one finished request; see `RequestFigures`."""
    ours = instruments()
    if ours is not None:
        ours.record(
            RequestFigures(
                provider=provider,
                model=model,
                route=route,
                model_tier=model_tier,
                status=status,
                latency_ms=latency_ms,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                cost_usd=cost_usd,
                error_type=error_type,
                cache_read_tokens=cache_read_tokens,
                cache_write_tokens=cache_write_tokens,
            )
        )


def _known(attributes: Mapping[str, AttrValue | None]) -> dict[str, AttrValue]:
    return resolve_attrs({name: value for name, value in attributes.items() if value is not None})
