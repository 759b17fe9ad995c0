"""When the evidence of a stage is enough: pure counts, many seeds."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scipy import stats

from llmscope.errors import ConfigurationError
from llmscope.gateway.routing.canary_stage import StageEvidence, StageRules, wilson_bounds

RULES: dict[str, Any] = {
    "slo_error_rate": 0.01, "burn_multiplier": 2.0, "minimum_sample": 10,
    "chance_of_false_rollback": 0.001, "window_calls": 200, "window_seconds": None,
}  # fmt: skip


def rules(**changes: Any) -> StageRules:
    return StageRules(**{**RULES, **changes})


def candidate_calls(evidence: StageEvidence, *, calls: int, bad_every: int | None = None) -> list[str]:
    return [
        evidence.observe_candidate(bad_every is not None and number % bad_every == 0, float(number))
        for number in range(1, calls + 1)
    ]


def test_a_window_of_good_calls_advances_and_not_a_call_sooner() -> None:
    assert candidate_calls(StageEvidence(rules()), calls=200) == ["continue"] * 199 + ["advance"]


def test_total_failure_rolls_back_at_the_minimum_sample() -> None:
    assert candidate_calls(StageEvidence(rules()), calls=10, bad_every=1) == ["continue"] * 9 + ["roll_back"]


@pytest.mark.parametrize(
    ("bad", "calls", "is_enough"), [(3, 10, False), (4, 20, True), (5, 60, False), (6, 60, True)]
)
def test_what_is_enough_and_what_is_not(bad: int, calls: int, is_enough: bool) -> None:
    evidence = StageEvidence(rules())
    verdicts = [evidence.observe_candidate(number >= calls - bad, 0.0) for number in range(calls)]
    assert ("roll_back" in verdicts) is is_enough


@pytest.mark.parametrize(("bad_every", "within"), [(2, 10), (5, 30), (10, 80)])
def test_the_worse_it_is_the_sooner_it_is_rolled_back(bad_every: int, within: int) -> None:
    verdicts = candidate_calls(StageEvidence(rules()), calls=200, bad_every=bad_every)
    print(f"1 in {bad_every} fails: rolled back after {verdicts.index('roll_back') + 1} candidate calls")
    assert verdicts.index("roll_back") < within


def test_at_the_edge_what_burns_too_much_but_may_be_chance_gets_another_window() -> None:
    """5 faults in 200 calls are a burn rate of 2.5; 5 in 400 one of 1.25."""
    evidence = StageEvidence(rules())
    verdicts = []
    for number in range(1, 401):
        verdicts.append(evidence.observe_candidate(number in {20, 60, 100, 140, 180}, float(number)))
    assert verdicts == ["continue"] * 399 + ["advance"]
    assert evidence.burn_rate() == pytest.approx(1.25)


def test_a_window_of_time_is_waited_for_too() -> None:
    evidence = StageEvidence(rules(window_calls=None, window_seconds=600.0))
    verdicts = [evidence.observe_candidate(False, 1000.0 + number) for number in range(700)]
    assert verdicts.index("advance") == 600
    both = StageEvidence(rules(window_calls=200, window_seconds=600.0))
    assert both.observe_candidate(False, 0.0) == both.observe_candidate(False, 10_000.0) == "continue"
    assert [both.observe_candidate(False, 10_000.0) for _ in range(198)][-1] == "advance"


def test_nothing_is_decided_on_less_than_the_minimum_sample() -> None:
    evidence = StageEvidence(rules(window_calls=None, window_seconds=1.0, minimum_sample=10))
    assert [evidence.observe_candidate(False, number * 100.0) for number in range(10)] == ["continue"] * 9 + [
        "advance"
    ]


@pytest.mark.parametrize("share", [0.0, 0.005, 0.01, 0.05])
def test_a_candidate_that_fails_as_often_as_the_primary_is_seldom_rolled_back(share: float) -> None:
    """1,000 seeds, stages of 200 calls, both arms at the same share; 5 % is five times the objective."""
    rolled_back = 0
    for seed in range(1000):
        draw, evidence = random.Random(seed), StageEvidence(rules())
        for _ in range(3000):
            evidence.observe_primary(draw.random() < share, 0.0)
        verdict = "continue"
        while verdict == "continue":
            verdict = evidence.observe_candidate(draw.random() < share, 0.0)
        rolled_back += verdict == "roll_back"
    print(f"both fail {share:.1%}: {rolled_back} of 1,000 stages rolled back")
    assert rolled_back <= 5


@pytest.mark.parametrize(("share", "at_least"), [(0.05, 0.9), (0.1, 0.99), (0.5, 1.0)])
def test_a_candidate_that_fails_many_times_more_often_is_mostly_rolled_back(
    share: float, at_least: float
) -> None:
    rolled_back = 0
    for seed in range(300):
        draw, evidence = random.Random(seed), StageEvidence(rules())
        verdict = "continue"
        while verdict == "continue":
            evidence.observe_primary(draw.random() < 0.005, 0.0)
            verdict = evidence.observe_candidate(draw.random() < share, 0.0)
        rolled_back += verdict == "roll_back"
    print(f"candidate fails {share:.0%}: {rolled_back / 300:.1%} of single stages rolled back")
    assert rolled_back / 300 >= at_least


def test_a_primary_that_fails_as_badly_raises_the_bar_and_only_beyond_chance() -> None:
    evidence = StageEvidence(rules())
    evidence.observe_primary(True, 0.0)
    evidence.observe_primary(True, 0.0)
    for _ in range(120):
        evidence.observe_primary(False, 0.0)
    assert evidence.baseline() == 0.01  # 2 in 122 may be chance
    for number in range(10_000):
        evidence.observe_primary(number % 20 == 0, 0.0)
    assert 0.05 < evidence.baseline() < 0.06


@pytest.mark.parametrize("primary_fails", [9, 10])
def test_however_bad_the_primary_total_failure_of_the_candidate_is_worse(primary_fails: int) -> None:
    evidence = StageEvidence(rules())
    for number in range(1000):
        evidence.observe_primary(number % 10 < primary_fails, 0.0)
    assert candidate_calls(evidence, calls=200, bad_every=1).index("roll_back") < 20


def test_what_the_primary_showed_before_stands_until_it_has_shown_enough() -> None:
    evidence = StageEvidence(rules(), baseline_before=0.06)
    for _ in range(99):
        evidence.observe_primary(False, 0.0)
    assert evidence.baseline() == 0.06
    evidence.observe_primary(False, 0.0)
    assert evidence.baseline() == 0.01


@pytest.mark.parametrize(("bad", "calls"), [(0, 10), (1, 51), (10, 200), (200, 200)])
def test_bounds_are_wilsons(bad: int, calls: int) -> None:
    interval = stats.binomtest(bad, calls).proportion_ci(0.90, method="wilson")
    assert wilson_bounds(bad, calls) == pytest.approx((interval.low, interval.high), abs=1e-4)
    assert wilson_bounds(0, 0) == (0, 1)


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"window_calls": None}, "a stage must end"),
        ({"window_calls": 0}, "window_calls is 0"),
        ({"window_seconds": -1.0}, "window_seconds is -1"),
        ({"minimum_sample": 0}, "minimum_sample is 0"),
        ({"slo_error_rate": 0.0}, "slo_error_rate is 0"),
        ({"slo_error_rate": 0.5}, "below 0.5"),
        ({"burn_multiplier": 1.0}, "above 1 and below 90"),
        ({"burn_multiplier": 90.0}, "above 1 and below 90"),
        ({"chance_of_false_rollback": 1.0}, "within 0 and 1"),
    ],
)
def test_rules_that_could_not_judge_are_refused(changes: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ConfigurationError, match=fragment):
        rules(**changes)
