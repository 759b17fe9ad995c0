"""What `runtime.yaml` may say: a pydantic model for each of its sections.

A stage is as its route has it, else as `defaults` has it; `on` is a stage with its own defaults, `off`
one that is not there. A value left out is the part's own default: no number stands here twice. Functions
that only the application can supply (an embedder, a judge of answers) are named, see `functions_of`.
What does not belong here: making parts of sections (`runtime_parts`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

FunctionName = Annotated[
    str, Field(description="A name given to load_runtime, or package.module:function", min_length=1)
]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def _switch(value: Any) -> Any:
    return {"enabled": value} if isinstance(value, bool) else value


class Section(BaseModel):
    """What all sections have in common: an unknown key or a wrong type is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def given(self, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
        """The values that the file states, by name, for a part's constructor."""
        left_out = {"enabled", "kind", "policy", *without}
        return {
            name: getattr(self, name)
            for name in self.model_fields_set
            if name not in left_out and getattr(self, name) is not None
        }


class StageSection(Section):
    """A section that can be turned off."""

    enabled: bool = True


class TargetSection(Section):
    """One model at one provider."""

    provider: str
    model: str


class ProviderSection(Section):
    """A provider to register under the section's name. The key is read from the environment variable
    named, never from the file."""

    kind: Literal["openai", "openai_compatible", "anthropic"] = "openai_compatible"
    base_url: str | None = None
    api: Literal["responses", "chat"] | None = None
    api_key_variable: str | None = None
    timeout_seconds: Positive | None = None


class RetrySection(StageSection):
    """How a failing provider is asked again; see `stages.RetryPolicy`."""

    attempts: int = Field(default=2, ge=0)
    first_backoff_seconds: Positive = 1.0
    longest_backoff_seconds: Positive = 60.0
    jitter: float = Field(default=0.2, ge=0, lt=1)
    deadline_seconds: Positive | None = None


class BreakerSection(Section):
    """When a provider is left alone; see `breaker.ProviderBreaker`."""

    consecutive_failures: Count | None = None
    error_rate: float | None = Field(default=None, gt=0, lt=1)
    window_seconds: Positive | None = None
    minimum_attempts: Count | None = None
    cooldown_seconds: Positive | None = None


class ContextSection(StageSection):
    """How a conversation becomes a prompt; see `context_budget.TokenContextBudget`."""

    strategy: Literal["full", "sliding_window", "summarized"] | None = None
    max_context_tokens: Count | None = None
    window_turns: int | None = Field(default=None, ge=0)
    summarize: FunctionName | None = None


PiiKind = Literal["email", "phone", "ssn", "iban", "card"]
Action = Literal["pass", "warn", "redact", "block"]
# One action for all kinds, or kind → action.
Actions = Action | dict[PiiKind, Action]


class PiiSection(Section):
    """Personal data; see `guards.PiiGuard`."""

    kind: Literal["pii"]
    kinds: list[PiiKind] | None = Field(default=None, min_length=1)
    action_in: Actions | None = None
    action_out: Actions | None = None


class PromptInjectionSection(Section):
    """Attempts to take over the model; see `guards.PromptInjectionGuard`."""

    kind: Literal["prompt_injection"]
    action: Literal["warn", "block"] | None = None
    threshold: Positive | None = None
    extra_patterns: list[str] | None = None


class ModerationSection(Section):
    """The application's own judge of texts; see `guards.ModerationGuard`."""

    kind: Literal["moderation"]
    function: FunctionName
    action: Literal["warn", "block"] | None = None
    on_error: Literal["allow", "block"] | None = None
    directions: list[Literal["in", "out"]] | None = Field(default=None, min_length=1)


GuardSection = Annotated[PiiSection | PromptInjectionSection | ModerationSection, Field(discriminator="kind")]


class SemanticSection(Section):
    """Answers to prompts that mean the same; see `cache.semantic`."""

    embedder: FunctionName
    similarity_threshold: float | None = Field(default=None, gt=0, le=1)


class RedisSection(Section):
    """Where processes share answers; see `cache.redis_tier`. The address is read from the environment
    variable named, because it may hold a password."""

    url_variable: str = "REDIS_URL"
    timeout_seconds: Positive | None = None


class CacheSection(StageSection):
    """Answers that need not be bought twice; see `cache.exact`."""

    ttl_seconds: Positive | None = None
    max_entries: Count | None = None
    max_bytes: Count | None = None
    share_between_tenants: bool | None = None
    semantic: SemanticSection | None = None
    redis: RedisSection | None = None


Candidates = Annotated[
    dict[str, Annotated[list[TargetSection], Field(min_length=1)]],
    Field(min_length=1, description="tier → targets that may serve it, in order of preference"),
]


class CheapestSection(Section):
    """The lowest price for the request; see `routing.CheapestRouter`."""

    policy: Literal["cheapest"]
    candidates: Candidates
    expected_output_tokens: Count | None = None


class FastestSection(Section):
    """The lowest live p95; see `routing.FastestP95Router`."""

    policy: Literal["fastest_p95"]
    candidates: Candidates
    window_seconds: Positive | None = None
    exploration_share: Share | None = None
    minimum_sample: Count | None = None


class BurnWindowSection(Section):
    """A pair of windows that must both burn above the threshold; see `routing.BurnWindow`."""

    short_seconds: Positive
    long_seconds: Positive
    threshold: Positive


class SloBurnSection(Section):
    """The cheapest that keeps its objectives; see `routing.SloBurnRouter`."""

    policy: Literal["slo_burn_aware"]
    candidates: Candidates
    expected_output_tokens: Count | None = None
    slo_error_rate: float | None = Field(default=None, gt=0, lt=1)
    slo_latency_ms: Positive | None = None
    slo_slow_share: float | None = Field(default=None, gt=0, lt=1)
    burn_windows: list[BurnWindowSection] | None = Field(default=None, min_length=1)
    minimum_sample: Count | None = None
    exploration_share: Share | None = None


class CanarySection(Section):
    """A candidate that earns its traffic; see `routing.CanaryRouter`."""

    policy: Literal["canary"]
    primary: TargetSection
    candidate: TargetSection
    stages: list[Annotated[float, Field(gt=0, le=1)]] | None = Field(default=None, min_length=1)
    window_calls: Count | None = None
    window_seconds: Positive | None = None
    burn_multiplier: Positive | None = None
    slo_error_rate: float | None = Field(default=None, gt=0, lt=1)
    slo_latency_ms: Positive | None = None
    minimum_sample: Count | None = None
    cool_off_seconds: Positive | None = None


class CascadeSection(Section):
    """Cheap first, dearer when the answer will not do; see `routing.CascadeRouter`."""

    policy: Literal["cascade"]
    candidates: Candidates
    quality_estimator: FunctionName
    threshold: float | None = None
    expected_output_tokens: Count | None = None


RoutingSection = Annotated[
    CheapestSection | FastestSection | SloBurnSection | CanarySection | CascadeSection,
    Field(discriminator="policy"),
]


class StagesSection(Section):
    """The stages of a route; one that is not named is as in `defaults`.

    Retries are on unless turned off; every other stage is off unless turned on.
    """

    retry: Annotated[RetrySection | None, BeforeValidator(_switch)] = None
    breaker: bool | None = None
    context: Annotated[ContextSection | None, BeforeValidator(_switch)] = None
    guards: list[GuardSection] | None = None
    cache: Annotated[CacheSection | None, BeforeValidator(_switch)] = None


class RouteSection(StagesSection):
    """One route: who serves it, and through which stages its calls go.

    `bidirectional` lets a call that names a fallback's model start there and fall back to the others.
    """

    provider: str = "openai"
    tiers: dict[str, str] = Field(min_length=1)
    max_output_tokens: Count | None = None
    fallbacks: list[TargetSection] = []
    bidirectional: bool = False
    routing: RoutingSection | None = None


class RuntimeFile(Section):
    """A whole `runtime.yaml`."""

    version: Literal[1] = 1
    providers: dict[str, ProviderSection] = {}
    breakers: BreakerSection = BreakerSection()
    defaults: StagesSection = StagesSection()
    routes: dict[str, RouteSection] = {}
