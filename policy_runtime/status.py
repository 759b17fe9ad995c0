"""Live windows: every budget and rate limit as it stands, for people and for `governance status`."""

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
