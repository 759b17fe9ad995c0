"""How fast a target uses up its error budget, over a long and a short window at once.

The burn rate is the share of bad calls over the share that the SLO allows: at 1 the budget lasts exactly
as long as it should, at 14.4 two per cent of a month's budget go in an hour. A target burns when the rate
is above a threshold in a long window (so it matters) and in a short one (so it is still going on). (B.
Beyer et al.: The Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts", 2018.)

What does not belong here: where requests go then (`slo_burn`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmscope.errors import ConfigurationError
from llmscope.gateway.routing.candidates import checked_positive
from llmscope.gateway.routing.evidence import ShareTest, good_run_to_refute
from llmscope.gateway.routing.rolling_counts import RollingCounts

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True, slots=True)
class BurnWindow:
    """A pair of windows that must both burn at more than `threshold` times what the SLO allows."""

    long_seconds: float
    short_seconds: float
    threshold: float

    def __str__(self) -> str:
        return f"{_span(self.long_seconds)}/{_span(self.short_seconds)} above {self.threshold:g}"


WORKBOOK_WINDOWS = (
    BurnWindow(_HOUR, 5 * _MINUTE, 14.4),
    BurnWindow(6 * _HOUR, 30 * _MINUTE, 6.0),
    BurnWindow(3 * _DAY, 6 * _HOUR, 1.0),
)
"""The workbook's three pairs. With an SLO of 1 % errors the fastest needs 14.4 % of an hour to fail: after
hours of health it sees a total outage after 8 min 38 s."""

QUICK_WINDOW = BurnWindow(_MINUTE, 5.0, 14.4)
"""A pair of the same form (the short window a twelfth of the long one) for a router, which may act on less
than what wakes a person: the same outage is seen after 9 s, or as many more as it takes for 20 calls."""

DEFAULT_WINDOWS = (QUICK_WINDOW, *WORKBOOK_WINDOWS)

# That a target at its threshold exactly is taken to burn: once in a thousand; that one which still burns
# there is taken to have recovered: once in twenty, for then it is soon found out again.
_CHANCE_OF_FALSE_ALARM = 0.001
_CHANCE_OF_FALSE_RECOVERY = 0.05
# A threshold × SLO above this asks for more bad calls than a failing target is sure to make.
_HIGHEST_BOUND = 0.95


class BurnMeter:
    """One target's burn rate against one SLO, and whether it burns.

    It begins to burn when, for one pair of windows, both rates are above the threshold, the long window
    holds at least `minimum_sample` calls, and its count is no chance: at a share of threshold × SLO such
    a count would be seen at most once in a thousand. A pair whose short window is longer than the target
    has been watched says nothing yet, for it sees what the shorter ones see; the shortest always speaks.

    It stops when so many calls in a row were good that a target still burning at the highest threshold
    found exceeded would manage them once in twenty (20 calls at 14.4 % bad, 49 at 6 %, 299 at 1 %), at
    least `minimum_sample`; then it starts from a clean sheet, for what it burned before says nothing of
    the recovered target.

    Not safe for threads by itself; the policy holds a lock.

    Args:
        allowed_share: the share of bad calls that the SLO allows.
        windows: the pairs; any of them is enough.
        minimum_sample: fewer calls than this show nothing.

    Attributes:
        burning: the pair with the highest threshold that found it burning, or None.

    Raises:
        ConfigurationError: a share, threshold or window that can never be met.
    """

    __slots__ = (
        "_allowed_share",
        "_counts",
        "_good_in_a_row",
        "_good_to_recover",
        "_minimum_sample",
        "_shortest_seconds",
        "_tests",
        "_watched_since",
        "burning",
    )

    def __init__(self, allowed_share: float, windows: Sequence[BurnWindow], minimum_sample: int) -> None:
        if not 0 < allowed_share < 1:
            raise ConfigurationError(
                f"routing: an SLO allows a share of bad calls within 0 and 1, not {allowed_share}"
            )
        if not windows:
            raise ConfigurationError("routing: burn_windows is empty; give at least one pair of windows")
        for window in windows:
            checked_positive(window.short_seconds, "a burn window's short_seconds")
            checked_positive(window.long_seconds, "a burn window's long_seconds")
            checked_positive(window.threshold, "a burn window's threshold")
            if window.short_seconds > window.long_seconds:
                raise ConfigurationError(f"routing: burn window {window}: the short window is the longer one")
            if window.threshold * allowed_share >= _HIGHEST_BOUND:
                raise ConfigurationError(
                    f"routing: burn window {window}: where {allowed_share:.3g} of calls may be bad, the burn "
                    f"rate is at most {1 / allowed_share:.3g}; give burn_windows with lower thresholds"
                )
        self._allowed_share = allowed_share
        self._minimum_sample = minimum_sample
        lengths = {w.long_seconds for w in windows} | {w.short_seconds for w in windows}
        self._counts = {length: RollingCounts(length) for length in sorted(lengths)}
        # The highest threshold first: it is the one that recovery is measured by.
        ordered = sorted(windows, key=lambda window: (-window.threshold, window.short_seconds))
        self._tests = [(window, ShareTest(window.threshold * allowed_share)) for window in ordered]
        self._shortest_seconds = min(window.short_seconds for window in windows)
        self._watched_since: float | None = None
        self.burning: BurnWindow | None = None
        self._good_in_a_row = 0
        self._good_to_recover = 0

    def observe(self, is_bad: bool, now_seconds: float) -> bool:
        """Count one call; whether the target has just begun or stopped to burn."""
        if self._watched_since is None:
            self._watched_since = now_seconds
        for counts in self._counts.values():
            counts.observe(is_bad, now_seconds)
        was_burning = self.burning is not None
        if is_bad:
            self._good_in_a_row = 0
            self._look_for_burning(now_seconds - self._watched_since)
        elif was_burning:
            self._look_for_recovery()
        return was_burning != (self.burning is not None)

    def rate(self, window_seconds: float, now_seconds: float) -> float:
        """The burn rate over one of the windows; 0 without calls.

        Raises:
            KeyError: no pair has a window of this length.
        """
        counts = self._counts[window_seconds]
        counts.forget(now_seconds)
        return self._rate(counts)

    def shortest_rate(self, now_seconds: float) -> float:
        """The burn rate over the shortest window that holds any calls; 0 without."""
        for counts in self._counts.values():
            counts.forget(now_seconds)
            if counts.calls:
                return self._rate(counts)
        return 0.0

    def _rate(self, counts: RollingCounts) -> float:
        return counts.bad / counts.calls / self._allowed_share if counts.calls else 0.0

    def _look_for_burning(self, watched_seconds: float) -> None:
        for window, test in self._tests:
            if self.burning is not None and window.threshold <= self.burning.threshold:
                return
            if window.short_seconds > max(watched_seconds, self._shortest_seconds):
                continue
            long, short = self._counts[window.long_seconds], self._counts[window.short_seconds]
            if long.calls < self._minimum_sample or self._rate(short) <= window.threshold:
                continue
            # A count that is no chance at the threshold is above it.
            if test.is_above(long.bad, long.calls, _CHANCE_OF_FALSE_ALARM):
                self.burning = window
                to_refute = good_run_to_refute(test.bound, _CHANCE_OF_FALSE_RECOVERY)
                self._good_to_recover = max(self._minimum_sample, to_refute)
                return

    def _look_for_recovery(self) -> None:
        self._good_in_a_row += 1
        if self._good_in_a_row >= self._good_to_recover:
            self.burning = self._watched_since = None
            for counts in self._counts.values():
                counts.clear()


def _span(seconds: float) -> str:
    for unit, length in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"
