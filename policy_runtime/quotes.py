"""What a request would cost on a tier: which model, expected cost, worst case.

Prices, routes and the token estimate are llmscope's. What does not belong here: whether the cost is
acceptable (`judgement`).
"""

from __future__ import annotations

from llmscope.errors import ConfigurationError
from llmscope.gateway.cost_model import Rate, rate_for
from llmscope.gateway.policies import RoutePolicy, available_routes, get_route_policy
from policy_runtime.judgement import Quote
from policy_runtime.labels import Labels
from policy_runtime.ledger import Ledger
from policy_runtime.policy import Policy

# The route whose models price callers that llmscope has never heard of.
FALLBACK_ROUTE = "/answer-routed"
DEFAULT_MAX_OUTPUT_TOKENS = 500


def price_of(model: str | None) -> Rate | None:
    """The rate of a model, None when no price is known."""
    if model is None:
        return None
    try:
        return rate_for(model)
    except ConfigurationError:
        return None


def route_or_none(route_name: str | None) -> RoutePolicy | None:
    """The registered route of that name, None when llmscope has never heard of it."""
    try:
        return None if route_name is None else get_route_policy(route_name)
    except ConfigurationError:
        return None


def models_of_tier(policy: Policy, tier: str) -> dict[str, str]:
    """Provider → model of a tier: what the policy file says, else what llmscope's routes say."""
    stated = policy.tiers.get(tier)
    if stated is not None:
        return dict(stated)
    models: dict[str, str] = {}
    for name in available_routes():
        route = get_route_policy(name)
        if tier in route.model_for_tier:
            models.setdefault(route.provider_name, route.model_for_tier[tier])
    return models


def known_tiers(policy: Policy) -> set[str]:
    """Every tier that the policy file or a registered route defines."""
    return {
        *policy.tiers,
        *(tier for name in available_routes() for tier in get_route_policy(name).model_for_tier),
    }


class Quoter:
    """Quotes the tiers of one request.

    Args:
        policy: for `tiers` and `reserve`.
        ledger: for observed means.
        labels: the request's attribution; its route decides models and output bound.
        requested_tier: the tier asked for.
        model: the model the caller named, if any; then a downgrade keeps that model's provider.
        tokens_in: input tokens, estimated or given.
        max_output_tokens: the caller's bound on the answer, else the route's, else 500.
    """

    def __init__(
        self,
        policy: Policy,
        ledger: Ledger,
        labels: Labels,
        requested_tier: str,
        model: str | None,
        tokens_in: int,
        max_output_tokens: int | None,
    ) -> None:
        self._policy = policy
        self._ledger = ledger
        self._labels = labels
        self._requested_tier = requested_tier
        self._model = model
        self._tokens_in = tokens_in
        self._route = route_or_none(labels.route_name)
        self.max_output_tokens = max_output_tokens or (
            self._route.max_output_tokens if self._route else DEFAULT_MAX_OUTPUT_TOKENS
        )

    def __call__(self, tier: str) -> Quote:
        provider, model = self._model_for(tier)
        rate = price_of(model)
        if rate is None:
            labels = self._labels
            recent = self._ledger.mean_cost_nano(labels.route_name, labels.budget_namespace)
            return Quote(tier, provider, model, None, recent, self.max_output_tokens, None)
        observed = self._ledger.mean_output_tokens(self._labels.route_name, model)
        expected_out = (
            self.max_output_tokens if observed is None else min(round(observed), self.max_output_tokens)
        )
        expected = rate.cost_nano(self._tokens_in, expected_out)
        if self._policy.reserve == "expected":
            reserved = expected
        else:
            reserved = max(
                worst.cost_nano(self._tokens_in, self.max_output_tokens)
                for worst in (rate, *self._fallback_rates())
            )
        return Quote(
            tier,
            provider or rate.provider,
            model,
            expected,
            reserved,
            self.max_output_tokens,
            rate.price_version,
        )

    def _model_for(self, tier: str) -> tuple[str | None, str | None]:
        """(provider, model) that a tier means for this request."""
        if self._model is not None:
            own = price_of(self._model)
            provider = own.provider if own is not None else None
            if tier == self._requested_tier:
                return provider, self._model
            return provider, models_of_tier(self._policy, tier).get(provider or "")
        route = self._route or route_or_none(FALLBACK_ROUTE)
        if route is not None:
            model = route.model_for_tier.get(tier) or models_of_tier(self._policy, tier).get(
                route.provider_name
            )
            return route.provider_name, model
        return None, None

    def _fallback_rates(self) -> list[Rate]:
        """Rates of the route's fallback models: the worst case is that the dearest of them answers."""
        if self._route is None or self._model is not None:
            return []
        rates = [price_of(model) for _, model in self._route.fallbacks]
        return [rate for rate in rates if rate is not None]
