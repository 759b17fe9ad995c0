"""A ledger as plain data, and back: the same readings from then on, whatever is folded next.

Windows are stored as what they hold, reservations with where they count, ids as digests. This module
and `ledger` know a ledger's insides, no other. What does not belong here: files (`checkpoint`).
"""

from __future__ import annotations

import heapq

import msgspec

from policy_runtime.breaks import Breaks
from policy_runtime.ledger import Admitted, Held, Ledger
from policy_runtime.meters import MeanKey, Means, Meter, Meters, Scope, apart, side_by_side
from policy_runtime.policy import Policy


class MeterState(msgspec.Struct, array_like=True, gc=False):
    """One scope's meter; `spent` and `lapsed` are (instant, amount) pairs."""

    scope: Scope
    spent: list[tuple[int, int]]
    reserved: int
    lapsed: list[tuple[int, int]]


class MeanState(msgspec.Struct, array_like=True, gc=False):
    """One key's mean; `parts` are [instant, count, sum, …]."""

    key: MeanKey
    parts: list[list[int]]


class HeldState(msgspec.Struct, array_like=True, gc=False):
    """One reservation; `postings` are (number of the limit, number of the meter there, amount)."""

    admitted: Admitted
    expires_us: int
    postings: list[tuple[int, int, int]]


class LedgerState(msgspec.Struct):
    """What `ledger_of` makes a ledger of. Microseconds since 1970, nano-USD."""

    now_us: int
    last_decision_us: int
    policy_hash_in_log: str | None
    meters: list[list[MeterState]]
    open: list[HeldState]
    lapsed: list[HeldState]
    settled: list[bytes]
    alerts: list[tuple[str, Scope, float, int, int]]
    means: list[list[MeanState]]


class LedgerCopy:
    """A ledger as it is now, whatever is folded next: the quick half of making data of it."""

    def __init__(self, ledger: Ledger) -> None:
        self._now_us = ledger.now_us
        self._last_decision_us = ledger.last_decision_us
        self._policy_hash_in_log = ledger.policy_hash_in_log
        self._limits = [
            [(scope, meter.copy(), id(meter)) for scope, meter in meters.by_scope.items()]
            for meters in _limits_of(ledger)
        ]
        self._open, self._lapsed = (
            [(held.admitted, held.expires_us, held.postings) for held in reservations.values()]
            for reservations in (ledger._open, ledger._lapsed)
        )
        self._settled = ledger._settled.copy()
        self._alerts = [(*key, *told) for key, told in ledger._last_alerts.items()]
        self._means = [means.copy() for means in _means_of(ledger)]

    def state(self) -> LedgerState:
        """It as data, which takes a while: it makes breaks, in which other threads go on."""
        breaks, now_us = Breaks(), self._now_us
        limits: list[list[MeterState]] = []
        places: dict[int, tuple[int, int]] = {}
        for number, meters in enumerate(self._limits):
            stored: list[MeterState] = []
            for scope, meter, identity in meters:
                if not meter.is_idle(now_us):
                    places[identity] = number, len(stored)
                    parts = meter.window.parts(), meter.lapsed.parts()
                    stored.append(MeterState(scope, parts[0], meter.reserved, parts[1]))
                breaks.take()
            limits.append(stored)
        return LedgerState(
            now_us=now_us,
            last_decision_us=self._last_decision_us,
            policy_hash_in_log=self._policy_hash_in_log,
            meters=limits,
            open=[_held_state(*held, places) for held in self._open],
            lapsed=[_held_state(*held, places) for held in self._lapsed],
            settled=self._settled.digests(),
            alerts=self._alerts,
            means=[[_mean_state(means, key, breaks) for key in means.keys(now_us)] for means in self._means],
        )


def ledger_of(state: LedgerState, policy: Policy) -> Ledger:
    """The ledger that `state` was made of.

    Raises:
        ValueError: the state is not one of a ledger of this policy.
    """
    ledger = Ledger(policy)
    ledger.now_us = state.now_us
    ledger.last_decision_us = state.last_decision_us
    ledger.policy_hash_in_log = state.policy_hash_in_log
    places: list[list[Meter]] = []
    for meters, stored in zip(_limits_of(ledger), state.meters, strict=True):
        restored = []
        for meter_state in stored:
            meter = meters.meter(meter_state.scope, state.now_us)
            for at_us, amount in meter_state.spent:
                meter.window.add(at_us, amount)
            for at_us, amount in meter_state.lapsed:
                meter.lapsed.add(at_us, amount)
            meter.reserved = meter_state.reserved
            restored.append(meter)
        places.append(restored)
    for into, held_states in ((ledger._open, state.open), (ledger._lapsed, state.lapsed)):
        for held_state in held_states:
            postings = [(places[limit][number], amount) for limit, number, amount in held_state.postings]
            held = Held(held_state.admitted, held_state.expires_us, postings)
            into[held.admitted.request_id] = held
            due_us = held.expires_us if into is ledger._open else ledger._forgotten_at(held)
            ledger._expiries.append((due_us, held.admitted.request_id))
    heapq.heapify(ledger._expiries)
    ledger._settled.restore(state.settled)
    ledger._last_alerts = {(rule, scope, part): (at, start) for rule, scope, part, at, start in state.alerts}
    for means, mean_states in zip(_means_of(ledger), state.means, strict=True):
        for mean_state in mean_states:
            for at_us, count, *totals in mean_state.parts:
                means.add(mean_state.key, at_us, side_by_side(*totals), state.now_us, count)
    return ledger


def _limits_of(ledger: Ledger) -> list[Meters]:
    return [meters for books in ledger._books.values() for book in books for meters in book.meters]


def _means_of(ledger: Ledger) -> list[Means]:
    return [*ledger._baselines.values(), ledger._output_tokens, ledger._route_costs, ledger._estimates]


def _mean_state(means: Means, key: MeanKey, breaks: Breaks) -> MeanState:
    breaks.take()
    parts = [[at_us, count, *apart(total, means.sums)] for at_us, count, total in means.parts(key)]
    return MeanState(key, parts)


def _held_state(
    admitted: Admitted, expires_us: int, postings: list[tuple[Meter, int]], places: dict[int, tuple[int, int]]
) -> HeldState:
    # A meter that is stored no more holds nothing of it.
    stored = [(*places[id(meter)], amount) for meter, amount in postings if id(meter) in places]
    return HeldState(admitted, expires_us, stored)
