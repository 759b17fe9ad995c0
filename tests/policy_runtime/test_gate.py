"""The gate on real files: decisions, records, settling, the order of judgement, faults."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from llmscope import LLMRequestContext, VirtualClock
from policy_runtime import (
    AlreadySettled,
    GateUnavailable,
    NotEntered,
    PolicyDenied,
    PolicyFileError,
    PolicyRuntime,
    RequestIdReused,
    UnknownRequest,
)
from tests.policy_runtime.log_lines import START, decision_line, original_line, read_lines, stamp, write_lines

CONTEXT = LLMRequestContext(tenant_id="acme", feature_id="chat")
# gpt-4o: 2.50 and 10 USD per million tokens; 1,000 in and at most 500 out reserve 0.0025 + 0.005 USD.
ASK: dict[str, Any] = {
    "context": CONTEXT,
    "route_name": "/answer-routed",
    "model_tier": "expensive",
    "tokens_in": 1000,
}
WORST_CASE_USD = 0.0075


def budget(limit_usd: float, action: str = "deny", **more: Any) -> dict[str, Any]:
    return {
        "id": f"{action}-cap",
        "primitive": "budget_threshold",
        "period": "hourly",
        "limit_usd": limit_usd,
        "action": action,
        **more,
    }


def policy(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"namespaces": {"default": {"rules": list(rules)}}, **more}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START + timedelta(seconds=60))


@pytest.fixture
def make_gate(tmp_path: Path, clock: VirtualClock) -> Any:
    gates: list[PolicyRuntime] = []

    def make(source: Any, **more: Any) -> PolicyRuntime:
        gate = PolicyRuntime(
            source,
            telemetry_path=tmp_path / "t.jsonl",
            decisions_path=tmp_path / "d.jsonl",
            clock=clock,
            **more,
        )
        gates.append(gate)
        return gate

    yield make
    for gate in gates:
        gate.close()


def decisions_of(tmp_path: Path) -> list[dict[str, Any]]:
    return [line for line in read_lines(tmp_path / "d.jsonl") if "event" not in line]


def test_a_reservation_counts_before_anything_is_spent(make_gate: Any, tmp_path: Path) -> None:
    gate = make_gate(policy(budget(2 * WORST_CASE_USD)))
    with gate.admit(**ASK), gate.admit(**ASK):
        with pytest.raises(PolicyDenied) as denied, gate.admit(**ASK):
            pass
    assert denied.value.status_code == 402
    assert denied.value.record.policy_id == "deny-cap"
    first, second, third = decisions_of(tmp_path)
    assert [first["window_reserved_usd"], second["window_reserved_usd"]] == [0, WORST_CASE_USD]
    assert third["decision"] == "deny"
    assert third["window_reserved_usd"] == 2 * WORST_CASE_USD
    assert "reserved_cost_usd" not in third


def test_without_the_reservation_the_same_calls_all_pass(
    make_gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policy_runtime.ledger.Ledger.admit", lambda self, admitted: None)
    gate = make_gate(policy(budget(2 * WORST_CASE_USD)))
    with gate.admit(**ASK), gate.admit(**ASK), gate.admit(**ASK):
        pass


def test_settling_frees_what_was_not_needed(make_gate: Any, tmp_path: Path) -> None:
    gate = make_gate(policy(budget(0.018)))
    for _ in range(5):
        with gate.admit(**ASK) as admission:
            admission.settle(tokens_in=1000, tokens_out=0)
    window = gate.live_windows()[0]
    assert (window.spent, window.reserved) == (0.0125, 0.0)
    assert sum(line["estimated_cost_usd"] for line in read_lines(tmp_path / "t.jsonl")) == pytest.approx(
        0.0125
    )
    with pytest.raises(PolicyDenied), gate.admit(**ASK):
        pass


def test_telemetry_as_the_original_writes_it_spends_the_budget(make_gate: Any, tmp_path: Path) -> None:
    tags = {"feature_id": "summarize", "experiment_id": "exp-1", "budget_namespace": "demo"}
    write_lines(tmp_path / "t.jsonl", [original_line(n, 0.1, f"r{n}", audit_tags=tags) for n in range(10)])
    rules = {"namespaces": {"default": {"rules": []}, "demo": {"rules": [budget(1.0)]}}}
    gate = make_gate(rules)
    asked = {**ASK, "context": LLMRequestContext(budget_namespace="demo")}
    with pytest.raises(PolicyDenied) as denied, gate.admit(**asked):
        pass
    assert denied.value.record.window_cost_usd == 1.0
    with gate.admit(**ASK):
        pass


def test_a_budget_a_cent_above_what_was_spent_still_admits(make_gate: Any, tmp_path: Path) -> None:
    write_lines(tmp_path / "t.jsonl", [original_line(n, 0.1, f"r{n}") for n in range(10)])
    with make_gate(policy(budget(1.01))).admit(**ASK):
        pass


def test_spending_leaves_the_window_after_an_hour(
    make_gate: Any, tmp_path: Path, clock: VirtualClock
) -> None:
    write_lines(tmp_path / "t.jsonl", [original_line(0, 1.0, "a")])
    gate = make_gate(policy(budget(1.0)))
    clock.advance(3539)
    assert gate.evaluate(**ASK).decision == "deny"
    clock.advance(3)
    assert gate.evaluate(**ASK).decision == "allow"


def test_evaluate_leaves_no_trace(make_gate: Any, tmp_path: Path) -> None:
    gate = make_gate(policy(budget(WORST_CASE_USD)))
    assert [gate.evaluate(**ASK).decision for _ in range(3)] == ["allow"] * 3
    assert not (tmp_path / "d.jsonl").exists()


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


def test_a_request_id_cannot_be_used_to_escape_a_budget(make_gate: Any) -> None:
    gate = make_gate(policy(budget(1.0)))
    with gate.admit(**ASK, request_id="mine") as admission:
        admission.settle(tokens_in=1, tokens_out=1)
    with pytest.raises(RequestIdReused):
        gate.admit(**ASK, request_id="mine").__enter__()


def test_settling_twice_or_nothing_or_too_early_raises(make_gate: Any) -> None:
    gate = make_gate(policy())
    with pytest.raises(NotEntered):
        _ = gate.admit(**ASK).request_id
    with gate.admit(**ASK) as admission:
        with pytest.raises(ValueError, match="needs cost_usd"):
            admission.settle(tokens_in=1)
        admission.settle(cost_usd=0.002)
        with pytest.raises(AlreadySettled):
            admission.settle(cost_usd=0.002)
    with pytest.raises(AlreadySettled):
        gate.settle(admission.request_id, cost_usd=0.002)
    with pytest.raises(UnknownRequest):
        gate.settle("never-heard-of", cost_usd=1.0)


def test_another_process_settles_with_the_attribution_of_the_decision(make_gate: Any, tmp_path: Path) -> None:
    with make_gate(policy(budget(1.0))).admit(**ASK, request_id="long-job"):
        pass
    other = make_gate(policy(budget(1.0)))
    other.settle("long-job", tokens_in=1000, tokens_out=100)
    (line,) = read_lines(tmp_path / "t.jsonl")
    assert (line["tenant_id"], line["audit_tags"]["feature_id"], line["route"]) == (
        "acme",
        "chat",
        "/answer-routed",
    )
    assert line["estimated_cost_usd"] == 0.0035
    window = other.live_windows()[0]
    assert (window.spent, window.reserved) == (0.0035, 0)


@pytest.mark.parametrize(
    ("error", "cost", "category"),
    [
        (TimeoutError("slow"), None, "timeout"),
        (ConnectionRefusedError("closed"), 0, "unknown"),
        (type("RateLimitError", (Exception,), {"status_code": 429})(), 0, "rate_limit"),
        (type("ServerError", (Exception,), {"status_code": 500})(), None, "transient_error"),
    ],
)
def test_a_failure_inside_the_block_is_billed_as_far_as_it_is_known(
    make_gate: Any, tmp_path: Path, error: Exception, cost: int | None, category: str
) -> None:
    gate = make_gate(policy(budget(1.0)))
    with pytest.raises(type(error)), gate.admit(**ASK):
        raise error
    (line,) = read_lines(tmp_path / "t.jsonl")
    assert (line["status"], line["estimated_cost_usd"], line["error_type"]) == ("error", cost, category)
    assert gate.live_windows()[0].reserved == (0 if cost == 0 else WORST_CASE_USD)


def test_an_unsettled_reservation_lapses_and_a_late_bill_settles_it(
    make_gate: Any, clock: VirtualClock
) -> None:
    gate = make_gate(policy(budget(1.0)))
    with gate.admit(**ASK, request_id="late"):
        pass
    clock.advance(901)
    window = gate.live_windows()[0]
    assert (window.spent, window.reserved, window.lapsed) == (0, 0, WORST_CASE_USD)
    gate.settle("late", cost_usd=0.004)
    window = gate.live_windows()[0]
    assert (window.spent, window.reserved, window.lapsed) == (0.004, 0, 0)


def test_an_extended_reservation_holds_in_every_process(make_gate: Any, clock: VirtualClock) -> None:
    gate, other = make_gate(policy(budget(1.0))), make_gate(policy(budget(1.0)))
    other.evaluate(**ASK)
    with gate.admit(**ASK) as admission:
        admission.extend(1800)
    clock.advance(1000)
    assert [g.live_windows()[0].reserved for g in (gate, other)] == [WORST_CASE_USD] * 2
    clock.advance(900)
    assert [g.live_windows()[0].reserved for g in (gate, other)] == [0, 0]


def test_an_extension_ends_one_longest_window_after_the_admission_and_says_so(
    make_gate: Any, clock: VirtualClock, tmp_path: Path
) -> None:
    gate = make_gate(policy(budget(1.0)))  # hourly
    began = clock.now()
    with gate.admit(**ASK) as admission:
        assert admission.extend(1800) == began + timedelta(seconds=1800)
        clock.advance(1800)
        assert admission.extend(3000) == began + timedelta(seconds=3600)
        clock.advance(1799)
        assert gate.live_windows()[0].reserved == WORST_CASE_USD
        assert gate.extend(admission.request_id, 900) == began + timedelta(seconds=3600)
        clock.advance(1)
        assert [window.reserved for window in gate.live_windows()] == [0]
        for extend in (admission.extend, lambda seconds: gate.extend(admission.request_id, seconds)):
            with pytest.raises(ValueError, match="3600 s ago"):
                extend(60)
    said = [line for line in read_lines(tmp_path / "d.jsonl") if line.get("event") == "reservation_extended"]
    latest = (began + timedelta(seconds=3600)).isoformat(timespec="microseconds")
    assert [line["reservation_expires_at"] for line in said][1:] == [latest] * 2


def test_nothing_is_extended_that_is_settled_or_unknown(make_gate: Any) -> None:
    gate = make_gate(policy(budget(1.0)))
    with gate.admit(**ASK) as admission:
        admission.settle(cost_usd=0.001)
        with pytest.raises(AlreadySettled):
            admission.extend(60)
    with pytest.raises(AlreadySettled):
        gate.extend(admission.request_id, 60)
    with pytest.raises(UnknownRequest):
        gate.extend("never-admitted", 60)
    with gate.admit(**ASK) as admission, pytest.raises(ValueError, match="longest window"):
        admission.extend(3601)


def test_an_unpriced_model_is_degraded_and_reserves_the_recent_mean(make_gate: Any, tmp_path: Path) -> None:
    gate = make_gate(policy(budget(1.0)))
    with gate.admit(**ASK, model="in-house-7b") as admission:
        assert admission.model == "in-house-7b"
    with gate.admit(**ASK) as priced:
        priced.settle(cost_usd=0.02)
    with gate.admit(**ASK, model="in-house-7b"):
        pass
    first, _, last = decisions_of(tmp_path)
    assert (first["state"], first["reserved_cost_usd"]) == ("degraded", 0)
    assert last["reserved_cost_usd"] == 0.02
    assert "estimated_cost_usd" not in last


def test_a_held_lock_delays_by_its_timeout_once_and_then_not_at_all(make_gate: Any, tmp_path: Path) -> None:
    gate = make_gate(policy(budget(1.0), lock_timeout_seconds=0.2))
    with gate.admit(**ASK):
        pass
    holder = os.open(f"{tmp_path / 'd.jsonl'}.lock", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        started = time.monotonic()
        with gate.admit(**ASK), gate.admit(**ASK):
            pass
        assert time.monotonic() - started >= 0.2
    finally:
        os.close(holder)
    with gate.admit(**ASK):
        pass
    records = decisions_of(tmp_path)
    assert [record.get("state_reason") for record in records] == [None, "lock", "lock", None]
    # What was reserved while degraded counts.
    assert records[-1]["window_reserved_usd"] == pytest.approx(3 * WORST_CASE_USD)


async def test_an_event_loop_runs_on_while_the_lock_is_contended(make_gate: Any, tmp_path: Path) -> None:
    gate = make_gate(policy(budget(1.0), lock_timeout_seconds=0.3))
    async with gate.admit(**ASK):
        pass
    holder = os.open(f"{tmp_path / 'd.jsonl'}.lock", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticker = asyncio.create_task(tick())
    async with gate.admit(**ASK):
        pass
    ticker.cancel()
    os.close(holder)
    assert ticks >= 10


def test_a_read_only_log_allows_or_denies_as_on_error_says(
    make_gate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmscope.errors import EventLogError

    def full(self: Any, line: bytes, seen: Any = None) -> int:
        raise EventLogError(28, "No space left on device")

    monkeypatch.setattr("llmscope.event_log.LogWriter.append_serialised", full)
    with make_gate(policy(budget(1.0))).admit(**ASK):
        pass
    with pytest.raises(GateUnavailable, match="deny-cap"):
        make_gate(policy(budget(1.0, on_error="deny"))).admit(**ASK).__enter__()


def test_a_changed_policy_file_is_taken_up_and_usage_survives(make_gate: Any, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(_policy_text(1.0))
    gate = make_gate(path)
    with gate.admit(**ASK) as admission:
        admission.settle(cost_usd=0.5)
    path.write_text(_policy_text(0.4))
    assert gate.reload()
    assert gate.evaluate(**ASK).decision == "deny"
    path.write_text(_policy_text(-1))
    with pytest.raises(PolicyFileError, match=r"policy\.yaml:7"):
        gate.reload()
    assert gate.evaluate(**ASK).decision == "deny"
    events = [line["event"] for line in read_lines(tmp_path / "d.jsonl") if "event" in line]
    assert events == ["policy_loaded", "policy_refused"]


def _policy_text(limit_usd: float) -> str:
    return (
        "namespaces:\n  default:\n    rules:\n      - id: cap\n        primitive: budget_threshold\n"
        f"        period: daily\n        limit_usd: {limit_usd}\n        action: deny\n"
    )


def test_a_clock_that_steps_back_still_sees_what_was_spent(
    make_gate: Any, tmp_path: Path, clock: VirtualClock
) -> None:
    write_lines(tmp_path / "t.jsonl", [original_line(30, 1.0, "a")])
    gate = make_gate(policy(budget(1.0)))
    clock.advance(2 * 3600)
    assert gate.evaluate(**ASK).decision == "allow"
    clock._elapsed = 0.0
    assert gate.evaluate(**ASK).decision == "deny"


def test_a_gate_started_after_a_rotation_knows_the_whole_window(make_gate: Any, tmp_path: Path) -> None:
    write_lines(tmp_path / "t.jsonl.1", [original_line(n, 0.1, f"old{n}") for n in range(5)])
    write_lines(tmp_path / "t.jsonl", [original_line(10 + n, 0.1, f"new{n}") for n in range(5)])
    write_lines(tmp_path / "d.jsonl.1", [decision_line(0, 0.25, "open")])
    gate = make_gate(policy(budget(1.25)))
    verdict = gate.evaluate(**ASK)
    assert (verdict.window_cost_usd, verdict.window_reserved_usd) == (1.0, 0.25)
    assert verdict.decision == "deny"


def test_a_running_gate_holds_the_budget_through_rename_truncation_and_deletion(
    make_gate: Any, tmp_path: Path
) -> None:
    log = write_lines(tmp_path / "t.jsonl", [original_line(1, 0.3, "a")])
    gate = make_gate(policy(budget(10.0)))
    assert gate.evaluate(**ASK).window_cost_usd == 0.3
    log.rename(tmp_path / "t.jsonl.1")
    write_lines(log, [original_line(2, 0.3, "b")])
    assert gate.evaluate(**ASK).window_cost_usd == pytest.approx(0.6)
    log.write_bytes(b"")
    write_lines(log, [original_line(3 + n, 0.1, f"c{n}") for n in range(4)])
    assert gate.evaluate(**ASK).window_cost_usd == pytest.approx(1.0)
    log.unlink()
    assert gate.evaluate(**ASK).window_cost_usd == pytest.approx(1.0)


def test_torn_and_foreign_lines_are_passed_over(make_gate: Any, tmp_path: Path) -> None:
    log = write_lines(tmp_path / "t.jsonl", [original_line(1, 0.3, "a")])
    with log.open("ab") as stream:
        stream.write(b'{"request_id": "torn", "estim\n\x00\xff\n[1]\n{"timestamp": "x"}\n')
    with log.open("ab") as stream:
        stream.write(b'{"pending')
    gate = make_gate(policy(budget(10.0)))
    assert gate.evaluate(**ASK).window_cost_usd == 0.3
    with gate.admit(**ASK) as admission:
        admission.settle(cost_usd=0.2)
    assert gate.evaluate(**ASK).window_cost_usd == 0.5


def test_the_longest_window_is_found_in_a_long_log_by_bisection(make_gate: Any, tmp_path: Path) -> None:
    old = [original_line(-90_000 + n, 0.001, f"old{n}") for n in range(4000)]
    new = [original_line(n / 100, 0.001, f"new{n}") for n in range(500)]
    write_lines(tmp_path / "t.jsonl", old + new)
    gate = make_gate(policy(budget(10.0)))
    assert gate.evaluate(**ASK).window_cost_usd == pytest.approx(0.5)
    assert stamp(0) < "2026-03-24T10:01"


async def test_call_llm_goes_through_the_gate_and_joins_on_one_id(make_gate: Any, tmp_path: Path) -> None:
    from llmscope import RoutePolicy, SimulatedProvider, register_provider, register_route

    gate = make_gate(policy(budget(1.0)))
    register_provider("sim-gate", SimulatedProvider(1, gate.clock, 40, 120, 0.0))
    register_route(
        "/gate-test",
        RoutePolicy(200, 0, False, {"cheap": "gpt-4o-mini", "expensive": "gpt-4o"}, provider_name="sim-gate"),
    )
    result = await gate.call_llm(
        prompt="hi", model_tier="expensive", route_name="/gate-test", context=CONTEXT
    )
    (decision,) = decisions_of(tmp_path)
    (line,) = read_lines(tmp_path / "t.jsonl")
    assert result.request_id == decision["request_id"] == line["request_id"]
    assert gate.live_windows()[0].spent == line["estimated_cost_usd"] > 0
    with pytest.raises(ValueError, match="No gateway policy"):
        await gate.call_llm(prompt="hi", model_tier="cheap", route_name="/nowhere")
    with pytest.raises(ValueError, match="not configured"):
        await gate.call_llm(prompt="hi", model_tier="no-such-tier", route_name="/gate-test")
    assert len(decisions_of(tmp_path)) == 1
