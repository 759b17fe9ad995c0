"""How often the test errs, measured: never more than it says, however often one looks."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from llmscope.gateway.routing.evidence import ShareTest, good_run_to_refute


def rejections(true_share: float, bound: float, *, rounds: int, calls: int, chance: float) -> float:
    """The share of simulated series in which the test says "above" at any of its calls."""
    draw, test, said = random.Random(11), ShareTest(bound), 0
    for _ in range(rounds):
        bad = 0
        for number in range(1, calls + 1):
            if draw.random() < true_share:
                bad += 1
                if test.is_above(bad, number, chance):
                    said += 1
                    break
    return said / rounds


@pytest.mark.parametrize("true_share", [0.005, 0.01])
def test_looking_after_every_call_errs_no_more_often_than_it_says(true_share: float) -> None:
    said = rejections(true_share, 0.01, rounds=1500, calls=1000, chance=0.05)
    print(f"true share {true_share}: said to be above 0.01 in {said:.2%} of series, allowed 5 %")
    assert said <= 0.05


def test_a_fixed_test_looked_at_after_every_call_errs_many_times_more_often() -> None:
    """The twin: an exact binomial test at 5 %, looked at as often."""
    draw, said = random.Random(11), 0
    worst = [stats.binom.ppf(0.95, number, 0.01) for number in range(1001)]
    for _ in range(300):
        bad = 0
        for number in range(1, 1001):
            bad += draw.random() < 0.01
            if bad > worst[number]:
                said += 1
                break
    assert said / 300 > 0.15


def test_what_is_far_above_is_found_out_soon() -> None:
    assert rejections(0.10, 0.01, rounds=200, calls=150, chance=0.001) > 0.95


def test_the_ratio_is_that_of_the_binomial_likelihoods() -> None:
    test, bad, calls, bound = ShareTest(0.02, 2.0), 4, 60, 0.02
    shares = [0.04 * 1.3**rung for rung in range(20) if 0.04 * 1.3**rung < 0.99] + [0.99]
    ratio = sum(stats.binom.pmf(bad, calls, share) for share in shares) / len(shares)
    assert test.log_ratio(bad, calls) == pytest.approx(math.log(ratio / stats.binom.pmf(bad, calls, bound)))


def test_counts_of_millions_do_not_overflow() -> None:
    assert ShareTest(0.01).log_ratio(10**7, 10**7) > 10**7
    assert ShareTest(0.01).log_ratio(0, 10**7) < 0


@pytest.mark.parametrize(("share", "run"), [(0.144, 20), (0.06, 49), (0.01, 299)])
def test_a_run_of_good_calls_long_enough_to_be_no_luck(share: float, run: int) -> None:
    assert good_run_to_refute(share, 0.05) == run
    assert (1 - share) ** run <= 0.05 < (1 - share) ** (run - 1)
