"""Routes: which models serve them, how much they may say, how often they are retried, where they fall back.

What does not belong here: budgets and their rules (that is `policy_runtime`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmscope.errors import ConfigurationError

ModelTier = str
"""`cheap`, `expensive`, or any other tier that a route configures."""

AUTO_MODEL = "auto"
"""Named instead of a model: any of the candidates that the route's router may choose among."""

DEFAULT_MAX_OUTPUT_TOKENS = 500


@dataclass(frozen=True)
class RoutePolicy:
    """How calls on one route are made.

    Attributes:
        max_output_tokens: the longest answer, in tokens.
        retry_attempts: further attempts at one provider after its first failure.
        cache_enabled: whether answers may be served from a cache.
        model_for_tier: the model that serves each tier.
        provider_name: the registered provider that is tried first.
        fallbacks: `(provider, model)` pairs, tried in order once the retries are used up.
        is_bidirectional: a call that names a fallback's model starts there, and falls back to the others.
        candidates: tier → `(provider, model)` pairs among which a router may choose; empty without one.
        is_cascade: whether a call may be answered by several candidates, one after the other.
    """

    max_output_tokens: int
    retry_attempts: int
    cache_enabled: bool
    model_for_tier: Mapping[ModelTier, str]
    provider_name: str = "openai"
    fallbacks: tuple[tuple[str, str], ...] = ()
    is_bidirectional: bool = False
    candidates: Mapping[ModelTier, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    is_cascade: bool = False

    def targets(self, model_of_tier: str, named_model: str | None = None) -> list[tuple[str, str]]:
        """Provider and model of the first choice and of what follows it, in order.

        Args:
            model_of_tier: the model that serves the call's tier.
            named_model: the model that the caller named, if any.
        """
        own = (self.provider_name, model_of_tier)
        if self.is_bidirectional and named_model is not None:
            start = next((target for target in self.fallbacks if target[1] == named_model), None)
            if start is not None:
                return [start, own, *(target for target in self.fallbacks if target != start)]
        first = own if named_model is None else (self.provider_name, named_model)
        return [first, *self.fallbacks]


def _built_in_route() -> RoutePolicy:
    return RoutePolicy(
        max_output_tokens=DEFAULT_MAX_OUTPUT_TOKENS,
        retry_attempts=2,
        cache_enabled=False,
        model_for_tier={"cheap": "gpt-4o-mini", "expensive": "gpt-4o"},
    )


_ROUTE_POLICIES: dict[str, RoutePolicy] = {
    "/answer-routed": _built_in_route(),
    "/conversation-turn": _built_in_route(),
}


def register_route(route_name: str, policy: RoutePolicy) -> None:
    """Add a route, or replace it.

    Raises:
        ConfigurationError: the policy could not serve a single call; the message says why.
    """

    def refuse(problem: str) -> ConfigurationError:
        return ConfigurationError(f"route {route_name!r}: {problem}")

    if not route_name:
        raise ConfigurationError("a route needs a name")
    if policy.max_output_tokens < 1:
        raise refuse(f"max_output_tokens is {policy.max_output_tokens}; it must be at least 1")
    if policy.retry_attempts < 0:
        raise refuse(f"retry_attempts is {policy.retry_attempts}; it must be 0 or more")
    if not policy.model_for_tier:
        raise refuse("model_for_tier is empty; name a model for at least one tier")
    for fallback in policy.fallbacks:
        if isinstance(fallback, str) or len(fallback) != 2 or not all(fallback):
            raise refuse(f"the fallback {fallback!r} is not a (provider, model) pair")
    _ROUTE_POLICIES[route_name] = policy


def available_routes() -> list[str]:
    """The names of all routes, sorted."""
    return sorted(_ROUTE_POLICIES)


def find_route_policy(route_name: str | None) -> RoutePolicy | None:
    """The policy of a route; None when there is no such route."""
    return None if route_name is None else _ROUTE_POLICIES.get(route_name)


def get_route_policy(route_name: str) -> RoutePolicy:
    """The policy of a route.

    Raises:
        ConfigurationError: there is no such route; the message lists those there are.
    """
    policy = _ROUTE_POLICIES.get(route_name)
    if policy is None:
        raise ConfigurationError(
            f"No gateway policy defined for route: {route_name}. "
            f"Available routes: {', '.join(available_routes())}. Add one with llmscope.register_route."
        )
    return policy


def get_model_for_tier(route_name: str, tier: ModelTier) -> str:
    """The model that serves `tier` on a route.

    Raises:
        ConfigurationError: there is no such route, or the route has no such tier.
    """
    models = get_route_policy(route_name).model_for_tier
    model = models.get(tier)
    if model is None:
        raise ConfigurationError(
            f"Tier '{tier}' not configured for route {route_name}. "
            f"Available tiers: {', '.join(sorted(models))}"
        )
    return model
