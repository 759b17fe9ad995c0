"""A target's latency as it is now: quantiles over a window of time, not over a number of calls.

What does not belong here: how latencies are counted (`latency_sketch`), what follows from them
(`fastest`).
"""

from __future__ import annotations

import math
from collections import deque

from llmscope.gateway.routing.latency_sketch import LatencySketch

# The window moves on in steps of a tenth of itself.
PARTS_PER_WINDOW = 10
# A target that gets a fiftieth of the traffic needs fifty times as long for the same sample; beyond an
# hour (of the default five minutes) what was measured says nothing of now.
LONGEST_REACH_WINDOWS = 12
# The quantile is computed again once so many more attempts, in parts of all, have been seen.
_STALE_AFTER_SHARE = 0.02


class _Part:
    __slots__ = ("faults", "index", "sketch")

    def __init__(self, index: int) -> None:
        self.index = index
        self.sketch = LatencySketch()
        self.faults = 0

    @property
    def attempts(self) -> int:
        return self.sketch.count + self.faults


class LiveLatency:
    """One target's attempts of late.

    A fault counts as an answer that never comes: with more than 5 % of faults the 95th percentile is
    infinite. Where the window holds fewer than `minimum_sample` attempts, it reaches back further, as
    far as it takes to hold as many, at most 12 times its length. It moves in steps of a tenth: after
    300 s, attempts are forgotten between 270 and 300 s of age.

    Not safe for threads by itself; the policies hold a lock.

    Args:
        window_seconds: its length.
        minimum_sample: from how many attempts on there is a quantile.
    """

    def __init__(self, window_seconds: float, minimum_sample: int) -> None:
        self._part_seconds = window_seconds / PARTS_PER_WINDOW
        self._minimum_sample = minimum_sample
        self._parts: deque[_Part] = deque()
        self._sketch = LatencySketch()
        self._attempts = 0
        self._faults = 0
        self._p95_ms: float | None = None
        self._attempts_until_stale = 0

    def observe(self, latency_ms: float, is_fault: bool, now_seconds: float) -> None:
        """Count one attempt that has just ended."""
        index = self._forget(now_seconds)
        # A thread that was told the time before another is written into the other's part.
        if not self._parts or self._parts[-1].index < index:
            self._parts.append(_Part(index))
        part = self._parts[-1]
        if is_fault:
            part.faults += 1
            self._faults += 1
        else:
            part.sketch.add(latency_ms)
            self._sketch.add(latency_ms)
        self._attempts += 1
        self._attempts_until_stale -= 1

    def attempts(self, now_seconds: float) -> int:
        """How many attempts are remembered."""
        self._forget(now_seconds)
        return self._attempts

    def fault_share(self, now_seconds: float) -> float:
        """The share of faults among them; 0 without any."""
        self._forget(now_seconds)
        return self._faults / self._attempts if self._attempts else 0.0

    def p95_ms(self, now_seconds: float) -> float | None:
        """The 95th percentile (nearest rank) in ms, within 1 % and 2 % more attempts; infinite when more
        than 5 % are faults; None while fewer than `minimum_sample` attempts are remembered."""
        self._forget(now_seconds)
        if self._attempts < self._minimum_sample:
            return None
        if self._attempts_until_stale <= 0:
            rank = math.ceil(0.95 * self._attempts)
            answered = self._sketch.count
            self._p95_ms = self._sketch.value_at_rank(rank) if rank <= answered else math.inf
            self._attempts_until_stale = math.ceil(_STALE_AFTER_SHARE * self._attempts)
        return self._p95_ms

    def _forget(self, now_seconds: float) -> int:
        """Drop the parts that are over; the index of the part that runs now."""
        index = int(now_seconds // self._part_seconds)
        parts = self._parts
        first_of_window = index - PARTS_PER_WINDOW + 1
        if not parts or parts[0].index >= first_of_window:
            return index
        first_of_reach = index - LONGEST_REACH_WINDOWS * PARTS_PER_WINDOW + 1
        dropped = False
        while parts and parts[0].index < first_of_window:
            enough_without = self._attempts - parts[0].attempts >= self._minimum_sample
            if parts[0].index >= first_of_reach and not enough_without:
                break
            gone = parts.popleft()
            self._attempts -= gone.attempts
            self._faults -= gone.faults
            dropped = True
        if dropped:
            self._sketch = LatencySketch()
            for part in parts:
                self._sketch.merge(part.sketch)
            self._attempts_until_stale = 0
        return index
