"""One line of policy_decisions.jsonl: the decision record of the forerunner, completed.

Field order is the order in the file; nulls are omitted. Money fields are USD with 9 decimals.
The readers of decisions (the gate's fold, the warehouse's quarantine) decode with the same class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from llmscope.errors import MalformedLine
from llmscope.event_log import MAX_LINE_BYTES
from llmscope.telemetry_line import Number, Text, explain_undecodable, require_utf8
from llmscope.timestamps import parse_micros

SCHEMA_VERSION = "0.1.0"


class RuleOutcome(msgspec.Struct, omit_defaults=True, gc=False):
    """What one rule said of one request, with the numbers it used."""

    policy_id: Text = None
    primitive: Text = None
    mode: Text = None  # enforce | shadow
    outcome: Text = None  # allow | downgrade | deny | alert | not_applicable | error
    reason: Text = None
    scope: dict[str, str] | None = None
    tier: Text = None
    spent_usd: Number = None
    reserved_usd: Number = None
    reservation_usd: Number = None
    limit_usd: Number = None
    requests: Number = None
    tokens: Number = None
    limit: Number = None
    retry_after_seconds: Number = None
    baseline_usd: Number = None
    estimated_cost_usd: Number = None
    threshold_usd: Number = None
    samples: Number = None


class TelemetryPosition(msgspec.Struct, gc=False):
    """How much telemetry had been folded when the decision was made."""

    fingerprint: Text = None
    offset: Number = None


class DecisionRecord(msgspec.Struct, omit_defaults=True, gc=False):
    """A line of the decision log: `decision` events and the gate's own (`event` names those)."""

    schema_version: Text = None
    event: Text = None
    timestamp: str | None = None
    request_id: Text = None
    tenant_id: Text = None
    caller_id: Text = None
    use_case: Text = None
    feature_id: Text = None
    experiment_id: Text = None
    budget_namespace: Text = None
    charged_namespace: Text = None
    route_name: Text = None
    model: Text = None
    requested_model_tier: Text = None
    effective_model_tier: Text = None
    primitive: Text = None
    decision: Text = None
    reason: Text = None
    policy_id: Text = None
    mode: Text = None
    state: Text = None
    state_reason: Text = None
    estimated_cost_usd: Number = None
    requested_estimated_cost_usd: Number = None
    reserved_cost_usd: Number = None
    estimated_tokens_in: Number = None
    reserved_tokens: Number = None
    reservation_expires_at: str | None = None
    latency_ms: Number = None
    window_cost_usd: Number = None
    window_reserved_usd: Number = None
    window_limit_usd: Number = None
    window_start: str | None = None
    policy_version: Text = None
    policy_hash: Text = None
    price_version: Text = None
    telemetry_position: TelemetryPosition | None = None
    rules: list[RuleOutcome] | None = None
    # Of `policy_loaded`, `policy_refused` and `budget_alert` events.
    policy_text: Text = None
    error: Text = None
    scope: dict[str, str] | None = None
    threshold: Number = None


_DECODER = msgspec.json.Decoder(DecisionRecord)
_ENCODER = msgspec.json.Encoder()


encode_decision: Callable[[DecisionRecord], bytes] = _ENCODER.encode
"""The line of a record, without its newline."""

encode_decision_lines: Callable[[Iterable[DecisionRecord]], bytes] = _ENCODER.encode_lines
"""The lines of records, each with its newline."""


def decode_decision(line: bytes) -> DecisionRecord:
    """Check one line (without its newline) of the decision log.

    Raises:
        MalformedLine: with the reason code that the quarantine records.
    """
    if len(line) >= MAX_LINE_BYTES:
        raise MalformedLine("too_long", f"{len(line)} bytes")
    try:
        record = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedLine(*explain_undecodable(line, exc)) from None
    if not line.isascii():
        require_utf8(line)
    if record.timestamp is None:
        raise MalformedLine("missing_timestamp")
    parse_micros(record.timestamp)
    if record.reservation_expires_at is not None:
        parse_micros(record.reservation_expires_at)
    for cost in (record.estimated_cost_usd, record.requested_estimated_cost_usd, record.reserved_cost_usd):
        if cost is not None and not 0 <= cost < 1_000_000_000:
            raise MalformedLine("bad_cost", str(cost))
    return record


def is_decision(record: DecisionRecord) -> bool:
    """Whether the line decides a request (other events carry their kind in `event`)."""
    return record.event is None or record.event == "decision"
