"""Live windows, every budget and rate limit as it stands, and how good estimates were: for people and for
`governance status`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmscope.money import NANO_PER_USD
from llmscope.timestamps import format_micros

if TYPE_CHECKING:
    from policy_runtime.ledger import Ledger
    from policy_runtime.policy import Policy


@dataclass(frozen=True, slots=True)
class LiveWindow:
    """One limit in one scope. Amounts are USD (`unit` usd), tokens or requests."""

    budget_namespace: str
    policy_id: str
    primitive: str
    mode: str
    unit: str
    scope: dict[str, str]
    spent: float
    reserved: float
    lapsed: float
    limit: float
    window_start: str


@dataclass(frozen=True, slots=True)
class EstimateQuality:
    """What the settled requests of a route, model and tier were taken to cost, and what they did cost.

    Attributes:
        settled_count: requests with an expected cost that were billed within one reservation time.
        mean_expected_usd: what the records show as `estimated_cost_usd`.
        mean_reserved_usd: what was held back for them.
        mean_cost_usd: what they cost.
        expected_over_cost, reserved_over_cost: 1 is exact; None when they cost nothing.
    """

    route_name: str | None
    model: str | None
    model_tier: str | None
    settled_count: int
    mean_expected_usd: float
    mean_reserved_usd: float
    mean_cost_usd: float
    expected_over_cost: float | None
    reserved_over_cost: float | None


def estimate_quality(ledger: Ledger) -> list[EstimateQuality]:
    """One row for each route, model and tier, the most costly together first."""
    rows = sorted(ledger.estimates(), key=lambda row: (-row[2][2], [part or "" for part in row[0]]))
    return [
        EstimateQuality(
            route_name=route_name,
            model=model,
            model_tier=model_tier,
            settled_count=count,
            mean_expected_usd=round(expected / count / NANO_PER_USD, 9),
            mean_reserved_usd=round(reserved / count / NANO_PER_USD, 9),
            mean_cost_usd=round(cost / count / NANO_PER_USD, 9),
            expected_over_cost=round(expected / cost, 3) if cost else None,
            reserved_over_cost=round(reserved / cost, 3) if cost else None,
        )
        for (route_name, model, model_tier), count, (expected, reserved, cost) in rows
    ]


def live_windows(ledger: Ledger, policy: Policy, now_us: int) -> list[LiveWindow]:
    """Every limit that something has counted under, in the order of the policy file."""
    windows: list[LiveWindow] = []
    for name in policy.namespaces:
        for book in ledger.books(name):
            rule = book.rule
            if rule.primitive == "budget_threshold":
                limits = [rule.limit_usd]
            elif rule.primitive == "rate_limit":
                limits = [float(limit) for _, _, limit in rule.limits]
            else:
                continue
            for meters, limit in zip(book.meters, limits, strict=True):
                scale = NANO_PER_USD if meters.unit == "nano_usd" else 1
                for scope, meter in meters.by_scope.items():
                    reading = meter.read(now_us)
                    windows.append(
                        LiveWindow(
                            budget_namespace=scope[0],
                            policy_id=rule.id,
                            primitive=rule.primitive,
                            mode=rule.mode,
                            unit="usd" if meters.unit == "nano_usd" else meters.unit,
                            scope=dict(zip(rule.per, scope[1:], strict=True)),
                            spent=reading.spent / scale,
                            reserved=reading.reserved / scale,
                            lapsed=reading.lapsed / scale,
                            limit=limit,
                            window_start=format_micros(meter.window.start_at(now_us)),
                        )
                    )
    return windows
