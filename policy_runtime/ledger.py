"""The gate's state: a fold over both logs. Same events in, same state out, whatever the chunking.

Per rule and scope it keeps what was spent inside the window, what is reserved and what lapsed, always
apart; beside them the recent means that estimates and anomaly rules compare with. Money is integer
nano-USD. The rules of settlement are those of `policy_runtime.settlement`.

What does not belong here: reading files (`gate`, `history`) and judging (`judgement`).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from policy_runtime.books import AnomalyBook, Book, books_of
from policy_runtime.labels import Labels
from policy_runtime.meters import (
    MeanKey,
    Means,
    Meter,
    Scope,
    apart,
    side_by_side,
)
from policy_runtime.recent_ids import DUPLICATE_HORIZON, RecentIds
from policy_runtime.windows import Parts, Window, in_buckets, longest_bucket_us

if TYPE_CHECKING:
    from llmscope.telemetry_batch import Bills
    from llmscope.telemetry_line import Usage
    from policy_runtime.policy import BudgetThreshold, Policy

_FIRST_ALERT_SWEEP = 1024
# Past so many kinds of bills their accounts are looked up anew.
_MOST_ACCOUNTS = 4096


class _Sums(Protocol):
    """What counts amounts, each with `each` beside it, under keys: the meters of a limit, or means."""

    each: int

    def window_of(self, key: Any, now_us: int) -> Window | None: ...


Account = tuple[str, _Sums, Scope | MeanKey]
"""Where amounts of a unit are counted: `nano_usd`, `tokens`, `requests` or `tokens_out`."""


class Admitted(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A decision that let a request through, as far as the ledger cares."""

    request_id: str
    timestamp_us: int
    reserved_nano: int
    reserved_tokens: int
    expires_us: int
    labels: Labels
    model: str | None = None
    model_tier: str | None = None
    expected_nano: int | None = None


class Held(msgspec.Struct, gc=False):
    """An open or lapsed reservation: when it lapses, and where it counts."""

    admitted: Admitted
    expires_us: int
    postings: list[tuple[Meter, int]]


class Ledger:
    """The fold. Feed it events with `admit`, `bill`, `extend`, `alerted`; move time with `advance`."""

    def __init__(self, policy: Policy, *, duplicate_horizon: int = DUPLICATE_HORIZON) -> None:
        self.policy = policy
        self.longest_us = policy.longest_window_us
        self._leaves_us = self.longest_us + longest_bucket_us(self.longest_us)
        self.now_us = 0
        self.last_decision_us = 0
        self.folded_bytes = 0  # of log lines, since the start
        self.policy_hash_in_log: str | None = None
        self._books = {
            name: books_of(namespace.rules, policy) for name, namespace in policy.namespaces.items()
        }
        self._charged: dict[str | None, str | None] = {name: name for name in policy.namespaces}
        self._charged[None] = policy.charged_namespace(None)
        self._known_accounts: dict[Usage | None, list[Account]] = {}
        self._open: dict[str, Held] = {}
        self._lapsed: dict[str, Held] = {}
        self._expiries: list[tuple[int, str]] = []
        self._settled = RecentIds(duplicate_horizon)
        self._last_alerts: dict[tuple[str, Scope, float], tuple[int, int]] = {}
        self._sweep_alerts_at = _FIRST_ALERT_SWEEP
        self._baselines = {
            book.baseline_us: Means(book.baseline_us, policy.max_scopes)
            for books in self._books.values()
            for book in books
            if isinstance(book, AnomalyBook)
        }
        self._output_tokens = Means(self.longest_us, policy.max_scopes)
        self._route_costs = Means(self.longest_us, policy.max_scopes)
        self._estimates = Means(self.longest_us, policy.max_scopes, sums=3)

    # -- what judgement reads ------------------------------------------------------------------------

    def charged(self, namespace: str | None) -> str | None:
        """`Policy.charged_namespace`, known beforehand for the namespaces of the file."""
        if namespace in self._charged:
            return self._charged[namespace]
        return self.policy.charged_namespace(namespace)

    def books(self, charged: str | None) -> tuple[Book, ...]:
        """The books of the rules that judge requests charged to `charged`, in the file's order."""
        if charged is None:
            return ()
        books = self._books.get(charged)
        return books if books is not None else self._books.get("default", ())

    def baseline(self, baseline_us: int, feature_id: str | None, tier: str | None) -> tuple[int, int]:
        """(samples, sum in nano-USD) of known costs of successful requests of a feature and tier within
        `baseline_us`, which some anomaly rule compares with."""
        return self._baselines[baseline_us].at((feature_id, tier), self.now_us)

    def mean_output_tokens(self, route_name: str | None, model: str | None) -> float | None:
        """Observed mean output tokens of a route and model within the longest window, or None."""
        count, total = self._output_tokens.at((route_name, model), self.now_us)
        return total / count if count else None

    def mean_cost_nano(self, route_name: str | None, namespace: str | None) -> int:
        """Recent mean known cost of a route and namespace in nano-USD, 0 when there is none."""
        count, total = self._route_costs.at((route_name, namespace), self.now_us)
        return total // count if count else 0

    def estimates(self) -> Iterator[tuple[MeanKey, int, list[int]]]:
        """Of each route, model and tier: how many requests were billed within one reservation time, and
        what they were expected to cost, reserved and did cost, in nano-USD, within the longest window."""
        for key in self._estimates.keys(self.now_us):
            count, sums = self._estimates.at(key, self.now_us)
            yield key, count, apart(sums, 3)

    def knows(self, request_id: str) -> bool:
        """Whether the id was admitted or billed within the horizon."""
        return request_id in self._open or request_id in self._lapsed or request_id in self._settled

    def is_settled(self, request_id: str) -> bool:
        """Whether a known bill for the id has been folded."""
        return request_id in self._settled

    def held(self, request_id: str) -> Held | None:
        """The id's reservation, open or lapsed."""
        return self._open.get(request_id) or self._lapsed.get(request_id)

    def open_reservations(self) -> Iterator[Held]:
        """Every open reservation."""
        return iter(self._open.values())

    # -- the fold --------------------------------------------------------------------------------------

    def advance(self, now_us: int) -> None:
        """Let time pass: reservations whose expiry has come lapse."""
        if now_us > self.now_us:  # noqa: PLR1730  three times as fast, once in a decision
            self.now_us = now_us
        expiries = self._expiries
        while expiries and expiries[0][0] <= self.now_us:
            _, request_id = heapq.heappop(expiries)
            held = self._open.get(request_id)
            if held is not None:
                if held.expires_us <= self.now_us:
                    self._lapse(request_id, held)
                continue
            held = self._lapsed.get(request_id)
            if held is not None and self._forgotten_at(held) <= self.now_us:
                del self._lapsed[request_id]

    def admit(self, admitted: Admitted) -> None:
        """Fold a decision that allowed or downgraded: its reservation opens."""
        if not self.knows(admitted.request_id):
            self.admit_new(admitted)

    def admit_new(self, admitted: Admitted) -> None:
        """`admit` of a request that the ledger does not know."""
        request_id, expires_us = admitted.request_id, admitted.expires_us
        postings = self._post_admission(admitted, counts_request=True)
        self._open[request_id] = Held(admitted, expires_us, postings)
        heapq.heappush(self._expiries, (expires_us, request_id))

    def extend(self, request_id: str, expires_us: int, at_us: int) -> None:
        """Fold an extension written at `at_us`: a reservation, lapsed or not, lapses at `expires_us` instead.

        At the latest one longest window after its admission, and not once that is over: a gate that
        starts reads no further back.
        """
        held = self.held(request_id)
        if held is None or at_us >= held.admitted.timestamp_us + self.longest_us:
            return
        if request_id in self._lapsed:
            del self._lapsed[request_id]
            for meter, amount in held.postings:
                meter.lapsed.add(self._lapsed_at(held), -amount)
            held.postings = self._post_admission(held.admitted, counts_request=False)
            self._open[request_id] = held
        latest_us = max(held.admitted.expires_us, held.admitted.timestamp_us + self.longest_us)
        held.expires_us = min(expires_us, latest_us)
        heapq.heappush(self._expiries, (held.expires_us, request_id))

    def bill(self, usage: Usage) -> None:
        """Fold a telemetry line: a known cost is spent and settles its reservation."""
        cost_nano = usage.cost_nano
        request_id, at_us = usage.request_id, usage.timestamp_us
        if cost_nano is None or request_id in self._settled:
            return
        self._settled.add(request_id)
        governed = self._settle(request_id, at_us, cost_nano)
        tokens = (usage.tokens_in or 0) + (usage.tokens_out or 0)
        now_us = max(self.now_us, at_us)
        for unit, sums, key in self._accounts_of(usage):
            if unit == "nano_usd":
                amount = cost_nano
            elif unit == "tokens":
                amount = tokens
            elif unit == "requests":
                if governed:
                    continue  # counted at its decision
                amount = 1
            elif usage.tokens_out is None:
                continue
            else:
                amount = usage.tokens_out
            window = sums.window_of(key, now_us)
            if window is not None and window.add(at_us, amount + sums.each):
                # A scope that no decision ever reads lets go of what has left too.
                window.total_at(self.now_us)

    def bill_all(self, bills: Bills, likes: Sequence[Usage | None]) -> bool:
        """`bill` for each of many, at a fraction of the price; False, and nothing done, when an id among
        them is not new.

        Args:
            likes: of each kind in `bills` one bill.
        """
        if not bills.request_ids:
            return True
        request_ids = set(bills.request_ids)
        if len(request_ids) < len(bills.request_ids) or self._settled.knows_any(request_ids):
            return False
        self._settled.add_all(request_ids)
        at_us = bills.at_us
        new_requests: list[int | None] = [1] * len(at_us)
        if self._open or self._lapsed:
            requests = zip(bills.request_ids, at_us, bills.cost_nano, strict=True)
            new_requests = [None if self._settle(*request) else 1 for request in requests]
        parts_of_all: dict[tuple[str, int, int], Parts] = {}
        for (unit, sums, key), places in self._places_of(bills, likes):
            window = sums.window_of(key, max(self.now_us, at_us[-1]))
            if window is None:
                continue
            window.total_at(self.now_us)
            bounds = window.bucket_us, window.since_us
            parts = None if places is not None else parts_of_all.get((unit, *bounds))
            if parts is None:
                parts = in_buckets(*_amounts_of(bills, unit, new_requests, places), *bounds)
                if places is None:
                    parts_of_all[unit, *bounds] = parts
            window.add_all(parts, sums.each)
        return True

    def alerted(
        self, policy_id: str, scope: Scope, fraction: float, at_us: int, window_start_us: int
    ) -> None:
        """Fold a `budget_alert`: this crossing has been told."""
        key = (policy_id, scope, fraction)
        alerts = self._last_alerts
        alerts[key] = max(alerts.get(key, (0, 0)), (at_us, window_start_us))
        if len(alerts) >= self._sweep_alerts_at:
            # Told longer ago than any window is long: it would be told again anyway.
            for old in [old for old, (told_us, _) in alerts.items() if at_us - told_us >= self.longest_us]:
                del alerts[old]
            self._sweep_alerts_at = max(_FIRST_ALERT_SWEEP, 2 * len(alerts))

    def alert_is_due(
        self, rule: BudgetThreshold, scope: Scope, fraction: float, window_start_us: int
    ) -> bool:
        """Whether a crossing has not been told in this window (rolling: within one period length)."""
        last = self._last_alerts.get((rule.id, scope, fraction))
        if last is None:
            return True
        told_at_us, told_start_us = last
        if rule.window_kind == "calendar":
            return told_start_us != window_start_us
        return self.now_us - told_at_us >= rule.longest_us

    # -- inside ----------------------------------------------------------------------------------------

    def _post_admission(self, admitted: Admitted, *, counts_request: bool) -> list[tuple[Meter, int]]:
        postings: list[tuple[Meter, int]] = []
        labels, reserved_nano = admitted.labels, admitted.reserved_nano
        charged = self.charged(labels.budget_namespace)
        if charged is None:
            return postings
        for book in self.books(charged):
            if not book.meters:
                continue
            scope = book.scope(charged, labels)
            for meters in book.meters:
                meter = meters.by_scope.get(scope) or meters.meter_or_none(scope, self.now_us)
                if meter is None:
                    continue
                unit, amount = meters.unit, reserved_nano
                if unit == "requests":
                    if counts_request:
                        meter.window.add(admitted.timestamp_us, 1)
                    continue
                if unit == "tokens":
                    amount = admitted.reserved_tokens
                meter.reserved += amount
                postings.append((meter, amount))
        return postings

    def _settle(self, request_id: str, at_us: int, cost_nano: int) -> bool:
        """Give up a bill's reservation; whether a decision governs it, which has counted the request."""
        admitted = self._release(request_id)
        if admitted is None:
            return False
        if admitted.expected_nano is not None and at_us < admitted.timestamp_us + self.policy.ttl_us:
            key = (admitted.labels.route_name, admitted.model, admitted.model_tier)
            sums = side_by_side(admitted.expected_nano, admitted.reserved_nano, cost_nano)
            self._estimates.add(key, at_us, sums, max(self.now_us, at_us))
        # By the dates alone, so that it does not matter how long this gate has been remembering.
        return at_us < admitted.timestamp_us + self.longest_us

    def _accounts_of(self, usage: Usage) -> Iterator[Account]:
        """Where a bill counts: under every limit that it falls under, and in the means."""
        charged = self.charged(usage.budget_namespace)
        for book in self.books(charged):
            if book.meters:
                scope = book.scope(charged, usage)  # type: ignore[arg-type]  # None has no books
                for meters in book.meters:
                    yield meters.unit, meters, scope
        yield "nano_usd", self._route_costs, (usage.route_name, usage.budget_namespace)
        if usage.success:
            for means in self._baselines.values():
                yield "nano_usd", means, (usage.feature_id, usage.model_tier)
            yield "tokens_out", self._output_tokens, (usage.route_name, usage.model)

    def _places_of(
        self, bills: Bills, likes: Sequence[Usage | None]
    ) -> Iterator[tuple[Account, list[int] | None]]:
        """Every account of many bills with the places, in order, of those that count there, None for all."""
        if bills.kinds.count(bills.kinds[0]) == len(bills.kinds):
            for account in self._accounts_of_kind(likes[bills.kinds[0]]):
                yield account, None
            return
        of_kind: defaultdict[int, list[int]] = defaultdict(list)
        for place, kind in enumerate(bills.kinds):
            of_kind[kind].append(place)
        of_account: defaultdict[Account, list[int]] = defaultdict(list)
        for kind, places in of_kind.items():
            for account in self._accounts_of_kind(likes[kind]):
                of_account[account] += places
        for account, places in of_account.items():
            places.sort()
            yield account, places if len(places) < len(bills.at_us) else None

    def _accounts_of_kind(self, like: Usage | None) -> list[Account]:
        accounts = self._known_accounts.get(like)
        if accounts is None:
            if len(self._known_accounts) >= _MOST_ACCOUNTS:
                self._known_accounts.clear()
            accounts = [] if like is None else list(self._accounts_of(like))
            self._known_accounts[like] = accounts
        return accounts

    def _release(self, request_id: str) -> Admitted | None:
        """Take the id's reservation back from wherever it counts; its admission, None if there was none."""
        held = self._open.pop(request_id, None)
        if held is not None:
            for meter, amount in held.postings:
                meter.reserved -= amount
            return held.admitted
        held = self._lapsed.pop(request_id, None)
        if held is not None:
            for meter, amount in held.postings:
                meter.lapsed.add(self._lapsed_at(held), -amount)
            return held.admitted
        return None

    def _lapse(self, request_id: str, held: Held) -> None:
        del self._open[request_id]
        for meter, amount in held.postings:
            meter.reserved -= amount
            meter.lapsed.add(self._lapsed_at(held), amount)
        self._lapsed[request_id] = held
        heapq.heappush(self._expiries, (self._forgotten_at(held), request_id))

    def _lapsed_at(self, held: Held) -> int:
        """When a reservation's money counts as lapsed: at its expiry, but one reservation time after its
        admission at the latest, so that a starting gate knows how far back to look for it."""
        return min(held.expires_us, held.admitted.timestamp_us + self.policy.ttl_us)

    def _forgotten_at(self, held: Held) -> int:
        """From when on a late bill cannot tell a lapsed reservation from none."""
        counted_us = held.admitted.timestamp_us + self.policy.longest_request_window_us
        return max(held.expires_us, counted_us) + self._leaves_us


def _amounts_of(
    bills: Bills, unit: str, new_requests: list[int | None], places: list[int] | None
) -> tuple[list[int], list[int]]:
    """The instants and amounts of a unit that bills add, those at `places`, or all."""
    amounts: list[Any] = new_requests
    if unit == "nano_usd":
        amounts = bills.cost_nano
    elif unit == "tokens":
        amounts = [(in_ or 0) + (out or 0) for in_, out in zip(*bills.tokens, strict=True)]
    elif unit == "tokens_out":
        amounts = bills.tokens[1]
    at_us = bills.at_us
    if places is not None:
        at_us, amounts = [at_us[place] for place in places], [amounts[place] for place in places]
    if None in amounts:
        at_us = [at for at, amount in zip(at_us, amounts, strict=True) if amount is not None]
        amounts = [amount for amount in amounts if amount is not None]
    return at_us, amounts
