"""Writing down what the gate decided: records and events of the decision log, from judgements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.money import NANO_PER_USD, from_nano
from llmscope.timestamps import format_micros
from policy_runtime.decision_record import SCHEMA_VERSION, DecisionRecord

if TYPE_CHECKING:
    from policy_runtime.judgement import Crossing, Judgement
    from policy_runtime.policy_file import LoadedPolicy


def decision_under(loaded: LoadedPolicy) -> DecisionRecord:
    """What the records of all decisions under a policy have in common."""
    policy = loaded.policy
    return DecisionRecord(
        mode="shadow" if policy.all_shadow else "enforce",
        policy_version=policy.version,  # type: ignore[arg-type]  # a float version is written as it stands
        policy_hash=loaded.hash,
    )


def decision_of(
    judgement: Judgement, common: DecisionRecord, request_id: str, expires_us: int, degraded: str | None
) -> DecisionRecord:
    """The record of one decision; `latency_ms` and the telemetry position are its maker's to add.

    Args:
        common: see `decision_under`.
        expires_us: when its reservation lapses, if it is not denied.
        degraded: why the decision is `degraded`, None when it is `fresh`.
    """
    rule, mark, ask = judgement.rule, judgement.watermark, judgement.ask
    effective, requested, labels = judgement.effective, judgement.requested, ask.labels
    stamp = format_micros(judgement.now_us)
    # By place, in the order of the class: by their names so many fields take thrice as long.
    record = DecisionRecord(
        SCHEMA_VERSION,
        None,
        stamp,
        request_id,
        labels.tenant_id,
        labels.caller_id,
        labels.use_case,
        labels.feature_id,
        labels.experiment_id,
        labels.budget_namespace,
        judgement.charged,
        labels.route_name,
        effective.model,
        requested.tier,
        effective.tier,
        None if rule is None else rule.primitive,
        judgement.decision,
        judgement.reason,
        None if rule is None else rule.id,
        common.mode,
        "fresh" if degraded is None else "degraded",
        degraded,
        effective.expected_usd,
        requested.expected_usd,
        None,
        ask.tokens_in,
    )
    record.policy_version, record.policy_hash = common.policy_version, common.policy_hash
    record.price_version = effective.price_version
    if judgement.outcomes:
        record.rules = judgement.outcomes
    if judgement.decision != "deny":
        record.reserved_cost_usd = effective.reserved_usd
        record.reserved_tokens = ask.tokens_in + effective.max_output_tokens
        record.reservation_expires_at = format_micros(expires_us)
    if mark is not None:
        record.window_cost_usd = mark.spent_nano / NANO_PER_USD
        record.window_reserved_usd = mark.reserved_nano / NANO_PER_USD
        record.window_limit_usd = mark.limit_nano / NANO_PER_USD
        record.window_start = format_micros(mark.window_start_us)
    return record


def policy_loaded(loaded: LoadedPolicy, now_us: int) -> DecisionRecord:
    """The event that says which policy the decisions after it follow, with its full text."""
    return DecisionRecord(
        schema_version=SCHEMA_VERSION,
        event="policy_loaded",
        timestamp=format_micros(now_us),
        policy_hash=loaded.hash,
        policy_text=loaded.text,
    )


def policy_refused(error: str, in_force: LoadedPolicy, now_us: int) -> DecisionRecord:
    """The event that says a changed policy file was refused and which policy stays in force."""
    return DecisionRecord(
        schema_version=SCHEMA_VERSION,
        event="policy_refused",
        timestamp=format_micros(now_us),
        policy_hash=in_force.hash,
        error=error,
    )


def budget_alert(crossing: Crossing, now_us: int) -> DecisionRecord:
    """The event that says spending has reached a fraction of a limit."""
    rule, scope, fraction, mark = crossing
    return DecisionRecord(
        schema_version=SCHEMA_VERSION,
        event="budget_alert",
        timestamp=format_micros(now_us),
        charged_namespace=scope[0],
        scope=dict(zip(rule.per, scope[1:], strict=True)) or None,
        policy_id=rule.id,
        primitive=rule.primitive,
        threshold=fraction,
        window_cost_usd=from_nano(mark.spent_nano),
        window_limit_usd=from_nano(mark.limit_nano),
        window_start=format_micros(mark.window_start_us),
    )


def reservation_extended(request_id: str, expires_us: int, now_us: int) -> DecisionRecord:
    """The event that says a reservation lapses at another instant than its decision said."""
    return DecisionRecord(
        schema_version=SCHEMA_VERSION,
        event="reservation_extended",
        timestamp=format_micros(now_us),
        request_id=request_id,
        reservation_expires_at=format_micros(expires_us),
    )


def usd_or_none(nano: int | None) -> float | None:
    """Nano-USD as USD, None staying None."""
    return None if nano is None else from_nano(nano)
