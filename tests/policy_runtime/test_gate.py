"""The gate on real files: decisions, records, reloading, locks and logs in disorder."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest

from llmscope import LLMRequestContext, VirtualClock
from policy_runtime import (
    GateUnavailable,
    PolicyDenied,
    PolicyFileError,
    RequestIdReused,
)
from tests.policy_runtime.gates import ASK, CONTEXT, WORST_CASE_USD, budget, decisions_of, policy
from tests.policy_runtime.log_lines import decision_line, original_line, read_lines, stamp, write_lines


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
    monkeypatch.setattr("policy_runtime.ledger.Ledger.admit_new", lambda self, admitted: None)
    gate = make_gate(policy(budget(2 * WORST_CASE_USD)))
    with gate.admit(**ASK), gate.admit(**ASK), gate.admit(**ASK):
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


def test_a_request_id_cannot_be_used_to_escape_a_budget(make_gate: Any) -> None:
    gate = make_gate(policy(budget(1.0)))
    with gate.admit(**ASK, request_id="mine") as admission:
        admission.settle(tokens_in=1, tokens_out=1)
    with pytest.raises(RequestIdReused):
        gate.admit(**ASK, request_id="mine").__enter__()


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
