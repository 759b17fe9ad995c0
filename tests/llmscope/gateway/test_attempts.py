"""Retries, waits and the caller's whole wait: what `runtime.yaml`'s `retry` promises."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

import llmscope
from llmscope import DeadlineExceeded, ProviderResponse, VirtualClock
from llmscope.gateway.runtime import Runtime, use_runtime
from llmscope.gateway.stages import (
    Observation,
    RetryPolicy,
    RouteParts,
    RoutingChoice,
    RoutingRequest,
    Target,
)
from tests.llmscope.gateway.test_client import GOOD, START, route, usage_of
from tests.llmscope.scripted import ScriptedError, ScriptedProvider, events

BUSY = ScriptedError("transient_error", retryable=True)


def retrying(**settings: float) -> None:
    use_runtime(Runtime({"/tested": RouteParts(retry=RetryPolicy(**settings))}))  # type: ignore[arg-type]


async def waited(request_id: str) -> float:
    clock = VirtualClock(START)
    await llmscope.call_llm("Hi", "cheap", "/tested", clock=clock, request_id=request_id)
    return clock.monotonic()


async def test_jitter_spreads_waits_within_its_share_and_alike_in_a_replay(log: Path) -> None:
    route(ScriptedProvider([BUSY, *[GOOD]]))
    retrying(jitter=0.2)

    async def wait_of(request_id: str) -> float:
        llmscope.get_provider("scripted").calls.clear()  # type: ignore[attr-defined]
        return await waited(request_id)

    waits = [await wait_of(f"request-{number}") for number in range(40)]
    assert all(0.8 <= wait <= 1.2 for wait in waits)
    assert max(waits) > 1.1
    assert min(waits) < 0.9
    assert waits[:5] == [await wait_of(f"request-{number}") for number in range(5)]


async def test_jitter_never_shortens_what_the_vendor_asked_for(log: Path) -> None:
    retrying(jitter=0.9)
    for number in range(20):
        limited = ScriptedError("rate_limit", retryable=True, retry_after=7.5)
        route(ScriptedProvider([limited, GOOD]))
        assert await waited(f"request-{number}") == pytest.approx(7.5)


async def test_a_wait_that_the_deadline_does_not_leave_is_not_begun(log: Path) -> None:
    clock = VirtualClock(START)
    provider = ScriptedProvider([BUSY], clock=clock, latency_ms=500)
    name = route(provider, ScriptedProvider([GOOD], name="other"), retries=5)
    retrying(deadline_seconds=3.0)
    result = await llmscope.call_llm("Hi", "cheap", name, clock=clock)
    # 0.5 + 1 + 0.5 = 2.0 s; the next wait of 2 s would end at 4 s, so the fallback is asked at once
    assert (result.provider, clock.monotonic()) == ("other", pytest.approx(2.0))
    assert len(provider.calls) == 2


async def test_after_the_deadline_nothing_more_is_tried(log: Path) -> None:
    clock = VirtualClock(START)
    second = ScriptedProvider([GOOD], name="second")
    name = route(ScriptedProvider([BUSY], name="first", clock=clock, latency_ms=5000), second)
    retrying(deadline_seconds=3.0)
    with pytest.raises(ScriptedError):
        await llmscope.call_llm("Hi", "cheap", name, clock=clock)
    assert second.calls == []


async def test_a_hanging_provider_is_cut_at_the_deadline_and_its_cost_is_unknown(log: Path) -> None:
    class Hanging(ScriptedProvider):
        async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
            await asyncio.sleep(60)
            return GOOD

    name = route(Hanging([GOOD]), ScriptedProvider([GOOD], name="never-asked"))
    retrying(deadline_seconds=0.05)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        await llmscope.call_llm("Hi", "cheap", name)
    assert time.monotonic() - started < 30
    (event,) = events(log)
    assert (event["status"], event["error_type"]) == ("error", "timeout")
    assert [attempt["error_type"] for attempt in event["attempts"]] == ["timeout"]
    assert usage_of(log).cost_nano is None
    assert not llmscope.get_provider("never-asked").calls  # type: ignore[attr-defined]


async def test_a_providers_own_timeout_error_is_not_the_deadlines(log: Path) -> None:
    name = route(ScriptedProvider([TimeoutError("the socket's")]), retries=0)
    retrying(deadline_seconds=30.0)
    with pytest.raises(TimeoutError) as caught:
        await llmscope.call_llm("Hi", "cheap", name)
    assert not isinstance(caught.value, DeadlineExceeded)


class Recording:
    """A router with one target that keeps what it is told."""

    def __init__(self, *targets: Target) -> None:
        self.targets = targets
        self.seen: list[Observation] = []

    def choose(self, request: RoutingRequest, now_seconds: float) -> RoutingChoice:
        return RoutingChoice(self.targets, "recorded", "a test's")

    def observe(self, observation: Observation, now_seconds: float) -> None:
        self.seen.append(observation)


@pytest.mark.parametrize(
    ("category", "is_fault"),
    [("transient_error", True), ("timeout", True), ("rate_limit", True), ("auth_error", True),
     ("unknown", True), ("invalid_request", False)],
)  # fmt: skip
async def test_the_router_hears_of_every_attempt_and_whose_fault_it_was(
    log: Path, category: str, is_fault: bool
) -> None:
    clock = VirtualClock(START)
    name = route(
        ScriptedProvider([ScriptedError(category)], name="a", clock=clock, latency_ms=250),
        ScriptedProvider([GOOD], name="b"),
        retries=0,
    )
    router = Recording(Target("a", "gpt-4o-mini"), Target("b", "gpt-4o"))
    use_runtime(Runtime({"/tested": RouteParts(router=router)}))
    try:
        await llmscope.call_llm("Hi", "cheap", name, clock=clock)
    except ScriptedError:
        assert category == "invalid_request"
    first = router.seen[0]
    assert (first.target, first.is_success, first.is_fault, first.latency_ms) == (
        Target("a", "gpt-4o-mini"), False, is_fault, 250.0,
    )  # fmt: skip
    if is_fault:
        assert router.seen[1].is_success
        assert router.seen[1].target == Target("b", "gpt-4o")
