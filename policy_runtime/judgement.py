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
from policy_runtime.books import BudgetBook, PreferenceBook
from policy_runtime.decision_record import RuleOutcome
from policy_runtime.meters import Meter, Scope, TooManyScopes
from policy_runtime.quotes import Quote, quote
from policy_runtime.windows import RollingWindow

if TYPE_CHECKING:
    from policy_runtime.asking import Ask
    from policy_runtime.books import AnomalyBook, Book, RateBook
    from policy_runtime.ledger import Ledger
    from policy_runtime.policy import (
        BudgetThreshold,
        ModelAllowlist,
        Policy,
        Rule,
        TokenLimit,
    )

    _Reading = tuple[BudgetBook, Meter, int]

# A budget of nothing is as full as can be.
_FULL = float("inf")


class Watermark(msgspec.Struct, frozen=True, gc=False):
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
        fullest: of the budgets that could be read, the one nearest its limit, with its meter and what was
            spent; `fullness` of it is in use.
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
    crossings: tuple[Crossing, ...] = ()
    fullest: _Reading | None = None
    fullness: float = -1.0
    unreadable: str | None = None


def judge(policy: Policy, ledger: Ledger, ask: Ask, now_us: int, unreadable: str | None = None) -> Judgement:
    """Judge one request at `now_us`, to which the ledger must have been advanced.

    Args:
        unreadable: why the ledger may lack spending that is in the logs. What it does hold still denies;
            else the rules that depend on it are errors, for their `on_error` to decide.
    """
    namespace = ask.labels.budget_namespace
    charged = ledger.charged(namespace)
    requested = quote(policy, ledger, ask, ask.model_tier)
    books = ledger.books(charged)
    outcomes = [_UNJUDGED] * len(books)
    judgement = Judgement(ask, now_us, charged, requested, requested, outcomes, unreadable=unreadable)
    for book in books:
        if book.downgrades:
            outcomes[book.index] = _downgrade(judgement, book, policy, ledger)
    effective, everything_is_well = judgement.effective, True
    for book in books:
        if book.downgrades:
            kind = outcomes[book.index].outcome
        else:
            outcome = outcomes[book.index] = _JUDGES[book.primitive](judgement, book, effective, ledger)
            kind = outcome.outcome
        if kind != "allow" and kind != "not_applicable":  # noqa: PLR1714  a set takes thrice as long
            everything_is_well = False
    named = None if everything_is_well else _conclude(judgement, books)
    if namespace is not None and charged != namespace and policy.refuses(namespace):
        judgement.decision, judgement.reason, judgement.rule = "deny", "unknown_namespace", None
        judgement.retry_after_seconds, named = None, None
    reading = judgement.fullest if named is None else _reading(judgement, named) or judgement.fullest
    if reading is not None:
        judgement.watermark = _watermark(reading, now_us)
    return judgement


def _conclude(judgement: Judgement, books: tuple[Book, ...]) -> Book | None:
    """What follows from the outcomes of the enforced rules; the rule that is named for it."""
    denials: list[Book] = []
    downgrades: list[Book] = []
    alerts: list[Book] = []
    kinds = {"deny": denials, "downgrade": downgrades, "alert": alerts}
    for book, outcome in zip(books, judgement.outcomes, strict=True):
        if book.enforced:
            kind = outcome.outcome
            if kind == "error" and book.rule.on_error == "deny" and book.primitive != "cost_anomaly":
                kind = "deny"
            if kind in kinds:
                kinds[kind].append(book)
    if denials:
        waits = [judgement.outcomes[book.index].retry_after_seconds for book in denials]
        judgement.decision = "deny"
        judgement.retry_after_seconds = max((wait for wait in waits if wait is not None), default=None)
    elif downgrades:
        judgement.decision = "downgrade"
    named = next(iter((*denials, *downgrades, *alerts)), None)
    if named is not None:
        outcome = judgement.outcomes[named.index]
        judgement.rule = named.rule
        judgement.reason = "rule_error" if outcome.outcome == "error" else str(outcome.reason)
    return named


def _downgrade(judgement: Judgement, book: Book, policy: Policy, ledger: Ledger) -> RuleOutcome:
    """Evaluate a downgrade rule at the requested tier."""
    requested = judgement.requested
    if isinstance(book, BudgetBook):
        outcome = _budget(judgement, book, requested, ledger)
        if outcome.outcome != "deny":
            return outcome
        target, reason = book.downgrade_to_tier, "budget_exceeded"
    else:
        assert isinstance(book, PreferenceBook)
        if book.route_name is not None and book.route_name != judgement.ask.labels.route_name:
            return book.not_applicable
        target, reason = book.prefer_tier, book.reason
        outcome = _outcome(book, "not_applicable")
    candidate = quote(policy, ledger, judgement.ask, target)
    outcome.tier = target
    if not _is_cheaper(candidate, requested):
        outcome.outcome = "not_applicable"
        outcome.reason = f"{target} is not cheaper than {requested.tier} for this request"
        return outcome
    outcome.outcome, outcome.reason = "downgrade", reason
    if book.enforced and _is_cheaper(candidate, judgement.effective):
        judgement.effective = candidate
    return outcome


def _budget(judgement: Judgement, book: BudgetBook, quoted: Quote, ledger: Ledger) -> RuleOutcome:
    """Read a budget; it acts when spent ≥ limit, or spent + reserved + this reservation > limit."""
    now_us, limit = judgement.now_us, book.limit_nano
    scope: Scope = (judgement.charged,)  # type: ignore[assignment]  # None has no books
    if book.per:
        scope = book.scope(scope[0], judgement.ask.labels)
    meter = book.spending.by_scope.get(scope)
    if meter is None:
        try:
            meter = book.spending.meter(scope, now_us)
        except TooManyScopes as exc:
            return _error(book, exc)
    spent, reserved, this = meter.window.total_at(now_us), meter.reserved, quoted.reserved_nano
    counted = spent + reserved
    fullness = counted / limit if limit else _FULL
    if fullness > judgement.fullness:
        judgement.fullness, judgement.fullest = fullness, (book, meter, spent)
    if book.alert_at:
        _note_crossings(judgement, scope, (book, meter, spent), ledger)
    kind, reason = "allow", None
    if spent >= limit or counted + this > limit:
        kind, reason = "deny", book.deny_reason
    elif judgement.unreadable is not None:
        kind, reason = "error", judgement.unreadable
    return RuleOutcome(
        book.id,
        "budget_threshold",
        book.mode,
        kind,
        reason,
        book.named(scope) if book.per else None,
        None,
        spent / NANO_PER_USD,
        reserved / NANO_PER_USD,
        quoted.reserved_usd,
        book.limit_usd,
    )


def _note_crossings(judgement: Judgement, scope: Scope, reading: _Reading, ledger: Ledger) -> None:
    mark = _watermark(reading, judgement.now_us)
    book, _, spent = reading
    rule: BudgetThreshold = book.rule  # type: ignore[assignment]
    for fraction in book.alert_at:
        if spent >= fraction * book.limit_nano and ledger.alert_is_due(
            rule, scope, fraction, mark.window_start_us
        ):
            judgement.crossings += (Crossing(rule, scope, fraction, mark),)


def _reading(judgement: Judgement, book: Book) -> _Reading | None:
    """What was read of a budget, None of a rule that is none or whose scope has no meter."""
    if not isinstance(book, BudgetBook):
        return None
    scope = book.scope(judgement.charged, judgement.ask.labels)  # type: ignore[arg-type]  # None has no books
    meter = book.spending.by_scope.get(scope)
    return None if meter is None else (book, meter, meter.window.total_at(judgement.now_us))


def _watermark(reading: _Reading, now_us: int) -> Watermark:
    book, meter, spent = reading
    return Watermark(spent, meter.reserved, book.limit_nano, meter.window.start_at(now_us))


def _rate(judgement: Judgement, book: RateBook, quoted: Quote, ledger: Ledger) -> RuleOutcome:  # noqa: ARG001
    now_us = judgement.now_us
    scope = book.scope(judgement.charged, judgement.ask.labels)  # type: ignore[arg-type]  # None has no books
    this_tokens = judgement.ask.tokens_in + quoted.max_output_tokens
    outcome = _outcome(book, "allow")
    outcome.scope = book.named(scope)
    for meters, (what, window_us, limit) in zip(book.meters, book.limits, strict=True):
        try:
            meter = meters.meter(scope, now_us)
        except TooManyScopes as exc:
            return _error(book, exc)
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
        outcome.outcome, outcome.reason = "error", judgement.unreadable
    return outcome


def _retry_after(meter: Meter, now_us: int, at_most: int, window_us: int) -> float | None:
    """Seconds until enough has left the window; the whole window when open reservations stand in the way.
    None for a request that is larger than the limit: no waiting lets it through."""
    assert isinstance(meter.window, RollingWindow)
    if at_most < 0:
        return None
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
            break
    return outcome


def _allowlist(
    judgement: Judgement,  # noqa: ARG001
    book: Book,
    quoted: Quote,
    ledger: Ledger,  # noqa: ARG001
) -> RuleOutcome:
    rule: ModelAllowlist = book.rule  # type: ignore[assignment]
    outcome = _outcome(book, "allow")
    outcome.tier = quoted.tier
    if rule.models and quoted.model not in rule.models:
        outcome.outcome, outcome.reason = "deny", f"model_not_allowed: {quoted.model}"
    elif rule.tiers and quoted.tier not in rule.tiers:
        outcome.outcome, outcome.reason = "deny", f"tier_not_allowed: {quoted.tier}"
    return outcome


def _anomaly(judgement: Judgement, book: AnomalyBook, quoted: Quote, ledger: Ledger) -> RuleOutcome:
    feature = judgement.ask.labels.feature_id
    if feature is None or (book.feature_id is not None and book.feature_id != feature):
        return book.not_applicable
    samples, total = ledger.baseline(book.baseline_us, feature, quoted.tier)
    expected = quoted.expected_nano
    if expected is None or samples < book.min_samples:
        outcome = _outcome(book, "not_applicable")
        outcome.samples = samples
        outcome.reason = "no price" if expected is None else "too few samples"
        return outcome
    baseline = total / samples
    threshold = baseline * book.threshold_multiplier
    outcome = RuleOutcome(
        policy_id=book.id,
        primitive="cost_anomaly",
        mode=book.mode,
        outcome="allow",
        baseline_usd=round(baseline) / NANO_PER_USD,
        estimated_cost_usd=quoted.expected_usd,
        threshold_usd=round(threshold) / NANO_PER_USD,
        samples=samples,
    )
    if expected > threshold:
        outcome.outcome, outcome.reason = "alert", "cost_anomaly"
    elif judgement.unreadable is not None:
        outcome.outcome, outcome.reason = "error", judgement.unreadable
    return outcome


_JUDGES: dict[str, Callable[[Judgement, Any, Quote, Ledger], RuleOutcome]] = {
    "budget_threshold": _budget,
    "cost_anomaly": _anomaly,
    "rate_limit": _rate,
    "token_limit": _tokens,
    "model_allowlist": _allowlist,
}
_UNJUDGED = RuleOutcome()


def _outcome(book: Book, outcome: str) -> RuleOutcome:
    return RuleOutcome(policy_id=book.id, primitive=book.primitive, mode=book.mode, outcome=outcome)


def _error(book: Book, error: TooManyScopes) -> RuleOutcome:
    outcome = _outcome(book, "error")
    outcome.reason = str(error)
    return outcome


def _is_cheaper(candidate: Quote, than: Quote) -> bool:
    if candidate.expected_nano is None or than.expected_nano is None:
        return False
    return (candidate.expected_nano, candidate.reserved_nano) < (than.expected_nano, than.reserved_nano)
