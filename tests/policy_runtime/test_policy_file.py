"""Policy files: what loads, and what is refused with file, line, rule and fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy_runtime import PolicyFileError, describe_policy, load_policy, policy_json_schema

# The three rules of the forerunner's documentation, field for field.
SEED_POLICY = """\
version: "0.1.0"
namespaces:
  default:
    rules:
      - id: "default-daily-cap"
        primitive: budget_threshold
        period: daily
        limit_usd: 10.00
        action: downgrade
        downgrade_to_tier: cheap
  demo:
    rules:
      - id: "demo-hourly-cap"
        primitive: budget_threshold
        period: hourly
        limit_usd: 1.00
        action: deny
        deny_reason: "Hourly budget exceeded"
      - id: "demo-route-preference"
        primitive: route_preference
        route_name: "/answer-routed"
        prefer_tier: cheap
      - id: "demo-cost-anomaly"
        primitive: cost_anomaly
        feature_id: "summarize"
        baseline_window_hours: 24
        threshold_multiplier: 3.0
        action: alert
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return path


def rule(body: str) -> str:
    return f"namespaces:\n  team:\n    rules:\n      - id: cap\n{body}"


BUDGET = "        primitive: budget_threshold\n        period: hourly\n        limit_usd: 1\n        action: deny\n"


def test_the_forerunners_file_loads_unchanged_and_is_told_in_words(tmp_path: Path) -> None:
    loaded = load_policy(write(tmp_path, SEED_POLICY))
    words = "\n".join(describe_policy(loaded.policy))
    assert (
        "denies (Hourly budget exceeded) what could take spending above 1 USD within any 60 minutes" in words
    )
    assert "moves requests to tier cheap (it bounds nothing) once spending could pass 10 USD" in words
    assert "on route /answer-routed, requests go to tier cheap" in words
    assert "above 3 times the mean of its feature and tier over 24 hours (at least 20 requests)" in words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rule(BUDGET.replace("budget_threshold", "budget_treshold")), ["policy.yaml:4", "'cap'", "'budget_threshold'"]),
        (rule(BUDGET.replace("action: deny", "action: denyy")), ["policy.yaml:8", "rule 'cap'", "Did you mean 'deny'"]),
        (rule(BUDGET.replace("limit_usd: 1", 'limit_usd: "1"')), ["policy.yaml:7", "without quotes"]),
        (rule(BUDGET.replace("limit_usd: 1", "limit_usd: -1")), ["policy.yaml:7", "greater than or equal to 0"]),
        (rule(BUDGET.replace("limit_usd: 1", "limit_usd: .nan")), ["policy.yaml:7", "finite"]),
        (rule(BUDGET.replace("limit_usd: 1", "limt_usd: 1")), ["policy.yaml:7", "'limt_usd'", "Did you mean 'limit_usd'"]),
        (rule(BUDGET.replace("        period: hourly\n", "")), ["policy.yaml:4", "`period` is missing"]),
        (rule(BUDGET) + "      - id: cap\n" + BUDGET, ["namespace 'team'", "'cap' stands twice"]),
        (rule(BUDGET + "        limit_usd: 2\n"), ["policy.yaml:9", "'limit_usd' stands twice", "line 7"]),
        (rule(BUDGET.replace("action: deny", "action: downgrade\n        downgrade_to_tier: chep")),
         ["policy.yaml:9", "no tier is named 'chep'", "Did you mean 'cheap'"]),
        ("namespaces:\n  team:\n", ["policy.yaml:2", "namespace 'team'"]),
        ("namespaces: null\n", ["policy.yaml:1"]),
        ("- a\n", ["a policy is a mapping"]),
        ("", ["the file is empty"]),
        ("namespaces: [\n", ["policy.yaml:2", "not valid YAML"]),
        ("namespaces: {}\ntimezone: Europe/Berln\n", ["policy.yaml:2", "no time zone is named 'Europe/Berln'"]),
        (rule("        primitive: rate_limit\n"), ["'cap'", "requests_per_minute"]),
        (rule("        primitive: cost_anomaly\n        threshold_multiplier: 0\n"), ["policy.yaml:6", "greater than 0"]),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_naming_file_line_rule_and_fix(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    with pytest.raises(PolicyFileError) as refused:
        load_policy(write(tmp_path, text))
    for part in expected:
        assert part in str(refused.value)


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = rule(BUDGET.replace("hourly", "hurly").replace("limit_usd: 1", "limit_usd: -1"))
    with pytest.raises(PolicyFileError) as refused:
        load_policy(write(tmp_path, text))
    assert len(str(refused.value).splitlines()) == 2


def test_the_schema_names_every_primitive() -> None:
    text = str(policy_json_schema())
    for primitive in ("budget_threshold", "route_preference", "cost_anomaly", "rate_limit", "token_limit"):
        assert primitive in text
