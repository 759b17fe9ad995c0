"""Sums over time: rolling windows in buckets and calendar windows since their start.

Amounts are integers (nano-USD, tokens, requests), instants integer microseconds since 1970. Both
windows are folds: whatever the order and chunking of `add`, the sum at an instant is the same. An
amount dated after the instant asked about counts (a clock ahead must not open a budget).

What does not belong here: what is summed, and why.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol, Self

from llmscope.timestamps import MICROS, from_micros, to_micros

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

HOUR_US = 3600 * MICROS
PERIOD_US = {
    "hourly": HOUR_US,
    "daily": 24 * HOUR_US,
    "weekly": 7 * 24 * HOUR_US,
    "monthly": 30 * 24 * HOUR_US,  # a rolling month is 30 days of 24 hours
}
# A calendar period lasts at most this long (a month of 31 days, an hour more where summer time ends).
LONGEST_CALENDAR_US = {
    "hourly": 2 * HOUR_US,
    "daily": 25 * HOUR_US,
    "weekly": (7 * 24 + 1) * HOUR_US,
    "monthly": (31 * 24 + 1) * HOUR_US,
}
# A shorter one would have lapsed before its decision is written.
SHORTEST_RESERVATION_SECONDS = 0.001
_BUCKETS_PER_PERIOD = 3600
# Offsets of all time zones in use are multiples of a quarter of an hour, and so are their changes:
# all instants of one UTC quarter lie in the same calendar window.
_QUARTER_US = 900 * MICROS


Parts = list[tuple[int, int, int]]
"""(number of a bucket, how many amounts fall into it, their sum); a bucket may come more than once."""


class Window(Protocol):
    """A sum of amounts over a stretch of time that ends now.

    Attributes:
        bucket_us: instants in the same multiple of it are the same to the window.
    """

    bucket_us: int

    @property
    def since_us(self) -> int:
        """What is earlier is not counted any more."""
        ...

    def add(self, at_us: int, amount: int) -> bool:
        """Count `amount` at the instant `at_us`; negative takes back. Whether that took a place of its own,
        which `total_at` gives up again when it leaves."""
        ...

    def add_all(self, parts: Parts, each: int = 0) -> None:
        """`add` of what `in_buckets` of `bucket_us` has made of many amounts, and of `each` for every one."""
        ...

    def total_at(self, now_us: int) -> int:
        """The sum at `now_us`, which must not step back between calls by more than a bucket."""
        ...

    def start_at(self, now_us: int) -> int:
        """Where the window that ends at `now_us` begins."""
        ...

    def parts(self) -> list[tuple[int, int]]:
        """(instant, amount) pairs that, added to an empty window of the kind, make it the same."""
        ...

    def copy(self) -> Self:
        """The window as it is now, whatever is added next."""
        ...


def longest_bucket_us(period_us: int) -> int:
    """The longest bucket of any rolling window of at most `period_us`: a 3600th, at least one second."""
    return max(MICROS, period_us // _BUCKETS_PER_PERIOD)


class RollingWindow:
    """The sum over the last `period_us`, in buckets of a 3600th of it but at least one second.

    A bucket leaves when its last instant has left: late by up to one bucket, never early.
    """

    __slots__ = ("_buckets", "_first_live", "_leaves_us", "_order", "_total", "bucket_us", "period_us")

    def __init__(self, period_us: int) -> None:
        self.period_us = period_us
        self.bucket_us = longest_bucket_us(period_us)
        self._buckets: dict[int, int] = {}
        self._order: list[int] = []
        self._first_live = -(1 << 62)
        self._leaves_us = -(1 << 62)  # when the first live bucket leaves
        self._total = 0

    def add(self, at_us: int, amount: int) -> bool:
        bucket = at_us // self.bucket_us
        buckets = self._buckets
        if bucket in buckets:
            buckets[bucket] += amount
            self._total += amount
            return False
        if bucket < self._first_live:
            return False
        buckets[bucket] = amount
        heapq.heappush(self._order, bucket)
        self._total += amount
        return True

    @property
    def since_us(self) -> int:
        return self._first_live * self.bucket_us

    def add_all(self, parts: Parts, each: int = 0) -> None:
        buckets, total, first_live = self._buckets, self._total, self._first_live
        for bucket, count, amount in parts:
            more = amount + each * count
            if bucket in buckets:
                buckets[bucket] += more
            elif bucket >= first_live:
                buckets[bucket] = more
                heapq.heappush(self._order, bucket)
            else:
                continue
            total += more
        self._total = total

    def total_at(self, now_us: int) -> int:
        if now_us >= self._leaves_us:
            self._first_live = first_live = (now_us - self.period_us) // self.bucket_us
            self._leaves_us = (first_live + 1) * self.bucket_us + self.period_us
            order = self._order
            while order and order[0] < first_live:
                self._total -= self._buckets.pop(heapq.heappop(order))
        return self._total

    def start_at(self, now_us: int) -> int:
        return now_us - self.period_us

    def parts(self) -> list[tuple[int, int]]:
        return [(bucket * self.bucket_us, amount) for bucket, amount in sorted(self._buckets.items())]

    def copy(self) -> Self:
        copied = type(self)(self.period_us)
        copied._buckets, copied._order = self._buckets.copy(), self._order.copy()
        copied._total = self._total
        return copied

    def seconds_until_at_most(self, now_us: int, amount: int) -> float:
        """How long until, with nothing added, the sum is at most `amount` (0 when it is already)."""
        remaining = self.total_at(now_us)
        for bucket in sorted(self._buckets):
            if remaining <= amount:
                break
            remaining -= self._buckets[bucket]
            leaves_us = (bucket + 1) * self.bucket_us + self.period_us
            if remaining <= amount:
                return max(0.0, (leaves_us - now_us) / MICROS)
        return 0.0 if remaining <= amount else self.period_us / MICROS


class CalendarWindow:
    """The sum since the present hour, day, week (Monday 00:00) or month began in a time zone."""

    __slots__ = ("_cached_quarter", "_cached_start", "_sums", "_zone", "bucket_us", "period")

    def __init__(self, period: str, zone: ZoneInfo) -> None:
        self.period = period
        self.bucket_us = _QUARTER_US
        self._zone = zone
        self._sums: dict[int, int] = {}
        self._cached_quarter = -1
        self._cached_start = 0

    def add(self, at_us: int, amount: int) -> bool:
        start = self.start_at(at_us)
        if start in self._sums:
            self._sums[start] += amount
            return False
        self._sums[start] = amount
        return True

    @property
    def since_us(self) -> int:
        return 0  # what is in the past is found out by `total_at`

    def add_all(self, parts: Parts, each: int = 0) -> None:
        for quarter, count, amount in parts:
            self.add(quarter * _QUARTER_US, amount + each * count)

    def total_at(self, now_us: int) -> int:
        start = self.start_at(now_us)
        sums = self._sums
        if len(sums) > 1 and min(sums) < start:
            for past in [past for past in sums if past < start]:
                del sums[past]
        if len(sums) == 1:
            ((only, amount),) = sums.items()
            return amount if only >= start else 0
        return sum(sums.values())

    def start_at(self, now_us: int) -> int:
        quarter = now_us // _QUARTER_US
        if quarter != self._cached_quarter:
            self._cached_start = calendar_start(from_micros(now_us), self.period, self._zone)
            self._cached_quarter = quarter
        return self._cached_start

    def parts(self) -> list[tuple[int, int]]:
        return list(self._sums.items())

    def copy(self) -> Self:
        copied = type(self)(self.period, self._zone)
        copied._sums = self._sums.copy()
        return copied


def in_buckets(at_us: list[int], amounts: list[int], bucket_us: int, since_us: int) -> Parts:
    """Amounts at instants from `since_us` on, which are in order, by buckets of `bucket_us`."""
    begin = bisect_left(at_us, since_us)
    if begin:
        at_us, amounts = at_us[begin:], amounts[begin:]
    size = len(at_us)
    if not size or size <= 4 * (at_us[-1] - at_us[0] + bucket_us) // bucket_us:  # few in each
        return [(at // bucket_us, 1, amount) for at, amount in zip(at_us, amounts, strict=True)]
    begin, parts = 0, []
    while begin < size:
        bucket = at_us[begin] // bucket_us
        end = bisect_left(at_us, (bucket + 1) * bucket_us, begin)
        parts.append((bucket, end - begin, sum(amounts[begin:end])))
        begin = end
    return parts


def calendar_start(instant: datetime, period: str, zone: ZoneInfo) -> int:
    """When the calendar hour, day, week or month that holds `instant` began in `zone`, in UTC microseconds.

    A local midnight that summer time skips begins where the clock resumed; one that comes twice
    begins the first time. An hour that comes twice is two windows.
    """
    local = instant.astimezone(zone)
    if period == "hourly":
        return to_micros(local.replace(minute=0, second=0, microsecond=0))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if period == "weekly":
        midnight -= timedelta(days=midnight.weekday())
    elif period == "monthly":
        midnight = midnight.replace(day=1)
    return to_micros(midnight)


def budget_window(period: str, kind: str, zone: ZoneInfo) -> Window:
    """The window of a budget rule: `kind` is `rolling` or `calendar`."""
    return CalendarWindow(period, zone) if kind == "calendar" else RollingWindow(PERIOD_US[period])
