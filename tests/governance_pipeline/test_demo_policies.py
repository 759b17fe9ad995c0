"""The policy files under fixtures/policies: they load, and say what they are meant to."""

from __future__ import annotations

from pathlib import Path

from governance_pipeline.demo.configuration import policy_text
from governance_pipeline.demo.story import DEFAULT_STORY
from policy_runtime import load_policy

FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "policies"


def test_a_policy_of_the_forerunner_loads_unchanged() -> None:
    policy = load_policy(FOLDER / "original.yaml").policy
    assert set(policy.namespaces) == {"default", "demo"}
    primitives = [rule.primitive for rule in policy.namespaces["demo"].rules]
    assert primitives == ["budget_threshold", "route_preference", "cost_anomaly"]


def test_the_demos_policy_in_fixtures_is_the_one_that_the_demo_writes() -> None:
    assert (FOLDER / "demo.yaml").read_text(encoding="utf-8") == policy_text(DEFAULT_STORY)
    assert load_policy(FOLDER / "demo.yaml").policy.namespaces.keys() >= {"default", "batch", "trial"}
