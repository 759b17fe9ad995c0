"""What `call_llm` costs beside its provider: with every stage off, and each stage by itself.

The provider here answers at once, so that what is measured is the gateway. A stage's figure is what it
adds to the call with everything off, held against the 100 µs that no stage may exceed.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

import llmscope
from benchmarks.figures import Figure, benchmark
from llmscope import LLMRequestContext, ProviderBase, ProviderResponse, RoutePolicy
from llmscope.gateway.breaker import Breakers
from llmscope.gateway.cache.exact import ExactCache
from llmscope.gateway.context_budget import TokenContextBudget
from llmscope.gateway.guards.injection import PromptInjectionGuard
from llmscope.gateway.guards.pii import PiiGuard
from llmscope.gateway.routing import CheapestRouter, FastestP95Router, SloBurnRouter
from llmscope.gateway.runtime import Runtime, use_runtime
from llmscope.gateway.stages import RetryPolicy, RouteParts, Target

ROUTE = "/measured"
PROMPT = "Summarise the following paragraph for a busy reader, please. " * 17  # 1,037 characters
ANSWER = ProviderResponse("A short summary of the paragraph, for a busy reader. " * 8, 250, 100, "stop")
CONTEXT = LLMRequestContext(tenant_id="acme", feature_id="chat")
LONGEST_STAGE_US = 100.0
CANDIDATES = [
    Target("instant", model) for model in ("gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-4.1-mini", "o3")
]
STAGES = {
    "context": RouteParts(context=TokenContextBudget("sliding_window")),
    "guard_pii": RouteParts(guards=(PiiGuard(),)),
    "guard_injection": RouteParts(guards=(PromptInjectionGuard(),)),
    "cache_miss": RouteParts(cache=ExactCache(max_entries=1000)),
    "breaker": RouteParts(breaker_of=Breakers()),
    "retry_deadline": RouteParts(retry=RetryPolicy(deadline_seconds=60)),
    "route_cheapest": RouteParts(router=CheapestRouter(CANDIDATES)),
    "route_fastest_p95": RouteParts(router=FastestP95Router(CANDIDATES)),
    "route_slo_burn": RouteParts(router=SloBurnRouter(CANDIDATES)),
}


class Instant(ProviderBase):
    """A provider that answers at once."""

    @property
    def provider_name(self) -> str:
        return "instant"

    async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
        return ANSWER


async def _p50_us(log: Path, *, rounds: int) -> float:
    durations = []
    for number in range(rounds + 100):
        started = time.perf_counter_ns()
        await llmscope.call_llm(
            f"{number} {PROMPT}", "cheap", ROUTE, context=CONTEXT, telemetry_path=log, request_id=str(number)
        )
        if number >= 100:
            durations.append(time.perf_counter_ns() - started)
    return sorted(durations)[len(durations) // 2] / 1000


async def _floor_us(log: Path, *, rounds: int) -> float:
    """Calling the provider directly, and noting it: id, clock, encode, lock, write, unlock of the line."""
    provider = Instant()
    record = msgspec.json.decode(log.read_bytes().splitlines()[-1])
    encoder = msgspec.json.Encoder()
    floor_log = os.open(log.with_name("floor.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    durations = []
    for _ in range(rounds):
        started = time.perf_counter_ns()
        await provider.complete(PROMPT, "gpt-4o-mini", 500)
        record["request_id"] = uuid.uuid4().hex
        record["latency_ms"] = time.monotonic()
        line = encoder.encode(record) + b"\n"
        fcntl.flock(floor_log, fcntl.LOCK_EX)
        os.write(floor_log, line)
        fcntl.flock(floor_log, fcntl.LOCK_UN)
        durations.append(time.perf_counter_ns() - started)
    os.close(floor_log)
    return sorted(durations)[len(durations) // 2] / 1000


@benchmark("gateway")
def gateway() -> Iterator[Figure]:
    """`call_llm` with everything off, each stage by itself, all of them together, and a cache hit."""
    llmscope.register_provider("instant", Instant())
    llmscope.register_route(ROUTE, RoutePolicy(500, 2, False, {"cheap": "gpt-4o-mini"}, "instant"))
    try:
        yield from _figures()
    finally:
        use_runtime(None)


def _figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "telemetry.jsonl"

        def measured(parts: RouteParts) -> float:
            use_runtime(Runtime({ROUTE: parts}))
            return asyncio.run(_p50_us(log, rounds=1000))

        off = min(measured(RouteParts()) for _ in range(3))
        floor = min(asyncio.run(_floor_us(log, rounds=2000)) for _ in range(3))
        yield Figure("call_llm_overhead", off, "µs", floor, goal=20.0)
        yield Figure("call_llm_off", off, "µs", LONGEST_STAGE_US, goal=1.0)
        for name, parts in STAGES.items():
            bare = measured(RouteParts())
            added = measured(parts) - bare
            yield Figure(f"stage_{name}", added, "µs", LONGEST_STAGE_US, goal=1.0)
        everything = RouteParts(
            context=STAGES["context"].context,
            guards=(*STAGES["guard_pii"].guards, *STAGES["guard_injection"].guards),
            cache=ExactCache(max_entries=1000),
            router=STAGES["route_fastest_p95"].router,
            breaker_of=Breakers(),
            retry=RetryPolicy(deadline_seconds=60),
        )
        stages_on = 6
        yield Figure(
            "call_llm_everything_on", measured(everything), "µs", stages_on * LONGEST_STAGE_US, goal=1.0
        )
