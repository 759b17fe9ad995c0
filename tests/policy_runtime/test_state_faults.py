"""Logs that cannot be read: what is known still denies, the rest is for each rule's `on_error`.

A directory in a log's place is a fault that the superuser meets too.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from llmscope.clock import VirtualClock
from policy_runtime import GateUnavailable, PolicyDenied, PolicyRuntime, generations
from policy_runtime.live_state import LiveState
from tests.policy_runtime.log_lines import START, original_line, read_lines, write_lines

ASK: dict[str, Any] = {"route_name": "/answer-routed", "model_tier": "expensive", "tokens_in": 1000}
WORST_CASE_USD = 0.0075  # gpt-4o: 1,000 in and at most 500 out
RULES: dict[str, dict[str, Any]] = {
    "budget": {"primitive": "budget_threshold", "period": "hourly", "limit_usd": 1.0, "action": "deny"},
    "downgrade": {"primitive": "budget_threshold", "period": "hourly", "limit_usd": 1.0, "action": "downgrade"},
    "rate": {"primitive": "rate_limit", "requests_per_minute": 10},
    "tokens": {"primitive": "token_limit", "max_tokens_in": 5000},
    "models": {"primitive": "model_allowlist", "tiers": ["expensive"]},
    "anomaly": {"primitive": "cost_anomaly", "min_samples": 1},
    "preference": {"primitive": "route_preference", "route_name": "/elsewhere", "prefer_tier": "cheap"},
}  # fmt: skip
READ_FROM_THE_LOGS = ("budget", "downgrade", "rate")


def gate_with(folder: Path, kind: str, **more: Any) -> PolicyRuntime:
    rule = {"id": kind, **RULES[kind], **more}
    return PolicyRuntime(
        {"namespaces": {"default": {"rules": [rule]}}},
        telemetry_path=folder / "t.jsonl",
        decisions_path=folder / "d.jsonl",
        clock=VirtualClock(START),
    )


def decide(gate: PolicyRuntime) -> dict[str, Any]:
    """The decision as it stands in the log."""
    try:
        gate.admit(**ASK).__enter__()
    except PolicyDenied:
        pass
    finally:
        gate.close()
    return [line for line in read_lines(gate.decisions_path) if "event" not in line][-1]


@pytest.mark.parametrize("on_error", ["allow", "deny"])
@pytest.mark.parametrize("kind", RULES)
def test_on_error_decides_where_the_state_cannot_be_read(tmp_path: Path, kind: str, on_error: str) -> None:
    (tmp_path / "t.jsonl").mkdir()
    line = decide(gate_with(tmp_path, kind, on_error=on_error))
    fails = kind in READ_FROM_THE_LOGS
    denied = fails and on_error == "deny"
    assert line["decision"] == ("deny" if denied else "allow")
    assert (line["state"], line["state_reason"]) == ("degraded", "read: Is a directory")
    (outcome,) = line["rules"]
    if fails:
        assert (outcome["outcome"], outcome["reason"]) == ("error", "read: Is a directory")
    else:
        assert outcome["outcome"] in ("allow", "not_applicable")
    if denied:
        assert (line["policy_id"], line["reason"]) == (kind, "rule_error")


def test_an_anomaly_rule_is_an_error_and_never_denies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [original_line(0, 0.01, f"r{number}", feature_id="chat") for number in range(3)]
    write_lines(tmp_path / "t.jsonl", lines)
    gate = gate_with(tmp_path, "anomaly", on_error="deny")
    gate.live_windows()
    break_reading(monkeypatch)
    from llmscope import LLMRequestContext

    gate.admit(**ASK, context=LLMRequestContext(feature_id="chat")).__enter__()
    gate.close()
    (line,) = [line for line in read_lines(tmp_path / "d.jsonl") if "event" not in line]
    assert (line["decision"], line["rules"][0]["outcome"]) == ("allow", "error")


def break_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails while the gate is running."""

    def fail(self: LiveState, ledger: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(LiveState, "_fold_new", fail)


def test_a_shadow_rule_that_cannot_be_evaluated_denies_nothing(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").mkdir()
    line = decide(gate_with(tmp_path, "budget", on_error="deny", mode="shadow"))
    assert (line["decision"], line["rules"][0]["outcome"]) == ("allow", "error")


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_what_is_known_to_be_spent_denies_whatever_on_error_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_error: str
) -> None:
    write_lines(tmp_path / "t.jsonl", [original_line(0, 1.0, "r1")])
    gate = gate_with(tmp_path, "budget", on_error=on_error)
    gate.live_windows()
    break_reading(monkeypatch)
    line = decide(gate)
    assert (line["decision"], line["reason"]) == ("deny", "budget_exceeded")
    assert line["rules"][0]["outcome"] == "deny"


def test_a_look_says_the_same_as_a_decision(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").mkdir()
    gate = gate_with(tmp_path, "budget", on_error="deny")
    verdict = gate.evaluate(**ASK)
    assert (verdict.decision, verdict.reason, verdict.policy_id) == ("deny", "rule_error", "budget")


def test_twin_a_judge_that_is_not_told_allows_what_it_cannot_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from policy_runtime import deciding

    monkeypatch.setattr(deciding, "_unreadable", lambda degraded: None)
    (tmp_path / "t.jsonl").mkdir()
    assert decide(gate_with(tmp_path, "budget", on_error="deny"))["decision"] == "allow"


@pytest.mark.parametrize("log", ["t.jsonl", "d.jsonl"])
def test_windows_of_logs_that_cannot_be_read_are_an_error_not_a_guess(tmp_path: Path, log: str) -> None:
    (tmp_path / log).mkdir()
    gate = gate_with(tmp_path, "budget")
    asked = (
        gate.live_windows,
        gate.estimates,
        lambda: gate.settle("r", cost_usd=0.1),
        lambda: gate.extend("r", 60),
    )
    for ask in asked:
        with pytest.raises(GateUnavailable, match=f"cannot be read.*{log}"):
            ask()
    gate.close()


def test_a_lock_that_cannot_be_taken_is_told_once_however_often_it_is_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "d.jsonl.lock").mkdir()
    gate = PolicyRuntime(
        {"namespaces": {"default": {}}, "lock_timeout_seconds": 0.05},
        telemetry_path=tmp_path / "t.jsonl",
        decisions_path=tmp_path / "d.jsonl",
        clock=VirtualClock(START),
    )
    for _ in range(2):
        with gate.admit(**ASK) as admission:
            assert admission.decision.state_reason == "lock"
    assert [record.getMessage()[:35] for record in caplog.records] == ["the admission lock cannot be taken:"]
    gate.close()


@pytest.mark.parametrize("log", ["t.jsonl", "d.jsonl"])
def test_a_pipe_in_a_logs_place_keeps_nobody_waiting(tmp_path: Path, log: str) -> None:
    """Opened as a file is, a pipe waits for its other end: for ever, under the lock."""
    os.mkfifo(tmp_path / log)
    gate = gate_with(tmp_path, "budget", on_error="allow")
    decided = Thread(target=lambda: gate.admit(**ASK).__enter__(), daemon=True)
    decided.start()
    decided.join(timeout=20)
    assert not decided.is_alive()


def several_logs(folder: Path, bad: str) -> PolicyRuntime:
    """A gate over its own log and another program's, of which `bad` cannot be read."""
    for log in ("t.jsonl", "other.jsonl"):
        if log == bad:
            (folder / log).mkdir()
        else:
            write_lines(folder / log, [original_line(0, 1.0, f"in-{log}")])
    return PolicyRuntime(
        {"namespaces": {"default": {"rules": [{"id": "budget", **RULES["budget"]}]}}},
        telemetry_path=folder / "t.jsonl",
        decisions_path=folder / "d.jsonl",
        telemetry_paths=[folder / "other.jsonl"],
        clock=VirtualClock(START),
    )


@pytest.mark.parametrize("bad", ["t.jsonl", "other.jsonl"])
def test_one_log_that_cannot_be_read_at_the_start_takes_nothing_from_what_the_others_say(
    tmp_path: Path, bad: str
) -> None:
    """Else a file of another program, unreadable to the gate, would open every budget."""
    gate = several_logs(tmp_path, bad)
    with pytest.raises(PolicyDenied) as denied, gate.admit(**ASK):
        pass
    assert denied.value.record.window_cost_usd == 1.0
    assert (denied.value.record.state, denied.value.record.reason) == ("degraded", "budget_exceeded")
    (tmp_path / bad).rmdir()
    write_lines(tmp_path / bad, [original_line(0, 0.5, "late")])
    assert [window.spent for window in gate.live_windows()] == [1.5]
    gate.close()


def test_while_one_log_cannot_be_read_the_others_are_read_on(tmp_path: Path) -> None:
    gate = several_logs(tmp_path, "other.jsonl")
    (tmp_path / "t.jsonl").unlink()
    other = several_logs_again(tmp_path)
    assert gate.evaluate(**ASK).decision == "allow"
    with other.admit(**ASK) as admission:  # a reservation of another process
        assert gate.evaluate(**ASK).window_reserved_usd == WORST_CASE_USD
        admission.settle(cost_usd=0.5)
    assert gate.evaluate(**ASK).window_cost_usd == 0.5
    gate.close()
    other.close()


def several_logs_again(folder: Path) -> PolicyRuntime:
    """Another process at the same decisions and bills, which has no use for the other program's log."""
    return PolicyRuntime(
        {"namespaces": {"default": {"rules": [{"id": "budget", **RULES["budget"]}]}}},
        telemetry_path=folder / "t.jsonl",
        decisions_path=folder / "d.jsonl",
        clock=VirtualClock(START),
    )


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Files that nobody may open, the superuser included."""
    paths: set[Path] = set()
    open_log = generations.open_log

    def opened(path: Path) -> Any:
        if path in paths:
            raise PermissionError(13, "Permission denied", str(path))
        return open_log(path)

    monkeypatch.setattr(generations, "open_log", opened)
    return paths


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_a_rotated_log_that_cannot_be_opened_degrades_the_state(
    tmp_path: Path, sealed: set[Path], on_error: str
) -> None:
    """As where rotation leaves files that only the superuser may read: a gate that starts does not know what
    was spent."""
    rotated = tmp_path / "t.jsonl.1"
    write_lines(rotated, [original_line(0, 0.4, "rotated")])
    write_lines(tmp_path / "t.jsonl", [original_line(1, 0.2, "live")])
    sealed.add(rotated)
    line = decide(gate_with(tmp_path, "budget", on_error=on_error))
    assert (line["state"], line.get("state_reason")) == ("degraded", "read: t.jsonl.1: Permission denied")
    assert line["decision"] == on_error
    assert line["rules"][0]["outcome"] == "error"
    assert line["window_cost_usd"] == 0.2
    sealed.clear()
    assert decide(gate_with(tmp_path, "budget"))["state"] == "fresh"


def test_twin_a_rotated_log_that_is_passed_over_looks_like_no_spending(
    tmp_path: Path, sealed: set[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveState, "_note_unread", lambda self: None)
    with pytest.raises(AssertionError):
        test_a_rotated_log_that_cannot_be_opened_degrades_the_state(tmp_path, sealed, "deny")


def test_what_is_known_denies_though_a_rotated_log_cannot_be_opened(
    tmp_path: Path, sealed: set[Path]
) -> None:
    write_lines(tmp_path / "t.jsonl.1", [original_line(0, 0.4, "rotated")])
    write_lines(tmp_path / "t.jsonl", [original_line(1, 1.0, "live")])
    sealed.add(tmp_path / "t.jsonl.1")
    line = decide(gate_with(tmp_path, "budget", on_error="allow"))
    assert (line["decision"], line["reason"]) == ("deny", "budget_exceeded")


def test_a_rotated_log_before_the_window_is_not_missed(tmp_path: Path, sealed: set[Path]) -> None:
    rotated = tmp_path / "t.jsonl.1"
    write_lines(rotated, [original_line(-90_000, 0.4, "old")])
    os.utime(rotated, (START.timestamp() - 90_000,) * 2)
    sealed.add(rotated)
    assert decide(gate_with(tmp_path, "budget"))["state"] == "fresh"


def test_a_log_that_was_read_before_it_was_sealed_away_is_not_missed(
    tmp_path: Path, sealed: set[Path]
) -> None:
    """A running gate has it open: what was written to it until its rotation counts."""
    log = tmp_path / "t.jsonl"
    write_lines(log, [original_line(0, 0.4, "a")])
    gate = gate_with(tmp_path, "budget")
    assert gate.evaluate(**ASK).window_cost_usd == 0.4
    write_lines(log, [original_line(0, 0.4, "a"), original_line(0, 0.2, "b")])
    log.rename(tmp_path / "t.jsonl.1")
    sealed.add(tmp_path / "t.jsonl.1")
    write_lines(log, [original_line(0, 0.1, "c")])
    with gate.admit(**ASK) as admission:
        assert admission.decision.state == "fresh"
        assert admission.decision.window_cost_usd == 0.7
    gate.close()


def test_a_rotated_log_that_can_be_opened_later_counts_from_the_next_rotation_on(
    tmp_path: Path, sealed: set[Path]
) -> None:
    log = tmp_path / "t.jsonl"
    write_lines(tmp_path / "t.jsonl.2", [original_line(0, 0.4, "a")])
    os.utime(tmp_path / "t.jsonl.2", (START.timestamp(),) * 2)
    write_lines(log, [original_line(0, 0.2, "b")])
    sealed.add(tmp_path / "t.jsonl.2")
    gate = gate_with(tmp_path, "budget")
    assert gate.evaluate(**ASK).window_cost_usd == 0.2
    sealed.clear()
    log.rename(tmp_path / "t.jsonl.1")
    write_lines(log, [original_line(0, 0.1, "c")])
    with gate.admit(**ASK) as admission:
        assert admission.decision.state == "fresh"
        assert admission.decision.window_cost_usd == 0.7
    gate.close()
