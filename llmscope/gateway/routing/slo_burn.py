"""The cheapest target that keeps its service level objective.

What does not belong here: what burning means (`burn_rate`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from llmscope.gateway.routing.burn_rate import DEFAULT_WINDOWS, BurnMeter, BurnWindow
from llmscope.gateway.routing.candidates import (
    Candidates,
    CandidateTargets,
    checked_exploration,
    checked_positive,
    name_of,
    sole_choice,
)
from llmscope.gateway.routing.price_order import by_price, resolve_prices
from llmscope.gateway.routing.request_draw import fractions_of
from llmscope.gateway.stages import Observation, RoutingChoice, RoutingRequest, Target

logger = logging.getLogger("llmscope")


class SloBurnRouter:
    """Chooses by price among the candidates that do not burn their error budget, and by burn rate if all
    do. A share of the requests, drawn by their ids, probes those that burn, so that traffic returns once
    they have recovered. A candidate without any history counts as healthy.

    Args:
        candidates: the targets of every tier alike, or tier → targets.
        provider_name: the route's own provider, for a model that no candidate serves.
        expected_output_tokens: how long answers usually are, for the price; the longest allowed if None.
        slo_error_rate: the share of attempts that may fail.
        slo_latency_ms: an answer slower than this is slow; None for no objective of latency.
        slo_slow_share: the share of answers that may be slow.
        burn_windows: the pairs of windows of either objective.
        minimum_sample: fewer attempts than this show nothing.
        exploration_share: the share of requests that probes what burns.
        seed: another one draws other requests.

    Raises:
        ConfigurationError: no candidates, a number out of its range, or a burn rate that cannot happen.
    """

    decision = "slo_burn_aware"

    def __init__(
        self,
        candidates: CandidateTargets,
        *,
        provider_name: str | None = None,
        expected_output_tokens: int | None = None,
        slo_error_rate: float = 0.01,
        slo_latency_ms: float | None = None,
        slo_slow_share: float = 0.05,
        burn_windows: Sequence[BurnWindow] = DEFAULT_WINDOWS,
        minimum_sample: int = 20,
        exploration_share: float = 0.05,
        seed: int = 0,
    ) -> None:
        self._candidates = Candidates(candidates, provider_name=provider_name)
        self._expected_output_tokens = expected_output_tokens
        resolve_prices(self._candidates.all)
        if slo_latency_ms is not None:
            checked_positive(slo_latency_ms, "slo_latency_ms")
        self._slo_latency_ms = slo_latency_ms
        self._exploration_share = checked_exploration(exploration_share)
        minimum = int(checked_positive(minimum_sample, "minimum_sample"))
        self._salt = f"{self.decision}:{seed}"
        self._lock = threading.Lock()
        self._errors = {
            target: BurnMeter(slo_error_rate, burn_windows, minimum) for target in self._candidates.all
        }
        self._slowness: dict[Target, BurnMeter] = {}
        if slo_latency_ms is not None:
            self._slowness = {
                target: BurnMeter(slo_slow_share, burn_windows, minimum) for target in self._candidates.all
            }

    def choose(self, request: RoutingRequest, now_seconds: float) -> RoutingChoice:
        """The cheapest healthy candidate, or for a drawn request one that burns, then the rest: healthy
        ones by price, burning ones by burn rate."""
        eligible = self._candidates.eligible(request)
        if len(eligible) == 1:
            return sole_choice(eligible[0], self.decision)
        order = by_price(eligible, request, self._expected_output_tokens)
        with self._lock:
            burning = [target for target in order.targets if self._burns(target)]
            burning.sort(key=lambda target: self._burn_rate(target, now_seconds))
            worst = {target: self._what_burns(target) for target in burning}
        healthy = [target for target in order.targets if target not in worst]
        targets = healthy + burning
        chosen = targets[0]
        if not burning:
            return RoutingChoice(
                order.targets,
                self.decision,
                f"{name_of(chosen)}: {order.describe(chosen)}, no candidate burns",
            )
        explores, which = fractions_of(request.request_id, self._salt)
        probed = [target for target in burning if target != chosen]
        if probed and explores < self._exploration_share:
            probe = probed[int(which * len(probed))]
            rest = [target for target in targets if target != probe]
            return RoutingChoice(
                (probe, *rest),
                self.decision,
                f"exploration: has {name_of(probe)} recovered ({worst[probe]})?",
            )
        if not healthy:
            reason = f"every candidate burns, {name_of(chosen)} the least ({worst[chosen]})"
        else:
            avoided = ", ".join(f"{name_of(target)} burns ({worst[target]})" for target in burning)
            reason = f"{name_of(chosen)}: {order.describe(chosen)}; {avoided}"
        return RoutingChoice(tuple(targets), self.decision, reason)

    def observe(self, observation: Observation, now_seconds: float) -> None:
        """Count an attempt at a candidate. One that ended for the caller's own fault is neither good nor
        bad, and left out; a failed one is no slow answer."""
        target = observation.target
        errors = self._errors.get(target)
        if errors is None or not (observation.is_success or observation.is_fault):
            return
        with self._lock:
            changed = errors.observe(observation.is_fault, now_seconds)
            if self._slo_latency_ms is not None and observation.is_success:
                is_slow = observation.latency_ms > self._slo_latency_ms
                changed = self._slowness[target].observe(is_slow, now_seconds) or changed
            state = (self._what_burns(target) if self._burns(target) else None) if changed else ""
        if state:
            logger.warning("slo_burn_aware: %s burns (%s); traffic goes elsewhere", name_of(target), state)
        elif state is None:
            logger.info("slo_burn_aware: %s has recovered; traffic returns", name_of(target))

    def burn_rate(self, target: Target, window_seconds: float, now_seconds: float) -> float:
        """A candidate's burn rate against the error objective over one of the windows; 0 without calls.

        Raises:
            KeyError: it is no candidate, or no pair has a window of this length.
        """
        with self._lock:
            return self._errors[target].rate(window_seconds, now_seconds)

    def is_burning(self, target: Target) -> bool:
        """Whether a candidate is being avoided.

        Raises:
            KeyError: it is no candidate.
        """
        with self._lock:
            return self._burns(target)

    def _meters(self, target: Target) -> list[tuple[str, BurnMeter]]:
        meters = [("errors", self._errors[target])]
        if self._slowness:
            meters.append(("slow answers", self._slowness[target]))
        return meters

    def _burns(self, target: Target) -> bool:
        return any(meter.burning is not None for _, meter in self._meters(target))

    def _what_burns(self, target: Target) -> str:
        return ", ".join(f"{what} {meter.burning}" for what, meter in self._meters(target) if meter.burning)

    def _burn_rate(self, target: Target, now_seconds: float) -> float:
        return max(meter.shortest_rate(now_seconds) for _, meter in self._meters(target))
