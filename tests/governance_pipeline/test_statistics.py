"""The tests of significance against scipy, and the verdict's error rates by simulation."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from benchmarks.verdicts import simulate
from governance_pipeline.statistics import (
    Arm,
    compare_arms,
    difference_lower_bound,
    incomplete_beta,
    student_t_two_sided,
    two_proportion_z_p_value,
    welch_t_p_value,
    wilson_interval,
)


def arm_of(costs_nano: list[int], successes: int) -> Arm:
    return Arm(
        len(costs_nano), successes, len(costs_nano), sum(costs_nano), sum(cost * cost for cost in costs_nano)
    )


@given(st.floats(-40, 40), st.floats(1, 1e6))
def test_student_t_agrees_with_scipy(t: float, degrees: float) -> None:
    assert student_t_two_sided(t, degrees) == pytest.approx(
        2 * stats.t.sf(abs(t), degrees), rel=1e-6, abs=1e-15
    )


@given(st.floats(0.5, 5000), st.floats(0.5, 5000), st.floats(0, 1))
def test_the_incomplete_beta_function_agrees_with_scipy(a: float, b: float, x: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), rel=1e-7, abs=1e-12)


@given(
    st.lists(st.integers(0, 10**12), min_size=2, max_size=60), st.lists(st.integers(0, 10**12), min_size=2)
)
def test_welch_agrees_with_scipy(left: list[int], right: list[int]) -> None:
    a, b = arm_of(left, 0), arm_of(right, 0)
    assert a.cost_variance is not None
    assert b.cost_variance is not None
    assert a.mean_cost_usd is not None
    assert b.mean_cost_usd is not None
    seen = welch_t_p_value(
        a.mean_cost_usd, a.cost_variance, len(left), b.mean_cost_usd, b.cost_variance, len(right)
    )
    if a.cost_variance + b.cost_variance == 0:
        assert seen == (1.0 if left[0] == right[0] else 0.0)
        return
    wanted = stats.ttest_ind_from_stats(
        a.mean_cost_usd, math.sqrt(a.cost_variance), len(left),
        b.mean_cost_usd, math.sqrt(b.cost_variance), len(right), equal_var=False,
    ).pvalue  # fmt: skip
    assert seen == pytest.approx(wanted, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("a", "n", "b", "m"), [(45, 50, 30, 50), (98, 100, 80, 100), (1, 40, 0, 35)])
def test_the_two_proportion_test_is_the_root_of_the_chi_square_test(a: int, n: int, b: int, m: int) -> None:
    wanted = stats.chi2_contingency([[a, n - a], [b, m - b]], correction=False).pvalue
    assert two_proportion_z_p_value(a, n, b, m) == pytest.approx(wanted, rel=1e-9)


def test_the_lower_bound_is_the_published_example_of_newcombe() -> None:
    """Newcombe (1998), table II, method 10: 56/70 against 48/80 gives 0.0524 to 0.3339; 9/10 against
    3/10 gives 0.1705 to 0.8090; 0/10 against 0/10 gives −0.2775 to 0.2775."""
    assert difference_lower_bound(56, 70, 48, 80) == pytest.approx(0.0524, abs=5e-5)
    assert difference_lower_bound(9, 10, 3, 10) == pytest.approx(0.1705, abs=5e-5)
    assert difference_lower_bound(0, 10, 0, 10) == pytest.approx(-0.2775, abs=5e-5)


def test_the_score_interval_agrees_with_scipy() -> None:
    for successes, n in ((0, 10), (7, 10), (10, 10), (480, 500)):
        interval = stats.binomtest(successes, n).proportion_ci(method="wilson")
        assert wilson_interval(successes, n) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_too_few_samples_are_refused_not_guessed() -> None:
    with pytest.raises(ValueError, match="two samples"):
        welch_t_p_value(1, 0, 1, 2, 1, 30)
    with pytest.raises(ValueError, match="a sample an arm"):
        two_proportion_z_p_value(0, 0, 1, 2)


@given(
    st.lists(st.integers(0, 10**18), max_size=40),
    st.lists(st.integers(0, 10**18), max_size=40),
    st.floats(0, 1),
)
def test_every_pair_of_arms_has_a_finite_comparison(left: list[int], right: list[int], rate: float) -> None:
    comparison = compare_arms(arm_of(left, int(rate * len(left))), arm_of(right, len(right)))
    for number in (
        comparison.cost_delta_pct,
        comparison.success_delta,
        comparison.p_value_cost,
        comparison.p_value_success,
    ):
        assert number is None or math.isfinite(number)


ALIKE = [10_000_000, 30_000_000] * 500
DEARER = [20_000_000, 40_000_000] * 500
CHEAPER = [5_000_000, 15_000_000] * 500


@pytest.mark.parametrize(
    ("costs", "successes", "verdict"),
    [
        (DEARER, 900, "costlier_no_better"),
        (DEARER, 800, "costlier_no_better"),
        (DEARER, 960, "costlier_better"),
        (ALIKE, 960, "inconclusive"),
        (CHEAPER, 900, "inconclusive"),  # the interval of 1,000 requests reaches to −0.026
        (CHEAPER, 910, "cheaper_no_worse"),  # 0.010 − 0.0256 lies above −0.02
        (CHEAPER, 850, "cheaper_worse"),
    ],
)
def test_the_verdict_follows_cost_and_outcome(costs: list[int], successes: int, verdict: str) -> None:
    assert compare_arms(arm_of(costs, successes), arm_of(ALIKE, 900)).verdict == verdict


def test_fewer_than_thirty_known_costs_are_inconclusive() -> None:
    assert compare_arms(arm_of(DEARER[:29], 29), arm_of(ALIKE, 1000)).verdict == "inconclusive"
    assert compare_arms(arm_of([20_000_000] * 30, 30), arm_of(ALIKE, 1000)).p_value_cost is not None


def test_no_effect_is_seldom_taken_for_one_and_an_effect_is_mostly_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rounds = 2000
    nothing = simulate(mean_factor=1, rounds=rounds, seed=20261121)
    dearer = simulate(mean_factor=1.5, rounds=rounds, seed=20261122)
    with capsys.disabled():
        print(
            f"\n{rounds} simulated pairs of 100 requests: no effect: cost significant {nothing.significant:.3f}, "
            f"accused {nothing.accused:.3f}; +50 % cost: dearer {dearer.dearer:.3f}, accused {dearer.accused:.3f}"
        )
    # Nominal 0.05 in both directions together, half of it on the dearer side; four standard errors of 2,000.
    assert nothing.significant < 0.05 + 4 * math.sqrt(0.05 * 0.95 / rounds)
    assert nothing.accused < 0.025 + 4 * math.sqrt(0.025 * 0.975 / rounds)
    assert dearer.dearer > 0.8


def test_a_verdict_without_the_test_would_accuse_half_of_all_equal_arms() -> None:
    """Twin: judging by means alone (alpha 0.9999) shows that the simulation can fail."""
    assert simulate(mean_factor=1, rounds=200, seed=1, alpha=0.9999).dearer > 0.35
