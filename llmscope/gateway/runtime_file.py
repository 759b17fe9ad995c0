"""Reading `runtime.yaml`: routes, and the parts that their calls pass through.

Every mistake is told with its line and the fix, as in policy files. A stage that a route does not name
is as `defaults` has it; `off` turns it off.
What does not belong here: how the parts work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from llmscope.errors import ConfigurationError
from llmscope.gateway import breaker
from llmscope.gateway.breaker import Breakers
from llmscope.gateway.policies import DEFAULT_MAX_OUTPUT_TOKENS, RoutePolicy, register_route
from llmscope.gateway.runtime import Runtime
from llmscope.gateway.stages import RetryPolicy, RouteParts
from llmscope.strict_yaml import StrictYaml, fix_of, known_keys, parse_strict_yaml


def _switch(value: Any) -> Any:
    """`on` is a stage with its defaults, `off` one that is not there."""
    return {"enabled": value} if isinstance(value, bool) else value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TargetSection(_Section):
    """One model at one provider."""

    provider: str
    model: str


class _Stage(_Section):
    enabled: bool = True


class RetrySection(_Stage):
    """How a failing provider is asked again; see `stages.RetryPolicy`."""

    attempts: int = Field(default=2, ge=0)
    first_backoff_seconds: float = Field(default=1.0, gt=0)
    longest_backoff_seconds: float = Field(default=60.0, gt=0)
    jitter: float = Field(default=0.2, ge=0, lt=1)
    deadline_seconds: float | None = Field(default=None, gt=0)


class BreakerSection(_Section):
    """When a provider is left alone; see `breaker.ProviderBreaker`."""

    consecutive_failures: int = Field(default=breaker.CONSECUTIVE_FAILURES, ge=1)
    error_rate: float = Field(default=breaker.ERROR_RATE, gt=0, lt=1)
    window_seconds: float = Field(default=breaker.WINDOW_SECONDS, gt=0)
    minimum_attempts: int = Field(default=breaker.MINIMUM_ATTEMPTS, ge=1)
    cooldown_seconds: float = Field(default=breaker.COOLDOWN_SECONDS, gt=0)


class StagesSection(_Section):
    """The stages of a route; one that is not named is as in `defaults`.

    Retries are on unless turned off; every other stage is off unless turned on.
    """

    retry: Annotated[RetrySection | None, BeforeValidator(_switch)] = None
    breaker: bool | None = None


class RouteSection(StagesSection):
    """One route: who serves it, and through which stages its calls go."""

    provider: str = "openai"
    tiers: dict[str, str] = Field(min_length=1)
    max_output_tokens: int = Field(default=DEFAULT_MAX_OUTPUT_TOKENS, ge=1)
    fallbacks: list[TargetSection] = []


class RuntimeFile(_Section):
    """A whole `runtime.yaml`."""

    version: Literal[1] = 1
    breakers: BreakerSection = BreakerSection()
    defaults: StagesSection = StagesSection()
    routes: dict[str, RouteSection] = {}


def load_runtime(source: str | os.PathLike[str] | Mapping[str, Any]) -> Runtime:
    """Load a runtime, and register the routes that it defines.

    Args:
        source: a file, or its content as a mapping.

    Raises:
        ConfigurationError: naming file, line, route and the fix, one paragraph per mistake. Nothing has
            been registered then.
    """
    file = _parsed(source)
    try:
        settings = RuntimeFile.model_validate(file.data)
    except ValidationError as exc:
        raise ConfigurationError("\n".join(_explain(error, file) for error in exc.errors())) from exc
    breakers = Breakers(**settings.breakers.model_dump())
    runtime = Runtime(
        routes={
            name: _parts(section, settings.defaults, breakers) for name, section in settings.routes.items()
        },
        other_routes=_parts(StagesSection(), settings.defaults, breakers),
    )
    for name, section in settings.routes.items():
        retry = _retry(section, settings.defaults)
        register_route(
            name,
            RoutePolicy(
                max_output_tokens=section.max_output_tokens,
                retry_attempts=retry.attempts,
                cache_enabled=False,
                model_for_tier=section.tiers,
                provider_name=section.provider,
                fallbacks=tuple((target.provider, target.model) for target in section.fallbacks),
            ),
        )
    return runtime


def runtime_json_schema() -> dict[str, Any]:
    """The JSON Schema of `runtime.yaml`, for editors' completion and checks."""
    return RuntimeFile.model_json_schema()


def _parsed(source: str | os.PathLike[str] | Mapping[str, Any]) -> StrictYaml:
    if isinstance(source, Mapping):
        text, name = yaml.safe_dump(dict(source), sort_keys=False), "runtime mapping"
    else:
        path = Path(source)
        name = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigurationError(f"{path}: there is no such runtime file") from None
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"{path}: cannot be read as UTF-8 text: {exc}") from exc
    return parse_strict_yaml(
        text, name, kind="a runtime file is a mapping with `routes:`", refuse=ConfigurationError
    )


def _parts(section: StagesSection, defaults: StagesSection, breakers: Breakers) -> RouteParts:
    retry = _retry(section, defaults)
    has_breaker = defaults.breaker if section.breaker is None else section.breaker
    return RouteParts(retry=retry, breaker_of=breakers if has_breaker else None)


def _retry(section: StagesSection, defaults: StagesSection) -> RetryPolicy:
    chosen = section.retry or defaults.retry or RetrySection()
    if not chosen.enabled:
        return RetryPolicy(attempts=0)
    return RetryPolicy(**chosen.model_dump(exclude={"enabled"}))


def _explain(error: Any, file: StrictYaml) -> str:
    """One validation error as: file:line: route: key: what was found, and the fix."""
    location = file.location_of(error["loc"])
    place = f"{file.source}:{file.line_of(location)}"
    if len(location) > 1 and location[0] == "routes":
        place += f", route {location[1]!r}"
    possible = known_keys(runtime_json_schema(), file, location[:-1])
    return f"{place}: {fix_of(error, str(location[-1]) if location else '', possible)}"
