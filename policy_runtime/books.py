"""Books: each rule of the policy made ready for judging, with the meters that count under it.

What is the same for every request is worked out here once: attributes of a pydantic model cost three
times those of a plain object, and there are dozens of them in a decision. What does not belong here:
judging (`judgement`), and which event moves which meter (`ledger`).
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from policy_runtime.decision_record import RuleOutcome
from policy_runtime.labels import NO_SCOPE_VALUE, Labels
from policy_runtime.meters import Meters, Scope

if TYPE_CHECKING:
    from llmscope.telemetry_line import Usage
    from policy_runtime.policy import (
        BudgetThreshold,
        CostAnomaly,
        Policy,
        RateLimit,
        RoutePreference,
        Rule,
        ScopeName,
    )


class Book:
    """A rule and its accounts.

    Attributes:
        index: the rule's place in its namespace, from 0.
        id, primitive, mode: the rule's.
        enforced: whether its outcome is applied.
        downgrades: whether it may downgrade; all other rules may deny or annotate.
        per: the labels that it counts by.
        meters: one for a budget, one per limit of a rate limit, none for other rules.
        not_applicable: the outcome of a rule that has nothing to say of a request; not to be changed.
    """

    __slots__ = (
        "_label", "downgrades", "enforced", "id", "index", "meters", "mode", "not_applicable", "per",
        "primitive", "rule",
    )  # fmt: skip

    def __init__(
        self, rule: Rule, index: int, per: tuple[ScopeName, ...] = (), meters: tuple[Meters, ...] = ()
    ) -> None:
        self.rule = rule
        self.index = index
        self.id = rule.id
        self.primitive: str = rule.primitive
        self.mode: str = rule.mode
        self.enforced = rule.enforced
        self.downgrades = False
        self.per = per
        self.meters = meters
        self.not_applicable = RuleOutcome(
            policy_id=rule.id, primitive=rule.primitive, mode=rule.mode, outcome="not_applicable"
        )
        self._label = attrgetter(per[0]) if len(per) == 1 else None

    def scope(self, charged: str, labels: Labels | Usage) -> Scope:
        """The scope under this rule of a request charged to `charged`."""
        if not self.per:
            return (charged,)
        if self._label is not None:
            return (charged, self._label(labels) or NO_SCOPE_VALUE)
        return (charged, *[getattr(labels, name) or NO_SCOPE_VALUE for name in self.per])

    def named(self, scope: Scope) -> dict[str, str] | None:
        """A scope as records show it: what the rule counts by, None when it counts by nothing."""
        if len(scope) == 2:  # the usual case, at a sixth of the price
            return {self.per[0]: scope[1]}
        return dict(zip(self.per, scope[1:], strict=True)) if self.per else None


class BudgetBook(Book):
    """A budget, in nano-USD."""

    __slots__ = ("alert_at", "deny_reason", "downgrade_to_tier", "limit_nano", "limit_usd", "spending")

    def __init__(self, rule: BudgetThreshold, index: int, policy: Policy) -> None:
        self.spending = Meters("nano_usd", rule, rule.longest_us, policy)
        super().__init__(rule, index, rule.per, (self.spending,))
        self.downgrades = rule.action == "downgrade"
        self.downgrade_to_tier = rule.downgrade_to_tier
        self.limit_nano = rule.limit_nano
        self.limit_usd = rule.limit_usd
        self.deny_reason = rule.deny_reason
        self.alert_at = rule.alert_at


class AnomalyBook(Book):
    """A comparison with the recent mean of a feature; `baseline_us` is how far back, in microseconds."""

    __slots__ = ("baseline_us", "feature_id", "min_samples", "threshold_multiplier")

    def __init__(self, rule: CostAnomaly, index: int) -> None:
        super().__init__(rule, index)
        self.baseline_us = rule.baseline_us
        self.feature_id = rule.feature_id
        self.min_samples = rule.min_samples
        self.threshold_multiplier = rule.threshold_multiplier


class PreferenceBook(Book):
    """A route's preferred tier; `route_name` is None for every route."""

    __slots__ = ("prefer_tier", "reason", "route_name")

    def __init__(self, rule: RoutePreference, index: int) -> None:
        super().__init__(rule, index)
        self.downgrades = True
        self.route_name = rule.route_name
        self.prefer_tier = rule.prefer_tier
        self.reason = f"route_prefers_{rule.prefer_tier}"


class RateBook(Book):
    """Limits of requests and tokens: (what is counted, window in microseconds, how many) for each meter."""

    __slots__ = ("limits",)

    def __init__(self, rule: RateLimit, index: int, policy: Policy) -> None:
        self.limits = rule.limits
        meters = tuple(Meters(what, None, window_us, policy) for what, window_us, _ in rule.limits)
        super().__init__(rule, index, rule.per, meters)


def books_of(rules: tuple[Rule, ...], policy: Policy) -> tuple[Book, ...]:
    """The books of a namespace, all empty, in the file's order."""
    books: list[Book] = []
    for index, rule in enumerate(rules):
        if rule.primitive == "budget_threshold":
            books.append(BudgetBook(rule, index, policy))
        elif rule.primitive == "cost_anomaly":
            books.append(AnomalyBook(rule, index))
        elif rule.primitive == "route_preference":
            books.append(PreferenceBook(rule, index))
        elif rule.primitive == "rate_limit":
            books.append(RateBook(rule, index, policy))
        else:
            books.append(Book(rule, index))
    return tuple(books)
