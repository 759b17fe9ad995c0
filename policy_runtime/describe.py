"""A policy in words: what `governance check` prints."""

from __future__ import annotations

from policy_runtime.policy import (
    BudgetThreshold,
    CostAnomaly,
    ModelAllowlist,
    Policy,
    RateLimit,
    RoutePreference,
    Rule,
    TokenLimit,
)

_CALENDAR_WORDS = {"hourly": "hour", "daily": "day", "weekly": "week (from Monday 00:00)", "monthly": "month"}
_ROLLING_WORDS = {"hourly": "60 minutes", "daily": "24 hours", "weekly": "7 days", "monthly": "30 days"}
_UNKNOWN_WORDS = {
    "default": "is charged to namespace default",
    "own_budget": "gets a budget of its own under the rules of namespace default",
    "deny": "is denied",
}


def describe_policy(policy: Policy) -> list[str]:
    """One sentence per rule, in the order of the file, with a heading per namespace."""
    lines: list[str] = []
    for name, namespace in policy.namespaces.items():
        lines.append(f"namespace {name}:")
        if not namespace.rules:
            lines.append("  no rules: everything is allowed and recorded")
        lines += [f"  {rule.id}: {describe_rule(rule, policy)}" for rule in namespace.rules]
    lines.append(f"A request of an unlisted namespace {_unlisted(policy)}.")
    kind = "the worst case" if policy.reserve == "worst_case" else "the expected cost"
    lines.append(
        f"Each admitted request reserves {kind} for up to {_number(policy.reservation_ttl_seconds)} s, "
        "until its bill arrives."
    )
    return lines


def describe_rule(rule: Rule, policy: Policy) -> str:
    """What one rule will do, in one sentence."""
    said = _sentence(rule, policy)
    if rule.mode == "shadow":
        said = f"(shadow: recorded, not applied) {said}"
    if rule.on_error == "deny":
        said += " If it cannot be evaluated or recorded, the request is denied."
    return said


def _unlisted(policy: Policy) -> str:
    if "default" not in policy.namespaces and policy.unknown_namespaces != "deny":
        return "is allowed and recorded, for there is no namespace default"
    return _UNKNOWN_WORDS[policy.unknown_namespaces]


def _sentence(rule: Rule, policy: Policy) -> str:
    if isinstance(rule, BudgetThreshold):
        return _budget(rule, policy)
    if isinstance(rule, RoutePreference):
        where = f"on route {rule.route_name}" if rule.route_name else "on every route"
        return f"{where}, requests go to tier {rule.prefer_tier} where that is cheaper."
    if isinstance(rule, CostAnomaly):
        what = f"of feature {rule.feature_id}" if rule.feature_id else "of any feature"
        return (
            f"a request {what} whose expected cost is above {_number(rule.threshold_multiplier)} times "
            f"the mean of its feature and tier over {_number(rule.baseline_window_hours)} hours "
            f"(at least {rule.min_samples} requests) is marked, never blocked."
        )
    if isinstance(rule, RateLimit):
        limits = ", ".join(
            f"{limit:,} {what} per {'minute' if window <= 60_000_000 else 'day'}"
            for what, window, limit in rule.limits
        )
        return f"denies beyond {limits}{_per(rule.per)}, saying when to try again."
    if isinstance(rule, TokenLimit):
        parts = []
        if rule.max_tokens_in is not None:
            parts.append(f"more than {rule.max_tokens_in:,} input tokens")
        if rule.max_tokens_total is not None:
            parts.append(f"more than {rule.max_tokens_total:,} tokens in all (answer bound included)")
        return f"denies a request of {' or '.join(parts)}."
    assert isinstance(rule, ModelAllowlist)
    allowed = []
    if rule.models:
        allowed.append(f"models {', '.join(rule.models)}")
    if rule.tiers:
        allowed.append(f"tiers {', '.join(rule.tiers)}")
    return f"denies everything but {' and '.join(allowed)}."


def _budget(rule: BudgetThreshold, policy: Policy) -> str:
    if rule.window_kind == "calendar":
        window = f"in a calendar {_CALENDAR_WORDS[rule.period]} of {policy.timezone}"
    else:
        window = f"within any {_ROLLING_WORDS[rule.period]}"
    if rule.action == "deny":
        act = f"denies ({rule.deny_reason}) what could take spending above {_number(rule.limit_usd)} USD"
    else:
        act = (
            f"moves requests to tier {rule.downgrade_to_tier} (it bounds nothing) "
            f"once spending could pass {_number(rule.limit_usd)} USD"
        )
    said = f"{act} {window}{_per(rule.per)}."
    if rule.alert_at:
        said += f" Alerts at {', '.join(f'{_number(fraction * 100)}%' for fraction in rule.alert_at)}."
    return said


def _number(value: float) -> str:
    """As a person would write it, with every digit that counts: money has nine decimals."""
    return f"{value:,.9f}".rstrip("0").rstrip(".")


def _per(names: tuple[str, ...]) -> str:
    return f", for each {' and '.join(names)}" if names else ""
