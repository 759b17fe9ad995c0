"""Traffic through a router in virtual time, to targets with planted latencies and failures.

Attempts overlap: a router hears of an attempt when it ends, after whatever was sent meanwhile. What
happens to a request at a target depends on the seed, the request and the target only, so two routers can
be compared on the same traffic.

What does not belong here: what is measured (`benchmarks.routing` and the tests of the policies).
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from llmscope.gateway.stages import Observation, RoutingChoice, RoutingRequest, Target

# Of a lognormal latency: its 95th percentile is exp(1.645 × 0.3) = 1.64 times its median.
_LATENCY_SIGMA = 0.3


class Router(Protocol):
    def choose(self, request: RoutingRequest, now_seconds: float) -> RoutingChoice: ...

    def observe(self, observation: Observation, now_seconds: float) -> None: ...


@dataclass(frozen=True)
class Planted:
    """How a target behaves: its median latency in ms and its share of faults, by time in seconds."""

    median_latency_ms: Callable[[float], float] = lambda now: 100.0
    fault_share: Callable[[float], float] = lambda now: 0.0


@dataclass(frozen=True)
class Routed:
    """One request: where it went and how that ended."""

    number: int
    now_seconds: float
    choice: RoutingChoice
    latency_ms: float
    is_fault: bool

    @property
    def target(self) -> Target:
        """The first choice; the simulation has no fallbacks."""
        return self.choice.targets[0]


def constant(value: float) -> Callable[[float], float]:
    """The same at all times."""
    return lambda now: value


def during(
    start_seconds: float, end_seconds: float, then: float, otherwise: float
) -> Callable[[float], float]:
    """`then` from start up to end, `otherwise` before and after."""
    return lambda now: then if start_seconds <= now < end_seconds else otherwise


def drive(
    router: Router,
    planted: Mapping[Target, Planted],
    *,
    requests: int,
    per_second: float,
    seed: int = 0,
    start_seconds: float = 0.0,
    model_tier: str = "cheap",
    model: str | None = None,
    tokens_in: int = 500,
    max_output_tokens: int = 200,
) -> Iterator[Routed]:
    """Send `requests` requests at a steady rate, one after the other."""
    ending: list[tuple[float, int, Observation]] = []
    for number in range(requests):
        now = start_seconds + number / per_second
        while ending and ending[0][0] <= now:
            ended, _, observation = heapq.heappop(ending)
            router.observe(observation, ended)
        request_id = f"{seed}:{number}"
        request = RoutingRequest(request_id, "/simulated", model_tier, model, tokens_in, max_output_tokens)
        choice = router.choose(request, now)
        target = choice.targets[0]
        draw = random.Random(f"{request_id}:{target}")
        latency_ms = planted[target].median_latency_ms(now) * math.exp(draw.gauss(0.0, _LATENCY_SIGMA))
        is_fault = draw.random() < planted[target].fault_share(now)
        observation = Observation(target, not is_fault, is_fault, latency_ms, None)
        heapq.heappush(ending, (now + latency_ms / 1000, number, observation))
        yield Routed(number, now, choice, latency_ms, is_fault)
