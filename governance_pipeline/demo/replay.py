"""Replaying planned requests through the real gate and the real gateway, in virtual time.

One task per request, started at its arrival: requests that overlapped in the trace overlap here, and
an hour of traffic takes seconds. Only the providers are simulated (`providers`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from governance_pipeline.demo.configuration import PRIMARY, STANDBY, route_policy
from governance_pipeline.demo.folder import DemoFiles
from governance_pipeline.demo.providers import OutageWindow, StoryProvider
from governance_pipeline.demo.schedule import PlannedRequest
from governance_pipeline.demo.story import Story
from llmscope import LLMRequestContext, register_provider, register_route
from llmscope.clock import VirtualClock
from llmscope.gateway.simulated import SimulatedProviderError
from llmscope.timestamps import MICROS, from_micros
from policy_runtime import PolicyDenied, PolicyRuntime

Progress = Callable[[int, int], None]
_Outcome = Literal["answered", "denied", "failed"]
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ReplayCounts:
    """What became of the replayed requests.

    Attributes:
        answered: an answer came back, whichever provider gave it.
        denied: the gate refused; nothing was called, nothing retried.
        failed: every provider refused; the caller got the last error.
        first_arrival, last_arrival: when the first and the last of them were made.
        first_denied: the id of the first request that was denied, None if none was.
    """

    answered: int
    denied: int
    failed: int
    first_arrival: datetime
    last_arrival: datetime
    first_denied: str | None

    @property
    def total(self) -> int:
        """All requests that were made."""
        return self.answered + self.denied + self.failed


def replay(
    story: Story,
    requests: Sequence[PlannedRequest],
    files: DemoFiles,
    *,
    own_hour_begins_us: int,
    shift_us: int,
    progress: Progress,
) -> ReplayCounts:
    """Make every request, in virtual time, against the policy and the logs in `files`.

    Args:
        requests: in order of arrival, in trace time.
        own_hour_begins_us: the trace's first arrival, in trace time: the story's minute 0.
        shift_us: what is added to trace time, a whole number of hours.
        progress: told now and then how many requests of how many are done.

    Registers the story's routes and the two simulated providers with llmscope, in place of earlier ones.
    """
    first, last = (from_micros(requests[end].arrival_us + shift_us) for end in (0, -1))
    clock = VirtualClock(first)
    _register(story, requests, clock, from_micros(own_hour_begins_us + shift_us))
    gate = PolicyRuntime(
        files.policy, telemetry_path=files.telemetry, decisions_path=files.decisions, clock=clock
    )
    try:
        outcomes = asyncio.run(_make_all(gate, clock, requests, progress))
    finally:
        gate.close()
    became = Counter(outcomes.values())
    return ReplayCounts(
        answered=became["answered"],
        denied=became["denied"],
        failed=became["failed"],
        first_arrival=first,
        last_arrival=last,
        first_denied=next((name for name, outcome in outcomes.items() if outcome == "denied"), None),
    )


async def _make_all(
    gate: PolicyRuntime, clock: VirtualClock, requests: Sequence[PlannedRequest], progress: Progress
) -> dict[str, _Outcome]:
    outcomes: dict[str, _Outcome] = {}

    async def make(request: PlannedRequest) -> None:
        outcomes[request.request_id] = await _call(gate, request)
        progress(len(outcomes), len(requests))

    async with asyncio.TaskGroup() as calls:
        for request in requests:
            wait_us = request.arrival_us - requests[0].arrival_us - round(clock.monotonic() * MICROS)
            if wait_us > 0:
                await clock.sleep(wait_us / MICROS)
            calls.create_task(make(request))
    return outcomes


async def _call(gate: PolicyRuntime, request: PlannedRequest) -> _Outcome:
    """Ask the gate and, if it lets the request pass, the provider. A refusal is an outcome, not a retry."""
    context = LLMRequestContext(
        tenant_id=request.tenant_id,
        caller_id=request.caller_id,
        use_case=request.feature_id,
        feature_id=request.feature_id,
        experiment_id=request.experiment_id,
        budget_namespace=request.budget_namespace,
    )
    try:
        await gate.call_llm(
            # The prompt is only the key to the trace's token counts: there are no prompts in the trace.
            prompt=request.request_id,
            tokens_in=request.tokens_in,
            model_tier=request.model_tier,
            route_name=request.route_name,
            context=context,
            request_id=request.request_id,
        )
    except PolicyDenied:
        return "denied"
    except SimulatedProviderError:
        return "failed"
    return "answered"


def _register(
    story: Story, requests: Sequence[PlannedRequest], clock: VirtualClock, minute_zero: datetime
) -> None:
    by_prompt = {request.request_id: request for request in requests}
    window = None
    if story.outage is not None:
        begins = minute_zero + story.outage.start_minute * _MINUTE
        window = OutageWindow(story.outage, begins, begins + story.outage.minutes * _MINUTE)
    primary = StoryProvider(
        PRIMARY,
        seed=story.seed,
        clock=clock,
        requests=by_prompt,
        refuses=frozenset({"primary_refuses", "all_refuse"}),
        window=window,
    )
    standby = StoryProvider(
        STANDBY,
        seed=story.seed,
        clock=clock,
        requests=by_prompt,
        refuses=frozenset({"all_refuse"}),
    )
    for provider in (primary, standby):
        register_provider(provider.provider_name, provider)
    for route in story.routes:
        register_route(route.name, route_policy(story, route))
