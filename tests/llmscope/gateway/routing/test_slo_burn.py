"""Cheapest while healthy; away while it burns; back when it has recovered."""

from __future__ import annotations

import logging

import pytest

from benchmarks.routing_traffic import Planted, Routed, constant, drive, during
from llmscope.errors import ConfigurationError
from llmscope.gateway.routing import BurnWindow, SloBurnRouter
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

HEALTHY = Planted(constant(100.0), constant(0.002))
OUTAGE = during(600.0, 900.0, 1.0, 0.002)


def break_down(router: SloBurnRouter, target: Target, *, calls: int = 50, now_seconds: float = 0.0) -> None:
    for number in range(calls):
        router.observe(failed(target), now_seconds + number / 10)


def not_exploring(router: SloBurnRouter, now_seconds: float = 10.0) -> tuple[Target, ...]:
    """The order for a request that is not drawn as a probe."""
    for number in range(1000):
        choice = router.choose(request(f"r{number}"), now_seconds)
        if not choice.reason.startswith("exploration"):
            return choice.targets
    raise AssertionError("every request is a probe")


def first_diverted(routed: list[Routed], cheap: Target, since: float) -> tuple[int, float]:
    """How many requests, and seconds, until one goes elsewhere."""
    later = [one for one in routed if one.now_seconds >= since]
    number = next(number for number, one in enumerate(later) if one.target != cheap)
    return number, later[number].now_seconds - since


def returned(routed: list[Routed], cheap: Target, since: float, run: int = 50) -> float | None:
    """Seconds until `run` requests in a row go to the cheap target again; None if they never do."""
    later = [one for one in routed if one.now_seconds >= since]
    in_a_row = 0
    for one in later:
        in_a_row = in_a_row + 1 if one.target == cheap else 0
        if in_a_row == run:
            return one.now_seconds - since
    return None


def test_while_all_are_healthy_the_cheapest_gets_everything() -> None:
    router = SloBurnRouter([GPT_4O, HAIKU, MINI])
    routed = list(drive(router, dict.fromkeys((GPT_4O, HAIKU, MINI), HEALTHY), requests=5000, per_second=10))
    assert {one.target for one in routed} == {MINI}
    assert routed[0].choice.targets == (MINI, HAIKU, GPT_4O)
    assert routed[-1].choice.reason.startswith(
        "openai/gpt-4o-mini: 0.000195 USD expected, no candidate burns"
    )


@pytest.mark.parametrize("per_second", [2, 10])
def test_simulation_diverts_from_an_outage_and_returns_after_it(per_second: int) -> None:
    """Five minutes of total outage after ten of health."""
    router = SloBurnRouter([HAIKU, MINI])
    planted = {MINI: Planted(constant(100.0), OUTAGE), HAIKU: HEALTHY}
    routed = list(drive(router, planted, requests=1800 * per_second, per_second=per_second))
    requests_until, seconds_until = first_diverted(routed, MINI, 600.0)
    back = returned(routed, MINI, 900.0)
    print(
        f"{per_second}/s: diverted after {requests_until} requests ({seconds_until:.0f} s), "
        f"returned after {back} s; forerunner: never"
    )
    assert seconds_until < 20
    assert back is not None
    assert back < (600 if per_second == 2 else 120)
    lost = sum(one.is_fault for one in routed if 600 <= one.now_seconds < 900)
    # While it burns one request in twenty probes it.
    assert lost < requests_until + 0.08 * 300 * per_second


def test_without_exploration_traffic_never_returns() -> None:
    """The twin, which is the forerunner."""
    router = SloBurnRouter([HAIKU, MINI])
    router._exploration_share = 0.0
    planted = {MINI: Planted(constant(100.0), OUTAGE), HAIKU: HEALTHY}
    routed = list(drive(router, planted, requests=7500, per_second=5))
    assert first_diverted(routed, MINI, 600.0)[1] < 20
    assert returned(routed, MINI, 900.0) is None


def test_one_error_in_fifty_one_calls_diverts_nobody() -> None:
    """The forerunner sent all of the next 1,000 calls elsewhere."""
    router = SloBurnRouter([HAIKU, MINI])
    for number in range(51):
        router.observe(failed(MINI) if number == 25 else answered(MINI), number)
    assert {router.choose(request(f"r{n}"), 60.0).targets[0] for n in range(1000)} == {MINI}


def test_traffic_goes_to_the_next_cheapest_that_does_not_burn_and_what_burns_comes_last() -> None:
    router = SloBurnRouter([GPT_4O, HAIKU, MINI])
    break_down(router, MINI)
    assert not_exploring(router) == (HAIKU, GPT_4O, MINI)
    break_down(router, HAIKU)
    assert not_exploring(router)[0] == GPT_4O
    assert router.is_burning(MINI)
    assert not router.is_burning(GPT_4O)


def test_when_all_burn_the_one_that_burns_least_is_asked() -> None:
    router = SloBurnRouter([MINI, HAIKU])
    for number in range(200):
        router.observe(failed(MINI), number / 50)
        router.observe(failed(HAIKU) if number % 2 else answered(HAIKU), number / 50)
    assert router.is_burning(MINI)
    assert router.is_burning(HAIKU)
    assert not_exploring(router, 4.0) == (HAIKU, MINI)
    assert "every candidate burns" in next(
        choice.reason
        for choice in (router.choose(request(f"r{n}"), 4.0) for n in range(100))
        if not choice.reason.startswith("exploration")
    )


def test_when_all_burn_the_probes_go_to_the_others() -> None:
    router = SloBurnRouter([MINI, HAIKU], exploration_share=0.1)
    for number in range(200):
        router.observe(failed(MINI), number / 50)
        router.observe(failed(HAIKU) if number % 2 else answered(HAIKU), number / 50)
    first = [router.choose(request(f"r{number}"), 4.0).targets[0] for number in range(5000)]
    assert first.count(MINI) == pytest.approx(500, abs=90)


def test_probes_are_the_exploration_share_and_fall_back_to_the_healthy_ones() -> None:
    router = SloBurnRouter([HAIKU, MINI, GPT_4O], exploration_share=0.05)
    break_down(router, MINI)
    choices = [router.choose(request(f"r{number}"), 10.0) for number in range(10_000)]
    probes = [choice for choice in choices if choice.targets[0] == MINI]
    assert len(probes) == pytest.approx(500, abs=90)
    assert {choice.targets for choice in probes} == {(MINI, HAIKU, GPT_4O)}
    assert all("has openai/gpt-4o-mini recovered" in choice.reason for choice in probes)


def test_slow_answers_burn_an_objective_of_their_own() -> None:
    """No answer fails; three in four are slower than the objective for five minutes."""
    slow = during(600.0, 900.0, 3000.0, 200.0)
    router = SloBurnRouter([HAIKU, MINI], slo_latency_ms=1000.0, slo_slow_share=0.05)
    planted = {MINI: Planted(slow), HAIKU: Planted(constant(200.0))}
    routed = list(drive(router, planted, requests=9000, per_second=5))
    assert first_diverted(routed, MINI, 600.0)[1] < 70
    back = returned(routed, MINI, 900.0)
    assert back is not None
    assert back < 300
    without = SloBurnRouter([HAIKU, MINI])
    assert {one.target for one in drive(without, planted, requests=9000, per_second=5)} == {MINI}


def test_transitions_are_told_to_the_programs_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="llmscope")
    router = SloBurnRouter([HAIKU, MINI])
    break_down(router, MINI)
    for number in range(30):
        router.observe(answered(MINI), 10.0 + number)
    messages = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert messages == [
        (
            "WARNING",
            "slo_burn_aware: openai/gpt-4o-mini burns (errors 1 min/5 s above 14.4); traffic goes elsewhere",
        ),
        ("INFO", "slo_burn_aware: openai/gpt-4o-mini has recovered; traffic returns"),
    ]


def test_refusals_for_the_callers_fault_and_strangers_are_not_counted() -> None:
    router = SloBurnRouter([HAIKU, MINI])
    for number in range(100):
        router.observe(refused(MINI), number / 10)
        router.observe(failed(GPT_4O), number / 10)
    assert not router.is_burning(MINI)
    assert router.burn_rate(MINI, 60.0, 10.0) == 0
    assert set(router._errors) == {HAIKU, MINI}
    break_down(router, MINI, now_seconds=20.0)
    for number in range(100):
        router.observe(refused(MINI), 30.0 + number)
    assert router.is_burning(MINI)  # a hundred refusals are no hundred answers


def test_its_own_windows_and_objective_can_be_given() -> None:
    router = SloBurnRouter([HAIKU, MINI], slo_error_rate=0.2, burn_windows=[BurnWindow(60.0, 5.0, 2.0)])
    for number in range(100):
        router.observe(failed(MINI) if number % 3 == 0 else answered(MINI), number / 10)
    assert not router.is_burning(MINI)
    break_down(router, MINI, calls=100, now_seconds=10.0)
    assert router.is_burning(MINI)
    assert router.burn_rate(MINI, 5.0, 20.0) == pytest.approx(5)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"slo_error_rate": 0.0}, "within 0 and 1"),
        ({"slo_error_rate": 0.1}, "give burn_windows with lower thresholds"),
        ({"slo_latency_ms": 0.0}, "slo_latency_ms is 0.0"),
        ({"slo_latency_ms": 5.0, "slo_slow_share": 1.0}, "within 0 and 1"),
        ({"exploration_share": 0.0}, "exploration_share is 0.0"),
        ({"minimum_sample": 0}, "minimum_sample is 0"),
        ({"burn_windows": ()}, "burn_windows is empty"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, object], fragment: str) -> None:
    with pytest.raises(ConfigurationError, match=fragment):
        SloBurnRouter([HAIKU, MINI], **options)  # type: ignore[arg-type]
