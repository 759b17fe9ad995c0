"""The envelope: everything an event may say about one request, version 0.1.0.

Seven blocks, in the order in which they are written: identity, model, economics, reliability,
governance, cache and evaluation, and what was added since 0.1.0 was first written (keys are only
ever added). What does not belong here: how an envelope gets into a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any

SCHEMA_VERSION = "0.1.0"


class EnvelopeStatus(StrEnum):
    """How a request ended. `ok` is written as `success` into events."""

    OK = "ok"
    CACHED = "cached"
    ERROR = "error"
    DEGRADED = "degraded"
    DENIED = "denied"


class CostSource(StrEnum):
    """Where a cost comes from; `degraded_unknown` says that nobody knows it."""

    ESTIMATED_LOCAL_SNAPSHOT = "estimated_local_snapshot"
    ESTIMATED_PROVIDER_API = "estimated_provider_api"
    ACTUAL_PROVIDER_INVOICE = "actual_provider_invoice"
    CACHED_ZERO = "cached_zero"
    DEGRADED_UNKNOWN = "degraded_unknown"


class CircuitState(StrEnum):
    """The state of a provider's circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass
class LLMRequestEnvelope:
    """One request from mint to outcome. None means not known, and is not written."""

    schema_version: str

    # Identity
    request_id: str
    tenant_id: str
    route: str
    trace_id: str | None = None
    span_id: str | None = None
    caller_id: str | None = None
    use_case: str | None = None

    # Model
    provider_requested: str | None = None
    model_requested: str | None = None
    provider_selected: str | None = None
    model_selected: str | None = None
    model_tier: str | None = None
    routing_decision: str | None = None
    routing_reason: str | None = None

    # Economics
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_total: int | None = None
    estimated_cost_usd: float | None = None
    cost_source: CostSource = CostSource.DEGRADED_UNKNOWN

    # Reliability
    latency_ms: float | None = None
    status: EnvelopeStatus = EnvelopeStatus.OK
    error_type: str | None = None
    retry_count: int | None = None
    fallback_triggered: bool | None = None
    fallback_reason: str | None = None
    circuit_state: CircuitState | None = None

    # Governance
    policy_input_class: str | None = None
    policy_decision: str | None = None
    policy_mode: str | None = None
    redaction_applied: bool | None = None
    pii_detected: bool | None = None

    # Cache and evaluation
    cache_eligible: bool | None = None
    cache_strategy: str | None = None
    cache_hit: bool | None = None
    cache_key_fingerprint: str | None = None
    cache_key_algorithm: str | None = None
    cache_lookup_confidence: float | None = None
    eval_hooks: tuple[str, ...] = ()
    audit_tags: dict[str, str] = field(default_factory=dict)

    # Added: attribution at the top level, and what the call went through
    feature_id: str | None = None
    experiment_id: str | None = None
    budget_namespace: str | None = None
    finish_reason: str | None = None
    attempts: list[dict[str, Any]] | None = None
    price_version: str | None = None
    cache_read_tokens: int | None = None
    cache_saved_usd: float | None = None
    cache_write_tokens: int | None = None
    time_to_first_token_ms: float | None = None
    cache_write_1h_tokens: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The envelope as plain values in field order: enums as text, None left out."""
        return {
            name: value.value if isinstance(value, Enum) else value
            for name, value in self.__dict__.items()
            if value is not None
        }
