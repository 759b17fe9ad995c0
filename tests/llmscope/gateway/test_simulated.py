"""The simulated provider: the latency it is told to have, deterministic, and no real waiting."""

from __future__ import annotations

import asyncio
import statistics
from datetime import UTC, datetime

import pytest

from llmscope import (
    ConfigurationError,
    ProviderResponse,
    SimulatedProvider,
    SimulatedProviderError,
    VirtualClock,
)
from llmscope.gateway.simulated import LARGEST_P95_TO_MEAN, lognormal_parameters

START = datetime(2026, 11, 21, tzinfo=UTC)


async def run(provider: SimulatedProvider, clock: VirtualClock, calls: int) -> list[tuple[float, bool]]:
    """Latency in ms and success of each call, all started at one instant."""

    async def one() -> tuple[float, bool]:
        began = clock.monotonic()
        try:
            await provider.complete("prompt", "m", 100)
        except SimulatedProviderError:
            return (clock.monotonic() - began) * 1000, False
        return (clock.monotonic() - began) * 1000, True

    return await asyncio.gather(*(one() for _ in range(calls)))


@pytest.mark.parametrize(("mean", "p95"), [(40.0, 120.0), (800.0, 2000.0), (100.0, 150.0)])
async def test_mean_and_p95_are_what_was_asked_for(mean: float, p95: float) -> None:
    clock = VirtualClock(START)
    outcomes = await run(SimulatedProvider(7, clock, mean, p95, 0.05), clock, 20_000)
    latencies = sorted(latency for latency, _ in outcomes)
    assert statistics.fmean(latencies) == pytest.approx(mean, rel=0.04)
    assert latencies[19_000] == pytest.approx(p95, rel=0.05)
    assert max(latencies) <= 3 * p95 * 1.000001
    failures = sum(not succeeded for _, succeeded in outcomes)
    assert failures == pytest.approx(1000, rel=0.12)


async def test_the_same_seed_tells_the_same_story_and_another_seed_another() -> None:
    stories = []
    for seed in (1, 1, 2):
        clock = VirtualClock(START)
        stories.append(await run(SimulatedProvider(seed, clock, 40, 120, 0.3), clock, 50))
    assert stories[0] == stories[1] != stories[2]


async def test_what_happens_to_a_call_does_not_depend_on_who_runs_meanwhile() -> None:
    clock = VirtualClock(START)
    together = await run(SimulatedProvider(1, clock, 40, 120, 0.3), clock, 20)
    clock = VirtualClock(START)
    provider = SimulatedProvider(1, clock, 40, 120, 0.3)
    alone = [(await run(provider, clock, 1))[0] for _ in range(20)]
    assert [round(latency, 6) for latency, _ in alone] == [round(latency, 6) for latency, _ in together]
    assert [succeeded for _, succeeded in alone] == [succeeded for _, succeeded in together]


async def test_it_can_be_degraded_while_it_runs() -> None:
    clock = VirtualClock(START)
    provider = SimulatedProvider(1, clock, 40, 120, 0.0)
    before = await run(provider, clock, 500)
    provider.mean_latency_ms, provider.error_rate = 4000, 1.0
    after = await run(provider, clock, 500)
    assert all(succeeded for _, succeeded in before)
    assert not any(succeeded for _, succeeded in after)
    assert statistics.fmean(ms for ms, _ in after) > 50 * statistics.fmean(ms for ms, _ in before)


async def test_a_plan_gives_the_exact_counts() -> None:
    clock = VirtualClock(START)
    provider = SimulatedProvider(1, clock, 40, 120, 0, plan=lambda prompt, model, most: (len(prompt), most))
    answer = await provider.complete("four", "m", 100)
    assert (answer.tokens_in, answer.tokens_out, answer.finish_reason) == (4, 100, "length")


async def test_without_a_plan_the_prompt_decides() -> None:
    clock = VirtualClock(START)
    provider = SimulatedProvider(1, clock, 40, 120, 0)
    first: ProviderResponse = await provider.complete("a prompt", "m", 100)
    again = await provider.complete("a prompt", "m", 100)
    assert first == again
    assert first.tokens_in == 2
    assert 1 <= first.tokens_out <= 100


async def test_a_stream_is_the_same_answer_word_by_word_in_the_same_time() -> None:
    clock = VirtualClock(START)
    whole = SimulatedProvider(1, clock, 40, 120, 0)
    answer = await whole.complete("a prompt", "m", 100)
    latency = clock.monotonic()

    clock = VirtualClock(START)
    provider = SimulatedProvider(1, clock, 40, 120, 0, first_token_share=0.4)
    arrivals, items = [], []
    async for item in provider.stream("a prompt", "m", 100):
        arrivals.append(clock.monotonic() / latency)
        items.append(item)
    assert items[-1] == answer
    assert items[:-1] == ["simulated", " answer", " of", f" {answer.tokens_out}", " tokens"]
    assert arrivals == pytest.approx([0.4, 0.55, 0.7, 0.85, 1.0, 1.0])


async def test_a_stream_fails_as_often_as_a_whole_answer_does_and_before_its_first_word() -> None:
    clock = VirtualClock(START)
    whole = [succeeded for _, succeeded in await run(SimulatedProvider(1, clock, 40, 120, 0.3), clock, 200)]
    clock = VirtualClock(START)
    provider = SimulatedProvider(1, clock, 40, 120, 0.3)
    streamed = []
    for _ in range(200):
        words = []
        try:
            async for item in provider.stream("a prompt", "m", 100):
                words.append(item)
        except SimulatedProviderError:
            assert words == []
        streamed.append(bool(words))
    assert streamed == whole
    assert 30 < streamed.count(False) < 90


def test_its_failures_are_retryable_and_free() -> None:
    provider = SimulatedProvider(1, VirtualClock(START), 40, 120, 1, name="sim-a")
    error = SimulatedProviderError("x")
    assert provider.provider_name == "sim-a"
    assert (provider.is_retryable(error), provider.is_unbilled(error)) == (True, True)
    assert provider.categorize_error(error) == "transient_error"
    assert provider.is_unbilled(RuntimeError("x")) is False


def test_a_distribution_that_does_not_exist_is_refused() -> None:
    assert pytest.approx(3.87, abs=0.005) == LARGEST_P95_TO_MEAN
    for mean, p95 in ((100, 400), (0, 100), (-1, 1)):
        with pytest.raises(ConfigurationError, match="no lognormal"):
            lognormal_parameters(mean, p95)
    assert lognormal_parameters(100, 50)[1] == 0.0
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        SimulatedProvider(1, VirtualClock(START), 40, 120, 0, first_token_share=1.5)
