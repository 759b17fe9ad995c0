"""Every policy behind the real `call_llm`, on virtual time, judged by the telemetry lines alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import llmscope
from llmscope import RoutePolicy, SimulatedProvider, VirtualClock
from llmscope.gateway.breaker import Breakers
from llmscope.gateway.routing import (
    CanaryRouter,
    CascadeRouter,
    CheapestRouter,
    FastestP95Router,
    QualityEscalation,
    SloBurnRouter,
)
from llmscope.gateway.runtime import Runtime, use_runtime
from llmscope.gateway.stages import Escalation, RetryPolicy, RouteParts, Router, Target
from tests.llmscope.scripted import events

SMALL, LARGE = Target("small", "gpt-4o-mini"), Target("large", "gpt-4o")


class Simulation:
    """A route with two simulated providers; calls arrive at a steady rate and overlap."""

    def __init__(
        self,
        log: Path,
        router: Router,
        *,
        escalation: Escalation | None = None,
        breakers: Breakers | None = None,
    ) -> None:
        self.clock = VirtualClock(datetime(2026, 11, 21, tzinfo=UTC))
        self.log = log
        self.providers = {
            target.provider: SimulatedProvider(1, self.clock, 200.0, 400.0, 0.0, name=target.provider)
            for target in (SMALL, LARGE)
        }
        for name, provider in self.providers.items():
            llmscope.register_provider(name, provider)
        llmscope.register_route("/routed", RoutePolicy(100, 0, False, {"cheap": "gpt-4o-mini"}, "small"))
        parts = RouteParts(
            router=router, escalation=escalation, breaker_of=breakers, retry=RetryPolicy(attempts=0)
        )
        use_runtime(Runtime({"/routed": parts}))
        self.sent = 0

    async def send(self, calls: int, *, per_second: float, model: str | None = None) -> list[dict[str, Any]]:
        """Send calls and wait for the last; their telemetry lines in order of arrival. Calls that fail
        have raised; the line says so."""

        async def one(number: int, after_seconds: float) -> None:
            await self.clock.sleep(after_seconds)
            await llmscope.call_llm(
                "How are you?", "cheap", "/routed",
                request_id=f"r{number:06}", model=model, clock=self.clock,
            )  # fmt: skip

        first = self.sent
        self.sent += calls
        await asyncio.gather(
            *(one(first + number, number / per_second) for number in range(calls)), return_exceptions=True
        )
        lines = sorted(events(self.log), key=lambda line: line["request_id"])
        return lines[first:]


def share_of(target: Target, lines: list[dict[str, Any]]) -> float:
    """The share of the calls whose first attempt went to the target."""
    return sum(line["attempts"][0]["provider"] == target.provider for line in lines) / len(lines)


async def test_cheapest_picks_by_price_and_falls_back_by_price(log: Path) -> None:
    simulation = Simulation(log, CheapestRouter([LARGE, SMALL]))
    lines = await simulation.send(50, per_second=10)
    assert share_of(SMALL, lines) == 1
    assert {(line["routing_decision"], line["status"]) for line in lines} == {("cheapest", "success")}
    assert lines[0]["routing_reason"].startswith("small/gpt-4o-mini: 6.0")
    simulation.providers["small"].error_rate = 1.0
    lines = await simulation.send(50, per_second=10)
    assert {(line["provider"], line["fallback_triggered"]) for line in lines} == {("large", True)}


async def test_auto_goes_anywhere_and_an_explicit_model_where_it_is_served(log: Path) -> None:
    simulation = Simulation(
        log, CheapestRouter({"cheap": [LARGE], "expensive": [SMALL]}, provider_name="small")
    )
    assert share_of(LARGE, await simulation.send(5, per_second=1)) == 1
    assert share_of(SMALL, await simulation.send(5, per_second=1, model="auto")) == 1
    assert share_of(LARGE, await simulation.send(5, per_second=1, model="gpt-4o")) == 1
    lines = await simulation.send(5, per_second=1, model="gpt-4.1")
    assert {(line["provider"], line["model"]) for line in lines} == {("small", "gpt-4.1")}


async def test_fastest_p95_follows_the_latency_there_and_back(log: Path) -> None:
    router = FastestP95Router([SMALL, LARGE], window_seconds=60.0)
    simulation = Simulation(log, router)
    simulation.providers["large"].mean_latency_ms = 100.0
    assert share_of(LARGE, (await simulation.send(800, per_second=10))[200:]) > 0.95
    simulation.providers["large"].mean_latency_ms = 2000.0
    assert share_of(SMALL, (await simulation.send(800, per_second=10))[200:]) > 0.95
    simulation.providers["large"].mean_latency_ms = 100.0
    assert share_of(LARGE, (await simulation.send(1800, per_second=10))[1400:]) > 0.95


async def test_slo_burn_aware_diverts_and_returns_while_callers_get_their_answers(log: Path) -> None:
    simulation = Simulation(log, SloBurnRouter([SMALL, LARGE]))
    assert share_of(SMALL, await simulation.send(600, per_second=10)) == 1
    simulation.providers["small"].error_rate = 1.0
    lines = await simulation.send(600, per_second=10)
    assert share_of(LARGE, lines[200:]) > 0.9
    assert {line["status"] for line in lines} == {"success"}  # by fallback until diverted, and for probes
    simulation.providers["small"].error_rate = 0.0
    lines = await simulation.send(1200, per_second=10)
    assert share_of(SMALL, lines[900:]) == 1
    assert lines[-1]["routing_reason"].endswith("no candidate burns")


async def test_a_failing_canary_is_rolled_back_and_no_caller_sees_an_error(log: Path) -> None:
    router = CanaryRouter(SMALL, LARGE)
    simulation = Simulation(log, router)
    router.set_stage(0.25)
    simulation.providers["large"].error_rate = 1.0
    lines = await simulation.send(600, per_second=20)
    arms = Counter(line["routing_decision"] for line in lines)
    # Ten decide; a few more were under way.
    assert 10 <= arms["canary"] <= 14
    assert {line["status"] for line in lines} == {"success"}
    assert {line["fallback_triggered"] for line in lines if line["routing_decision"] == "canary"} == {True}
    assert router.status().state == "rolled_back"
    assert lines[-1]["routing_reason"] == "0 % of requests go to large/gpt-4o (rolled_back)"


async def test_what_an_open_circuit_refuses_is_no_attempt_and_counts_for_nothing(log: Path) -> None:
    """The forerunner's canary counted refusals, with 0 ms. Here 5 failures open the circuit, and from
    then on a probe in 30 s is all that the candidate is judged by: the tenth failure rolls it back."""
    router = CanaryRouter(SMALL, LARGE)
    simulation = Simulation(log, router, breakers=Breakers())
    router.set_stage(0.25)
    simulation.providers["large"].error_rate = 1.0
    lines = await simulation.send(400, per_second=4)
    attempts = sum(attempt["provider"] == "large" for line in lines for attempt in line["attempts"])
    sent_there = sum(line["routing_decision"] == "canary" for line in lines)
    status = router.status()
    assert attempts == status.candidate_calls == status.candidate_faults < 10 < sent_there
    assert status.state == "running"
    assert {line["status"] for line in lines} == {"success"}
    await simulation.send(400, per_second=4)
    assert router.status().state == "rolled_back"
    assert router.status().history[-1].candidate_calls == 10


async def test_a_healthy_canary_is_promoted(log: Path) -> None:
    router = CanaryRouter(SMALL, LARGE, stages=(0.25, 1.0), window_calls=50)
    lines = await Simulation(log, router).send(500, per_second=20)
    assert router.status().state == "promoted"
    assert share_of(LARGE, lines[-100:]) == 1


@pytest.mark.parametrize(
    ("estimator", "models_asked"),
    [(lambda prompt, answer: 0.9, 1), (lambda prompt, answer: 0.2, 2)],
    ids=["good", "bad"],
)
async def test_a_cascade_asks_the_dearer_one_about_bad_answers_only(
    log: Path, estimator: Callable[[str, str], float], models_asked: int
) -> None:
    simulation = Simulation(log, CascadeRouter([LARGE, SMALL]), escalation=QualityEscalation(estimator, 0.7))
    (line,) = await simulation.send(1, per_second=1)
    assert [attempt["provider"] for attempt in line["attempts"]] == ["small", "large"][:models_asked]
    assert line["routing_decision"] == "cascade"
    steps = [attempt["cost_usd"] for attempt in line["attempts"]]
    assert line["estimated_cost_usd"] == pytest.approx(sum(steps), abs=1e-9)
