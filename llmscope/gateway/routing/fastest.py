"""The target whose 95th percentile is the lowest just now, and a few requests elsewhere to know it.

What does not belong here: how latencies are kept (`live_latency`).
"""

from __future__ import annotations

import math
import threading

from llmscope.gateway.routing.candidates import (
    Candidates,
    CandidateTargets,
    checked_exploration,
    checked_positive,
    name_of,
    sole_choice,
)
from llmscope.gateway.routing.live_latency import LiveLatency
from llmscope.gateway.routing.request_draw import fractions_of
from llmscope.gateway.stages import Observation, RoutingChoice, RoutingRequest, Target

# Ranks: measured, not measured, measured and failing more than one time in twenty.
_ANSWERING, _UNKNOWN, _FAILING = range(3)


class FastestP95Router:
    """Chooses the lowest live p95. A share of the requests, drawn by their ids, goes to the others, so
    that a target that nobody has measured, or that has recovered, is found out. While no candidate has
    been measured, requests are spread over all of them.

    The other candidates follow as fallbacks, in order of their p95. More than 5 % of faults make a p95
    infinite, and a target that nobody has measured is preferred to one that fails that often.

    Args:
        candidates: the targets of every tier alike, or tier → targets.
        provider_name: the route's own provider, for a model that no candidate serves.
        window_seconds: over which time latencies count.
        exploration_share: the share of requests that goes elsewhere; with 0 a target that was slow once
            is never asked again, so that is refused.
        minimum_sample: how many attempts measure a target.
        seed: another one draws other requests.

    Raises:
        ConfigurationError: no candidates, or a number out of its range.
    """

    decision = "fastest_p95"

    def __init__(
        self,
        candidates: CandidateTargets,
        *,
        provider_name: str | None = None,
        window_seconds: float = 300.0,
        exploration_share: float = 0.02,
        minimum_sample: int = 20,
        seed: int = 0,
    ) -> None:
        self._candidates = Candidates(candidates, provider_name=provider_name)
        self._window_seconds = checked_positive(window_seconds, "window_seconds")
        self._exploration_share = checked_exploration(exploration_share)
        self._minimum_sample = int(checked_positive(minimum_sample, "minimum_sample"))
        self._salt = f"{self.decision}:{seed}"
        self._lock = threading.Lock()
        self._latency = {
            target: LiveLatency(window_seconds, self._minimum_sample) for target in self._candidates.all
        }

    def choose(self, request: RoutingRequest, now_seconds: float) -> RoutingChoice:
        """The fastest candidate, or for a drawn request another one, then the rest by p95."""
        eligible = self._candidates.eligible(request)
        if len(eligible) == 1:
            return sole_choice(eligible[0], self.decision)
        with self._lock:
            ranked = sorted(
                (*self._rank(target, now_seconds), place) for place, target in enumerate(eligible)
            )
        targets = [eligible[place] for _, _, place in ranked]
        explores, which = fractions_of(request.request_id, self._salt)
        standing, p95_ms, _ = ranked[0]
        if standing == _UNKNOWN:
            unknown = sum(rank[0] == _UNKNOWN for rank in ranked)
            return self._led_by(
                targets,
                int(which * unknown),
                f"spread: {unknown} candidates have fewer than {self._minimum_sample} attempts",
            )
        if explores < self._exploration_share:
            chosen = 1 + int(which * (len(targets) - 1))
            return self._led_by(
                targets, chosen, f"exploration: {name_of(targets[chosen])} is measured with a few requests"
            )
        if standing == _FAILING:
            return self._led_by(targets, 0, f"every candidate fails; {name_of(targets[0])} the least often")
        return self._led_by(
            targets, 0, f"{name_of(targets[0])}: p95 {p95_ms:.0f} ms over {self._window_seconds:g} s"
        )

    def observe(self, observation: Observation, now_seconds: float) -> None:
        """Count an attempt at a candidate. One that ended for the caller's own fault says nothing of how
        fast an answer is, and is left out."""
        latency = self._latency.get(observation.target)
        if latency is None or not (observation.is_success or observation.is_fault):
            return
        with self._lock:
            latency.observe(observation.latency_ms, observation.is_fault, now_seconds)

    def p95_ms(self, target: Target, now_seconds: float) -> float | None:
        """A candidate's live p95 in ms: infinite when more than 5 % fail, None while it is not measured.

        Raises:
            KeyError: it is no candidate.
        """
        with self._lock:
            return self._latency[target].p95_ms(now_seconds)

    def _rank(self, target: Target, now_seconds: float) -> tuple[int, float]:
        latency = self._latency[target]
        p95_ms = latency.p95_ms(now_seconds)
        if p95_ms is None:
            return _UNKNOWN, 0.0
        if p95_ms == math.inf:
            return _FAILING, latency.fault_share(now_seconds)
        return _ANSWERING, p95_ms

    def _led_by(self, targets: list[Target], place: int, reason: str) -> RoutingChoice:
        first = targets[place]
        rest = [target for target in targets if target != first]
        return RoutingChoice((first, *rest), self.decision, reason)
