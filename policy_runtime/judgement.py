"""Judging one request: pure, over the ledger's readings and the quotes for each tier.

The order is fixed. Every rule is evaluated; shadow rules are recorded and never applied. First the
downgrade rules at the requested tier: of those that fire, the tier cheapest for this request becomes
the effective one, if it is really cheaper. Then every deny rule at the effective tier with its
reservation. Deny beats downgrade beats allow; among equals the first in the file is named. A rule that
cannot be evaluated is an outcome (`error`), not an exception.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from llmscope.money import NANO_PER_USD, from_nano
from policy_runtime.decision_record import RuleOutcome
from policy_runtime.labels import Labels
from policy_runtime.ledger import Ledger
from policy_runtime.meters import Book, Meter, TooManyScopes
from policy_runtime.policy import (
    BudgetThreshold,
    CostAnomaly,
    ModelAllowlist,
    RateLimit,
    RoutePreference,
    Rule,
    TokenLimit,
)
from policy_runtime.windows import RollingWindow

# A budget of nothing is as full as can be.
_FULL = float("inf")


class Quote(NamedTuple):
    """What a request would cost on one tier.

    Attributes:
        tier: the tier.
        provider, model: what would be called; None when nothing is known for the tier.
        expected_nano: expected cost in nano-USD, None without a price.
        reserved_nano: what is reserved for it; without a price the recent mean of its like.
        max_output_tokens: the bound on the answer.
        price_version: of the prices used, None without a price.
    """

    tier: str
    provider: str | None
    model: str | None
    expected_nano: int | None
    reserved_nano: int
    max_output_tokens: int
    price_version: str | None


class Request(NamedTuple):
    """What is asked of the gate.

    Attributes:
        charged: the namespace whose rules judge it, None when the policy has none for it.
        tier: the tier asked for.
        refused: its namespace is unlisted and the policy denies those.
    """

    labels: Labels
    charged: str | None
    tier: str
    tokens_in: int
    refused: bool = False


class Watermark(NamedTuple):
    """A budget's numbers at a decision, in nano-USD."""

    spent_nano: int
    reserved_nano: int
    limit_nano: int
    window_start_us: int


class Crossing(NamedTuple):
    """An `alert_at` fraction that spending has reached and nobody has been told of yet."""

    rule: BudgetThreshold
    scope: tuple[str, ...]
    fraction: float
    watermark: Watermark


@dataclass(slots=True)
class Judgement:
    """The verdict with everything that led to it."""

    decision: str
    reason: str | None
    rule: Rule | None
    effective: Quote
    requested: Quote
    outcomes: list[RuleOutcome]
    watermark: Watermark | None
    retry_after_seconds: float | None = None
    crossings: list[Crossing] = field(default_factory=list)


class _Work:
    """The judgement in the making."""

    __slots__ = (
        "alert", "crossings", "denials", "fullest", "fullness", "ledger", "now_us", "outcomes", "request",
        "watermarks",
    )  # fmt: skip

    def __init__(self, ledger: Ledger, request: Request, now_us: int, rules: int) -> None:
        self.ledger = ledger
        self.request = request
        self.now_us = now_us
        self.outcomes: list[RuleOutcome | None] = [None] * rules
        self.watermarks: dict[str, Watermark] = {}
        self.fullest: Watermark | None = None
        self.fullness = -1.0
        self.crossings: list[Crossing] = []
        self.denials: list[tuple[int, Rule, str, float | None]] = []
        self.alert: tuple[Rule, str] | None = None


def judge(ledger: Ledger, request: Request, quote_for: Callable[[str], Quote], now_us: int) -> Judgement:
    """Judge one request at `now_us`, to which the ledger must have been advanced."""
    books = ledger.books(request.charged)
    requested = quote_for(request.tier)
    work = _Work(ledger, request, now_us, len(books))
    effective, downgraded_by = _apply_downgrades(work, books, requested, quote_for)
    for index, book in enumerate(books):
        if work.outcomes[index] is None:
            work.outcomes[index] = _evaluate(work, index, book, effective)
    outcomes = [outcome for outcome in work.outcomes if outcome is not None]
    decision, reason, rule, retry_after = "allow", None, None, None
    if request.refused:
        decision, reason = "deny", "unknown_namespace"
    elif work.denials:
        _, rule, reason, _ = min(work.denials, key=lambda denial: denial[0])
        retries = [retry for _, _, _, retry in work.denials if retry is not None]
        decision, retry_after = "deny", max(retries) if retries else None
    elif downgraded_by is not None:
        decision, rule = "downgrade", downgraded_by
        reason = _downgrade_reason(rule)
    elif work.alert is not None:
        rule, reason = work.alert
    return Judgement(
        decision, reason, rule, effective, requested, outcomes,
        work.watermarks.get(rule.id, work.fullest) if rule else work.fullest,
        retry_after, work.crossings,
    )  # fmt: skip


def _apply_downgrades(
    work: _Work, books: tuple[Book, ...], requested: Quote, quote_for: Callable[[str], Quote]
) -> tuple[Quote, Rule | None]:
    """Evaluate the downgrade rules at the requested tier; the effective quote and the rule named."""
    effective, named = requested, None
    for index, book in enumerate(books):
        rule = book.rule
        if isinstance(rule, BudgetThreshold) and rule.action == "downgrade":
            target = rule.downgrade_to_tier
            outcome, fired = _budget(work, book, rule, requested)
        elif isinstance(rule, RoutePreference):
            target = rule.prefer_tier
            fired = rule.route_name is None or rule.route_name == work.request.labels.route_name
            outcome = _outcome(rule, "allow" if fired else "not_applicable")
        else:
            continue
        work.outcomes[index] = outcome
        if outcome.outcome == "error":
            _note_error(work, index, rule)
            continue
        if not fired:
            continue
        candidate = quote_for(target)
        outcome.tier = target
        if not _is_cheaper(candidate, requested):
            outcome.outcome = "not_applicable"
            outcome.reason = f"{target} is not cheaper than {requested.tier} for this request"
            continue
        outcome.outcome = "downgrade"
        outcome.reason = _downgrade_reason(rule)
        if rule.enforced:
            named = named or rule
            if _is_cheaper(candidate, effective):
                effective = candidate
    return effective, named


def _evaluate(work: _Work, index: int, book: Book, effective: Quote) -> RuleOutcome:
    """Evaluate one rule that does not downgrade, at the effective tier."""
    rule = book.rule
    if isinstance(rule, BudgetThreshold):
        outcome, fired = _budget(work, book, rule, effective)
        if fired:
            outcome.outcome, outcome.reason = "deny", rule.deny_reason
            _note_denial(work, index, rule, rule.deny_reason)
        elif outcome.outcome == "error":
            _note_error(work, index, rule)
        return outcome
    if isinstance(rule, CostAnomaly):
        return _anomaly(work, rule, effective)
    if isinstance(rule, RateLimit):
        return _rate(work, index, book, rule, effective)
    if isinstance(rule, TokenLimit):
        return _tokens(work, index, rule, effective)
    assert isinstance(rule, ModelAllowlist)
    return _allowlist(work, index, rule, effective)


def _budget(work: _Work, book: Book, rule: BudgetThreshold, quote: Quote) -> tuple[RuleOutcome, bool]:
    """Read a budget; whether it acts: spent ≥ limit, or spent + reserved + this reservation > limit."""
    assert work.request.charged is not None
    scope = book.scope(work.request.charged, work.request.labels)
    try:
        meter = book.meters[0].meter(scope, work.now_us)
    except TooManyScopes as exc:
        return _outcome(rule, "error", reason=str(exc)), False
    spent, reserved = meter.window.total_at(work.now_us), meter.reserved
    limit = rule.limit_nano
    watermark = Watermark(spent, reserved, limit, meter.window.start_at(work.now_us))
    work.watermarks[rule.id] = watermark
    fullness = (spent + reserved) / limit if limit else _FULL
    if fullness > work.fullness:
        work.fullest, work.fullness = watermark, fullness
    if rule.alert_at:
        _note_crossings(work, rule, scope, watermark)
    outcome = RuleOutcome(
        policy_id=rule.id,
        primitive=rule.primitive,
        mode=rule.mode,
        outcome="allow",
        scope=dict(zip(rule.per, scope[1:], strict=True)) if rule.per else None,
        spent_usd=spent / NANO_PER_USD,
        reserved_usd=reserved / NANO_PER_USD,
        reservation_usd=quote.reserved_nano / NANO_PER_USD,
        limit_usd=rule.limit_usd,
    )
    return outcome, spent >= limit or spent + reserved + quote.reserved_nano > limit


def _note_crossings(work: _Work, rule: BudgetThreshold, scope: tuple[str, ...], watermark: Watermark) -> None:
    for fraction in rule.alert_at:
        if watermark.spent_nano >= fraction * watermark.limit_nano and work.ledger.alert_is_due(
            rule, scope, fraction, watermark.window_start_us
        ):
            work.crossings.append(Crossing(rule, scope, fraction, watermark))


def _rate(work: _Work, index: int, book: Book, rule: RateLimit, quote: Quote) -> RuleOutcome:
    assert work.request.charged is not None
    scope = book.scope(work.request.charged, work.request.labels)
    this_tokens = work.request.tokens_in + quote.max_output_tokens
    outcome = _outcome(rule, "allow")
    if rule.per:
        outcome.scope = dict(zip(rule.per, scope[1:], strict=True))
    for meters, (what, window_us, limit) in zip(book.meters, rule.limits, strict=True):
        try:
            meter = meters.meter(scope, work.now_us)
        except TooManyScopes as exc:
            _note_error(work, index, rule)
            return _outcome(rule, "error", reason=str(exc))
        this = 1 if what == "requests" else this_tokens
        used = meter.window.total_at(work.now_us) + meter.reserved
        if what == "requests":
            outcome.requests = used
        else:
            outcome.tokens = used
        if used + this > limit:
            per = "minute" if window_us <= 60_000_000 else "day"
            outcome.outcome, outcome.limit = "deny", limit
            outcome.reason = f"{what}_per_{per}"
            outcome.retry_after_seconds = _retry_after(meter, work.now_us, limit - this, window_us)
            _note_denial(work, index, rule, outcome.reason, float(outcome.retry_after_seconds))
            return outcome
    return outcome


def _retry_after(meter: Meter, now_us: int, at_most: int, window_us: int) -> float:
    """Seconds until enough has left the window; the whole window when open reservations stand in the way."""
    assert isinstance(meter.window, RollingWindow)
    room = at_most - meter.reserved
    if room < 0:
        return window_us / 1_000_000
    return meter.window.seconds_until_at_most(now_us, room)


def _tokens(work: _Work, index: int, rule: TokenLimit, quote: Quote) -> RuleOutcome:
    tokens_in = work.request.tokens_in
    total = tokens_in + quote.max_output_tokens
    outcome = _outcome(rule, "allow")
    outcome.tokens = total
    for limit, value, reason in (
        (rule.max_tokens_in, tokens_in, "max_tokens_in"),
        (rule.max_tokens_total, total, "max_tokens_total"),
    ):
        if limit is not None and value > limit:
            outcome.outcome, outcome.reason, outcome.limit, outcome.tokens = "deny", reason, limit, value
            _note_denial(work, index, rule, reason)
            break
    return outcome


def _allowlist(work: _Work, index: int, rule: ModelAllowlist, quote: Quote) -> RuleOutcome:
    reason = None
    if rule.models and quote.model not in rule.models:
        reason = f"model_not_allowed: {quote.model}"
    elif rule.tiers and quote.tier not in rule.tiers:
        reason = f"tier_not_allowed: {quote.tier}"
    outcome = _outcome(rule, "deny" if reason else "allow", reason=reason)
    outcome.tier = quote.tier
    if reason:
        _note_denial(work, index, rule, reason)
    return outcome


def _anomaly(work: _Work, rule: CostAnomaly, quote: Quote) -> RuleOutcome:
    feature = work.request.labels.feature_id
    if feature is None or rule.feature_id not in (None, feature):
        return _outcome(rule, "not_applicable")
    samples, total = work.ledger.baseline(rule, feature, quote.tier)
    outcome = _outcome(rule, "allow")
    outcome.samples = samples
    if quote.expected_nano is None or samples < rule.min_samples:
        outcome.outcome = "not_applicable"
        outcome.reason = "no price" if quote.expected_nano is None else "too few samples"
        return outcome
    baseline = total / samples
    outcome.baseline_usd = from_nano(round(baseline))
    outcome.estimated_cost_usd = from_nano(quote.expected_nano)
    outcome.threshold_usd = from_nano(round(baseline * rule.threshold_multiplier))
    if quote.expected_nano > baseline * rule.threshold_multiplier:
        outcome.outcome, outcome.reason = "alert", "cost_anomaly"
        if rule.enforced and work.alert is None:
            work.alert = (rule, "cost_anomaly")
    return outcome


def _outcome(rule: Rule, outcome: str, *, reason: str | None = None) -> RuleOutcome:
    return RuleOutcome(
        policy_id=rule.id, primitive=rule.primitive, mode=rule.mode, outcome=outcome, reason=reason
    )


def _note_denial(work: _Work, index: int, rule: Rule, reason: str, retry: float | None = None) -> None:
    if rule.enforced:
        work.denials.append((index, rule, reason, retry))


def _note_error(work: _Work, index: int, rule: Rule) -> None:
    if rule.on_error == "deny":
        _note_denial(work, index, rule, "rule_error")


def _is_cheaper(candidate: Quote, than: Quote) -> bool:
    if candidate.expected_nano is None or than.expected_nano is None:
        return False
    return (candidate.expected_nano, candidate.reserved_nano) < (than.expected_nano, than.reserved_nano)


def _downgrade_reason(rule: Rule) -> str:
    if isinstance(rule, RoutePreference):
        return f"route_prefers_{rule.prefer_tier}"
    return "budget_exceeded"
