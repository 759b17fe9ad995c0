"""How many, and how many of them bad, over a window of time.

What does not belong here: what counts as bad, and what follows (`burn_rate`).
"""

from __future__ import annotations

from collections import deque

# The window moves on in steps of a sixtieth of itself: five minutes forget by 5 s, three days by 72 min.
PARTS_PER_WINDOW = 60


class RollingCounts:
    """Running totals of the last `window_seconds`, in at most 60 parts.

    Attributes:
        calls: how many are within the window, as of the last `observe` or `forget`.
        bad: how many of them were bad.
    """

    __slots__ = ("_part_seconds", "_parts", "bad", "calls")

    def __init__(self, window_seconds: float) -> None:
        self._part_seconds = window_seconds / PARTS_PER_WINDOW
        self._parts: deque[list[int]] = deque()  # [index, calls, bad]
        self.calls = 0
        self.bad = 0

    def observe(self, is_bad: bool, now_seconds: float) -> None:
        """Count one."""
        index = self.forget(now_seconds)
        if not self._parts or self._parts[-1][0] < index:
            self._parts.append([index, 0, 0])
        part = self._parts[-1]
        part[1] += 1
        part[2] += is_bad
        self.calls += 1
        self.bad += is_bad

    def forget(self, now_seconds: float) -> int:
        """Drop what has left the window; the index of the part that runs now."""
        index = int(now_seconds // self._part_seconds)
        first = index - PARTS_PER_WINDOW + 1
        while self._parts and self._parts[0][0] < first:
            _, calls, bad = self._parts.popleft()
            self.calls -= calls
            self.bad -= bad
        return index

    def clear(self) -> None:
        """Forget everything."""
        self._parts.clear()
        self.calls = self.bad = 0
