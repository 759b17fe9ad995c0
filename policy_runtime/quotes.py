"""What a request would cost on a tier: which model, expected cost, worst case.

Prices, routes and the token estimate are llmscope's. What does not belong here: whether the cost is
acceptable (`judgement`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from llmscope.gateway.cost_model import Rate, find_rate
from llmscope.gateway.policies import RoutePolicy, available_routes, find_route_policy, get_route_policy
from llmscope.money import NANO_PER_USD

if TYPE_CHECKING:
    from policy_runtime.asking import Ask
    from policy_runtime.ledger import Ledger
    from policy_runtime.policy import Policy

# The route whose models price callers that llmscope has never heard of.
FALLBACK_ROUTE = "/answer-routed"
DEFAULT_MAX_OUTPUT_TOKENS = 500


class Quote(msgspec.Struct, frozen=True, gc=False):
    """What a request would cost on one tier.

    Attributes:
        tier: the tier.
        provider, model: what would be called; None when nothing is known for the tier.
        expected_nano: expected cost in nano-USD, None without a price.
        reserved_nano: what is reserved for it; without a price the recent mean of its like.
        max_output_tokens: the bound on the answer.
        price_version: of the prices used, None without a price.
        expected_usd, reserved_usd: the same in USD, which every rule and the record write down.
    """

    tier: str
    provider: str | None
    model: str | None
    expected_nano: int | None
    reserved_nano: int
    max_output_tokens: int
    price_version: str | None
    expected_usd: float | None
    reserved_usd: float


def price_of(model: str | None) -> Rate | None:
    """The rate of a model, None when no price is known."""
    return None if model is None else find_rate(model)


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


def quote(policy: Policy, ledger: Ledger, ask: Ask, tier: str) -> Quote:
    """What a request would cost on `tier`: its route decides models and output bound, the ledger knows
    how long its like have answered.

    The bound on the answer is the caller's, else the route's, else 500 tokens. The worst case is that the
    dearest of the models that may answer does (see `_worst_case`). Without a price the recent mean of the
    route and namespace is reserved.
    """
    route_name = ask.labels.route_name
    route = find_route_policy(route_name)
    bound = ask.max_output_tokens or (DEFAULT_MAX_OUTPUT_TOKENS if route is None else route.max_output_tokens)
    provider, model = _model_for(policy, ask, route, tier)
    rate = None if model is None else find_rate(model, None, provider)
    if rate is None:
        recent = ledger.mean_cost_nano(route_name, ask.labels.budget_namespace)
        return Quote(tier, provider, model, None, recent, bound, None, None, recent / NANO_PER_USD)
    tokens_in = ask.tokens_in
    reserved = expected = rate.cost_nano(tokens_in, bound)
    observed = ledger.mean_output_tokens(route_name, model)
    if observed is not None:
        tokens_out = round(observed)
        if tokens_out < bound:
            expected = rate.cost_nano(tokens_in, tokens_out)
    if policy.reserve == "expected":
        reserved = expected
    elif route is not None and ask.model is None and (route.fallbacks or route.candidates):
        reserved = _worst_case(route, tier, reserved, tokens_in, bound)
    return Quote(
        tier,
        provider or rate.provider,
        model,
        expected,
        reserved,
        bound,
        rate.price_version,
        expected / NANO_PER_USD,
        reserved / NANO_PER_USD,
    )


def _worst_case(route: RoutePolicy, tier: str, reserved: int, tokens_in: int, bound: int) -> int:
    """The most that a call can cost, nano-USD, given what it costs at the tier's own model: the dearest of
    the models that may answer; in a cascade each candidate may be paid for before the last one answers."""

    def costs(targets: Iterable[tuple[str, str]]) -> list[int]:
        rates = [find_rate(model, None, provider) for provider, model in targets]
        return [rate.cost_nano(tokens_in, bound) for rate in rates if rate is not None]

    candidates = costs(route.candidates.get(tier, ()))
    fallbacks = max(costs(route.fallbacks), default=0)
    if route.is_cascade:
        return max(reserved, sum(candidates) + fallbacks)
    return max(reserved, fallbacks, *candidates)


def _model_for(
    policy: Policy, ask: Ask, route: RoutePolicy | None, tier: str
) -> tuple[str | None, str | None]:
    """(provider, model) that a tier means for a request: a caller who names a model keeps its provider."""
    if ask.model is not None:
        own = price_of(ask.model)
        provider = own.provider if own is not None else None
        if tier == ask.model_tier:
            return provider, ask.model
        return provider, models_of_tier(policy, tier).get(provider or "")
    route = route or find_route_policy(FALLBACK_ROUTE)
    if route is None:
        return None, None
    provider = route.provider_name
    return provider, route.model_for_tier.get(tier) or models_of_tier(policy, tier).get(provider)
