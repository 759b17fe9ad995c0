"""From the sections of a `runtime.yaml` to the parts that calls pass through.

What does not belong here: what a file may say (`runtime_sections`), how it is read and its mistakes are
told (`runtime_file`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from llmscope.errors import ConfigurationError
from llmscope.gateway.breaker import Breakers
from llmscope.gateway.cache.exact import ExactCache
from llmscope.gateway.cache.semantic import SemanticCache
from llmscope.gateway.context_budget import TokenContextBudget
from llmscope.gateway.guards.injection import PromptInjectionGuard
from llmscope.gateway.guards.moderation import ModerationGuard
from llmscope.gateway.guards.pii import PiiGuard
from llmscope.gateway.policies import DEFAULT_MAX_OUTPUT_TOKENS, RoutePolicy
from llmscope.gateway.provider import (
    AnthropicProvider,
    OpenAICompatibleProvider,
    OpenAIProvider,
    ProviderBase,
)
from llmscope.gateway.routing import (
    BurnWindow,
    CanaryRouter,
    CascadeRouter,
    CheapestRouter,
    FastestP95Router,
    QualityEscalation,
    SloBurnRouter,
)
from llmscope.gateway.runtime_sections import (
    CacheSection,
    CanarySection,
    CascadeSection,
    CheapestSection,
    ContextSection,
    FastestSection,
    GuardSection,
    PiiSection,
    PromptInjectionSection,
    ProviderSection,
    RetrySection,
    RouteSection,
    RoutingSection,
    StagesSection,
    TargetSection,
)
from llmscope.gateway.stages import (
    ContextBudget,
    Escalation,
    Guard,
    ResponseCache,
    RetryPolicy,
    RouteParts,
    Router,
    Target,
)
from llmscope.named_functions import checked_callable, imported_function

Functions = Mapping[str, Callable[..., Any]]
"""What a file may name, by name."""


def function_of(name: str, functions: Functions) -> Callable[..., Any]:
    """What a file means by `name`: one of `functions`, else what `package.module:name` imports.

    Raises:
        ConfigurationError: there is none, or it cannot be called.
    """
    if name in functions:
        return checked_callable(name, functions[name], refuse=ConfigurationError)
    if ":" not in name:
        given = ", ".join(sorted(functions)) or "none"
        raise ConfigurationError(
            f"no function is named {name!r} (given to load_runtime: {given}); "
            "write package.module:function for one that can be imported"
        )
    return imported_function(name, refuse=ConfigurationError)


def provider_of(name: str, section: ProviderSection) -> ProviderBase:
    """The provider that a section describes.

    Raises:
        ConfigurationError: values that do not go together.
    """
    options = section.given(without=frozenset({"api_key_variable", "api", "base_url"}))
    if section.api_key_variable is not None:
        options["api_key"] = os.environ.get(section.api_key_variable)
    if section.api is not None and section.kind != "openai":
        raise ConfigurationError(f"provider {name!r}: `api` is for kind: openai only")
    if section.kind == "openai_compatible":
        if section.base_url is None:
            raise ConfigurationError(f"provider {name!r}: `base_url` is missing: add the server's address")
        return OpenAICompatibleProvider(name, section.base_url, **options)
    if section.kind == "anthropic":
        return AnthropicProvider(base_url=section.base_url, **options)
    if section.api is not None:
        options["api"] = section.api
    return OpenAIProvider(base_url=section.base_url, **options)


def retry_of(section: StagesSection, defaults: StagesSection) -> RetryPolicy:
    """How a route's failing providers are asked again."""
    chosen = section.retry or defaults.retry or RetrySection()
    if not chosen.enabled:
        return RetryPolicy(attempts=0)
    stated = chosen.model_dump(exclude={"enabled"})
    if not isinstance(section, RouteSection) and "attempts" not in chosen.model_fields_set:
        stated["attempts"] = None  # a route that is registered in code says so itself
    return RetryPolicy(**stated)


def route_policy_of(section: RouteSection, parts: RouteParts) -> RoutePolicy:
    """The route as the gate and the gateway know it, given the parts made of the same section."""
    routing = section.routing
    return RoutePolicy(
        max_output_tokens=section.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS,
        retry_attempts=(parts.retry.attempts if parts.retry is not None else None) or 0,
        cache_enabled=parts.cache is not None,
        model_for_tier=section.tiers,
        provider_name=section.provider,
        fallbacks=tuple((target.provider, target.model) for target in section.fallbacks),
        is_bidirectional=section.bidirectional,
        candidates=_candidates_by_tier(section) if routing is not None else {},
        is_cascade=isinstance(routing, CascadeSection),
    )


def parts_of(
    section: StagesSection, defaults: StagesSection, breakers: Breakers, functions: Functions
) -> RouteParts:
    """The parts of one route.

    Raises:
        ConfigurationError: a part refuses its values, or names a function that is not there.
    """
    has_breaker = defaults.breaker if section.breaker is None else section.breaker
    context = section.context or defaults.context
    guards = defaults.guards if section.guards is None else section.guards
    cache = section.cache or defaults.cache
    router: Router | None = None
    escalation: Escalation | None = None
    if isinstance(section, RouteSection) and section.routing is not None:
        router = _router(section, section.routing)
        if isinstance(section.routing, CascadeSection):
            judge = function_of(section.routing.quality_estimator, functions)
            options = section.routing.model_dump(include={"threshold"}, exclude_none=True)
            escalation = QualityEscalation(judge, **options)
    return RouteParts(
        context=_context(context, functions) if context is not None and context.enabled else None,
        guards=tuple(_guard(guard, functions) for guard in guards or ()),
        cache=_cache(cache, functions) if cache is not None and cache.enabled else None,
        router=router,
        escalation=escalation,
        breaker_of=breakers if has_breaker else None,
        retry=retry_of(section, defaults),
    )


def _context(section: ContextSection, functions: Functions) -> ContextBudget:
    options = section.given(without=frozenset({"summarize"}))
    if section.summarize is not None:
        options["summarize"] = function_of(section.summarize, functions)
    return TokenContextBudget(**options)


def _guard(section: GuardSection, functions: Functions) -> Guard:
    if isinstance(section, PiiSection):
        return PiiGuard(**section.given())
    if isinstance(section, PromptInjectionSection):
        return PromptInjectionGuard(**section.given())
    options = section.given(without=frozenset({"function"}))
    return ModerationGuard(function_of(section.function, functions), **options)


def _cache(section: CacheSection, functions: Functions) -> ResponseCache:
    options = section.given(without=frozenset({"semantic", "redis"}))
    if section.redis is not None:
        from llmscope.gateway.cache.redis_tier import RedisTier  # noqa: PLC0415  the extra `redis`

        url = os.environ.get(section.redis.url_variable)
        if not url:
            raise ConfigurationError(
                f"cache: redis: the environment variable {section.redis.url_variable} is not set; "
                "set it to the server's address, such as redis://127.0.0.1:6379/0"
            )
        options["shared"] = RedisTier(url, **section.redis.given(without=frozenset({"url_variable"})))
    if section.semantic is None:
        return ExactCache(**options)
    embed = function_of(section.semantic.embedder, functions)
    return SemanticCache(embed, **options, **section.semantic.given(without=frozenset({"embedder"})))


def _router(section: RouteSection, routing: RoutingSection) -> Router:
    if isinstance(routing, CanarySection):
        return CanaryRouter(
            _target(routing.primary),
            _target(routing.candidate),
            provider_name=section.provider,
            **routing.given(without=frozenset({"primary", "candidate"})),
        )
    candidates = {
        tier: [Target(*target) for target in targets]
        for tier, targets in _candidates_by_tier(section).items()
    }
    options = routing.given(
        without=frozenset({"candidates", "burn_windows", "quality_estimator", "threshold"})
    )
    options["provider_name"] = section.provider
    if isinstance(routing, CheapestSection):
        return CheapestRouter(candidates, **options)
    if isinstance(routing, FastestSection):
        return FastestP95Router(candidates, **options)
    if isinstance(routing, CascadeSection):
        return CascadeRouter(candidates, **options)
    if routing.burn_windows is not None:
        options["burn_windows"] = [BurnWindow(**window.model_dump()) for window in routing.burn_windows]
    return SloBurnRouter(candidates, **options)


def _candidates_by_tier(section: RouteSection) -> dict[str, tuple[tuple[str, str], ...]]:
    """Tier → (provider, model) pairs that may serve it. A canary's two serve every tier."""
    routing = section.routing
    if routing is None:
        return {}
    if isinstance(routing, CanarySection):
        both = tuple((target.provider, target.model) for target in (routing.primary, routing.candidate))
        return dict.fromkeys(section.tiers, both)
    return {
        tier: tuple((target.provider, target.model) for target in targets)
        for tier, targets in routing.candidates.items()
    }


def _target(section: TargetSection) -> Target:
    return Target(section.provider, section.model)
