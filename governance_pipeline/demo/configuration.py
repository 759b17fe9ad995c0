"""The files and the routes in which a story happens: policy, economics, llmscope's registry.

Everything derives from the story's parameters. What does not belong here: requests (`schedule`) and
running them (`replay`).
"""

from __future__ import annotations

from typing import Any

import yaml

from governance_pipeline.demo.schedule import MAX_OUTPUT_TOKENS
from governance_pipeline.demo.story import CHEAP, EXPENSIVE, BudgetLimit, Route, Story
from llmscope.gateway.policies import RoutePolicy

PRIMARY, STANDBY = "simulated", "simulated-standby"
MODEL_FOR_TIER = {CHEAP: "gpt-4o-mini", EXPENSIVE: "gpt-4o"}
STANDBY_MODEL = "gpt-4.1-mini"


def route_policy(story: Story, route: Route) -> RoutePolicy:
    """How llmscope serves a route: the primary provider, then the standby; no retries of the primary."""
    models = dict(MODEL_FOR_TIER)
    if story.unsafe is not None and story.unsafe.route_name == route.name:
        models = dict.fromkeys(models, story.unsafe.model)
    return RoutePolicy(
        max_output_tokens=MAX_OUTPUT_TOKENS,
        retry_attempts=0,
        cache_enabled=False,
        model_for_tier=models,
        provider_name=PRIMARY,
        fallbacks=((STANDBY, STANDBY_MODEL),),
    )


def policy_text(story: Story) -> str:
    """The story's policy file: limits where the story plants them, anomaly watch on every feature."""
    anomaly_rules = [
        {
            "id": f"{feature_id}-cost-anomaly",
            "primitive": "cost_anomaly",
            "feature_id": feature_id,
            "baseline_window_hours": 24,
            "threshold_multiplier": story.anomaly_multiplier,
            "min_samples": story.anomaly_min_samples,
            "action": "alert",
        }
        for feature_id in dict.fromkeys(route.feature_id for route in story.routes)
    ]
    namespaces: dict[str, Any] = {"default": {"rules": []}}
    for name, _ in story.namespaces:
        namespaces.setdefault(name or "default", {"rules": []})
    for namespace in namespaces.values():
        namespace["rules"].extend(dict(rule) for rule in anomaly_rules)
    if story.downgrade is not None:
        rule = _hourly_limit(story.downgrade, "downgrade") | {"downgrade_to_tier": CHEAP}
        namespaces[story.downgrade.namespace]["rules"].append(rule)
    if story.deny is not None:
        rule = _hourly_limit(story.deny, "deny") | {"deny_reason": "Hourly budget exceeded"}
        namespaces[story.deny.namespace]["rules"].append(rule)
    return _as_yaml(
        {"version": f"demo-{story.seed}", "namespaces": namespaces},
        "The policy of `governance demo`. `governance check` says in words what each rule will do.",
    )


def economics_text(story: Story) -> str:
    """The story's economics file: what a request of each route earns, and each experiment's control."""
    return _as_yaml(
        {
            "revenue": [
                {"route_name": route.name, "revenue_per_request_usd": route.revenue_usd}
                for route in story.routes
            ],
            "experiments": {
                experiment_id: {"control": story.control_of(experiment_id)}
                for experiment_id in story.experiments
            },
        },
        "What a successful request earns in `governance demo`, and what each experiment is compared with.",
    )


def _hourly_limit(limit: BudgetLimit, action: str) -> dict[str, Any]:
    return {
        "id": f"{limit.namespace}-hourly-{action}",
        "primitive": "budget_threshold",
        "period": "hourly",
        "limit_usd": limit.limit_usd,
        "action": action,
    }


def _as_yaml(document: dict[str, Any], comment: str) -> str:
    return f"# {comment}\n" + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
