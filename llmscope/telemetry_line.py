"""Reading telemetry: one line of any dialect becomes one `Usage`, or a reject with its reason.

The dialects (DESIGN section 4, docs/semantics.md): the envelope as llmscope emits it, the older
fixture shape, and the monitor record. `sql/staging/stg_requests.sql` says the same in SQL; one test
holds both to the same answer on every sample in `fixtures/dialects/`.

What does not belong here: what a usage means for budgets (that is the gate's fold).
"""

from __future__ import annotations

import sys

import msgspec

from llmscope.errors import MalformedLine
from llmscope.event_log import MAX_LINE_BYTES
from llmscope.money import MAX_USD, to_nano
from llmscope.timestamps import parse_micros

# Text in our schema; whole numbers and booleans are taken as their JSON text, because callers put
# ids of any type into tags.
Text = str | int | bool | None
Number = int | float | None

DEFAULT_TENANT = "default"
SUCCESS_STATUSES = frozenset({"ok", "success", "cached"})
SUCCESS_FINISH_REASONS = frozenset({"stop", "end_turn", "stop_sequence", "tool_calls"})
UNKNOWN_COST_SOURCE = "degraded_unknown"
# Token counts stay below this, so that a double holds each.
MOST_TOKENS = 1 << 53
# JSON integers have any length; a latency that no double holds is as unknown as a negative one.
_LARGEST_DOUBLE = sys.float_info.max


class Tags(msgspec.Struct, gc=False):
    """Attribution inside `audit_tags` or `metadata`."""

    tenant_id: Text = None
    caller_id: Text = None
    use_case: Text = None
    feature_id: Text = None
    experiment_id: Text = None
    budget_namespace: Text = None


class TokenCounts(msgspec.Struct, gc=False):
    """`tokens` of the monitor dialect."""

    input: Number = None
    output: Number = None
    total: Number = None


class Attempt(msgspec.Struct, gc=False):
    """One provider attempt of a request, in order."""

    provider: Text = None
    model: Text = None
    latency_ms: Number = None
    status: Text = None
    error_type: Text = None


class TelemetryLine(msgspec.Struct, gc=False):
    """The keys that any dialect may carry; every other key is ignored."""

    event: Text = None
    schema_version: Text = None
    timestamp: str | None = None
    request_id: Text = None
    tenant_id: Text = None
    caller_id: Text = None
    use_case: Text = None
    feature_id: Text = None
    experiment_id: Text = None
    budget_namespace: Text = None
    route: Text = None
    route_name: Text = None
    provider_requested: Text = None
    provider_selected: Text = None
    model_selected: Text = None
    provider: Text = None
    model: Text = None
    selected_model: Text = None
    model_tier: Text = None
    tokens_in: Number = None
    tokens_out: Number = None
    tokens: TokenCounts | None = None
    estimated_cost_usd: Number = None
    cost_usd: Number = None
    cost_source: Text = None
    latency_ms: Number = None
    status: Text = None
    success: bool | None = None
    error_type: Text = None
    finish_reason: Text = None
    is_fallback: bool | None = None
    fallback_triggered: bool | None = None
    fallback_reason: Text = None
    retry_count: Number = None
    cache_hit: bool | None = None
    price_version: Text = None
    cache_read_tokens: Number = None
    cache_write_tokens: Number = None
    circuit_state: Text = None
    circuit_breaker_state: Text = None
    attempts: list[Attempt] | None = None
    audit_tags: Tags | None = None
    metadata: Tags | None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    """One request as billed, whatever wrote it. `cost_nano` None means the cost is unknown."""

    request_id: str
    timestamp_us: int
    tenant_id: str
    caller_id: str | None
    use_case: str | None
    feature_id: str | None
    experiment_id: str | None
    budget_namespace: str | None
    route_name: str | None
    provider: str | None
    model: str | None
    model_tier: str | None
    tokens_in: int | None
    tokens_out: int | None
    cost_nano: int | None
    latency_ms: float | None
    status: str
    success: bool
    finish_reason: str | None
    is_fallback: bool


_DECODER = msgspec.json.Decoder(TelemetryLine)


def decode_telemetry_line(line: bytes) -> TelemetryLine:
    """Check one line (without its newline) against the schema and its value limits.

    Raises:
        MalformedLine: with the reason code that the quarantine records.
    """
    if len(line) >= MAX_LINE_BYTES:
        raise MalformedLine("too_long", f"{len(line)} bytes")
    try:
        parsed = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedLine(*explain_undecodable(line, exc)) from None
    if not line.isascii():
        require_utf8(line)
    for cost in (parsed.estimated_cost_usd, parsed.cost_usd):
        if cost is not None and not 0 <= cost < MAX_USD:
            raise MalformedLine("bad_cost", str(cost))
    tokens = parsed.tokens
    counts = (
        (parsed.tokens_in, parsed.tokens_out)
        if tokens is None
        else (parsed.tokens_in, parsed.tokens_out, tokens.input, tokens.output)
    )
    for count in counts:
        if count is not None and not (0 <= count < MOST_TOKENS and count == int(count)):
            raise MalformedLine("bad_tokens", str(count))
    if parsed.timestamp is None:
        raise MalformedLine("missing_timestamp")
    return parsed


def explain_undecodable(line: bytes, exc: Exception) -> tuple[str, str]:
    """The reason code and detail for a line that does not decode into its schema."""
    if isinstance(exc, msgspec.ValidationError):
        if line.lstrip()[:1] != b"{":
            return "not_an_object", str(exc)
        return "wrong_type", str(exc)
    if isinstance(exc, RecursionError):
        return "not_json", "nested too deeply"
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as utf8:
        return "not_utf8", f"at byte {utf8.start}"
    return "not_json", str(exc)


def require_utf8(line: bytes) -> None:
    """Raise `MalformedLine` unless the whole line is UTF-8 (msgspec checks only what it decodes)."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise MalformedLine("not_utf8", f"at byte {exc.start}") from None


def text_of(*candidates: Text) -> str | None:
    """The first candidate that says something, as text; empty text says nothing."""
    for candidate in candidates:
        if candidate is None or candidate == "":
            continue
        if type(candidate) is str:
            return candidate
        if isinstance(candidate, bool):
            return "true" if candidate else "false"
        return str(candidate)
    return None


def is_request(line: TelemetryLine) -> bool:
    """Whether the line reports a request (other events carry their kind in `event`)."""
    return line.event is None or line.event == "request"


def cost_is_unknown(line: TelemetryLine, status: str) -> bool:
    """Whether it is a failed call whose cost the runtime could not learn, whatever number stands there."""
    return status == "error" and line.cost_source == UNKNOWN_COST_SOURCE


def known_cost_nano(line: TelemetryLine, status: str) -> int | None:
    """The line's cost in nano-USD, or None when it is unknown: absent, null, or `cost_is_unknown`."""
    if cost_is_unknown(line, status):
        return None
    cost = line.estimated_cost_usd if line.estimated_cost_usd is not None else line.cost_usd
    return None if cost is None else to_nano(cost)


def normalise(line: TelemetryLine, fallback_id: str) -> Usage:
    """What a request line says, whichever dialect it is in.

    Args:
        fallback_id: `line:<fingerprint>:<offset>`, the identity of a line that carries no request id.

    Raises:
        MalformedLine: its timestamp cannot be used.
    """
    # Nearly every line says nearly everything as text at its top level: `text_of` is asked for the rest.
    tags = line.audit_tags
    more = line.metadata
    if tags is None:
        tags = _NO_TAGS
    if more is None:
        more = _NO_TAGS
    tokens = line.tokens
    tokens_in, tokens_out = line.tokens_in, line.tokens_out
    if tokens is not None:
        tokens_in = tokens.input if tokens_in is None else tokens_in
        tokens_out = tokens.output if tokens_out is None else tokens_out
    status = line.status
    if type(status) is not str or not status:
        status = text_of(status)
        if status is None:
            status = "success" if line.success else ("error" if line.success is False else "unknown")
    finish_reason = line.finish_reason
    if finish_reason is not None:
        finish_reason = text_of(finish_reason)
    is_ok = status in SUCCESS_STATUSES
    fallback = line.is_fallback if line.is_fallback is not None else line.fallback_triggered
    latency = line.latency_ms
    request_id, tenant_id, use_case = line.request_id, line.tenant_id, line.use_case
    route, provider, model, tier = line.route, line.provider_selected, line.model_selected, line.model_tier
    if use_case is not None or tags.use_case is not None or more.use_case is not None:
        use_case = text_of(use_case, tags.use_case, more.use_case)
    return Usage(
        request_id if type(request_id) is str and request_id else text_of(request_id) or fallback_id,
        parse_micros(line.timestamp or ""),
        tenant_id
        if type(tenant_id) is str and tenant_id
        else text_of(tenant_id, tags.tenant_id, more.tenant_id) or DEFAULT_TENANT,
        _label(line.caller_id, tags.caller_id, more.caller_id),
        use_case,
        _label(line.feature_id, tags.feature_id, more.feature_id) or use_case,
        _label(line.experiment_id, tags.experiment_id, more.experiment_id),
        _label(line.budget_namespace, tags.budget_namespace, more.budget_namespace),
        route if type(route) is str and route else text_of(route, line.route_name),
        provider if type(provider) is str and provider else text_of(provider, line.provider),
        model if type(model) is str and model else text_of(model, line.model, line.selected_model),
        tier if type(tier) is str and tier else text_of(tier),
        tokens_in if tokens_in is None or type(tokens_in) is int else int(tokens_in),
        tokens_out if tokens_out is None or type(tokens_out) is int else int(tokens_out),
        known_cost_nano(line, status),
        None if latency is None or not 0 <= latency <= _LARGEST_DOUBLE else float(latency),
        "success" if is_ok else status,
        is_ok if finish_reason is None else finish_reason in SUCCESS_FINISH_REASONS,
        finish_reason,
        bool(fallback),
    )


def _label(at_top: Text, in_tags: Text, in_metadata: Text) -> str | None:
    if at_top is None and in_tags is None and in_metadata is None:
        return None
    return text_of(at_top, in_tags, in_metadata)


def read_usage(line: bytes, fallback_id: str) -> Usage | None:
    """Decode and normalise one line; None when it is a valid event of another kind.

    Raises:
        MalformedLine: the line is a reject.
    """
    parsed = decode_telemetry_line(line)
    if not is_request(parsed):
        parse_micros(parsed.timestamp or "")
        return None
    return normalise(parsed, fallback_id)


_NO_TAGS = Tags()
