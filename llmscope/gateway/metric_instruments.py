"""The instruments of the gateway's metrics, and what of a finished request goes into each.

Attributes of metrics multiply into series that are kept forever, so they are few and bounded: no request,
tenant or count is one, and of names that callers choose (route, model, tier, provider, status, category) each
process tells the first hundred apart and counts the rest as `other`.

What does not belong here: names (`semconv`), when something is recorded (`instrumentation`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmscope.gateway import semconv
from llmscope.gateway.semconv import AttrValue, conventions, resolve_attrs

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer

OVERFLOW = "other"
MOST_VALUES = 100
_SUCCESS, _CACHED = "success", "cached"


@dataclass(frozen=True, slots=True)
class RequestFigures:
    """One finished request, as metrics see it.

    Attributes:
        status: as written into the event: `success`, `cached`, `error`, `denied`.
        latency_ms: what the caller waited, failed attempts and backoff included.
        tokens_in, tokens_out: as billed.
        cost_usd: None when nobody knows it; then it adds nothing to the counter.
        error_type: the category of the failure, None without one.
        cache_read_tokens, cache_write_tokens: parts of `tokens_in`.
    """

    provider: str
    model: str
    route: str
    model_tier: str | None
    status: str
    latency_ms: float
    tokens_in: int
    tokens_out: int
    cost_usd: float | None
    error_type: str | None
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class BoundedLabel:
    """The first `most` values of an attribute as they are, every later one as `other`."""

    def __init__(self, most: int = MOST_VALUES) -> None:
        self._most = most
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def of(self, value: str) -> str:
        """`value`, or `other`."""
        if value in self._seen:
            return value
        with self._lock:
            if len(self._seen) < self._most:
                self._seen.add(value)
                return value
        return OVERFLOW


class Instruments:
    """A tracer and every instrument, made once; those of names that nobody opted in to stay empty."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self.tracer = tracer
        bounded = ("provider", "model", "route", "model_tier", "status", "error_type")
        self._labels = {name: BoundedLabel() for name in bounded}
        duration = "What the caller waited, failed attempts and backoff included"

        def seconds(name: str) -> Any:
            return meter.create_histogram(
                name,
                unit="s",
                description=duration,
                explicit_bucket_boundaries_advisory=semconv.DURATION_BUCKETS_SECONDS,
            )

        def tokens(name: str, description: str) -> Any:
            return meter.create_histogram(
                name,
                unit="{token}",
                description=description,
                explicit_bucket_boundaries_advisory=semconv.TOKEN_BUCKETS,
            )

        def count(name: str, description: str) -> Any:
            return meter.create_counter(name, unit="{token}", description=description)

        self._old_duration = seconds(semconv.METRIC_OPERATION_DURATION)
        self._old_tokens = tokens(semconv.METRIC_TOKEN_USAGE, "Tokens of one call, input and output apart")
        self._duration = seconds(semconv.METRIC_INFERENCE_DURATION)
        self._input = tokens(semconv.METRIC_OPERATION_INPUT_TOKENS, "Input tokens of one call")
        self._output = tokens(semconv.METRIC_OPERATION_OUTPUT_TOKENS, "Output tokens of one call")
        self._input_sum = count(semconv.METRIC_INPUT_TOKENS, "Input tokens, cached ones included")
        self._output_sum = count(semconv.METRIC_OUTPUT_TOKENS, "Output tokens, reasoning included")
        self._read_sum = count(
            semconv.METRIC_CACHE_READ_INPUT_TOKENS, "Input tokens that the provider had cached"
        )
        self._write_sum = count(
            semconv.METRIC_CACHE_WRITE_INPUT_TOKENS, "Input tokens that the provider put into its cache"
        )
        self._cost = meter.create_counter(
            semconv.METRIC_ESTIMATED_COST_USD, unit="USD", description="Known cost of calls"
        )
        self._requests = meter.create_counter(
            semconv.METRIC_REQUESTS, unit="{request}", description="Calls by route, tier and outcome"
        )

    def record(self, request: RequestFigures) -> None:
        """Record one finished request in every metric that it belongs to."""
        labels = self._labels
        route = labels["route"].of(request.route)
        tier = labels["model_tier"].of(request.model_tier or "unknown")
        asked = resolve_attrs(
            {
                semconv.ATTR_GEN_AI_SYSTEM: labels["provider"].of(request.provider),
                semconv.ATTR_GEN_AI_OPERATION_NAME: semconv.VAL_GEN_AI_OPERATION_CHAT,
                semconv.ATTR_GEN_AI_REQUEST_MODEL: labels["model"].of(request.model),
                semconv.ATTR_GATEWAY_ROUTE: route,
            }
        )
        emitted = conventions()
        if request.status != _CACHED:  # a hit is no operation: nobody was asked
            self._record_duration(request, asked, emitted)
        if request.status == _SUCCESS or request.tokens_in or request.tokens_out:
            self._record_tokens(request, asked, emitted)
        if request.cost_usd:
            self._cost.add(request.cost_usd, {**asked, semconv.ATTR_GATEWAY_MODEL_TIER: tier})
        self._requests.add(
            1,
            {
                semconv.ATTR_GATEWAY_ROUTE: route,
                semconv.ATTR_GATEWAY_MODEL_TIER: tier,
                semconv.ATTR_STATUS: labels["status"].of(request.status),
            },
        )

    def _record_duration(
        self, request: RequestFigures, asked: dict[str, AttrValue], emitted: semconv.Conventions
    ) -> None:
        seconds = request.latency_ms / 1000
        if request.status != _SUCCESS and request.error_type:
            asked = {**asked, semconv.ATTR_ERROR_TYPE: self._labels["error_type"].of(request.error_type)}
        if emitted.old:
            self._old_duration.record(seconds, asked)
        if emitted.latest:
            self._duration.record(seconds, asked)

    def _record_tokens(
        self, request: RequestFigures, asked: dict[str, AttrValue], emitted: semconv.Conventions
    ) -> None:
        if emitted.old:
            by_type = (
                (semconv.VAL_GEN_AI_TOKEN_TYPE_INPUT, request.tokens_in),
                (semconv.VAL_GEN_AI_TOKEN_TYPE_OUTPUT, request.tokens_out),
            )
            for kind, tokens in by_type:
                self._old_tokens.record(tokens, {**asked, semconv.ATTR_GEN_AI_TOKEN_TYPE: kind})
        if emitted.latest:
            self._input.record(request.tokens_in, asked)
            self._output.record(request.tokens_out, asked)
            of_text = {**asked, semconv.ATTR_GEN_AI_TOKEN_MODALITY: semconv.VAL_GEN_AI_TOKEN_MODALITY_TEXT}
            sums = (
                (self._input_sum, request.tokens_in),
                (self._output_sum, request.tokens_out),
                (self._read_sum, request.cache_read_tokens),
                (self._write_sum, request.cache_write_tokens),
            )
            for counter, tokens in sums:
                if tokens:
                    counter.add(tokens, of_text)
