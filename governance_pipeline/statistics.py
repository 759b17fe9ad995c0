"""Is a difference between two arms more than chance: tests, an interval, and the verdict on experiments.

Pure functions of counts and sums. What does not belong here: reading rows, and which arm is compared
with which (`sql/marts/experiment_arms.sql`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Verdict = Literal[
    "costlier_no_better", "costlier_better", "cheaper_no_worse", "cheaper_worse", "inconclusive", "control"
]

# Quantile of the standard normal at 0.975: the two-sided 95 % interval.
Z_95_TWO_SIDED = 1.959963984540054

_CONTINUED_FRACTION_STEPS = 500
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm of an experiment, summed exactly.

    Attributes:
        request_count: all requests of the arm.
        success_count: those that succeeded.
        priced_count: those with a known cost.
        cost_nano: sum of known costs, nano-USD.
        cost_nano_squared: sum of their squares, nano-USD².
    """

    request_count: int
    success_count: int
    priced_count: int
    cost_nano: int
    cost_nano_squared: int

    @property
    def mean_cost_usd(self) -> float | None:
        """Mean known cost in USD, None without one."""
        return self.cost_nano / self.priced_count / 1e9 if self.priced_count else None

    @property
    def cost_variance(self) -> float | None:
        """Sample variance (n − 1) of known costs in USD², None with fewer than two. Whole numbers
        until the last division, so nothing cancels."""
        n = self.priced_count
        if n < 2:
            return None
        return (n * self.cost_nano_squared - self.cost_nano**2) / (n * (n - 1)) / 1e18

    @property
    def success_rate(self) -> float | None:
        """Share of all requests that succeeded, None without requests."""
        return self.success_count / self.request_count if self.request_count else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """An experiment against its control.

    Attributes:
        cost_delta_pct: mean cost above the control's, per cent of the control's; None when unknown.
        success_delta: success rate less the control's.
        p_value_cost: two-sided, Welch's t.
        p_value_success: two-sided, two-proportion z.
        verdict: what they come to.
    """

    cost_delta_pct: float | None
    success_delta: float | None
    p_value_cost: float | None
    p_value_success: float | None
    verdict: Verdict


IS_CONTROL = Comparison(None, None, None, None, "control")


def compare_arms(
    treatment: Arm, control: Arm, *, alpha: float = 0.05, min_samples: int = 30, success_margin: float = 0.02
) -> Comparison:
    """Compare an experiment with its control and judge it.

    The verdict needs `min_samples` known costs in each arm. Significantly dearer is
    `costlier_better` if success is significantly higher too, else `costlier_no_better`. Significantly
    cheaper is `cheaper_no_worse` if the lower end of the 95 % interval of the success difference is
    above `-success_margin`, `cheaper_worse` if success is significantly lower. Everything else is
    `inconclusive`.

    Args:
        alpha: two-sided level of significance of both tests.
        min_samples: known costs that each arm needs.
        success_margin: loss of success rate that still counts as no worse.
    """
    mean, base = treatment.mean_cost_usd, control.mean_cost_usd
    variance, base_variance = treatment.cost_variance, control.cost_variance
    rate, base_rate = treatment.success_rate, control.success_rate
    delta_pct = 100 * (mean - base) / base if mean is not None and base else None
    p_cost = None
    if mean is not None and base is not None and variance is not None and base_variance is not None:
        p_cost = welch_t_p_value(
            mean, variance, treatment.priced_count, base, base_variance, control.priced_count
        )
    p_success = success_delta = None
    if rate is not None and base_rate is not None:
        success_delta = rate - base_rate
        p_success = two_proportion_z_p_value(
            treatment.success_count, treatment.request_count, control.success_count, control.request_count
        )
    verdict: Verdict = "inconclusive"
    enough = min(treatment.priced_count, control.priced_count) >= min_samples
    if enough and p_cost is not None and p_success is not None and p_cost < alpha:
        assert mean is not None
        assert base is not None
        assert success_delta is not None
        differs = p_success < alpha
        if mean > base:
            verdict = "costlier_better" if differs and success_delta > 0 else "costlier_no_better"
        elif _success_lower_bound(treatment, control) > -success_margin:
            verdict = "cheaper_no_worse"
        elif differs and success_delta < 0:
            verdict = "cheaper_worse"
    return Comparison(delta_pct, success_delta, p_cost, p_success, verdict)


def _success_lower_bound(treatment: Arm, control: Arm) -> float:
    return difference_lower_bound(
        treatment.success_count, treatment.request_count, control.success_count, control.request_count
    )


def welch_t_p_value(
    mean_a: float, variance_a: float, n_a: int, mean_b: float, variance_b: float, n_b: int
) -> float:
    """Two-sided p-value of a difference in means without assuming equal variances.

    B. L. Welch, "The generalization of 'Student's' problem when several different population variances
    are involved", Biometrika 34 (1947); degrees of freedom by Welch and Satterthwaite. Two arms without
    any variance are different for certain or equal for certain.

    Raises:
        ValueError: an arm has fewer than two samples, which have no variance.
    """
    if n_a < 2 or n_b < 2:
        raise ValueError(f"a variance needs two samples an arm; got {n_a} and {n_b}")
    error_a, error_b = variance_a / n_a, variance_b / n_b
    error = error_a + error_b
    if error == 0:
        return 1.0 if mean_a == mean_b else 0.0
    t = (mean_a - mean_b) / math.sqrt(error)
    # As shares of the whole, so that tiny variances do not underflow when squared.
    share_a, share_b = error_a / error, error_b / error
    degrees = 1 / (share_a**2 / (n_a - 1) + share_b**2 / (n_b - 1))
    return student_t_two_sided(t, degrees)


def two_proportion_z_p_value(successes_a: int, n_a: int, successes_b: int, n_b: int) -> float:
    """Two-sided p-value of a difference in proportions, with the pooled variance.

    NIST/SEMATECH e-Handbook of Statistical Methods, 7.3.3. Where all or none of both succeeded the
    proportions are equal, so 1.

    Raises:
        ValueError: an arm is empty.
    """
    if n_a < 1 or n_b < 1:
        raise ValueError(f"a proportion needs a sample an arm; got {n_a} and {n_b}")
    pooled = (successes_a + successes_b) / (n_a + n_b)
    variance = pooled * (1 - pooled) * (1 / n_a + 1 / n_b)
    if variance <= 0:
        return 1.0
    z = (successes_a / n_a - successes_b / n_b) / math.sqrt(variance)
    return math.erfc(abs(z) / math.sqrt(2))


def difference_lower_bound(
    successes_a: int, n_a: int, successes_b: int, n_b: int, z: float = Z_95_TWO_SIDED
) -> float:
    """Lower end of the two-sided 95 % interval of (proportion a − proportion b).

    Method 10 of R. G. Newcombe, "Interval estimation for the difference between independent
    proportions", Statistics in Medicine 17 (1998): it joins the two Wilson score intervals, and so stays
    honest at 0 and 100 %, where the textbook interval shrinks to a point.
    """
    rate_a, rate_b = successes_a / n_a, successes_b / n_b
    low_a, _ = wilson_interval(successes_a, n_a, z)
    _, high_b = wilson_interval(successes_b, n_b, z)
    return rate_a - rate_b - math.hypot(rate_a - low_a, high_b - rate_b)


def wilson_interval(successes: int, n: int, z: float = Z_95_TWO_SIDED) -> tuple[float, float]:
    """Score interval of one proportion: E. B. Wilson, Journal of the American Statistical Association
    22 (1927)."""
    rate = successes / n
    centre = rate + z * z / (2 * n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def student_t_two_sided(t: float, degrees: float) -> float:
    """P(|T| ≥ |t|) for Student's t with `degrees` degrees of freedom (any positive real number)."""
    square = t * t
    if math.isinf(square):
        return 0.0
    return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + square))


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), 0 ≤ x ≤ 1.

    NIST Digital Library of Mathematical Functions, the continued fraction 8.17.22, evaluated by Lentz's
    method (DLMF 3.10(iii)), on whichever side of its mean it converges fast, by the symmetry 8.17.4.
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / a * _beta_fraction(a, b, x)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """1 / (1 + d1 / (1 + d2 / (1 + …))) with the coefficients of DLMF 8.17.22."""
    value = ratio_up = 1.0
    ratio_down = 0.0
    for step in range(1, _CONTINUED_FRACTION_STEPS):
        m, odd = divmod(step, 2)
        if odd:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        ratio_down = 1 / (_away_from_zero(1 + term * ratio_down))
        ratio_up = _away_from_zero(1 + term / ratio_up)
        change = ratio_up * ratio_down
        value *= change
        if abs(change - 1) < 1e-15:
            break
    return 1 / value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
