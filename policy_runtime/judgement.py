"""Judging one request: pure, over the ledger's readings and the quotes for each tier.

The order is fixed. Every rule is evaluated; shadow rules are recorded and never applied. First the
downgrade rules at the requested tier: of those that fire, the tier cheapest for this request becomes
the effective one, if it is really cheaper. Then every deny rule at the effective tier with its
reservation. Deny beats downgrade beats allow; among equals the first in the file is named. A rule that
cannot be evaluated is an outcome (`error`), not an exception.

This is the gate's inner loop: it reads the books, which hold what is the same for every request, and
makes msgspec structs, the cheapest objects there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from llmscope.money import NANO_PER_USD
from policy_runtime.decision_record import RuleOutcome
from policy_runtime.meters import Meter, Scope, TooManyScopes
from policy_runtime.quotes import Quote, quote
from policy_runtime.windows import RollingWindow

if TYPE_CHECKING:
    from policy_runtime.asking import Ask
    from policy_runtime.books import AnomalyBook, Book, BudgetBook, RateBook
    from policy_runtime.ledger import Ledger
    from policy_runtime.policy import (
        BudgetThreshold,
        ModelAllowlist,
        Policy,
        RoutePreference,
        Rule,
        TokenLimit,
    )

    _Reading = tuple[BudgetBook, Meter, int]

# A budget of nothing is as full as can be.
_FULL = float("inf")


class Watermark(NamedTuple):
    """A budget's numbers at a decision, in nano-USD."""

    spent_nano: int
    reserved_nano: int
    limit_nano: int
    window_start_us: int


class Crossing(NamedTuple):
    """An `alert_at` fraction that spending has reached and nobody has been told of yet."""

    rule: BudgetThreshold
    scope: Scope
    fraction: float
    watermark: Watermark


class Judgement(msgspec.Struct, gc=False):
    """The verdict with everything that led to it.

    Attributes:
        charged: the namespace whose rules judge the request, None when the policy has none for it.
        requested, effective: what the request costs on the tier it asked for, and on the one it gets.
        outcomes: what each rule said, in the file's order.
        decision: `allow`, `downgrade` or `deny`.
        rule: the one that is named for it, None when none is.
        watermark: of the budget named, else of the budget nearest its limit.
        readings: what was spent and reserved in the budgets that could be read, by their place in the
            file; `fullest` of them is the one nearest its limit, of which `fullness` is in use.
    """

    ask: Ask
    now_us: int
    charged: str | None
    requested: Quote
    effective: Quote
    outcomes: list[RuleOutcome]
    decision: str = "allow"
    reason: str | None = None
    rule: Rule | None = None
    watermark: Watermark | None = None
    retry_after_seconds: float | None = None
    crossings: list[Crossing] = msgspec.field(default_factory=list)
    readings: dict[int, _Reading] = msgspec.field(default_factory=dict)
    fullest: int = -1
    fullness: float = -1.0
    unreadable: str | None = None


def judge(policy: Policy, ledger: Ledger, ask: Ask, now_us: int, unreadable: str | None = None) -> Judgement:
    """Judge one request at `now_us`, to which the ledger must have been advanced.

    Args:
        unreadable: why the ledger may lack spending that is in the logs. What it does hold still denies;
            else the rules that depend on it are errors, for their `on_error` to decide.
    """
    namespace = ask.labels.budget_namespace
    charged = policy.charged_namespace(namespace)
    requested = quote(policy, ledger, ask, ask.model_tier)
    books = ledger.books(charged)
    outcomes = [_UNJUDGED] * len(books)
    judgement = Judgement(ask, now_us, charged, requested, requested, outcomes, unreadable=unreadable)
    for book in books:
        if book.downgrades:
            outcomes[book.index] = _downgrade(judgement, book, policy, ledger)  # type: ignore[arg-type]
    for book in books:
        if not book.downgrades:
            outcomes[book.index] = _JUDGES[book.primitive](judgement, book, ledger)
    named = judgement.downgrade or judgement.alert
    if policy.refuses(namespace):
        judgement.decision, judgement.reason, named = "deny", "unknown_namespace", None
    elif judgement.denials:
        judgement.decision = "deny"
        named = min(judgement.denials, key=lambda denial: denial.book.index)
        waits = [denial.retry_after_seconds for denial in judgement.denials]
        judgement.retry_after_seconds = max((wait for wait in waits if wait is not None), default=None)
    elif judgement.downgrade is not None:
        judgement.decision = "downgrade"
    reading = judgement.readings.get(judgement.fullest)
    if named is not None:
        judgement.rule, judgement.reason = named.book.rule, named.reason
        reading = judgement.readings.get(named.book.index, reading)
    if reading is not None:
        judgement.watermark = _watermark(*reading, now_us)
    return judgement


def _downgrade(
    judgement: Judgement, book: Book[BudgetThreshold | RoutePreference], policy: Policy, ledger: Ledger
) -> RuleOutcome:
    """Evaluate a downgrade rule at the requested tier."""
    rule, requested = book.rule, judgement.requested
    if rule.primitive == "budget_threshold":
        target, reason = rule.downgrade_to_tier, "budget_exceeded"
        outcome, fired = _budget(judgement, book, rule, requested, ledger)
    else:
        target, reason = rule.prefer_tier, f"route_prefers_{rule.prefer_tier}"
        fired = rule.route_name is None or rule.route_name == judgement.ask.labels.route_name
        outcome = _outcome(rule, "allow" if fired else "not_applicable")
    if not fired:
        return outcome
    candidate = quote(policy, ledger, judgement.ask, target)
    outcome.tier = target
    if not _is_cheaper(candidate, requested):
        outcome.outcome = "not_applicable"
        outcome.reason = f"{target} is not cheaper than {requested.tier} for this request"
        return outcome
    outcome.outcome, outcome.reason = "downgrade", reason
    if rule.enforced:
        judgement.downgrade = judgement.downgrade or Finding(book, reason)
        if _is_cheaper(candidate, judgement.effective):
            judgement.effective = candidate
    return outcome


def _denying_budget(judgement: Judgement, book: Book[BudgetThreshold], ledger: Ledger) -> RuleOutcome:
    rule = book.rule
    outcome, fired = _budget(judgement, book, rule, judgement.effective, ledger)
    if fired:
        outcome.outcome, outcome.reason = "deny", rule.deny_reason
        _deny(judgement, book, rule.deny_reason)
    return outcome


def _budget(
    judgement: Judgement, book: Book[Rule], rule: BudgetThreshold, quoted: Quote, ledger: Ledger
) -> tuple[RuleOutcome, bool]:
    """Read a budget; whether it acts: spent ≥ limit, or spent + reserved + this reservation > limit."""
    scope = book.scope(judgement.charged or "", judgement.ask.labels)
    try:
        meter = book.meters[0].meter(scope, judgement.now_us)
    except TooManyScopes as exc:
        return _error(judgement, book, exc), False
    spent, reserved, this = meter.window.total_at(judgement.now_us), meter.reserved, quoted.reserved_nano
    counted, limit = spent + reserved, rule.limit_nano
    judgement.readings[book.index] = rule, meter
    fullness = counted / limit if limit else _FULL
    if fullness > judgement.fullness:
        judgement.fullness, judgement.fullest = fullness, book.index
    if rule.alert_at:
        _note_crossings(judgement, rule, scope, meter, ledger)
    outcome = RuleOutcome(
        policy_id=rule.id,
        primitive=book.primitive,
        mode=rule.mode,
        outcome="allow",
        scope=book.named(scope),
        spent_usd=spent / NANO_PER_USD,
        reserved_usd=reserved / NANO_PER_USD,
        reservation_usd=this / NANO_PER_USD,
        limit_usd=rule.limit_usd,
    )
    fired = spent >= limit or counted + this > limit
    if judgement.unreadable is not None and not fired:
        _fail(judgement, book, outcome, judgement.unreadable)
    return outcome, fired


def _note_crossings(
    judgement: Judgement, rule: BudgetThreshold, scope: Scope, meter: Meter, ledger: Ledger
) -> None:
    mark = _watermark(rule, meter, judgement.now_us)
    for fraction in rule.alert_at:
        if mark.spent_nano >= fraction * mark.limit_nano and ledger.alert_is_due(
            rule, scope, fraction, mark.window_start_us
        ):
            judgement.crossings.append(Crossing(rule, scope, fraction, mark))


def _watermark(rule: BudgetThreshold, meter: Meter, now_us: int) -> Watermark:
    window = meter.window
    return Watermark(window.total_at(now_us), meter.reserved, rule.limit_nano, window.start_at(now_us))


def _rate(judgement: Judgement, book: Book[RateLimit], ledger: Ledger) -> RuleOutcome:  # noqa: ARG001
    rule, now_us = book.rule, judgement.now_us
    scope = book.scope(judgement.charged or "", judgement.ask.labels)
    this_tokens = judgement.ask.tokens_in + judgement.effective.max_output_tokens
    outcome = _outcome(rule, "allow")
    outcome.scope = book.named(scope)
    for meters, (what, window_us, limit) in zip(book.meters, rule.limits, strict=True):
        try:
            meter = meters.meter(scope, now_us)
        except TooManyScopes as exc:
            return _error(judgement, book, exc)
        this = 1 if what == "requests" else this_tokens
        used = meter.window.total_at(now_us) + meter.reserved
        if what == "requests":
            outcome.requests = used
        else:
            outcome.tokens = used
        if used + this > limit:
            per = "minute" if window_us <= 60_000_000 else "day"
            outcome.outcome, outcome.limit, outcome.reason = "deny", limit, f"{what}_per_{per}"
            outcome.retry_after_seconds = _retry_after(meter, now_us, limit - this, window_us)
            return outcome
    if judgement.unreadable is not None:
        _fail(judgement, book, outcome, judgement.unreadable)
    return outcome


def _retry_after(meter: Meter, now_us: int, at_most: int, window_us: int) -> float:
    """Seconds until enough has left the window; the whole window when open reservations stand in the way."""
    assert isinstance(meter.window, RollingWindow)
    room = at_most - meter.reserved
    if room < 0:
        return window_us / 1_000_000
    return meter.window.seconds_until_at_most(now_us, room)


def _tokens(judgement: Judgement, book: Book, quoted: Quote, ledger: Ledger) -> RuleOutcome:  # noqa: ARG001
    rule: TokenLimit = book.rule  # type: ignore[assignment]
    tokens_in = judgement.ask.tokens_in
    total = tokens_in + quoted.max_output_tokens
    outcome = _outcome(book, "allow")
    outcome.tokens = total
    for limit, value, reason in (
        (rule.max_tokens_in, tokens_in, "max_tokens_in"),
        (rule.max_tokens_total, total, "max_tokens_total"),
    ):
        if limit is not None and value > limit:
            outcome.outcome, outcome.reason, outcome.limit, outcome.tokens = "deny", reason, limit, value
            _deny(judgement, book, reason)
            break
    return outcome


def _allowlist(judgement: Judgement, book: Book[ModelAllowlist], ledger: Ledger) -> RuleOutcome:  # noqa: ARG001
    rule, quoted = book.rule, judgement.effective
    outcome = _outcome(rule, "allow")
    outcome.tier = quoted.tier
    reason = None
    if rule.models and quoted.model not in rule.models:
        reason = f"model_not_allowed: {quoted.model}"
    elif rule.tiers and quoted.tier not in rule.tiers:
        reason = f"tier_not_allowed: {quoted.tier}"
    if reason is not None:
        outcome.outcome, outcome.reason = "deny", reason
        _deny(judgement, book, reason)
    return outcome


def _anomaly(judgement: Judgement, book: Book[CostAnomaly], ledger: Ledger) -> RuleOutcome:
    rule, quoted, feature = book.rule, judgement.effective, judgement.ask.labels.feature_id
    if feature is None or (rule.feature_id is not None and rule.feature_id != feature):
        return _outcome(rule, "not_applicable")
    samples, total = ledger.baseline(rule, feature, quoted.tier)
    outcome = _outcome(rule, "allow")
    outcome.samples = samples
    expected = quoted.expected_nano
    if expected is None or samples < rule.min_samples:
        outcome.outcome = "not_applicable"
        outcome.reason = "no price" if expected is None else "too few samples"
        return outcome
    baseline = total / samples
    threshold = baseline * rule.threshold_multiplier
    outcome.baseline_usd = round(baseline) / NANO_PER_USD
    outcome.estimated_cost_usd = expected / NANO_PER_USD
    outcome.threshold_usd = round(threshold) / NANO_PER_USD
    if expected > threshold:
        outcome.outcome, outcome.reason = "alert", "cost_anomaly"
        if rule.enforced and judgement.alert is None:
            judgement.alert = Finding(book, "cost_anomaly")
    elif judgement.unreadable is not None:
        outcome.outcome, outcome.reason = "error", judgement.unreadable  # it never denies
    return outcome


_JUDGES: dict[str, Callable[[Judgement, Any, Ledger], RuleOutcome]] = {
    "budget_threshold": _denying_budget,
    "cost_anomaly": _anomaly,
    "rate_limit": _rate,
    "token_limit": _tokens,
    "model_allowlist": _allowlist,
}
_UNJUDGED = RuleOutcome()


def _outcome(rule: Rule, outcome: str) -> RuleOutcome:
    return RuleOutcome(policy_id=rule.id, primitive=rule.primitive, mode=rule.mode, outcome=outcome)


def _error(judgement: Judgement, book: Book[Rule], error: TooManyScopes) -> RuleOutcome:
    outcome = _outcome(book.rule, "error")
    _fail(judgement, book, outcome, str(error))
    return outcome


def _fail(judgement: Judgement, book: Book[Rule], outcome: RuleOutcome, reason: str) -> None:
    """The rule cannot be evaluated: its `on_error` decides, and the outcome says why."""
    outcome.outcome, outcome.reason = "error", reason
    if book.rule.on_error == "deny":
        _deny(judgement, book, "rule_error")


def _deny(judgement: Judgement, book: Book[Rule], reason: str, wait_seconds: float | None = None) -> None:
    if book.rule.enforced:
        judgement.denials.append(Finding(book, reason, wait_seconds))


def _is_cheaper(candidate: Quote, than: Quote) -> bool:
    if candidate.expected_nano is None or than.expected_nano is None:
        return False
    return (candidate.expected_nano, candidate.reserved_nano) < (than.expected_nano, than.reserved_nano)
