"""What routing costs a call, and how soon the policies find out: rollback, diversion, return.

What does not belong here: the simulated traffic itself (`routing_traffic`).
"""

from __future__ import annotations

import itertools
import logging
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.figures import Figure, benchmark, p50_us
from benchmarks.routing_traffic import Planted, Router, constant, drive, during
from llmscope.gateway.routing import (
    CanaryRouter,
    CascadeRouter,
    CheapestRouter,
    FastestP95Router,
    SloBurnRouter,
)
from llmscope.gateway.stages import Observation, RoutingRequest, Target

# No stage of a call may take longer (median).
STAGE_LIMIT_US = 100.0
CANDIDATES = [
    Target("openai", "gpt-4o"),
    Target("openai", "gpt-4o-mini"),
    Target("openai", "gpt-4.1"),
    Target("anthropic", "claude-sonnet-4-20250514"),
    Target("anthropic", "claude-haiku-3-5-20241022"),
]
DEAR, CHEAP = CANDIDATES[:2]
# What the forerunner took at 25 %, and its window: 200 calls of the candidate.
FORERUNNER_REQUESTS_AT_25 = 763
FORERUNNER_WINDOW_CALLS = 200
SEEDS = 50


def busy(router: Router) -> Router:
    """The router after five minutes of traffic to every candidate, at 20 requests a second."""
    for number in range(6000):
        target = CANDIDATES[number % len(CANDIDATES)]
        latency_ms = 50.0 + number * 37 % 997
        router.observe(Observation(target, True, False, latency_ms, None), number / 20)
    return router


def choose_and_observe_us(router: Router) -> tuple[float, float]:
    """Median microseconds of `choose`, and of `observe`, at 100 requests a second."""
    numbers = itertools.count()

    def choose() -> object:
        number = next(numbers)
        request = RoutingRequest(f"request-{number}", "/answers", "cheap", None, 800, 300)
        return router.choose(request, 300 + number / 100)

    def observe() -> None:
        number = next(numbers)
        is_fault = number % 400 == 0
        target = CANDIDATES[number % len(CANDIDATES)]
        router.observe(
            Observation(target, not is_fault, is_fault, 50.0 + number % 700, None), 300 + number / 100
        )

    return p50_us(choose, rounds=5000), p50_us(observe, rounds=5000)


def rollback(share: float, seed: int) -> tuple[int, int]:
    """Requests until a candidate that always fails is rolled back, and how many of them failed."""
    router = CanaryRouter(CHEAP, DEAR)
    router.set_stage(share)
    faults = 0
    for number in itertools.count(1):
        request = RoutingRequest(f"{seed}:{number}", "/answers", "cheap", None, 800, 300)
        target = router.choose(request, number / 10).targets[0]
        is_fault = target == DEAR
        faults += is_fault
        router.observe(Observation(target, not is_fault, is_fault, 50.0, None), number / 10)
        if router.status().state == "rolled_back":
            return number, faults
    raise AssertionError("unreachable")


def diverted_and_returned(
    router: Router, planted: dict[Target, Planted], *, per_second: float
) -> tuple[float, float]:
    """Seconds from the beginning of the trouble at 600 s until 50 requests in a row went elsewhere, and
    from its end at 900 s until 50 of 52 went back; probes in between are overlooked."""
    routed = list(drive(router, planted, requests=round(2400 * per_second), per_second=per_second))

    def settles(on_cheap: bool, since: float) -> float:
        later = [one for one in routed if one.now_seconds >= since]
        for number in range(len(later) - 52):
            there = sum((one.target == CHEAP) == on_cheap for one in later[number : number + 52])
            if there >= 50 and (later[number].target == CHEAP) == on_cheap:
                return later[number].now_seconds - since
        return float("inf")

    return settles(False, 600.0), settles(True, 900.0)


POLICIES: dict[str, Callable[[], Any]] = {
    "cheapest": lambda: CheapestRouter(CANDIDATES),
    "fastest_p95": lambda: FastestP95Router(CANDIDATES),
    "slo_burn_aware": lambda: SloBurnRouter(CANDIDATES, slo_latency_ms=2000.0),
    "canary": lambda: CanaryRouter(CHEAP, DEAR),
    "cascade": lambda: CascadeRouter(CANDIDATES),
}


@benchmark("routing")
def routing() -> Iterator[Figure]:
    """Cost per call of each policy among five candidates, and the delays of rollback, diversion, return."""
    for name, make in POLICIES.items():
        choose_us, observe_us = choose_and_observe_us(busy(make()))
        yield Figure(f"route_choose_{name}", choose_us, "us", STAGE_LIMIT_US, 1.0)
        yield Figure(f"route_observe_{name}", observe_us, "us", STAGE_LIMIT_US, 1.0)
    # The transitions, which every policy tells the program's log, are what is measured here.
    logging.getLogger("llmscope").setLevel(logging.ERROR)
    for share in (0.01, 0.05, 0.25):
        seen = [rollback(share, seed) for seed in range(SEEDS)]
        requests = statistics.median(requests for requests, _ in seen)
        forerunner = FORERUNNER_REQUESTS_AT_25 if share == 0.25 else FORERUNNER_WINDOW_CALLS / share
        yield Figure(f"canary_rollback_at_{100 * share:g}_percent", requests, "requests", forerunner, 0.1)
    faults = statistics.median(faults for _, faults in seen)
    yield Figure("canary_rollback_failures", faults, "failed requests", FORERUNNER_WINDOW_CALLS, 0.1)
    per_second = 20.0
    outage = {
        CHEAP: Planted(constant(100.0), during(600.0, 900.0, 1.0, 0.002)),
        DEAR: Planted(constant(100.0), constant(0.002)),
    }
    diverted, returned = diverted_and_returned(SloBurnRouter([DEAR, CHEAP]), outage, per_second=per_second)
    # A total outage uses up 14.4 % of a minute in 8.64 s; twenty probes at 5 % of 20 a second take 20 s.
    yield Figure("slo_burn_diverted_after", diverted, "s", 8.64, 2.0)
    yield Figure("slo_burn_returned_after", returned, "s", 20.0, 3.0)
    slowdown = {CHEAP: Planted(during(600.0, 900.0, 2000.0, 100.0)), DEAR: Planted(constant(300.0))}
    diverted, returned = diverted_and_returned(
        FastestP95Router([DEAR, CHEAP]), slowdown, per_second=per_second
    )
    # Five per cent of slow answers in a window of 300 s are 15 s; they are forgotten after 300 s.
    yield Figure("fastest_p95_diverted_after", diverted, "s", 15.0, 2.0)
    yield Figure("fastest_p95_returned_after", returned, "s", 300.0, 1.1)
