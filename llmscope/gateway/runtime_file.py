"""Reading `runtime.yaml`: routes, and the parts that their calls pass through.

Every mistake is told with its line and the fix, as in policy files; nothing is registered by a file with
a mistake in it. What does not belong here: what a file may say (`runtime_sections`), how its sections
become parts (`runtime_parts`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import yaml

from llmscope.errors import ConfigurationError
from llmscope.gateway.breaker import Breakers
from llmscope.gateway.policies import register_route
from llmscope.gateway.provider import available_providers, register_provider
from llmscope.gateway.runtime import Runtime
from llmscope.gateway.runtime_parts import Functions, parts_of, provider_of, route_policy_of
from llmscope.gateway.runtime_sections import RouteSection, RuntimeFile, StagesSection
from llmscope.strict_yaml import StrictYaml, parse_strict_yaml, read_strict_yaml, suggestion, validated

Made = TypeVar("Made")


def load_runtime(
    source: str | os.PathLike[str] | Mapping[str, Any], functions: Functions | None = None
) -> Runtime:
    """Load a runtime, and register the providers and routes that it defines.

    Args:
        source: a file, or its content as a mapping.
        functions: what the file may name; other names are imported, as `package.module:function`.

    Raises:
        ConfigurationError: naming file, line, route and the fix, one paragraph per mistake. Nothing has
            been registered then.
    """
    file = _parsed(source)
    settings = _validated(file)
    functions = functions or {}
    providers = {
        name: _at(file, ("providers", name), partial(provider_of, name, section))
        for name, section in settings.providers.items()
    }
    _refuse_unknown_providers(settings, file)
    breakers = Breakers(**settings.breakers.given())
    defaults = settings.defaults

    def made(section: StagesSection, location: tuple[str, ...]) -> Any:
        return _at(file, location, partial(parts_of, section, defaults, breakers, functions))

    runtime = Runtime(
        routes={name: made(section, ("routes", name)) for name, section in settings.routes.items()},
        other_routes=made(StagesSection(), ("defaults",)),
    )
    for name, provider in providers.items():
        register_provider(name, provider)
    for name, section in settings.routes.items():
        register_route(name, route_policy_of(section, runtime.routes[name]))
    return runtime


def read_runtime(source: str | os.PathLike[str] | Mapping[str, Any]) -> RuntimeFile:
    """The content of a runtime file, validated, without making anything of it: what it names may not be
    there yet.

    Raises:
        ConfigurationError: naming file, line, route and the fix.
    """
    return _validated(_parsed(source))


def runtime_json_schema() -> dict[str, Any]:
    """The JSON Schema of `runtime.yaml`, for editors' completion and checks."""
    return RuntimeFile.model_json_schema()


def _parsed(source: str | os.PathLike[str] | Mapping[str, Any]) -> StrictYaml:
    kind = "a runtime file is a mapping with `routes:`"
    if isinstance(source, Mapping):
        text = yaml.safe_dump(dict(source), sort_keys=False)
        return parse_strict_yaml(text, "runtime mapping", kind=kind, refuse=ConfigurationError)
    return read_strict_yaml(source, kind=kind, refuse=ConfigurationError)


def _validated(file: StrictYaml) -> RuntimeFile:
    return validated(file, RuntimeFile, refuse=ConfigurationError, told_place=_told_route)


def _refuse_unknown_providers(settings: RuntimeFile, file: StrictYaml) -> None:
    """A target at a provider that nobody registers would fail every call: refuse it at load."""
    known = sorted({*available_providers(), *settings.providers})
    for location, provider in _providers_named(settings):
        if provider not in known:
            raise ConfigurationError(
                f"{_place(file, location)}: provider {provider!r} is not registered. "
                f"{suggestion(provider, known)} Known: {', '.join(known)}; define it under `providers:`, "
                "or register it before the file is loaded."
            )


def _providers_named(settings: RuntimeFile) -> list[tuple[tuple[Any, ...], str]]:
    named: list[tuple[tuple[Any, ...], str]] = []

    def walk(value: Any, location: tuple[Any, ...]) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                if key == "provider" and isinstance(item, str):
                    named.append(((*location, key), item))
                else:
                    walk(item, (*location, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                walk(item, (*location, index))

    for name, section in settings.routes.items():
        walk(_stated(section), ("routes", name))
    return named


def _stated(section: RouteSection) -> dict[str, Any]:
    stated = section.model_dump(include={"provider", "fallbacks", "routing"})
    return {"provider": section.provider, **stated}


def _at(file: StrictYaml, location: tuple[Any, ...], make: Callable[[], Made]) -> Made:
    """What `make` makes; its refusal is told with the place in the file."""
    try:
        return make()
    except ConfigurationError as exc:
        raise ConfigurationError(f"{_place(file, location)}: {exc}") from exc


def _place(file: StrictYaml, location: tuple[Any, ...]) -> str:
    return f"{file.source}:{file.line_of(location)}{_told_route(location)}"


def _told_route(location: tuple[Any, ...]) -> str:
    return f", route {location[1]!r}" if len(location) > 1 and location[0] == "routes" else ""
