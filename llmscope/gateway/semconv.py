"""Every OpenTelemetry name that the gateway emits, and the switch between old and new ones.

The GenAI conventions are still "Development" and have renamed attributes and metrics between releases;
only this module knows their names. `OTEL_SEMCONV_STABILITY_OPT_IN` (a comma-separated list; the first of
these values in it counts) decides:

    unset                            the names of v1.36.0 (`gen_ai.system`, `gen_ai.client.token.usage`)
    gen_ai_latest_experimental       the latest names only (`gen_ai.provider.name`,
                                     `gen_ai.client.inference.usage.input_tokens`)
    gen_ai_latest_experimental/dup   both, for as long as dashboards move

`resolve_attrs` applies it to attributes, of spans and of every metric alike; `conventions` tells which
metrics are recorded. Sources: open-telemetry/semantic-conventions v1.36.0 to v1.41.0 for the old names,
open-telemetry/semantic-conventions-genai as of 2026-11 for the latest.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

AttrValue = str | bool | int | float | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]

ATTR_GEN_AI_SYSTEM = "gen_ai.system"
ATTR_GEN_AI_PROVIDER_NAME = "gen_ai.provider.name"
VAL_GEN_AI_SYSTEM_OPENAI = "openai"

ATTR_GEN_AI_OPERATION_NAME = "gen_ai.operation.name"
VAL_GEN_AI_OPERATION_CHAT = "chat"

ATTR_GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
ATTR_GEN_AI_REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
ATTR_GEN_AI_RESPONSE_MODEL = "gen_ai.response.model"
ATTR_GEN_AI_RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"

ATTR_GEN_AI_USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
ATTR_GEN_AI_USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
# Parts of the input, never to be added to it.
ATTR_GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens"
ATTR_GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
ATTR_GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS = "gen_ai.usage.cache_write.input_tokens"
ATTR_GEN_AI_TOKEN_TYPE = "gen_ai.token.type"
VAL_GEN_AI_TOKEN_TYPE_INPUT = "input"
VAL_GEN_AI_TOKEN_TYPE_OUTPUT = "output"
ATTR_GEN_AI_TOKEN_MODALITY = "gen_ai.token.modality"
VAL_GEN_AI_TOKEN_MODALITY_TEXT = "text"

ATTR_ERROR_TYPE = "error.type"
ATTR_EXCEPTION_TYPE = "exception.type"
EVENT_EXCEPTION = "exception"

# No convention covers these; the prefix is the one dashboards of the original use.
ATTR_GATEWAY_ROUTE = "llm_gateway.route"
ATTR_GATEWAY_MODEL_TIER = "llm_gateway.model_tier"
ATTR_GATEWAY_REQUEST_ID = "llm_gateway.request_id"
ATTR_GATEWAY_TENANT_ID = "llm_gateway.tenant_id"
ATTR_GATEWAY_CALLER_ID = "llm_gateway.caller_id"
ATTR_GATEWAY_USE_CASE = "llm_gateway.use_case"
ATTR_GATEWAY_AUDIT_PREFIX = "llm_gateway.audit."
ATTR_GATEWAY_RETRY_ATTEMPTS_ALLOWED = "llm_gateway.retry_attempts_allowed"
ATTR_GATEWAY_CACHE_ENABLED = "llm_gateway.cache_enabled"
ATTR_GATEWAY_CACHE_HIT = "llm_gateway.cache_hit"
ATTR_GATEWAY_PROVIDER = "llm_gateway.provider"
ATTR_GATEWAY_ESTIMATED_COST_USD = "llm_gateway.estimated_cost_usd"
ATTR_GATEWAY_ERROR_CATEGORY = "llm_gateway.error_category"
ATTR_STATUS = "status"

METRIC_ESTIMATED_COST_USD = "llm_gateway.estimated_cost_usd"
METRIC_REQUESTS = "llm_gateway.requests"
# Old: one duration, and one histogram of tokens that tells input from output by an attribute.
METRIC_OPERATION_DURATION = "gen_ai.client.operation.duration"
METRIC_TOKEN_USAGE = "gen_ai.client.token.usage"
# Latest: the inference has a duration of its own; tokens are counters, with histograms per operation.
METRIC_INFERENCE_DURATION = "gen_ai.client.inference.duration"
METRIC_INPUT_TOKENS = "gen_ai.client.inference.usage.input_tokens"
METRIC_OUTPUT_TOKENS = "gen_ai.client.inference.usage.output_tokens"
METRIC_CACHE_READ_INPUT_TOKENS = "gen_ai.client.inference.usage.cache_read.input_tokens"
METRIC_CACHE_WRITE_INPUT_TOKENS = "gen_ai.client.inference.usage.cache_write.input_tokens"
METRIC_OPERATION_INPUT_TOKENS = "gen_ai.client.inference.operation.input_tokens"
METRIC_OPERATION_OUTPUT_TOKENS = "gen_ai.client.inference.operation.output_tokens"
# Bucket boundaries as the conventions advise: tokens by powers of 4, seconds doubling from 10 ms.
TOKEN_BUCKETS = tuple(4**power for power in range(14))
DURATION_BUCKETS_SECONDS = tuple(0.01 * 2**power for power in range(14))

OPT_IN_VARIABLE = "OTEL_SEMCONV_STABILITY_OPT_IN"
_OPT_IN_LATEST = "gen_ai_latest_experimental"
_OPT_IN_LATEST_DUP = "gen_ai_latest_experimental/dup"

_PENDING_RENAMES: dict[str, str] = {
    ATTR_GEN_AI_SYSTEM: ATTR_GEN_AI_PROVIDER_NAME,
    ATTR_GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: ATTR_GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS,
}


class Conventions(NamedTuple):
    """Which generations of names are emitted; at least one."""

    old: bool
    latest: bool


def conventions() -> Conventions:
    """What `OTEL_SEMCONV_STABILITY_OPT_IN` asks for at this moment."""
    mode = _opt_in_mode()
    return Conventions(old=mode != _OPT_IN_LATEST, latest=mode is not None)


def resolve_attrs(attrs: dict[str, AttrValue]) -> dict[str, AttrValue]:
    """`attrs`, given under their old names, under those that `OTEL_SEMCONV_STABILITY_OPT_IN` asks for.

    The given dict is never changed; it is returned itself when nothing is to be renamed.
    """
    emitted = conventions()
    if not emitted.latest or not _PENDING_RENAMES:
        return attrs
    resolved: dict[str, AttrValue] = {}
    for name, value in attrs.items():
        renamed = _PENDING_RENAMES.get(name)
        if renamed is None or emitted.old:
            resolved[name] = value
        if renamed is not None:
            resolved[renamed] = value
    return resolved


def _opt_in_mode() -> str | None:
    for token in os.environ.get(OPT_IN_VARIABLE, "").split(","):
        stripped = token.strip()
        if stripped in (_OPT_IN_LATEST, _OPT_IN_LATEST_DUP):
            return stripped
    return None
