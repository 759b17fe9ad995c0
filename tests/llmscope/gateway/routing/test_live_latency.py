"""A p95 over a window of time: neither over the last hundred calls, nor over what is long past."""

from __future__ import annotations

import math
import random

import pytest

from llmscope.gateway.routing import live_latency
from llmscope.gateway.routing.live_latency import LiveLatency

WINDOW_SECONDS = 300.0


def live(minimum_sample: int = 20) -> LiveLatency:
    return LiveLatency(WINDOW_SECONDS, minimum_sample)


def exact_p95(latencies: list[float]) -> float:
    return sorted(latencies)[math.ceil(0.95 * len(latencies)) - 1]


def test_at_a_thousand_calls_a_second_the_window_is_still_its_whole_time() -> None:
    """The forerunner's "last 100 attempts" were a tenth of a second of such traffic."""
    latency, seen = live(), []
    for number in range(20_000):
        ms = 10.0 if number < 19_900 else 900.0
        latency.observe(ms, False, number / 1000)
        seen.append(ms)
    assert latency.attempts(20.0) == 20_000
    assert exact_p95(seen) == 10.0
    assert latency.p95_ms(20.0) == pytest.approx(10, rel=0.011)


def test_the_p95_is_within_one_per_cent_while_the_window_moves() -> None:
    latency, draw = live(), random.Random(3)
    history: list[tuple[float, float]] = []
    for number in range(6000):
        now = number * 0.25
        ms = draw.lognormvariate(5, 0.5)
        history.append((now, ms))
        latency.observe(ms, False, now)
        if number % 500 == 499:
            # The window moves by its parts of 30 s; a cached value may lag by two per cent of the attempts.
            since = (now // 30 - 9) * 30
            in_window = [ms for at, ms in history if at >= since]
            ranks = sorted(in_window)
            low, high = (ranks[round(share * len(ranks)) - 1] for share in (0.945, 0.955))
            assert latency.attempts(now) == len(in_window)
            assert low * 0.98 <= (latency.p95_ms(now) or 0) <= high * 1.02


def test_what_is_older_than_the_window_is_forgotten() -> None:
    latency = live()
    for number in range(100):
        latency.observe(5000.0, False, number / 10)
    for number in range(100):
        latency.observe(20.0, False, 290 + number / 2)
    assert latency.p95_ms(340.0) == pytest.approx(20, rel=0.011)
    assert latency.attempts(340.0) == 100


def test_time_alone_changes_the_p95() -> None:
    latency = live()
    for _ in range(100):
        latency.observe(5000.0, False, 0.0)
    for _ in range(100):
        latency.observe(20.0, False, 200.0)
    assert latency.p95_ms(200.0) == pytest.approx(5000, rel=0.011)
    assert latency.p95_ms(310.0) == pytest.approx(20, rel=0.011)


def test_rare_attempts_are_remembered_until_there_are_enough_newer_ones() -> None:
    """One probe every 20 s is 15 in a window of 300 s: the window reaches back for the 20 it takes."""
    latency = live(minimum_sample=20)
    for number in range(100):
        latency.observe(100.0 if number < 50 else 40.0, False, number * 20.0)
    assert 20 <= latency.attempts(2000.0) <= 22
    assert latency.p95_ms(2000.0) == pytest.approx(40, rel=0.011)


def test_without_the_reach_rare_attempts_never_measure_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: the same probes, and no reach beyond the window."""
    monkeypatch.setattr(live_latency, "LONGEST_REACH_WINDOWS", 1)
    latency = live(minimum_sample=20)
    for number in range(100):
        latency.observe(40.0, False, number * 20.0)
        assert latency.p95_ms(number * 20.0) is None


def test_after_an_hour_without_attempts_nothing_is_known() -> None:
    latency = live()
    for _ in range(50):
        latency.observe(100.0, False, 0.0)
    assert latency.p95_ms(3500.0) is not None
    assert latency.p95_ms(3600.0 + 30) is None
    assert latency.attempts(3630.0) == 0


def test_fewer_than_the_minimum_sample_is_no_measurement() -> None:
    latency = live(minimum_sample=20)
    for _ in range(19):
        latency.observe(100.0, False, 1.0)
    assert latency.p95_ms(1.0) is None
    latency.observe(100.0, False, 1.0)
    assert latency.p95_ms(1.0) == pytest.approx(100, rel=0.011)


@pytest.mark.parametrize(("faults", "is_infinite"), [(5, False), (6, True)])
def test_a_fault_is_an_answer_that_never_comes(faults: int, is_infinite: bool) -> None:
    """Of 100 attempts 5 faults leave a p95, 6 do not; a target that fails at once is not fast."""
    latency = live()
    for number in range(100):
        latency.observe(1.0 if number < faults else 80.0, number < faults, 1.0)
    p95 = latency.p95_ms(1.0)
    assert p95 == (math.inf if is_infinite else pytest.approx(80, rel=0.011))
    assert latency.fault_share(1.0) == faults / 100


def test_memory_does_not_grow_with_traffic_or_time() -> None:
    latency, draw = live(), random.Random(4)
    for number in range(50_000):
        latency.observe(draw.lognormvariate(5, 1), False, number * 0.5)
    assert len(latency._parts) <= 10
    sparse = live()
    for number in range(5000):
        sparse.observe(100.0, False, number * 700.0)
    assert len(sparse._parts) <= 20


def test_a_thread_that_heard_the_time_earlier_disturbs_nothing() -> None:
    latency = live()
    for number in range(100):
        latency.observe(50.0, False, 1000.0 - (number % 7) * 40)
    assert latency.attempts(1000.0) == 100
    assert latency.p95_ms(1000.0) == pytest.approx(50, rel=0.011)
