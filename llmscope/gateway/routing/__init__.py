"""Routing policies: which of a route's candidates a call goes to.

Each is a `Router` (see `llmscope.gateway.stages`) with plain keyword arguments; all state is in memory,
of this process, and is told the time. What does not belong here: leaving a target alone (a breaker's),
asking again or elsewhere (the pipeline's), prices (`llmscope.gateway.cost_model`).
"""

from llmscope.gateway.routing.burn_rate import (
    DEFAULT_WINDOWS,
    QUICK_WINDOW,
    WORKBOOK_WINDOWS,
    BurnWindow,
)
from llmscope.gateway.routing.canary import CanaryRouter
from llmscope.gateway.routing.canary_history import CanaryStatus, Transition
from llmscope.gateway.routing.candidates import CandidateTargets
from llmscope.gateway.routing.cascade import CascadeRouter, QualityEscalation, QualityEstimator
from llmscope.gateway.routing.cheapest import CheapestRouter
from llmscope.gateway.routing.fastest import FastestP95Router
from llmscope.gateway.routing.slo_burn import SloBurnRouter

__all__ = [
    "DEFAULT_WINDOWS",
    "QUICK_WINDOW",
    "WORKBOOK_WINDOWS",
    "BurnWindow",
    "CanaryRouter",
    "CanaryStatus",
    "CandidateTargets",
    "CascadeRouter",
    "CheapestRouter",
    "FastestP95Router",
    "QualityEscalation",
    "QualityEstimator",
    "SloBurnRouter",
    "Transition",
]
