"""The five answers as one plain sentence each, computed from the rows of the question.

Each function names the culprit, or says that there is none, or that it cannot be told; an empty answer
has its own sentence. What does not belong here: computing the rows (`sql/questions/`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from governance_pipeline.wording import counted

Row = Mapping[str, Any]

# Below as many priced requests a margin per request is anecdote: such rows are named only when there are
# no others.
_ENOUGH_REQUESTS = 30


def cost_by_tenant_and_feature(rows: Sequence[Row]) -> str:
    """Which tenant or feature burns the most margin per request?"""
    if not rows:
        return "No requests were recorded, so nothing burned margin."
    known = [row for row in rows if row["margin_per_request_usd"] is not None]
    if known:
        enough = [row for row in known if row["priced_count"] >= _ENOUGH_REQUESTS] or known
        worst = min(enough, key=lambda row: row["margin_per_request_usd"])
        share = f"{_who(worst)}, with {_share(worst['cost_share'])} of all cost"
        margin = worst["margin_per_request_usd"]
        if margin < 0:
            return f"{share}, burns the most: it loses {_usd(-margin)} USD on every request."
        return (
            "No tenant or feature loses money: the thinnest margin is that of "
            f"{share}, at {_usd(margin)} USD per request."
        )
    priced = [row for row in rows if row["priced_count"]]
    if not priced:
        return f"It cannot be told: none of {_requests(rows)} has a known cost."
    top = priced[0]
    return (
        f"{_who(top)} costs the most, {_usd(top['total_cost_usd'])} USD or {_share(top['cost_share'])} of "
        f"all cost at {_usd(top['avg_cost_usd'])} USD per request; margins need revenue in economics.yaml."
    )


def experiment_cost_vs_outcome(rows: Sequence[Row]) -> str:
    """Which experiment increased cost without improving outcome?"""
    compared = [row for row in rows if row["verdict"] != "control"]
    if not compared:
        return "No experiment was running: no request carries an experiment to compare."
    culprits = [row for row in compared if row["verdict"] == "costlier_no_better"]
    if not culprits:
        open_count = sum(row["verdict"] == "inconclusive" for row in compared)
        undecided = f"; {open_count} of them inconclusive" if open_count else ""
        seen = counted(len(compared), "experiment")
        return f"No experiment increased cost without improving the outcome ({seen} compared{undecided})."
    worst = max(culprits, key=lambda row: row["cost_delta_pct"] or math.inf)
    delta = worst["cost_delta_pct"]
    dearer = f"{delta:,.0f} % more" if delta is not None else "more"
    return (
        f"Experiment {worst['experiment_id']} costs {dearer} per request than {worst['control_id']} "
        f"(p {_p_value(worst['p_value_cost'])}) without succeeding more often "
        f"({_share(worst['success_rate'])}, {100 * worst['success_delta']:+.1f} points"
        f", p {_p_value(worst['p_value_success'])}){_and_others(len(culprits) - 1, 'experiment')}."
    )


def budget_pressure_by_namespace(rows: Sequence[Row]) -> str:
    """Which budget namespaces are triggering downgrades or denials?"""
    if not rows:
        return "The gate made no decisions, so no budget namespace triggered any downgrade or denial."
    parts = []
    denying = max(rows, key=lambda row: row["deny_count"])
    if denying["deny_count"]:
        parts.append(
            f"{denying['budget_namespace']} triggers the most denials ({denying['deny_count']:,} of "
            f"{counted(denying['total_count'], 'decision')}, {_usd(denying['avoided_cost_usd'])} USD avoided)"
        )
    downgrading = max(rows, key=lambda row: row["downgrade_count"])
    if downgrading["downgrade_count"]:
        parts.append(
            f"{downgrading['budget_namespace']} triggers the most downgrades "
            f"({downgrading['downgrade_count']:,} of {downgrading['total_count']:,}, "
            f"{_usd(downgrading['downgrade_savings_usd'])} USD saved)"
        )
    if not parts:
        total = sum(row["total_count"] for row in rows)
        return f"No budget namespace triggers downgrades or denials in {counted(total, 'decision')}."
    return f"Budget namespace {', and '.join(parts)}."


def fallback_latency_masking(rows: Sequence[Row]) -> str:
    """Which fallbacks or routing choices are masking latency?"""
    if not rows:
        return "No request recorded its latency, so nothing can be masked."
    fallbacks = [row for row in rows if row["is_fallback"]]
    if not fallbacks:
        return f"No fallback answered any of {_requests(rows)}, so none masks latency."
    masking = [row for row in fallbacks if row["verdict"] == "masking"]
    if masking:
        worst = max(
            masking, key=lambda row: (row["masked_share"] * row["request_count"], row["masked_latency_ms"])
        )
        return (
            f"Fallbacks on {_route(worst)} mask latency: the attempts that answered look normal, but callers "
            f"waited {worst['masked_latency_ms']:,.0f} ms longer than those on average, and "
            f"{_share(worst['masked_share'])} of "
            f"{counted(worst['request_count'], 'fallback request was', 'fallback requests were')} slow only "
            f"to them{_and_others(len(masking) - 1, 'route')}."
        )
    unknown = sum(row["verdict"] == "unknown" for row in fallbacks)
    if unknown == len(fallbacks):
        return (
            f"It cannot be told: fallbacks answered {_requests(fallbacks)}, but their attempts "
            "were not recorded or their routes have no first choice to compare with."
        )
    undecided = f" ({unknown} cannot be told)" if unknown else ""
    where = _route(fallbacks[0]) if len(fallbacks) == 1 else f"any of {len(fallbacks)} routes with fallbacks"
    return f"No fallback masks latency on {where}{undecided}."


def unsafe_routes(rows: Sequence[Row]) -> str:
    """Which routes or features are no longer margin-safe?"""
    if not rows:
        return "No requests were recorded, so no route or feature is unsafe."
    unsafe = [row for row in rows if row["verdict"] == "unsafe"]
    if not unsafe:
        unknown = sum(row["verdict"] == "unknown" for row in rows)
        if unknown == len(rows):
            whole_routes = [row for row in rows if row["feature_id"] is None]
            return f"It cannot be told: none of {_requests(whole_routes)} has a known cost."
        undecided = f", though {unknown} cannot be told for want of known costs" if unknown else ""
        return f"Every route and feature is margin-safe{undecided}."
    worst = unsafe[0]
    # A route and its only feature are one finding.
    routes = {row["route_name"] for row in unsafe}
    margin = worst["margin_per_request_usd"]
    if margin is not None and margin < 0:
        why = f"it loses {_usd(-margin)} USD per request"
    else:
        why = (
            f"it costs {_usd(worst['avg_cost_usd'])} USD per request on average, above the threshold of "
            f"{_usd(worst['threshold_usd'])} USD"
        )
    feature = f", feature {worst['feature_id']}," if worst["feature_id"] is not None else ""
    others = _and_others(len(routes) - 1, "route")
    return f"{_capital(_route(worst))}{feature} is no longer margin-safe: {why}{others}."


def _who(row: Row) -> str:
    feature = (
        f"feature {row['feature_id']}" if row["feature_id"] is not None else "requests without a feature"
    )
    return f"Tenant {row['tenant_id']}'s {feature}"


def _route(row: Row) -> str:
    return f"route {row['route_name']}" if row["route_name"] is not None else "requests without a route"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _requests(rows: Sequence[Row]) -> str:
    return counted(sum(row["request_count"] for row in rows), "request")


def _and_others(count: int, noun: str) -> str:
    if count < 1:
        return ""
    return f"; {counted(count, f'more {noun} does', f'more {noun}s do')} the same"


def _share(share: float | None) -> str:
    return "an unknown share" if share is None else f"{100 * share:.0f} %"


def _p_value(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def _usd(amount: Any) -> str:
    """Dollars with three significant digits, and cents at least."""
    value = float(amount)
    if value == 0:
        return "0.00"
    decimals = min(9, max(2, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:,.{decimals}f}"
