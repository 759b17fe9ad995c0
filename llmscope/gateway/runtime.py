"""Which parts each route's calls pass through, in this process.

A runtime is made from a `runtime.yaml` (`runtime_file`) or by hand, and put to use with `use_runtime`.
Who does neither gets the file that `RUNTIME_PATH` names, or `runtime.yaml` if there is one, at the
first call; without a file every stage is off. What does not belong here: routes themselves
(`policies`), how a file is read (`runtime_file`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmscope.errors import ConfigurationError
from llmscope.gateway.policies import find_route_policy
from llmscope.gateway.stages import NO_PARTS, RouteParts
from llmscope.gateway.tokens import estimate_tokens

# "Turn 12: " before each turn of a history.
_TOKENS_PER_TURN_LABEL = 4
DEFAULT_RUNTIME_PATH = "runtime.yaml"


@dataclass(frozen=True)
class Runtime:
    """The parts of every route.

    Attributes:
        routes: by route name.
        other_routes: of a route that is not among them.
    """

    routes: Mapping[str, RouteParts] = field(default_factory=dict)
    other_routes: RouteParts = NO_PARTS
    _cached: dict[str, RouteParts] = field(default_factory=dict, compare=False, repr=False)

    def parts_of(self, route_name: str) -> RouteParts:
        """What calls on `route_name` pass through. A route that was registered with `cache_enabled`, and to
        which the runtime gives no cache, has an exact one of its own, with the defaults."""
        parts = self.routes.get(route_name, self.other_routes)
        if parts.cache is not None or not _wants_cache(route_name):
            return parts
        with_cache = self._cached.get(route_name)
        if with_cache is None:
            from llmscope.gateway.cache.exact import ExactCache  # noqa: PLC0415  for routes that have one

            with_cache = self._cached.setdefault(route_name, replace(parts, cache=ExactCache()))
        return with_cache

    def longest_prompt_tokens(self, route_name: str, prompt: str, history: Sequence[str]) -> int:
        """How long, in estimated tokens, the prompt of a conversation can become on a route."""
        whole = estimate_tokens("\n".join([*history, prompt])) + _TOKENS_PER_TURN_LABEL * (len(history) + 1)
        context = self.parts_of(route_name).context
        return whole if context is None else min(whole, context.max_context_tokens)


_current: list[Runtime] = []


def use_runtime(runtime: Runtime | None) -> None:
    """Let every call from now on pass through the parts of `runtime`; None for what the surroundings say,
    looked up again at the next call."""
    _current[:] = [] if runtime is None else [runtime]


def current_runtime() -> Runtime:
    """The runtime in use.

    Raises:
        ConfigurationError: `RUNTIME_PATH` names no file, or the file cannot be used.
    """
    if not _current:
        _current.append(_from_surroundings())
    return _current[0]


def _wants_cache(route_name: str) -> bool:
    policy = find_route_policy(route_name)
    return policy is not None and policy.cache_enabled


def _from_surroundings() -> Runtime:
    named = os.environ.get("RUNTIME_PATH")
    path = Path(named or DEFAULT_RUNTIME_PATH)
    if not path.is_file():
        if named:
            raise ConfigurationError(f"RUNTIME_PATH is {named!r}, but there is no such file")
        return Runtime()
    from llmscope.gateway.runtime_file import load_runtime  # noqa: PLC0415  pydantic and yaml

    return load_runtime(path)
