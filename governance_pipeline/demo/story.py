"""The story that the demo plants into real traffic: who, where, when, how much. Values only.

Every planted fact is a field that can be changed or set to None (then nothing of the kind happens),
so that a test can plant another culprit and see whether the pipeline finds that one.

    field        what is planted                                       the question it answers
    burner       one tenant's prompts of one feature carry ballast     1 margin per tenant and feature
    costly       one experiment's treatment is longer and dearer       2 experiments
    outage       a route's primary provider hangs, then fails          3 fallbacks that mask latency
    downgrade    a budget that a namespace outgrows; tier goes down    4 budget pressure
    deny         the same; requests are refused                        4 budget pressure
    unsafe       a route pinned to an old, dear model                  5 margin safety
    spike        a feature's prompts swell for some minutes            the cost_anomaly alert

What does not belong here: turning the story into requests (`schedule`) or files (`configuration`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from governance_pipeline.demo.errors import StoryError
from governance_pipeline.demo.trace import CHAT, CODE

CHEAP, EXPENSIVE = "cheap", "expensive"
CONTROL_SUFFIX = "-control"


@dataclass(frozen=True, slots=True)
class MarginBurner:
    """A tenant whose requests to a feature carry `extra_tokens_in` of ballast and ask for the dear tier."""

    tenant_id: str
    feature_id: str
    extra_tokens_in: int = 8_000


@dataclass(frozen=True, slots=True)
class CostlyExperiment:
    """An experiment whose treatment brings examples along (`extra_tokens_in`) and answers `output_factor`
    times as long, on the dear tier, and succeeds no more often for it."""

    experiment_id: str
    extra_tokens_in: int = 4_000
    output_factor: int = 3


@dataclass(frozen=True, slots=True)
class BudgetLimit:
    """What a namespace may spend in a rolling hour."""

    namespace: str
    limit_usd: float


@dataclass(frozen=True, slots=True)
class Outage:
    """A route's primary provider hangs and then fails, from `start_minute` of the trace for `minutes`."""

    route_name: str
    start_minute: int
    minutes: int
    mean_latency_ms: float = 8_000.0
    p95_latency_ms: float = 12_000.0


@dataclass(frozen=True, slots=True)
class UnsafeRoute:
    """A route whose tiers all lead to `model`."""

    route_name: str
    model: str = "gpt-4-turbo"


@dataclass(frozen=True, slots=True)
class CostSpike:
    """Every request of a feature grows by `extra_tokens_in` and asks for the dear tier for some minutes.

    Attributes:
        hour: 0 is the trace's own hour, -1 the hour of history before it, and so on.
        start_minute: counted from the first request of that hour.
    """

    feature_id: str
    start_minute: int
    minutes: int
    hour: int = 0
    extra_tokens_in: int = 8_000


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the demo, the share of its feature's requests that it serves, and what one of them earns."""

    name: str
    feature_id: str
    share: float
    revenue_usd: float


ROUTES = (
    Route("/code-complete", CODE, 0.85, 0.016),
    Route("/code-review", CODE, 0.15, 0.012),
    Route("/chat", CHAT, 0.85, 0.016),
    Route("/summarize", CHAT, 0.15, 0.012),
)
TENANTS = (
    "northwind",
    "aurora-legal",
    "cobalt-bank",
    "delta-travel",
    "ember-health",
    "fjord-media",
    "granite-energy",
    "harbor-freight",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One story. Equal stories give equal requests, equal files and, whatever the hour, equal answers.

    Attributes:
        seed: from which every assignment is drawn, request by request, whatever their order.
        tenants: largest first; the n-th has a share proportional to n ** -skew (Zipf's law).
        namespaces: budget namespace (None: the caller names none) and its share of the requests.
        experiments: each has a control arm, named with the suffix `-control`.
        experiment_share: share of a feature's requests in unlimited namespaces that each experiment enrols.
        expensive_share: share of the requests that ask for the dear tier of their own accord.
        history_hours: how many hours before the trace's own its traffic is replayed thinned out;
            the alert needs six hours to know what is usual.
        history_every: in each of those hours one in so many rows is replayed, others each hour.
        refused_share: requests that the primary provider refuses at once (the fallback answers).
        failed_share: requests that every provider refuses (the caller gets an error).
        anomaly_multiplier, anomaly_min_samples: of the `cost_anomaly` rules.
    """

    seed: int = 2023
    tenants: tuple[str, ...] = TENANTS
    skew: float = 0.7
    routes: tuple[Route, ...] = ROUTES
    namespaces: tuple[tuple[str | None, float], ...] = (
        ("production", 0.70),
        ("batch", 0.10),
        ("trial", 0.10),
        (None, 0.10),
    )
    experiments: tuple[str, ...] = ("long-form", "polite-tone")
    experiment_feature: str = CHAT
    experiment_share: float = 0.08
    expensive_share: float = 0.30
    history_hours: int = 8
    history_every: int = 32
    refused_share: float = 0.006
    failed_share: float = 0.004
    anomaly_multiplier: float = 2.5
    anomaly_min_samples: int = 40
    burner: MarginBurner | None = None
    costly: CostlyExperiment | None = None
    outage: Outage | None = None
    downgrade: BudgetLimit | None = None
    deny: BudgetLimit | None = None
    unsafe: UnsafeRoute | None = None
    spike: CostSpike | None = None

    def __post_init__(self) -> None:
        features = {route.feature_id for route in self.routes}
        routes = {route.name for route in self.routes}
        namespaces = {name for name, _ in self.namespaces if name is not None}
        # What each plant names must be there to be planted in.
        for field_name, name_of, known in (
            ("burner", "tenant_id", set(self.tenants)),
            ("burner", "feature_id", features),
            ("costly", "experiment_id", set(self.experiments)),
            ("outage", "route_name", routes),
            ("unsafe", "route_name", routes),
            ("spike", "feature_id", features),
            ("downgrade", "namespace", namespaces),
            ("deny", "namespace", namespaces),
        ):
            plant = getattr(self, field_name)
            if plant is not None:
                _require(field_name, getattr(plant, name_of), known)
        _require("experiment_feature", self.experiment_feature, features)
        if self.spike is not None and not -self.history_hours <= self.spike.hour <= 0:
            raise StoryError(f"spike: hour {self.spike.hour} is not among 0 to -{self.history_hours}")
        if self.limited_namespaces == {name for name, _ in self.namespaces}:
            raise StoryError("every namespace has a limit: experiments need one that has none")

    @property
    def limited_namespaces(self) -> frozenset[str]:
        """The namespaces in which a budget can bind."""
        return frozenset(limit.namespace for limit in (self.downgrade, self.deny) if limit is not None)

    def control_of(self, experiment_id: str) -> str:
        """The id of an experiment's control arm."""
        return experiment_id + CONTROL_SUFFIX


def _require(field_name: str, name: str, known: set[str]) -> None:
    if name not in known:
        raise StoryError(f"{field_name}: the story has no {name!r}; it has {', '.join(sorted(known))}")


def without_plants(story: Story) -> Story:
    """The same traffic in which nothing is the matter."""
    return replace(
        story, burner=None, costly=None, outage=None, downgrade=None, deny=None, unsafe=None, spike=None
    )


DEFAULT_STORY = Story(
    burner=MarginBurner("cobalt-bank", CODE),
    costly=CostlyExperiment("long-form"),
    outage=Outage("/chat", start_minute=18, minutes=7),
    downgrade=BudgetLimit("batch", limit_usd=6.00),
    deny=BudgetLimit("trial", limit_usd=5.00),
    unsafe=UnsafeRoute("/summarize"),
    spike=CostSpike(CHAT, start_minute=30, minutes=6),
)
