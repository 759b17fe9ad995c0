"""The providers of a story: llmscope's simulated provider in good and in bad hours.

What does not belong here: whether a request is made at all, and when (`replay`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from governance_pipeline.demo.schedule import PlannedRequest, Trouble
from governance_pipeline.demo.story import Outage
from llmscope import ProviderBase, ProviderResponse
from llmscope.clock import Clock
from llmscope.gateway.simulated import SimulatedProvider

_MEAN_LATENCY_MS, _P95_LATENCY_MS = 900.0, 2_400.0
_REFUSAL_MEAN_MS, _REFUSAL_P95_MS = 15.0, 30.0


@dataclass(frozen=True, slots=True)
class OutageWindow:
    """A planted outage with the instants between which it lasts."""

    outage: Outage
    begins: datetime
    ends: datetime


class StoryProvider(ProviderBase):
    """A simulated provider that is well, refuses some requests at once, and hangs during an outage.

    Args:
        name: the name in telemetry.
        seed: of its latencies.
        clock: whose time it spends.
        requests: the planned request of each prompt.
        refuses: the troubles in which this provider refuses at once.
        window: when it hangs and then fails; None for never.
    """

    def __init__(
        self,
        name: str,
        *,
        seed: int,
        clock: Clock,
        requests: Mapping[str, PlannedRequest],
        refuses: frozenset[Trouble],
        window: OutageWindow | None = None,
    ) -> None:
        self._name = name
        self._clock = clock
        self._requests = requests
        self._refuses = refuses
        self._window = window
        self._well = SimulatedProvider(
            seed, clock, _MEAN_LATENCY_MS, _P95_LATENCY_MS, 0.0, plan=self._planned_tokens, name=name
        )
        self._refusing = SimulatedProvider(
            seed, clock, _REFUSAL_MEAN_MS, _REFUSAL_P95_MS, 1.0, name=f"{name} (refusing)"
        )
        self._hanging = self._refusing
        if window is not None:
            outage = window.outage
            self._hanging = SimulatedProvider(
                seed, clock, outage.mean_latency_ms, outage.p95_latency_ms, 1.0, name=f"{name} (hanging)"
            )

    @property
    def provider_name(self) -> str:
        """The name in telemetry."""
        return self._name

    async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
        """Answer with the planned token counts, or fail as the story says."""
        return await self._for(self._requests[prompt]).complete(prompt, model, max_output_tokens)

    def is_retryable(self, error: Exception) -> bool:
        """As the simulated provider says."""
        return self._well.is_retryable(error)

    def categorize_error(self, error: Exception) -> str:
        """As the simulated provider says."""
        return self._well.categorize_error(error)

    def is_unbilled(self, error: Exception) -> bool:
        """As the simulated provider says."""
        return self._well.is_unbilled(error)

    def _for(self, request: PlannedRequest) -> SimulatedProvider:
        if request.trouble in self._refuses:
            return self._refusing
        window = self._window
        if (
            window is not None
            and request.route_name == window.outage.route_name
            and window.begins <= self._clock.now() < window.ends
        ):
            return self._hanging
        return self._well

    def _planned_tokens(self, prompt: str, _model: str, max_output_tokens: int) -> tuple[int, int]:
        request = self._requests[prompt]
        return request.tokens_in, min(request.tokens_out, max_output_tokens)
