"""A `runtime.yaml` in words: what will happen to the calls of each route.

What does not belong here: whether the file is valid (`runtime_file`).
"""

from __future__ import annotations

from llmscope.gateway.policies import DEFAULT_MAX_OUTPUT_TOKENS
from llmscope.gateway.provider import available_providers
from llmscope.gateway.runtime_parts import retry_of
from llmscope.gateway.runtime_sections import (
    Actions,
    CacheSection,
    CanarySection,
    CascadeSection,
    ContextSection,
    PiiSection,
    PromptInjectionSection,
    RouteSection,
    RuntimeFile,
    StagesSection,
)


def describe_runtime(settings: RuntimeFile) -> list[str]:
    """One paragraph per route, in the order of the stages; then what the application must still supply."""
    lines: list[str] = []
    for name, section in settings.routes.items():
        tiers = ", ".join(f"{tier} is {model}" for tier, model in section.tiers.items())
        longest = section.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
        lines.append(
            f"Route {name}: served by {section.provider} ({tiers}), answers of up to {longest} tokens."
        )
        lines += [f"  {sentence}" for sentence in _stages(section, settings.defaults)]
    other = _stages(StagesSection(), settings.defaults)
    lines.append("Every other route:")
    lines += [f"  {sentence}" for sentence in other]
    known = {*available_providers(), *settings.providers}
    for provider in sorted(_providers(settings) - known):
        lines.append(f"The application must register a provider {provider!r}.")
    return lines


def _stages(section: StagesSection, defaults: StagesSection) -> list[str]:
    told: list[str] = []
    context = section.context or defaults.context
    if context is not None and context.enabled:
        told.append(_context(context))
    for guard in (defaults.guards if section.guards is None else section.guards) or ():
        told.append(_guard(guard))
    cache = section.cache or defaults.cache
    if cache is not None and cache.enabled:
        told.append(_cache(cache))
    if isinstance(section, RouteSection) and section.routing is not None:
        told.append(_routing(section))
    has_breaker = defaults.breaker if section.breaker is None else section.breaker
    if has_breaker:
        told.append("breaker: a provider that keeps failing is left alone until a probe succeeds.")
    retry = retry_of(section, defaults)
    deadline = "" if retry.deadline_seconds is None else f", within {retry.deadline_seconds:g} s in all"
    waits = f"waiting {retry.first_backoff_seconds:g} s and twice as long each time{deadline}."
    if retry.attempts is None:
        told.append(f"retry: as often as the route says where it is registered, {waits}")
    elif retry.attempts:
        told.append(f"retry: {retry.attempts} more attempts at a provider, {waits}")
    else:
        told.append(f"retry: none{deadline}.")
    if isinstance(section, RouteSection) and section.fallbacks:
        chain = ", then ".join(f"{target.model} at {target.provider}" for target in section.fallbacks)
        both = "; a call that names one of them starts there" if section.bidirectional else ""
        told.append(f"fallback: {chain}{both}.")
    return told


def _context(section: ContextSection) -> str:
    strategy = section.strategy or "full"
    what = {
        "full": "every turn is sent",
        "sliding_window": "the last turns are sent",
        "summarized": "the last turns and a summary of those before are sent",
    }[strategy]
    return f"context: {what}; what does not fit is refused before anything is sent."


def _guard(guard: object) -> str:
    if isinstance(guard, PiiSection):
        kinds = ", ".join(guard.kinds) if guard.kinds else "of every kind"
        stated = [
            f"{_actions(actions)} in the {what}"
            for actions, what in ((guard.action_in, "prompt"), (guard.action_out, "answer"))
            if actions is not None
        ]
        return f"guard: personal data ({kinds}): {', '.join(stated) or 'redact'}."
    if isinstance(guard, PromptInjectionSection):
        return f"guard: attempts at prompt injection: {guard.action or 'block'}."
    return f"guard: moderation by {getattr(guard, 'function', '')}."


def _actions(actions: Actions) -> str:
    if isinstance(actions, str):
        return actions
    return ", ".join(f"{action} {kind}" for kind, action in actions.items())


def _cache(section: CacheSection) -> str:
    shared = " shared through Redis" if section.redis is not None else ""
    meaning = f", also by meaning ({section.semantic.embedder})" if section.semantic is not None else ""
    tenants = " between tenants" if section.share_between_tenants else " within a tenant"
    return f"cache: the same prompt is answered once{tenants}{shared}{meaning}."


def _routing(section: RouteSection) -> str:
    routing = section.routing
    if isinstance(routing, CanarySection):
        return (
            f"routing: canary: {routing.candidate.model} at {routing.candidate.provider} earns its traffic "
            f"from {routing.primary.model} at {routing.primary.provider}."
        )
    candidates = routing.candidates if routing is not None else {}
    among = "; ".join(
        f"{tier}: {', '.join(f'{target.model} at {target.provider}' for target in targets)}"
        for tier, targets in candidates.items()
    )
    judge = f", judged by {routing.quality_estimator}" if isinstance(routing, CascadeSection) else ""
    return f"routing: {routing.policy if routing is not None else ''}{judge}, among {among}."


def _providers(settings: RuntimeFile) -> set[str]:
    named: set[str] = set()
    for section in settings.routes.values():
        named.add(section.provider)
        named.update(target.provider for target in section.fallbacks)
        routing = section.routing
        if isinstance(routing, CanarySection):
            named |= {routing.primary.provider, routing.candidate.provider}
        elif routing is not None:
            named |= {target.provider for targets in routing.candidates.values() for target in targets}
    return named
