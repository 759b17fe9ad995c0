"""Decisions from log lines: what a line of the decision log does to the ledger.

What does not belong here: reading files (`history`), what the events mean (`ledger`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from llmscope.errors import MalformedLine
from llmscope.event_log import MAX_LINE_BYTES
from llmscope.money import MAX_USD, to_nano
from llmscope.telemetry_line import MOST_TOKENS, Number, Text, explain_undecodable, require_utf8, text_of
from llmscope.timestamps import parse_micros
from policy_runtime.labels import labels_for
from policy_runtime.ledger import Admitted, Ledger

_Usd = Annotated[float, Meta(ge=0, lt=MAX_USD)] | None


class FoldedDecision(msgspec.Struct, gc=False):
    """The fields of a decision-log line that the ledger needs."""

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
    effective_model_tier: Text = None
    decision: Text = None
    policy_id: Text = None
    estimated_cost_usd: Number = None
    requested_estimated_cost_usd: Number = None
    reserved_cost_usd: Number = None
    reserved_tokens: Number = None
    reservation_expires_at: str | None = None
    policy_hash: Text = None
    scope: dict[str, str] | None = None
    threshold: Number = None
    window_start: str | None = None


class _PlainDecision(FoldedDecision, gc=False):
    """The same as gates write it: all labels text, all numbers within their limits."""

    event: str | None = None
    request_id: str | None = None
    tenant_id: str | None = None
    caller_id: str | None = None
    use_case: str | None = None
    feature_id: str | None = None
    experiment_id: str | None = None
    budget_namespace: str | None = None
    charged_namespace: str | None = None
    route_name: str | None = None
    model: str | None = None
    effective_model_tier: str | None = None
    decision: str | None = None
    policy_id: str | None = None
    estimated_cost_usd: _Usd = None
    requested_estimated_cost_usd: _Usd = None
    reserved_cost_usd: _Usd = None
    reserved_tokens: Annotated[int, Meta(ge=0, le=MOST_TOKENS)] | None = None
    policy_hash: str | None = None


# What counts and names things by, and the instants, which are never anything but text.
_TEXTS = tuple(field.name for field in msgspec.structs.fields(_PlainDecision) if field.type == str | None)
_PLAIN_DECISION = msgspec.json.Decoder(_PlainDecision)
_DECISION = msgspec.json.Decoder(FoldedDecision)


def _decode_decision(line: bytes) -> _PlainDecision:
    """What a line of the decision log says, its labels as text.

    Raises:
        MalformedLine: the line is a reject.
    """
    if len(line) >= MAX_LINE_BYTES:
        raise MalformedLine("too_long", f"{len(line)} bytes")
    if not line.isascii():
        require_utf8(line)
    try:
        return _PLAIN_DECISION.decode(line)
    except msgspec.ValidationError:
        pass  # numbers for labels, or a reject: looked at below
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedLine(*explain_undecodable(line, exc)) from None
    try:
        event = _DECISION.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedLine(*explain_undecodable(line, exc)) from None
    for cost in (event.estimated_cost_usd, event.requested_estimated_cost_usd, event.reserved_cost_usd):
        if cost is not None and not 0 <= cost < MAX_USD:
            raise MalformedLine("bad_cost", str(cost)[:64])
    values = msgspec.structs.asdict(event)
    for name in _TEXTS:
        if values[name] is not None and type(values[name]) is not str:
            values[name] = text_of(values[name])
    values["reserved_tokens"] = int(min(max(event.reserved_tokens or 0, 0), MOST_TOKENS))
    return _PlainDecision(**values)


def fold_decision_line(ledger: Ledger, line: bytes, since_us: int = 0) -> int:
    """Fold one line of the decision log, unless it is dated before `since_us`; the instant of its date.

    Raises:
        MalformedLine: the line is a reject; the fold goes on without it.
    """
    event = _decode_decision(line)
    at_us = parse_micros(event.timestamp or "")
    if at_us < since_us:
        return at_us
    kind = event.event or "decision"
    if kind == "decision":
        _fold_decision(ledger, event, at_us)
    elif kind == "reservation_extended":
        if event.reservation_expires_at is not None:
            expires_us = parse_micros(event.reservation_expires_at)
            ledger.extend(event.request_id or "", expires_us, at_us)
    elif kind == "budget_alert":
        if event.threshold is None or not 0 < event.threshold <= 1:
            return at_us
        scope = (event.charged_namespace or "", *(event.scope or {}).values())
        start = parse_micros(event.window_start) if event.window_start else 0
        ledger.alerted(event.policy_id or "", scope, float(event.threshold), at_us, start)
    elif kind == "policy_loaded":
        ledger.policy_hash_in_log = event.policy_hash or None
    return at_us


def _fold_decision(ledger: Ledger, event: _PlainDecision, at_us: int) -> None:
    ledger.last_decision_us = at_us
    if event.decision == "deny" or event.request_id is None:
        return
    expires = event.reservation_expires_at
    ledger.admit(
        Admitted(
            event.request_id,
            at_us,
            to_nano(event.reserved_cost_usd or 0),
            event.reserved_tokens or 0,
            parse_micros(expires) if expires else at_us + ledger.policy.ttl_us,
            labels_for(
                event.tenant_id,
                event.caller_id,
                event.use_case,
                event.feature_id,
                event.experiment_id,
                event.route_name,
                event.budget_namespace,
            ),
            event.model or None,
            event.effective_model_tier or None,
            None if event.estimated_cost_usd is None else to_nano(event.estimated_cost_usd),
        )
    )
