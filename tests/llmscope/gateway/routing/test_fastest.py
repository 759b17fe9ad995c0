"""The lowest live p95 wins, everybody is measured, and nobody is forgotten."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.routing_traffic import Planted, Routed, constant, drive, during
from llmscope.errors import ConfigurationError
from llmscope.gateway.routing import FastestP95Router
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

A, B, C = Target("a", "m"), Target("b", "m"), Target("c", "m")


def taken_by(target: Target, routed: list[Routed], since: float, until: float) -> float:
    """The target's share of the requests between two instants."""
    among = [one.target for one in routed if since <= one.now_seconds < until]
    return among.count(target) / len(among)


def measured(router: FastestP95Router, latencies_ms: dict[Target, float], now_seconds: float = 0.0) -> None:
    for target, latency_ms in latencies_ms.items():
        for _ in range(50):
            router.observe(answered(target, latency_ms), now_seconds)


def not_explored(router: FastestP95Router, now_seconds: float = 1.0) -> tuple[Target, ...]:
    """The order for requests that are not drawn for exploration."""
    orders = Counter(router.choose(request(f"r{number}"), now_seconds).targets for number in range(200))
    return orders.most_common(1)[0][0]


def test_the_lowest_p95_first_and_the_others_follow_in_order() -> None:
    router = FastestP95Router([A, B, C])
    measured(router, {A: 300.0, B: 100.0, C: 200.0})
    assert not_explored(router) == (B, C, A)
    reasons = {router.choose(request(f"r{number}"), 1.0).reason for number in range(100)}
    assert "b/m: p95 100 ms over 300 s" in reasons


def test_simulation_converges_to_the_fastest_sees_it_degrade_and_sees_it_recover() -> None:
    """10 requests a second; b is the fastest but between 600 and 1200 s, when it takes 2 s."""
    planted = {
        A: Planted(constant(300.0)),
        B: Planted(during(600, 1200, 2000.0, 100.0)),
        C: Planted(constant(500.0)),
    }
    routed = list(drive(FastestP95Router([A, B, C]), planted, requests=18_000, per_second=10))
    assert taken_by(B, routed, 10, 600) > 0.97
    assert taken_by(A, routed, 640, 1200) > 0.97
    assert taken_by(B, routed, 1200 + 330, 1800) > 0.97


def test_without_exploration_a_recovered_target_is_never_asked_again() -> None:
    """The twin, which is the forerunner: the same traffic, nothing explored."""
    planted = {A: Planted(constant(300.0)), B: Planted(during(600, 1200, 2000.0, 100.0))}
    router = FastestP95Router([A, B])
    measured(router, {A: 300.0, B: 100.0})
    router._exploration_share = 0.0
    routed = list(drive(router, planted, requests=18_000, per_second=10))
    assert taken_by(B, routed, 10, 600) == 1
    # What it remembers of b lasts for an hour; nothing new is learned of it.
    assert taken_by(B, routed, 640, 1800) == 0


@pytest.mark.parametrize("per_second", [1, 20])
def test_an_unmeasured_target_is_explored_and_wins_if_it_is_faster(per_second: int) -> None:
    """The forerunner let an unmeasured provider lose to any measured one, for ever."""
    router = FastestP95Router([A, B])
    measured(router, {A: 300.0})
    planted = {A: Planted(constant(300.0)), B: Planted(constant(50.0))}
    seconds = 2400 if per_second == 1 else 240
    routed = list(drive(router, planted, requests=seconds * per_second, per_second=per_second))
    assert taken_by(B, routed, seconds * 0.8, seconds) > 0.95


def test_the_exploration_share_is_kept_and_spread_over_all_others() -> None:
    router = FastestP95Router([A, B, C], exploration_share=0.04)
    measured(router, {A: 100.0, B: 200.0, C: 300.0})
    first = Counter(router.choose(request(f"r{number}"), 1.0).targets[0] for number in range(20_000))
    assert first[B] == pytest.approx(400, abs=80)
    assert first[C] == pytest.approx(400, abs=80)


def test_an_explored_request_falls_back_to_the_fastest() -> None:
    router = FastestP95Router([A, B, C], exploration_share=0.5)
    measured(router, {A: 100.0, B: 200.0, C: 300.0})
    for number in range(100):
        choice = router.choose(request(f"r{number}"), 1.0)
        if choice.targets[0] != A:
            assert choice.targets[1] == A
            assert choice.reason.startswith("exploration")


def test_while_nobody_is_measured_requests_are_spread() -> None:
    router = FastestP95Router([A, B, C])
    first = Counter(router.choose(request(f"r{number}"), 0.0).targets[0] for number in range(3000))
    assert all(first[target] == pytest.approx(1000, abs=120) for target in (A, B, C))


def test_a_replay_of_the_same_requests_is_routed_the_same() -> None:
    planted = {A: Planted(constant(300.0)), B: Planted(constant(290.0))}

    def replay(seed: int) -> list[Target]:
        router = FastestP95Router([A, B], seed=seed)
        return [one.target for one in drive(router, planted, requests=3000, per_second=5)]

    assert replay(1) == replay(1)
    assert replay(1) != replay(2)


def test_a_target_that_fails_fast_is_not_fast() -> None:
    """10 % of b's attempts fail after 1 ms: without counting them its p95 would be the lowest."""
    planted = {A: Planted(constant(300.0)), B: Planted(constant(100.0), constant(0.1))}
    routed = list(drive(FastestP95Router([A, B]), planted, requests=4000, per_second=10))
    assert taken_by(A, routed, 100, 400) > 0.95


def test_when_all_fail_the_one_that_fails_least_is_first_and_an_unknown_one_is_preferred() -> None:
    router = FastestP95Router([A, B])
    for number in range(50):
        router.observe(failed(A) if number % 2 else answered(A), 0.0)
        router.observe(failed(B) if number % 5 == 0 else answered(B), 0.0)
    assert not_explored(router) == (B, A)
    with_unknown = FastestP95Router([A, B])
    for _ in range(50):
        with_unknown.observe(failed(A), 0.0)
    assert not_explored(with_unknown) == (B, A)


def test_the_model_counts_not_the_provider() -> None:
    """Two models at one provider are two targets with latencies of their own."""
    router = FastestP95Router([GPT_4O, MINI, HAIKU])
    measured(router, {GPT_4O: 900.0, MINI: 100.0, HAIKU: 300.0})
    assert not_explored(router) == (MINI, HAIKU, GPT_4O)


def test_refusals_for_the_callers_fault_and_strangers_are_not_counted() -> None:
    router = FastestP95Router([A, B], minimum_sample=1)
    for _ in range(100):
        router.observe(refused(A), 0.0)
        router.observe(answered(Target("elsewhere", "m"), 5.0), 0.0)
    assert router.p95_ms(A, 0.0) is None
    assert set(router._latency) == {A, B}


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"exploration_share": 0.0}, "exploration_share is 0.0"),
        ({"exploration_share": 0.6}, "at most 0.5"),
        ({"window_seconds": 0}, "window_seconds is 0"),
        ({"minimum_sample": 0}, "minimum_sample is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, float], fragment: str) -> None:
    with pytest.raises(ConfigurationError, match=fragment):
        FastestP95Router([A, B], **options)  # type: ignore[arg-type]
