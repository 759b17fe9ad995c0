"""The policy as data: namespaces, their rules, and what holds for all of them.

Rules are a union told apart by `primitive`; unknown keys, wrong types and impossible numbers are
refused. What does not belong here: reading files (`policy_file`) and judging requests (`judgement`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from llmscope.money import to_nano
from policy_runtime.windows import (
    HOUR_US,
    LONGEST_CALENDAR_US,
    PERIOD_US,
    SHORTEST_RESERVATION_SECONDS,
    longest_bucket_us,
)

DEFAULT_NAMESPACE = "default"

Usd = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Factor = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1)]
Name = Annotated[str, Field(strict=True, min_length=1)]


def _each_once(items: tuple[Any, ...]) -> tuple[Any, ...]:
    for item in items:
        if items.count(item) > 1:
            raise ValueError(f"{item!r} stands twice: name each once")
    return items


ScopeName = Literal["tenant_id", "caller_id", "feature_id", "experiment_id", "route_name"]
Per = Annotated[tuple[ScopeName, ...], AfterValidator(_each_once)]
Period = Literal["hourly", "daily", "weekly", "monthly"]


class _Strict(BaseModel):
    # Built when a policy is first loaded, not when the gate is imported.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class RuleBase(_Strict):
    """What every rule has.

    Attributes:
        id: unique within its namespace; every decision that the rule makes names it.
        mode: `shadow` records what the rule would do and applies nothing.
        on_error: what a rule that cannot be evaluated counts as; always recorded.
    """

    id: Name
    mode: Literal["enforce", "shadow"] = "enforce"
    on_error: Literal["allow", "deny"] = "allow"

    @property
    def enforced(self) -> bool:
        """Whether the rule's outcome is applied."""
        return self.mode == "enforce"


class BudgetThreshold(RuleBase):
    """Spending limit over a window: acts when spent ≥ limit, or spent + reserved + this > limit."""

    primitive: Literal["budget_threshold"]
    period: Period
    window: Literal["rolling", "calendar"] | None = None
    limit_usd: Usd
    action: Literal["deny", "downgrade"]
    deny_reason: str = "budget_exceeded"
    downgrade_to_tier: Name = "cheap"
    per: Per = ()
    alert_at: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1, strict=True)], ...], AfterValidator(_each_once)
    ] = ()

    @property
    def window_kind(self) -> str:
        """`rolling` or `calendar`; unless the file says, a month is a calendar month and all else rolls."""
        return self.window or ("calendar" if self.period == "monthly" else "rolling")

    @cached_property
    def limit_nano(self) -> int:
        """The limit in nano-USD."""
        return to_nano(self.limit_usd)

    @property
    def longest_us(self) -> int:
        """How far back the window can reach, in microseconds."""
        lengths = LONGEST_CALENDAR_US if self.window_kind == "calendar" else PERIOD_US
        return lengths[self.period]


class RoutePreference(RuleBase):
    """Downgrade requests of a route (of every route when none is named) to a cheaper tier."""

    primitive: Literal["route_preference"]
    route_name: Name | None = None
    prefer_tier: Name


class CostAnomaly(RuleBase):
    """Annotate a request whose expected cost is above a multiple of its feature's recent mean."""

    primitive: Literal["cost_anomaly"]
    feature_id: Name | None = None
    baseline_window_hours: Annotated[float, Field(strict=True, gt=0, le=24 * 31, allow_inf_nan=False)] = 24
    threshold_multiplier: Factor = 2.0
    min_samples: Count = 20
    action: Literal["alert"] = "alert"

    @property
    def baseline_us(self) -> int:
        """The baseline window in microseconds."""
        return round(self.baseline_window_hours * HOUR_US)


class RateLimit(RuleBase):
    """Requests and tokens per rolling minute and day."""

    primitive: Literal["rate_limit"]
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    requests_per_day: Count | None = None
    tokens_per_day: Count | None = None
    per: Per = ()

    @model_validator(mode="after")
    def _limits_something(self) -> RateLimit:
        if not self.limits:
            raise ValueError(
                "a rate_limit needs one of requests_per_minute, tokens_per_minute, "
                "requests_per_day, tokens_per_day"
            )
        return self

    @property
    def limits(self) -> tuple[tuple[Literal["requests", "tokens"], int, int], ...]:
        """Each limit as (what is counted, window in microseconds, how many)."""
        minute, day = 60_000_000, PERIOD_US["daily"]
        every: tuple[tuple[Literal["requests", "tokens"], int, int | None], ...] = (
            ("requests", minute, self.requests_per_minute),
            ("tokens", minute, self.tokens_per_minute),
            ("requests", day, self.requests_per_day),
            ("tokens", day, self.tokens_per_day),
        )
        return tuple((what, window, limit) for what, window, limit in every if limit is not None)


class TokenLimit(RuleBase):
    """Bounds on the tokens of one request."""

    primitive: Literal["token_limit"]
    max_tokens_in: Count | None = None
    max_tokens_total: Count | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> TokenLimit:
        if self.max_tokens_in is None and self.max_tokens_total is None:
            raise ValueError("a token_limit needs max_tokens_in or max_tokens_total")
        return self


class ModelAllowlist(RuleBase):
    """Only these models or tiers may be used."""

    primitive: Literal["model_allowlist"]
    models: tuple[Name, ...] = ()
    tiers: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _allows_something(self) -> ModelAllowlist:
        if not self.models and not self.tiers:
            raise ValueError("a model_allowlist needs models or tiers")
        return self


Rule = Annotated[
    BudgetThreshold | RoutePreference | CostAnomaly | RateLimit | TokenLimit | ModelAllowlist,
    Field(discriminator="primitive"),
]


class DuplicateRule(ValueError):
    """Two rules of one namespace have the same id; `index` is the place of the second."""

    def __init__(self, rule_id: str, index: int) -> None:
        super().__init__(f"rule id {rule_id!r} stands twice in this namespace: rename one of them")
        self.index = index


class Namespace(_Strict):
    """The rules of one budget namespace, in the order of the file."""

    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Namespace:
        seen: set[str] = set()
        for index, rule in enumerate(self.rules):
            if rule.id in seen:
                raise DuplicateRule(rule.id, index)
            seen.add(rule.id)
        return self


class Policy(_Strict):
    """A whole policy file."""

    version: str | int | float | None = None
    namespaces: dict[Name, Namespace]
    tiers: dict[Name, dict[Name, Name]] = Field(default_factory=dict)
    unknown_namespaces: Literal["default", "own_budget", "deny"] = "default"
    reserve: Literal["worst_case", "expected"] = "worst_case"
    reservation_ttl_seconds: Annotated[
        float, Field(strict=True, ge=SHORTEST_RESERVATION_SECONDS, le=86400)
    ] = 900
    lock_timeout_seconds: Annotated[float, Field(strict=True, gt=0, le=60)] = 2
    timezone: str = "UTC"
    max_scopes: Count = 100_000

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as exc:  # OSError: `Europe` is a folder of zones
            raise ValueError(
                f"no time zone is named {name!r}; use an IANA name such as Europe/Berlin"
            ) from exc
        return name

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone of calendar windows."""
        return ZoneInfo(self.timezone)

    @cached_property
    def ttl_us(self) -> int:
        """How long a reservation lasts, in microseconds."""
        return round(self.reservation_ttl_seconds * 1_000_000)

    def charged_namespace(self, given: str | None) -> str | None:
        """The namespace whose budgets a request draws on; None when the file has no section for it.

        None means `default`. An unlisted name is charged to `default`, or under
        `unknown_namespaces: own_budget` to a budget of its own under the rules of `default`.
        """
        name = given or DEFAULT_NAMESPACE
        if name in self.namespaces:
            return name
        if DEFAULT_NAMESPACE not in self.namespaces:
            return None
        return name if self.unknown_namespaces == "own_budget" else DEFAULT_NAMESPACE

    def refuses(self, given: str | None) -> bool:
        """Whether requests of a namespace are denied because the file does not list it."""
        return (
            self.unknown_namespaces == "deny"
            and given is not None
            and given != DEFAULT_NAMESPACE
            and given not in self.namespaces
        )

    @cached_property
    def longest_window_us(self) -> int:
        """How much history any rule needs, at least one hour, in microseconds."""
        longest = HOUR_US
        for namespace in self.namespaces.values():
            for rule in namespace.rules:
                if isinstance(rule, BudgetThreshold):
                    longest = max(longest, rule.longest_us)
                elif isinstance(rule, CostAnomaly):
                    longest = max(longest, rule.baseline_us)
                elif isinstance(rule, RateLimit):
                    longest = max(longest, *(window for _, window, _ in rule.limits))
        return longest

    @cached_property
    def longest_request_window_us(self) -> int:
        """The longest window in which any rule counts requests, 0 when none does, in microseconds."""
        return max(
            (
                window
                for namespace in self.namespaces.values()
                for rule in namespace.rules
                if isinstance(rule, RateLimit)
                for what, window, _ in rule.limits
                if what == "requests"
            ),
            default=0,
        )

    @cached_property
    def reach_us(self) -> int:
        """How far back the state at an instant can depend on a decision, in microseconds.

        What left every window but was billed or lapsed inside one still counts there: a lapse is dated
        one reservation time after its decision at the latest, and a bill takes its decision's place
        among the requests within one longest window. A bucket leaves late by its own length.
        """
        leaves_us = self.longest_window_us + longest_bucket_us(self.longest_window_us)
        return leaves_us + max(self.ttl_us, self.longest_request_window_us)

    @cached_property
    def all_shadow(self) -> bool:
        """Whether the whole gate only watches: there are rules, and every one is in shadow mode."""
        rules = [rule for namespace in self.namespaces.values() for rule in namespace.rules]
        return bool(rules) and all(rule.mode == "shadow" for rule in rules)
