"""Meters: what was spent, reserved and lapsed under one limit, by scope; and recent means by key.

What does not belong here: which event moves which meter (`ledger`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llmscope.timestamps import MICROS
from policy_runtime.errors import PolicyRuntimeError
from policy_runtime.windows import RollingWindow, Window, budget_window

if TYPE_CHECKING:
    from policy_runtime.policy import BudgetThreshold, Policy

_FIRST_SWEEP = 1024
# Time alone makes nothing idle faster than this: with all scopes in use, sweeping more often finds nothing.
_SWEEP_PAUSE_US = MICROS
# A mean is kept as one integer per bucket: a field of this many bits for each sum, the count above.
_SUM_BITS = 80
_SUM_MASK = (1 << _SUM_BITS) - 1

Scope = tuple[str, ...]
MeanKey = tuple[str | None, ...]


class TooManyScopes(PolicyRuntimeError):
    """A rule has reached `max_scopes`; the new scope follows the rule's `on_error`."""


class Reading(NamedTuple):
    """One meter at one instant. Amounts in the meter's unit."""

    spent: int
    reserved: int
    lapsed: int


class Meter:
    """Spent, reserved and lapsed of one scope under one limit."""

    __slots__ = ("lapsed", "reserved", "window")

    def __init__(self, window: Window, lapsed: RollingWindow) -> None:
        self.window = window
        self.reserved = 0
        self.lapsed = lapsed

    def read(self, now_us: int) -> Reading:
        """What the meter shows at `now_us`."""
        return Reading(self.window.total_at(now_us), self.reserved, self.lapsed.total_at(now_us))

    def copy(self) -> Meter:
        """The meter as it is now, whatever is counted next."""
        copied = Meter(self.window.copy(), self.lapsed.copy())
        copied.reserved = self.reserved
        return copied

    def is_idle(self, now_us: int) -> bool:
        """Whether nothing in it can still matter."""
        return not (self.reserved or self.window.total_at(now_us) or self.lapsed.total_at(now_us))


class Meters:
    """One limit's meters, by scope.

    Attributes:
        unit: what the limit is on: `nano_usd`, `tokens` or `requests`.
        each: what is counted for every amount beside it: nothing.
    """

    each = 0

    __slots__ = (
        "_max_scopes", "_period_us", "_rule", "_sweep_at", "_swept_us", "_zone", "by_scope", "unit"
    )  # fmt: skip

    def __init__(self, unit: str, rule: BudgetThreshold | None, period_us: int, policy: Policy) -> None:
        self.unit = unit
        self._period_us = period_us
        self._rule = rule
        self._zone = policy.zone
        self._max_scopes = policy.max_scopes
        self._sweep_at = _FIRST_SWEEP
        self._swept_us = 0
        self.by_scope: dict[Scope, Meter] = {}

    def meter(self, scope: Scope, now_us: int) -> Meter:
        """The meter of `scope`, created if need be.

        Raises:
            TooManyScopes: the limit on scopes is reached and none is idle.
        """
        meter = self.by_scope.get(scope)
        if meter is None:
            if (
                len(self.by_scope) >= min(self._sweep_at, self._max_scopes)
                and now_us >= self._swept_us + _SWEEP_PAUSE_US
            ):
                self._sweep(now_us)
            if len(self.by_scope) >= self._max_scopes:
                raise TooManyScopes(
                    f"{len(self.by_scope)} scopes are in use, the most that max_scopes allows; "
                    f"{' / '.join(scope)} would be one more"
                )
            meter = self.by_scope[scope] = Meter(self._new_window(), RollingWindow(self._period_us))
        return meter

    def meter_or_none(self, scope: Scope, now_us: int) -> Meter | None:
        """`meter`, or None past `max_scopes`: judgement reports the overflow by `on_error`."""
        try:
            return self.meter(scope, now_us)
        except TooManyScopes:
            return None

    def window_of(self, scope: Scope, now_us: int) -> Window | None:
        """Where spending under `scope` is counted; None past `max_scopes`."""
        meter = self.by_scope.get(scope) or self.meter_or_none(scope, now_us)
        return None if meter is None else meter.window

    def _new_window(self) -> Window:
        rule = self._rule
        if rule is None:
            return RollingWindow(self._period_us)
        return budget_window(rule.period, rule.window_kind, self._zone)

    def _sweep(self, now_us: int) -> None:
        for scope in [scope for scope, meter in self.by_scope.items() if meter.is_idle(now_us)]:
            del self.by_scope[scope]
        self._swept_us = now_us
        self._sweep_at = max(_FIRST_SWEEP, 2 * len(self.by_scope))


def side_by_side(*amounts: int) -> int:
    """Amounts (0 or more, and their sums below 2^80) as one integer that can be summed."""
    packed = 0
    for amount in amounts:
        packed = packed << _SUM_BITS | amount
    return packed


def apart(packed: int, sums: int) -> list[int]:
    """What `side_by_side` was given, or the sums of it."""
    return [packed >> _SUM_BITS * number & _SUM_MASK for number in reversed(range(sums))]


class Means:
    """Recent means by key, bounded in number: idle keys go, and past the bound new keys are not kept.

    A key's count and sums are one integer per bucket of a rolling window, a bit field for each.
    """

    __slots__ = (
        "_by_key",
        "_count_shift",
        "_max_keys",
        "_period_us",
        "_sweep_at",
        "_swept_us",
        "each",
        "sums",
    )

    def __init__(self, period_us: int, max_keys: int, sums: int = 1) -> None:
        self.sums = sums
        self._count_shift = _SUM_BITS * sums
        self.each = 1 << self._count_shift
        self._period_us = period_us
        self._max_keys = max_keys
        self._sweep_at = _FIRST_SWEEP
        self._swept_us = 0
        self._by_key: dict[MeanKey, RollingWindow] = {}

    def add(self, key: MeanKey, at_us: int, value: int, now_us: int, count: int = 1) -> None:
        """Count one `value` ≥ 0 (of several sums: `side_by_side`) under `key`, or `count` that sum to it."""
        window = self.window_of(key, now_us)
        if window is not None:
            window.add(at_us, count * self.each + value)

    def window_of(self, key: MeanKey, now_us: int) -> RollingWindow | None:
        """Where values under `key` are counted, each plus `each`; None where no more keys are kept."""
        return self._by_key.get(key) or self._new_window(key, now_us)

    def _new_window(self, key: MeanKey, now_us: int) -> RollingWindow | None:
        if (
            len(self._by_key) >= min(self._sweep_at, self._max_keys)
            and now_us >= self._swept_us + _SWEEP_PAUSE_US
        ):
            for old in [old for old, kept in self._by_key.items() if not kept.total_at(now_us)]:
                del self._by_key[old]
            self._swept_us = now_us
            self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._by_key))
        if len(self._by_key) >= self._max_keys:
            return None
        window = self._by_key[key] = RollingWindow(self._period_us)
        return window

    def at(self, key: MeanKey, now_us: int) -> tuple[int, int]:
        """(count, sum) of `key` at `now_us`; zeros for an unknown key."""
        window = self._by_key.get(key)
        if window is None:
            return 0, 0
        packed = window.total_at(now_us)
        return packed >> self._count_shift, packed & (self.each - 1)

    def copy(self) -> Means:
        """The means as they are now, whatever is added next."""
        copied = Means(self._period_us, self._max_keys, self.sums)
        copied._by_key = {key: window.copy() for key, window in self._by_key.items()}
        return copied

    def keys(self, now_us: int) -> list[MeanKey]:
        """Every key with something in its window."""
        return [key for key, window in self._by_key.items() if window.total_at(now_us)]

    def parts(self, key: MeanKey) -> list[tuple[int, int, int]]:
        """(instant, count, sum) triples that, added under a key without any, make it the same."""
        shift, mask = self._count_shift, self.each - 1
        return [(at_us, packed >> shift, packed & mask) for at_us, packed in self._by_key[key].parts()]
