"""The rules: the order of judgement, what each primitive does, namespaces and scopes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmscope import LLMRequestContext, VirtualClock
from policy_runtime import (
    PolicyDenied,
)
from tests.policy_runtime.gates import ASK, WORST_CASE_USD, budget, decisions_of, policy
from tests.policy_runtime.log_lines import original_line, read_lines, write_lines


def test_a_budget_a_cent_above_what_was_spent_still_admits(make_gate: Any, tmp_path: Path) -> None:
    write_lines(tmp_path / "t.jsonl", [original_line(n, 0.1, f"r{n}") for n in range(10)])
    with make_gate(policy(budget(1.01))).admit(**ASK):
        pass


def test_deny_beats_downgrade_and_an_alert_hides_neither(make_gate: Any, tmp_path: Path) -> None:
    write_lines(
        tmp_path / "t.jsonl",
        [original_line(n, 0.0001, f"r{n}", audit_tags={"feature_id": "chat"}) for n in range(30)],
    )
    anomaly = {"id": "odd", "primitive": "cost_anomaly", "feature_id": "chat", "threshold_multiplier": 2.0}
    gate = make_gate(policy(anomaly, budget(0.0001, "downgrade"), budget(0.0002)))
    with pytest.raises(PolicyDenied), gate.admit(**ASK):
        pass
    (record,) = decisions_of(tmp_path)
    assert [rule["outcome"] for rule in record["rules"]] == ["not_applicable", "downgrade", "deny"]
    assert record["policy_id"] == "deny-cap"


def test_an_anomaly_annotates_and_allows(make_gate: Any, tmp_path: Path) -> None:
    write_lines(
        tmp_path / "t.jsonl",
        [original_line(n, 0.0001, f"r{n}", audit_tags={"feature_id": "chat"}) for n in range(30)],
    )
    anomaly = {"id": "odd", "primitive": "cost_anomaly", "feature_id": "chat", "threshold_multiplier": 2.0}
    with make_gate(policy(anomaly)).admit(**ASK) as admission:
        assert admission.verdict == "allow"
    (record,) = decisions_of(tmp_path)
    assert (record["policy_id"], record["reason"]) == ("odd", "cost_anomaly")
    assert record["rules"][0]["samples"] == 30
    assert record["rules"][0]["baseline_usd"] == 0.0001


def test_a_downgrade_moves_to_the_cheaper_tier_with_its_own_reservation(
    make_gate: Any, tmp_path: Path
) -> None:
    gate = make_gate(policy(budget(0.001, "downgrade")))
    with gate.admit(**ASK) as admission:
        assert (admission.verdict, admission.model, admission.model_tier) == (
            "downgrade",
            "gpt-4o-mini",
            "cheap",
        )
    (record,) = decisions_of(tmp_path)
    # gpt-4o-mini: 0.15 and 0.60 USD per million tokens.
    assert record["reserved_cost_usd"] == 0.00045
    assert record["requested_estimated_cost_usd"] == WORST_CASE_USD


def test_what_is_cheap_already_is_not_downgraded(make_gate: Any, tmp_path: Path) -> None:
    with make_gate(policy(budget(0.0, "downgrade"))).admit(**{**ASK, "model_tier": "cheap"}) as admission:
        assert admission.verdict == "allow"
    (record,) = decisions_of(tmp_path)
    assert record["rules"][0]["outcome"] == "not_applicable"


def test_a_downgrade_never_upgrades(make_gate: Any) -> None:
    gate = make_gate(policy(budget(0.0, "downgrade", downgrade_to_tier="expensive")))
    assert gate.evaluate(**{**ASK, "model_tier": "cheap"}).effective_model_tier == "cheap"


def test_a_downgraded_request_is_denied_at_its_cheaper_price_only(make_gate: Any) -> None:
    prefer = {
        "id": "prefer",
        "primitive": "route_preference",
        "route_name": "/answer-routed",
        "prefer_tier": "cheap",
    }
    gate = make_gate(policy(budget(0.001), prefer))
    assert gate.evaluate(**ASK).decision == "downgrade"
    assert make_gate(policy(budget(0.0004), prefer)).evaluate(**ASK).decision == "deny"


def test_shadow_rules_are_recorded_and_applied_never(make_gate: Any, tmp_path: Path) -> None:
    gate = make_gate(policy(budget(0.0, mode="shadow"), budget(0.0, "downgrade", mode="shadow")))
    with gate.admit(**ASK) as admission:
        assert admission.verdict == "allow"
    (record,) = decisions_of(tmp_path)
    assert [rule["outcome"] for rule in record["rules"]] == ["deny", "downgrade"]
    assert record["mode"] == "shadow"


def test_an_unlisted_namespace_is_charged_to_default_and_the_record_keeps_both(
    make_gate: Any, tmp_path: Path
) -> None:
    gate = make_gate(policy(budget(WORST_CASE_USD)))
    asked = {**ASK, "context": LLMRequestContext(budget_namespace="made-up-1")}
    with gate.admit(**asked):
        pass
    with (
        pytest.raises(PolicyDenied),
        gate.admit(**{**ASK, "context": LLMRequestContext(budget_namespace="made-up-2")}),
    ):
        pass
    record = decisions_of(tmp_path)[0]
    assert (record["budget_namespace"], record["charged_namespace"]) == ("made-up-1", "default")


def test_own_budget_gives_each_unlisted_namespace_the_rules_of_default(make_gate: Any) -> None:
    gate = make_gate(policy(budget(WORST_CASE_USD), unknown_namespaces="own_budget"))
    for name in ("one", "two"):
        with gate.admit(**{**ASK, "context": LLMRequestContext(budget_namespace=name)}):
            pass
    with (
        pytest.raises(PolicyDenied),
        gate.admit(**{**ASK, "context": LLMRequestContext(budget_namespace="one")}),
    ):
        pass


def test_unlisted_namespaces_can_be_denied(make_gate: Any) -> None:
    gate = make_gate(policy(unknown_namespaces="deny"))
    with pytest.raises(PolicyDenied, match="unknown_namespace"):
        gate.admit(**{**ASK, "context": LLMRequestContext(budget_namespace="x")}).__enter__()


def test_per_gives_one_budget_per_combination(make_gate: Any) -> None:
    gate = make_gate(policy(budget(WORST_CASE_USD, per=["tenant_id", "experiment_id"])))
    with gate.admit(**ASK), gate.admit(**{**ASK, "context": LLMRequestContext(tenant_id="b")}):
        with pytest.raises(PolicyDenied) as denied, gate.admit(**ASK):
            pass
    assert denied.value.record.rules[0].scope == {"tenant_id": "acme", "experiment_id": "(none)"}


def test_rate_limits_deny_with_429_and_say_when_to_come_back(make_gate: Any, clock: VirtualClock) -> None:
    gate = make_gate(policy({"id": "rpm", "primitive": "rate_limit", "requests_per_minute": 2}))
    with gate.admit(**ASK), gate.admit(**ASK):
        pass
    with pytest.raises(PolicyDenied) as denied, gate.admit(**ASK):
        pass
    assert denied.value.status_code == 429
    assert 60 <= denied.value.retry_after_seconds <= 61  # type: ignore[operator]
    assert denied.value.problem()["status"] == 429
    clock.advance(denied.value.retry_after_seconds)  # type: ignore[arg-type]
    with gate.admit(**ASK):
        pass


def test_token_and_model_limits_deny(make_gate: Any) -> None:
    gate = make_gate(policy({"id": "tokens", "primitive": "token_limit", "max_tokens_total": 1400}))
    assert gate.evaluate(**ASK).reason == "max_tokens_total"
    assert gate.evaluate(**{**ASK, "max_output_tokens": 400}).decision == "allow"
    gate = make_gate(policy({"id": "models", "primitive": "model_allowlist", "models": ["gpt-4o-mini"]}))
    assert gate.evaluate(**ASK).reason == "model_not_allowed: gpt-4o"
    assert gate.evaluate(**{**ASK, "model_tier": "cheap"}).decision == "allow"


def test_alert_at_is_told_once_per_window(make_gate: Any, tmp_path: Path, clock: VirtualClock) -> None:
    write_lines(tmp_path / "t.jsonl", [original_line(0, 0.85, "a")])
    gate = make_gate(policy(budget(1.0, alert_at=[0.5, 0.8, 0.9])))
    for _ in range(3):
        with gate.admit(**ASK):
            pass
    events = [line for line in read_lines(tmp_path / "d.jsonl") if line.get("event") == "budget_alert"]
    assert [event["threshold"] for event in events] == [0.5, 0.8]
    other = make_gate(policy(budget(1.0, alert_at=[0.5, 0.8, 0.9])))
    with other.admit(**ASK):
        pass
    assert (
        len([line for line in read_lines(tmp_path / "d.jsonl") if line.get("event") == "budget_alert"]) == 2
    )


def test_a_request_larger_than_its_rate_limit_is_not_told_to_try_again(make_gate: Any) -> None:
    """It would be tried for ever."""
    gate = make_gate(policy({"id": "rate", "primitive": "rate_limit", "tokens_per_minute": 1499}))
    with pytest.raises(PolicyDenied) as denied, gate.admit(**ASK):  # 1,000 in and 500 out
        pass
    assert (denied.value.status_code, denied.value.retry_after_seconds) == (429, None)
    assert "retry_after_seconds" not in denied.value.problem()


def test_a_denial_without_a_rule_names_the_namespace_that_is_not_listed(make_gate: Any) -> None:
    gate = make_gate(policy(unknown_namespaces="deny"))
    context = LLMRequestContext(budget_namespace="tream")
    with pytest.raises(PolicyDenied) as denied, gate.admit(**{**ASK, "context": context}):
        pass
    assert "lists no budget namespace 'tream'" in str(denied.value)
    assert denied.value.problem()["type"] == "urn:llm-governance:unknown_namespace"
    assert "None" not in str(denied.value.problem())
