"""What is known of one stage of a canary, and what follows from it: go on, advance, or roll back.

Pure: counts in, verdict out. What does not belong here: who gets which request, and the history
(`canary`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from llmscope.errors import ConfigurationError
from llmscope.gateway.routing.candidates import checked_positive
from llmscope.gateway.routing.evidence import ShareTest

Verdict = Literal["continue", "advance", "roll_back"]

# A primary that breaks the SLO itself raises the bar only beyond chance: one-sided 95 %.
_Z = 1.6449
_PRIMARY_SAMPLE = 100
# However bad the primary, a candidate that fails nine times in ten is over the multiplier.
_HIGHEST_BURN = 0.9


def wilson_bounds(bad: int, calls: int) -> tuple[float, float]:
    """The one-sided 95 % bounds of a share, below and above (E. B. Wilson, J. Amer. Statist. Assoc. 22,
    1927); 0 and 1 without calls."""
    if calls == 0:
        return 0.0, 1.0
    share, z2 = bad / calls, _Z * _Z
    middle = share + z2 / (2 * calls)
    reach = _Z * math.sqrt(share * (1 - share) / calls + z2 / (4 * calls * calls))
    scale = 1 + z2 / calls
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


@dataclass(frozen=True, slots=True)
class StageRules:
    """What a stage is judged by.

    Attributes:
        slo_error_rate: the share of attempts that may fail.
        burn_multiplier: the candidate may burn this many times what is allowed.
        minimum_sample: fewer attempts at the candidate than this decide nothing.
        chance_of_false_rollback: of an early rollback of a candidate that keeps the SLO, per stage.
        window_calls, window_seconds: how long a stage lasts at least; None for no such condition.

    Raises:
        ConfigurationError: a number is out of its range, or a stage would never end.
    """

    slo_error_rate: float
    burn_multiplier: float
    minimum_sample: int
    chance_of_false_rollback: float
    window_calls: int | None
    window_seconds: float | None

    def __post_init__(self) -> None:
        if self.window_calls is None and self.window_seconds is None:
            raise ConfigurationError("canary: give window_calls, window_seconds or both: a stage must end")
        if self.window_calls is not None:
            checked_positive(self.window_calls, "window_calls")
        if self.window_seconds is not None:
            checked_positive(self.window_seconds, "window_seconds")
        checked_positive(self.minimum_sample, "minimum_sample")
        if not 0 < self.slo_error_rate < 0.5:
            raise ConfigurationError(
                f"canary: slo_error_rate is {self.slo_error_rate}; give a share above 0 and below 0.5"
            )
        if not 1 < self.burn_multiplier < _HIGHEST_BURN / self.slo_error_rate:
            raise ConfigurationError(
                f"canary: burn_multiplier is {self.burn_multiplier}; give one above 1 and below "
                f"{_HIGHEST_BURN / self.slo_error_rate:.3g}, for more of a candidate can hardly fail"
            )
        if not 0 < self.chance_of_false_rollback < 1:
            raise ConfigurationError(
                f"canary: chance_of_false_rollback is {self.chance_of_false_rollback}; "
                "give one within 0 and 1"
            )


class StageEvidence:
    """The attempts of one stage at candidate and primary. Its time begins with the first of them.

    Args:
        rules: what it is judged by.
        baseline_before: of the stage before, which stands until the primary has shown 100 attempts in
            this one: at 100 % it gets none of its own.

    Attributes:
        candidate_calls, candidate_faults, primary_calls, primary_faults: what was counted.
    """

    def __init__(self, rules: StageRules, baseline_before: float | None = None) -> None:
        self._rules = rules
        self._baseline_before = rules.slo_error_rate if baseline_before is None else baseline_before
        self._edge_calls = max(rules.minimum_sample, rules.window_calls or 0)
        self._edge_seconds: float | None = None
        self._test = ShareTest(rules.slo_error_rate, rules.burn_multiplier)
        self.candidate_calls = self.candidate_faults = 0
        self.primary_calls = self.primary_faults = 0

    def observe_primary(self, is_fault: bool, now_seconds: float) -> None:
        """Count an attempt at the primary."""
        self._begin(now_seconds)
        self.primary_calls += 1
        self.primary_faults += is_fault

    def observe_candidate(self, is_fault: bool, now_seconds: float) -> Verdict:
        """Count an attempt at the candidate, and judge.

        Roll back as soon as the faults show, beyond the chance allowed, a share above the baseline.
        Advance at the edge of a window if the burn rate is within the multiplier. In between, where it
        is above but may be chance, another window is waited for.
        """
        edge_seconds = self._begin(now_seconds)
        self.candidate_calls += 1
        self.candidate_faults += is_fault
        if self.candidate_calls < self._rules.minimum_sample:
            return "continue"
        if is_fault and self._is_above_baseline():
            return "roll_back"
        if self.candidate_calls < self._edge_calls or now_seconds < edge_seconds:
            return "continue"
        if self.burn_rate() <= self._rules.burn_multiplier:
            return "advance"
        self._edge_calls = self.candidate_calls + (self._rules.window_calls or 1)
        self._edge_seconds = now_seconds + (self._rules.window_seconds or 0.0)
        return "continue"

    def baseline(self) -> float:
        """The share of faults that is not held against the candidate: what the SLO allows, or what the
        primary shows at the same time if that is worse beyond chance (its upper bound then)."""
        if self.primary_calls < _PRIMARY_SAMPLE:
            return self._baseline_before
        allowed = self._rules.slo_error_rate
        low, high = wilson_bounds(self.primary_faults, self.primary_calls)
        highest = max(allowed, _HIGHEST_BURN / self._rules.burn_multiplier)
        return min(high, highest) if low > allowed else allowed

    def burn_rate(self) -> float:
        """The candidate's share of faults over the baseline; 0 without calls."""
        if not self.candidate_calls:
            return 0.0
        return self.candidate_faults / self.candidate_calls / self.baseline()

    def _is_above_baseline(self) -> bool:
        baseline = self.baseline()
        if baseline != self._test.bound:
            self._test = ShareTest(baseline, self._rules.burn_multiplier)
        chance = self._rules.chance_of_false_rollback
        return self._test.is_above(self.candidate_faults, self.candidate_calls, chance)

    def _begin(self, now_seconds: float) -> float:
        if self._edge_seconds is None:
            self._edge_seconds = now_seconds + (self._rules.window_seconds or 0.0)
        return self._edge_seconds
