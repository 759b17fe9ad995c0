"""The circuit breaker: when it opens, who probes, and what late results are worth."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

import llmscope
from llmscope import CircuitState, ConfigurationError, ProviderResponse, VirtualClock
from llmscope.errors import CircuitOpen
from llmscope.gateway.breaker import Breakers, ProviderBreaker
from llmscope.gateway.runtime import Runtime, use_runtime
from llmscope.gateway.stages import RouteParts
from tests.llmscope.gateway.test_client import GOOD, START, route
from tests.llmscope.scripted import ScriptedError, ScriptedProvider, events


def opened(at: float = 0.0, **settings: float) -> ProviderBreaker:
    breaker = ProviderBreaker(**settings)  # type: ignore[arg-type]
    for _ in range(5):
        permit = breaker.admit(at)
        assert permit is not None
        permit.fail(at)
    return breaker


def outcomes(breaker: ProviderBreaker, results: str, at: float = 0.0) -> None:
    """One attempt per letter: `.` answers, `x` fails."""
    for result in results:
        permit = breaker.admit(at)
        assert permit is not None, "the circuit opened too early"
        (permit.succeed if result == "." else permit.fail)(at)


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    breaker = ProviderBreaker()
    outcomes(breaker, "xxxx.xxxx")
    assert breaker.state(0) is CircuitState.CLOSED
    outcomes(breaker, "x")
    assert breaker.state(0) is CircuitState.OPEN
    assert breaker.admit(29.9) is None


def test_more_than_half_of_the_attempts_open_it_once_there_are_enough() -> None:
    breaker = ProviderBreaker(minimum_attempts=20)
    outcomes(breaker, "xx." * 6 + "x")  # 13 of 19: too few to tell
    assert breaker.state(0) is CircuitState.CLOSED
    outcomes(breaker, "x")
    assert breaker.state(0) is CircuitState.OPEN


def test_exactly_half_is_not_more_than_half() -> None:
    breaker = ProviderBreaker(minimum_attempts=4)
    outcomes(breaker, ".x" * 20)
    assert breaker.state(0) is CircuitState.CLOSED


def test_failures_outside_the_window_no_longer_count() -> None:
    breaker = ProviderBreaker(minimum_attempts=4, window_seconds=60)
    outcomes(breaker, "xx", at=0)
    outcomes(breaker, ".x.", at=61)  # with the first two it would be 3 of 5
    assert breaker.state(61) is CircuitState.CLOSED


def test_of_fifty_threads_at_the_end_of_the_cooldown_one_probes() -> None:
    breaker = opened()
    barrier = threading.Barrier(50)
    permits = []

    def call() -> None:
        barrier.wait()
        permits.append(breaker.admit(30.0))

    threads = [threading.Thread(target=call) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(permit is not None for permit in permits) == 1


def test_a_good_probe_closes_it_and_a_bad_one_opens_it_for_another_cooldown() -> None:
    breaker = opened()
    probe = breaker.admit(30)
    assert probe is not None
    assert breaker.state(30) is CircuitState.HALF_OPEN
    probe.fail(31)
    assert breaker.admit(60.9) is None
    probe = breaker.admit(61)
    assert probe is not None
    probe.succeed(62)
    assert breaker.state(62) is CircuitState.CLOSED
    outcomes(breaker, "xxxx", at=62)  # the failures before are forgotten
    assert breaker.state(62) is CircuitState.CLOSED


def test_an_abandoned_probe_makes_room_for_the_next() -> None:
    breaker = opened()
    probe = breaker.admit(30)
    assert probe is not None
    probe.abandon(31)
    assert breaker.admit(31) is not None


def test_a_result_from_before_the_circuit_opened_is_not_the_probes() -> None:
    breaker = ProviderBreaker()
    late = breaker.admit(0)
    assert late is not None
    outcomes(breaker, "xxxxx")
    late.succeed(1)
    assert breaker.state(1) is CircuitState.OPEN
    probe = breaker.admit(30)
    late.fail(30)
    assert probe is not None
    assert breaker.admit(30) is None  # the probe is still out


@pytest.mark.parametrize(
    "settings",
    [{"consecutive_failures": 0}, {"error_rate": 0}, {"error_rate": 1}, {"cooldown_seconds": 0},
     {"window_seconds": 0}, {"minimum_attempts": 0}],
)  # fmt: skip
def test_settings_with_which_it_could_not_work_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="breaker"):
        Breakers(**settings)


# Through call_llm -----------------------------------------------------------------------------------


def pass_through(breakers: Breakers) -> None:
    use_runtime(Runtime({"/tested": RouteParts(breaker_of=breakers)}))


FAILED = ScriptedError("transient_error")


async def test_an_open_circuit_asks_nobody_costs_nothing_and_says_so(log: Path) -> None:
    provider = ScriptedProvider([FAILED])
    name = route(provider, retries=0)
    pass_through(Breakers())
    clock = VirtualClock(START)
    for _ in range(5):
        with pytest.raises(ScriptedError):
            await llmscope.call_llm("Hi", "cheap", name, clock=clock)
    with pytest.raises(CircuitOpen, match="scripted"):
        await llmscope.call_llm("Hi", "cheap", name, clock=clock)
    assert len(provider.calls) == 5
    last = events(log)[-1]
    assert (last["error_type"], last["circuit_state"], last["estimated_cost_usd"]) == (
        "circuit_open", "open", 0.0,
    )  # fmt: skip
    assert "attempts" not in last
    assert [event["circuit_state"] for event in events(log)] == ["closed"] * 4 + ["open"] * 2


async def test_an_open_circuit_goes_to_the_fallback_without_a_wait(log: Path) -> None:
    clock = VirtualClock(START)
    first = ScriptedProvider([FAILED], name="first")
    name = route(first, ScriptedProvider([GOOD], name="second"), retries=0)
    pass_through(Breakers(consecutive_failures=1))
    for _ in range(2):
        result = await llmscope.call_llm("Hi", "cheap", name, clock=clock)
        assert result.provider == "second"
    assert len(first.calls) == 1
    event = events(log)[-1]
    assert (event["fallback_triggered"], event["fallback_reason"]) == (True, "circuit_open")
    assert (event["circuit_state"], event["retry_count"]) == ("closed", 0)  # the answering provider's


async def probes_among_fifty(log: Path) -> int:
    clock = VirtualClock(START)
    provider = ScriptedProvider([FAILED, GOOD], clock=clock, latency_ms=100)
    name = route(provider, retries=0)
    with pytest.raises(ScriptedError):
        await llmscope.call_llm("Hi", "cheap", name, clock=clock)
    clock.advance(31)
    await asyncio.gather(
        *(llmscope.call_llm("Hi", "cheap", name, clock=clock) for _ in range(50)), return_exceptions=True
    )
    return len(provider.calls) - 1


async def test_of_fifty_concurrent_callers_one_probes(log: Path) -> None:
    pass_through(Breakers(consecutive_failures=1))
    assert await probes_among_fifty(log) == 1


async def test_twin_without_the_probes_mark_all_fifty_would_probe(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(ProviderBreaker):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, False if name == "_is_probing" else value)

    monkeypatch.setattr("llmscope.gateway.breaker.ProviderBreaker", Forgetful)
    pass_through(Breakers(consecutive_failures=1))
    assert await probes_among_fifty(log) == 50


async def test_retries_do_not_go_around_an_open_circuit(log: Path) -> None:
    provider = ScriptedProvider([ScriptedError("transient_error", retryable=True)])
    name = route(provider, retries=9)
    pass_through(Breakers(consecutive_failures=3))
    with pytest.raises(ScriptedError):
        await llmscope.call_llm("Hi", "cheap", name, clock=VirtualClock(START))
    assert len(provider.calls) == 3


async def test_the_callers_own_faults_do_not_open_it(log: Path) -> None:
    provider = ScriptedProvider([*[ScriptedError("invalid_request")] * 9, ProviderResponse("ok", 1, 1)])
    name = route(provider, retries=0)
    pass_through(Breakers(consecutive_failures=2))
    for _ in range(9):
        with pytest.raises(ScriptedError):
            await llmscope.call_llm("Hi", "cheap", name)
    assert (await llmscope.call_llm("Hi", "cheap", name)).text == "ok"


async def test_a_cancelled_probe_does_not_keep_the_circuit_half_open(log: Path) -> None:
    clock = VirtualClock(START)
    provider = ScriptedProvider([FAILED, GOOD, GOOD], clock=clock, latency_ms=1000)
    name = route(provider, retries=0)
    pass_through(Breakers(consecutive_failures=1))
    with pytest.raises(ScriptedError):
        await llmscope.call_llm("Hi", "cheap", name, clock=clock)
    clock.advance(31)
    probe = asyncio.create_task(llmscope.call_llm("Hi", "cheap", name, clock=clock))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert (await llmscope.call_llm("Hi", "cheap", name, clock=clock)).text == "answer"
