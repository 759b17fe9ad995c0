"""A candidate earns its traffic stage by stage, and loses all of it at once."""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.routing_traffic import Planted, Routed, constant, drive
from llmscope.errors import AdvanceRefused, ConfigurationError
from llmscope.gateway.routing import CanaryRouter
from llmscope.gateway.routing.canary_stage import StageEvidence
from llmscope.gateway.stages import Target
from tests.llmscope.gateway.routing.requests_and_targets import (
    GPT_4O,
    HAIKU,
    MINI,
    answered,
    failed,
    refused,
    request,
)

# The dearer one is the candidate: it is named, not found by its price.
PRIMARY, CANDIDATE = MINI, GPT_4O
# How many canaries false rollbacks are counted among; GOVERNANCE_SLOW=1 over 1,000.
CANARIES = 1000 if os.environ.get("GOVERNANCE_SLOW") == "1" else 30
GOOD, DEAD = Planted(constant(50.0)), Planted(constant(50.0), constant(1.0))


def traffic(
    router: CanaryRouter, candidate: Planted, *, requests: int, seed: int = 0, primary: Planted = GOOD
) -> list[Routed]:
    planted = {PRIMARY: primary, CANDIDATE: candidate}
    return list(drive(router, planted, requests=requests, per_second=100, seed=seed))


def until_rolled_back(router: CanaryRouter, seed: int = 0) -> tuple[int, int]:
    """Requests until a candidate that always fails is rolled back, and how many of them failed. A request
    at a time, as the forerunner was measured."""
    faults = 0
    for number in range(1, 200_000):
        target = router.choose(request(f"{seed}:{number}"), number / 10).targets[0]
        faults += target == CANDIDATE
        router.observe(failed(target) if target == CANDIDATE else answered(target), number / 10)
        if router.status().state == "rolled_back":
            return number, faults
    raise AssertionError("never rolled back")


@pytest.mark.parametrize(("share", "requests_at_most"), [(0.01, 2000), (0.05, 400), (0.25, 80)])
def test_a_dead_candidate_is_rolled_back_within_ten_of_its_own_requests(
    share: float, requests_at_most: int
) -> None:
    """The forerunner at 25 %: 763 requests, 200 of them failed."""
    counts = []
    for seed in range(20):
        router = CanaryRouter(PRIMARY, CANDIDATE)
        router.set_stage(share)
        counts.append(until_rolled_back(router, seed))
    requests = sorted(requests for requests, _ in counts)
    print(
        f"at {share:.0%}: rolled back after {requests[len(requests) // 2]} requests (median of 20 seeds, "
        f"at most {requests[-1]}), {counts[0][1]} of them failed; forerunner at 25 %: 763, 200 failed"
    )
    assert {faults for _, faults in counts} == {10}
    assert requests[-1] < requests_at_most


def test_judged_at_the_edges_of_windows_only_it_fails_twenty_times_as_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The twin, which is the forerunner's rule: the same stage, looked at after 200 calls."""

    def at_the_edge(self: StageEvidence, is_fault: bool, now_seconds: float) -> str:
        self.candidate_calls += 1
        self.candidate_faults += is_fault
        if self.candidate_calls % 200:
            return "continue"
        return "roll_back" if self.burn_rate() > 2.0 else "advance"

    monkeypatch.setattr(StageEvidence, "observe_candidate", at_the_edge)
    router = CanaryRouter(PRIMARY, CANDIDATE)
    router.set_stage(0.25)
    requests, faults = until_rolled_back(router)
    print(f"at 25 %, at the edges only: {requests} requests, {faults} failed")
    assert faults == 200


def test_rollback_is_to_none_of_the_traffic_and_stays() -> None:
    """The forerunner's rollback left 1 % on the failing candidate."""
    router = CanaryRouter(PRIMARY, CANDIDATE)
    routed = traffic(router, DEAD, requests=8000)
    last = max(one.number for one in routed if one.target == CANDIDATE)
    assert last < 2500
    assert router.status().share == 0
    assert router.status().stage is None
    assert [one.reason for one in router.status().history] == ["auto_rollback"]


def test_simulation_a_healthy_candidate_goes_through_every_stage_to_all_of_the_traffic() -> None:
    """The forerunner never went past its last stage."""
    router = CanaryRouter(PRIMARY, CANDIDATE)
    routed = traffic(router, Planted(constant(50.0), constant(0.002)), requests=30_000)
    history = router.status().history
    assert [(one.from_share, one.to_share, one.reason) for one in history] == [
        (0.01, 0.05, "auto_advance"),
        (0.05, 0.25, "auto_advance"),
        (0.25, 1.0, "auto_advance"),
        (1.0, 1.0, "auto_promote"),
    ]
    assert all(one.candidate_calls == 200 for one in history)
    assert router.status().state == "promoted"
    assert {one.target for one in routed[-1000:]} == {CANDIDATE}


def test_stages_that_end_below_everything_are_followed_by_promotion() -> None:
    router = CanaryRouter(PRIMARY, CANDIDATE, stages=(0.25, 0.5), window_calls=50)
    traffic(router, GOOD, requests=2000)
    assert [(one.to_share, one.reason) for one in router.status().history] == [
        (0.5, "auto_advance"),
        (1.0, "auto_promote"),
    ]


@pytest.mark.parametrize("share", [0.005, 0.01, 0.05])
def test_false_rollbacks_of_whole_canaries_are_rare_when_both_fail_alike(share: float) -> None:
    """Through all stages. With 5 %, five times the objective, the primary is the measure, also at 100 %,
    where it gets no traffic any more."""
    rolled_back = 0
    for seed in range(CANARIES):
        draw = random.Random(seed)
        router = CanaryRouter(PRIMARY, CANDIDATE, stages=(0.05, 0.25, 1.0), window_calls=100)
        for number in range(20_000):
            target = router.choose(request(f"{seed}:{number}"), 0.0).targets[0]
            router.observe(failed(target) if draw.random() < share else answered(target), 0.0)
            if router.status().state != "running":
                break
        rolled_back += router.status().state == "rolled_back"
    print(f"both fail {share:.1%}: {rolled_back} of {CANARIES} canaries rolled back")
    assert rolled_back <= CANARIES // 60


def test_a_failing_candidate_is_never_advanced_however_long_it_runs() -> None:
    """The forerunner ignored the failures of calls and advanced after 400 of them."""
    for seed in range(50):
        router = CanaryRouter(PRIMARY, CANDIDATE)
        until_rolled_back(router, seed)
        assert [one.reason for one in router.status().history] == ["auto_rollback"]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25])
def test_the_candidate_gets_its_share_and_the_same_requests_at_later_stages(share: float) -> None:
    router = CanaryRouter(PRIMARY, CANDIDATE)
    router.set_stage(share)
    ids = [f"request-{number}" for number in range(20_000)]

    def canaried() -> set[str]:
        return {name for name in ids if router.choose(request(name), 0.0).targets[0] == CANDIDATE}

    now = canaried()
    assert len(now) == pytest.approx(share * 20_000, rel=0.25)
    assert canaried() == now
    router.set_stage(1.0)
    assert now < canaried()
    again = CanaryRouter(PRIMARY, CANDIDATE)
    again.set_stage(share)
    assert {name for name in ids if again.choose(request(name), 9.0).targets[0] == CANDIDATE} == now


def test_the_primary_is_the_candidates_fallback_and_the_candidate_nobodys() -> None:
    router = CanaryRouter(PRIMARY, CANDIDATE, stages=(0.5, 1.0))
    choices = {router.choose(request(f"r{number}"), 0.0) for number in range(100)}
    assert {(choice.targets, choice.decision) for choice in choices} == {
        ((CANDIDATE, PRIMARY), "canary"),
        ((PRIMARY,), "primary"),
    }
    assert {choice.reason for choice in choices} == {"50 % of requests go to openai/gpt-4o (running)"}


def test_what_is_routed_is_what_is_counted() -> None:
    """The forerunner tracked one provider and routed to another; here attempts at anything else, and
    those that ended for the caller's own fault, count for nothing."""
    router = CanaryRouter(PRIMARY, CANDIDATE)
    for number in range(500):
        router.observe(failed(HAIKU), number)
        router.observe(refused(CANDIDATE), number)
    assert (router.status().candidate_calls, router.status().primary_calls) == (0, 0)
    router.observe(failed(CANDIDATE), 1.0)
    router.observe(answered(PRIMARY), 1.0)
    status = router.status()
    assert (status.candidate_calls, status.candidate_faults) == (1, 1)
    assert (status.primary_calls, status.primary_faults) == (1, 0)
    assert status.burn_rate == 100


def test_prices_do_not_decide_who_is_the_candidate() -> None:
    cheap_candidate = CanaryRouter(GPT_4O, MINI, stages=(0.5,))
    choices = [cheap_candidate.choose(request(f"r{n}"), 0.0) for n in range(100)]
    assert {choice.targets[0] for choice in choices if choice.decision == "canary"} == {MINI}


def test_an_explicit_model_is_respected() -> None:
    router = CanaryRouter(PRIMARY, CANDIDATE, stages=(0.5,), provider_name="vllm")
    for number in range(50):
        name = f"r{number}"
        assert router.choose(request(name, model=PRIMARY.model), 0.0).targets == (PRIMARY,)
        assert router.choose(request(name, model=CANDIDATE.model), 0.0).targets == (CANDIDATE,)
        other = router.choose(request(name, model="something"), 0.0)
        assert other.targets == (Target("vllm", "something"),)
        assert other.decision == "explicit_model"
    auto = {router.choose(request(f"r{number}", model="auto"), 0.0).targets[0] for number in range(50)}
    assert auto == {PRIMARY, CANDIDATE}


def test_one_model_at_two_providers_is_a_canary_for_requests_of_that_model() -> None:
    azure = Target("azure", MINI.model)
    router = CanaryRouter(MINI, azure, stages=(0.5,))
    first = {router.choose(request(f"r{n}", model=MINI.model), 0.0).targets[0] for n in range(50)}
    assert first == {MINI, azure}


def test_each_tier_has_its_own_pair_or_its_primary_only() -> None:
    azure = Target("azure", "gpt-4o")
    router = CanaryRouter(
        {"cheap": MINI, "expensive": GPT_4O, "golden": HAIKU},
        {"cheap": Target("azure", "gpt-4o-mini"), "expensive": azure},
        stages=(0.5,),
    )
    first = {router.choose(request(f"r{n}", tier="expensive"), 0.0).targets[0] for n in range(50)}
    assert first == {GPT_4O, azure}
    assert {router.choose(request(f"r{n}", tier="golden"), 0.0).targets for n in range(50)} == {(HAIKU,)}
    for _ in range(10):
        router.observe(failed(azure), 0.0)
    assert router.status().state == "rolled_back"


def test_a_candidate_that_answers_too_slowly_is_rolled_back_and_not_if_the_primary_is_as_slow() -> None:
    slow = Planted(constant(3000.0))
    router = CanaryRouter(PRIMARY, CANDIDATE, slo_latency_ms=1000.0)
    traffic(router, slow, requests=5000)
    assert router.status().state == "rolled_back"
    without = CanaryRouter(PRIMARY, CANDIDATE)
    traffic(without, slow, requests=5000)
    assert without.status().state == "running"
    # About 7 % of either's answers take longer than a second.
    alike = Planted(constant(640.0))
    both = CanaryRouter(PRIMARY, CANDIDATE, slo_latency_ms=1000.0, stages=(0.25, 1.0))
    traffic(both, alike, primary=alike, requests=5000)
    assert both.status().state == "promoted"


# By hand ------------------------------------------------------------------------------------------------


def test_an_operator_advances_to_the_end() -> None:
    router = CanaryRouter(PRIMARY, CANDIDATE)
    assert [router.advance(now_seconds=float(n)).to_share for n in range(4)] == [0.05, 0.25, 1.0, 1.0]
    assert router.status().state == "promoted"
    assert [one.at_seconds for one in router.status().history] == [0, 1, 2, 3]
    with pytest.raises(AdvanceRefused, match="promoted"):
        router.advance()


@pytest.mark.parametrize("multiplier", [1.5, 3.0, 50.0])
def test_advancing_what_burns_needs_force_and_the_configured_multiplier_is_the_bound(
    multiplier: float,
) -> None:
    """The forerunner compared with 2.0 whatever was configured."""
    router = CanaryRouter(PRIMARY, CANDIDATE, burn_multiplier=multiplier)
    for number in range(1, 101):
        router.observe(failed(CANDIDATE) if number in {50, 100} else answered(CANDIDATE), 1.0)
    assert router.status().burn_rate == pytest.approx(2.0)
    if multiplier < 2:
        with pytest.raises(AdvanceRefused, match=r"burns 2 times .*2 faults in 100 attempts.*force=True"):
            router.advance()
        assert router.status().share == 0.01
        assert router.advance(force=True).to_share == 0.05
    else:
        assert router.advance().to_share == 0.05


def test_an_operator_rolls_back_and_starts_again() -> None:
    router = CanaryRouter(PRIMARY, CANDIDATE, cool_off_seconds=10.0)
    assert router.rollback(now_seconds=5.0).to_share == 0
    assert router.choose(request(), 10_000.0).targets == (PRIMARY,)  # by hand it stays until told
    assert router.advance().to_share == 0.01
    assert router.status().state == "running"
    assert router.set_stage(0).to_share == 0
    assert router.set_stage(0.25).to_share == 0.25
    assert [one.reason for one in router.status().history] == [
        "manual_rollback", "manual_advance", "manual_stage", "manual_stage"
    ]  # fmt: skip
    with pytest.raises(
        ConfigurationError, match=r"no stage has a share of 0.3; there are: 0, 0.01, 0.05, 0.25, 1"
    ):
        router.set_stage(0.3)


def test_a_promoted_candidate_can_be_taken_back() -> None:
    router = CanaryRouter(PRIMARY, CANDIDATE, stages=(1.0,), window_calls=10)
    traffic(router, GOOD, requests=20)
    assert router.status().state == "promoted"
    router.rollback()
    assert router.choose(request(), 0.0).targets == (PRIMARY,)


def test_after_a_cool_off_the_first_stage_begins_again_with_nothing_held_against_it() -> None:
    router = CanaryRouter(PRIMARY, CANDIDATE, cool_off_seconds=600.0)
    for _ in range(10):
        router.observe(failed(CANDIDATE), 100.0)
    assert router.choose(request(), 699.0).targets == (PRIMARY,)
    assert router.status().share == 0
    router.choose(request(), 700.0)
    status = router.status()
    assert (status.share, status.candidate_calls) == (0.01, 0)
    assert [(one.at_seconds, one.reason) for one in status.history] == [
        (100, "auto_rollback"),
        (700, "cool_off_over"),
    ]


def test_an_operators_rollback_ends_the_cool_off() -> None:
    router = CanaryRouter(PRIMARY, CANDIDATE, cool_off_seconds=600.0)
    for _ in range(10):
        router.observe(failed(CANDIDATE), 100.0)
    router.rollback(now_seconds=200.0)
    router.choose(request(), 10_000.0)
    assert router.status().state == "rolled_back"


def test_what_the_primary_showed_before_a_rollback_excuses_nothing_after_a_new_start() -> None:
    """The primary failed 10 % then; 4 faults in 20 calls are too many now."""
    router = CanaryRouter(PRIMARY, CANDIDATE)
    for number in range(1000):
        router.observe(failed(PRIMARY) if number % 10 == 0 else answered(PRIMARY), 1.0)
    router.rollback()
    router.advance()
    for number in range(20):
        router.observe(failed(CANDIDATE) if number % 5 == 4 else answered(CANDIDATE), 2.0)
    assert router.status().history[-1].reason == "auto_rollback"


def test_answers_that_come_in_after_a_rollback_change_nothing() -> None:
    router = CanaryRouter(PRIMARY, CANDIDATE)
    router.rollback()
    for _ in range(1000):
        router.observe(answered(CANDIDATE), 1.0)
    assert router.status().state == "rolled_back"
    assert router.status().candidate_calls == 0


def test_every_transition_is_in_the_history_and_in_the_programs_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="llmscope")
    router = CanaryRouter(PRIMARY, CANDIDATE)
    router.advance(now_seconds=1.0)
    for number in range(30):
        router.observe(answered(PRIMARY), 2.0 + number)
    for number in range(10):
        router.observe(failed(CANDIDATE), 32.0 + number)
    last = router.status().history[-1]
    assert (last.at_seconds, last.from_share, last.to_share, last.reason) == (41, 0.05, 0, "auto_rollback")
    assert (last.candidate_calls, last.candidate_faults) == (10, 10)
    assert (last.primary_calls, last.primary_faults, last.burn_rate) == (30, 0, 100)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "INFO",
            "canary openai/gpt-4o: from 1 % to 5 % of requests (manual_advance): "
            "candidate: 0 faults in 0 attempts, primary: 0 in 0",
        ),
        (
            "WARNING",
            "canary openai/gpt-4o: from 5 % to 0 % of requests (auto_rollback): "
            "candidate: 10 faults in 10 attempts, primary: 0 in 30",
        ),
    ]


def test_the_history_is_bounded() -> None:
    router = CanaryRouter(PRIMARY, CANDIDATE)
    for _ in range(1500):
        router.set_stage(0.05)
    assert len(router.status().history) == 1000


@pytest.mark.parametrize(
    ("primary", "candidate", "fragment"),
    [
        (MINI, MINI, "is primary and candidate; a canary needs two different targets"),
        ({"cheap": MINI}, {}, "a canary needs two targets"),
        ({"cheap": MINI}, {"expensive": GPT_4O}, "tier 'expensive' has a candidate and no primary"),
        ({"cheap": MINI, "b": GPT_4O}, {"cheap": GPT_4O}, "is primary and candidate"),
        (MINI, None, "got Target and NoneType"),
        ({"cheap": MINI}, GPT_4O, "or both by tier"),
    ],
)
def test_fewer_than_two_targets_are_refused_at_construction(
    primary: Any, candidate: Any, fragment: str
) -> None:
    """The forerunner answered 502 to every call instead."""
    with pytest.raises(ConfigurationError, match=fragment):
        CanaryRouter(primary, candidate)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"stages": ()}, "give rising shares"),
        ({"stages": (0.05, 0.01)}, "give rising shares"),
        ({"stages": (0.0, 0.5)}, "give rising shares"),
        ({"stages": (1, 5, 25)}, "up to 1"),
        ({"window_calls": None}, "a stage must end"),
        ({"cool_off_seconds": 0.0}, "cool_off_seconds is 0"),
        ({"slo_latency_ms": 0.0}, "slo_latency_ms is 0"),
        ({"burn_multiplier": 100.0}, "below 90"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ConfigurationError, match=fragment):
        CanaryRouter(PRIMARY, CANDIDATE, **options)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_happens_the_history_is_one_chain_and_nothing_starts_by_itself(data: st.DataObject) -> None:
    """Any order of attempts, late ones too, and of an operator's hands."""
    stages = (0.1, 0.5, 1.0)
    router = CanaryRouter(PRIMARY, CANDIDATE, stages=stages, window_calls=12, minimum_sample=3)
    steps = st.sampled_from(["good", "bad", "primary", "advance", "force", "rollback", "stage"])
    for number, step in enumerate(data.draw(st.lists(steps, max_size=120))):
        before, length = router.status(), len(router.status().history)
        if step == "stage":
            router.set_stage(data.draw(st.sampled_from((0, *stages))), now_seconds=float(number))
        elif step in {"advance", "force"}:
            with contextlib.suppress(AdvanceRefused):
                router.advance(force=step == "force", now_seconds=float(number))
        elif step == "rollback":
            router.rollback(now_seconds=float(number))
        else:
            observation = {
                "good": answered(CANDIDATE),
                "bad": failed(CANDIDATE),
                "primary": answered(PRIMARY),
            }
            router.observe(observation[step], float(number))
            if before.state != "running":
                assert router.status() == before
        after = router.status()
        assert after.share == (stages[after.stage] if after.stage is not None else after.share)
        assert after.share in {0, *stages}
        assert len(after.history) - length <= 1
        if len(after.history) > length:
            assert (after.candidate_calls, after.candidate_faults) == (0, 0)
            assert after.history[-1].at_seconds == number
    chain = [stages[0], *(one.to_share for one in router.status().history)]
    assert [one.from_share for one in router.status().history] == chain[:-1]
    assert router.status().share == chain[-1]


def test_two_canaries_with_other_seeds_do_not_share_their_requests() -> None:
    one, other = (CanaryRouter(PRIMARY, CANDIDATE, stages=(0.25,), seed=seed) for seed in (1, 2))
    both = Counter(
        (one.choose(request(f"r{n}"), 0.0).decision, other.choose(request(f"r{n}"), 0.0).decision)
        for n in range(10_000)
    )
    assert both["canary", "canary"] == pytest.approx(625, abs=100)
