"""The cheapest target for this very request.

What does not belong here: asking a dearer one when an answer disappoints (`cascade`).
"""

from __future__ import annotations

from llmscope.gateway.routing.candidates import Candidates, CandidateTargets, name_of, sole_choice
from llmscope.gateway.routing.price_order import by_price, resolve_prices
from llmscope.gateway.stages import Observation, RoutingChoice, RoutingRequest


class CheapestRouter:
    """Chooses by price: input tokens × input price + expected output × output price, long-request tiers
    included. The other candidates follow as fallbacks, by price; those without a price come last and are
    named in the reason. Equal prices keep the configured order.

    Args:
        candidates: the targets of every tier alike, or tier → targets.
        provider_name: the route's own provider, for a model that no candidate serves.
        expected_output_tokens: how long answers usually are; the longest allowed if None.

    Raises:
        ConfigurationError: there are no candidates, or one is named twice.
    """

    decision = "cheapest"

    def __init__(
        self,
        candidates: CandidateTargets,
        *,
        provider_name: str | None = None,
        expected_output_tokens: int | None = None,
    ) -> None:
        self._candidates = Candidates(candidates, provider_name=provider_name)
        self._expected_output_tokens = expected_output_tokens
        resolve_prices(self._candidates.all)

    def choose(self, request: RoutingRequest, now_seconds: float) -> RoutingChoice:  # noqa: ARG002  prices of today
        """The candidates, cheapest first."""
        eligible = self._candidates.eligible(request)
        if len(eligible) == 1:
            return sole_choice(eligible[0], self.decision)
        order = by_price(eligible, request, self._expected_output_tokens)
        reason = f"{name_of(order.targets[0])}: {order.describe(order.targets[0])}"
        if unpriced := order.unpriced():
            reason += f"; without a price: {unpriced}"
        return RoutingChoice(order.targets, self.decision, reason)

    def observe(self, observation: Observation, now_seconds: float) -> None:
        """Nothing to learn: prices are known beforehand."""
