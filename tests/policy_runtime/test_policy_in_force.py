"""A policy file that is edited under a running gate, and settings that name none."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmscope.clock import VirtualClock
from policy_runtime import (
    PolicyDenied,
    PolicyFileError,
    PolicyRuntime,
    Settings,
    SettingsError,
    policy_in_force,
)
from tests.policy_runtime.log_lines import START, read_lines

ASK: dict[str, Any] = {"route_name": "/answer-routed", "model_tier": "expensive", "tokens_in": 1000}


class Clockwork:
    """The monotonic clock that the look at the file goes by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(policy_in_force, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Clockwork:
    return Clockwork(monkeypatch)


def write_policy(path: Path, limit_usd: object, *, edited: int) -> None:
    """An edit, `edited` seconds after the first: what tells is the file's time, size or inode."""
    path.write_text(
        "namespaces:\n  default:\n    rules:\n"
        f"      - {{id: cap, primitive: budget_threshold, period: hourly, limit_usd: {limit_usd}, action: deny}}\n"
    )
    os.utime(path, (1_700_000_000 + edited, 1_700_000_000 + edited))


@pytest.fixture
def gate(tmp_path: Path, ticks: Clockwork) -> Any:
    write_policy(tmp_path / "policy.yaml", "0.02", edited=0)
    gate = PolicyRuntime(
        tmp_path / "policy.yaml",
        telemetry_path=tmp_path / "t.jsonl",
        decisions_path=tmp_path / "d.jsonl",
        clock=VirtualClock(START),
    )
    yield gate
    gate.close()


def spend(gate: PolicyRuntime, cost_usd: float) -> None:
    with gate.admit(**ASK) as admission:
        admission.settle(cost_usd=cost_usd)


def events_of(folder: Path) -> list[dict[str, Any]]:
    return [line for line in read_lines(folder / "d.jsonl") if "event" in line]


def test_an_edited_file_is_taken_up_by_itself_and_usage_survives(
    gate: PolicyRuntime, tmp_path: Path, ticks: Clockwork
) -> None:
    spend(gate, 0.012)
    write_policy(tmp_path / "policy.yaml", "0.01", edited=5)
    ticks.now += 1.5
    with pytest.raises(PolicyDenied) as denied:
        spend(gate, 0.001)
    record = denied.value.record
    assert (record.window_limit_usd, record.window_cost_usd) == (0.01, 0.012)
    first, second = events_of(tmp_path)
    assert [first["event"], second["event"]] == ["policy_loaded"] * 2
    assert first["policy_hash"] != second["policy_hash"] == record.policy_hash
    assert "limit_usd: 0.01" in second["policy_text"]


async def test_a_coroutine_takes_it_up_too(gate: PolicyRuntime, tmp_path: Path, ticks: Clockwork) -> None:
    spend(gate, 0.012)
    write_policy(tmp_path / "policy.yaml", "0.01", edited=5)
    ticks.now += 1.5
    with pytest.raises(PolicyDenied):
        async with gate.admit(**ASK):
            pass


def test_the_file_is_looked_at_once_a_second_at_most(
    gate: PolicyRuntime, tmp_path: Path, ticks: Clockwork
) -> None:
    write_policy(tmp_path / "policy.yaml", "0.001", edited=5)
    ticks.now += 0.9
    spend(gate, 0.0)
    ticks.now += 0.2
    with pytest.raises(PolicyDenied):
        spend(gate, 0.0)


def test_an_invalid_edit_is_refused_with_line_and_fix_once_and_the_old_policy_stays(
    gate: PolicyRuntime, tmp_path: Path, ticks: Clockwork, caplog: pytest.LogCaptureFixture
) -> None:
    spend(gate, 0.012)
    write_policy(tmp_path / "policy.yaml", "-1", edited=5)
    for _ in range(3):
        ticks.now += 1.5
        spend(gate, 0.0)
    _, refused = events_of(tmp_path)
    assert refused["event"] == "policy_refused"
    assert "policy.yaml:4" in refused["error"]
    assert "'cap'" in refused["error"] or "cap" in refused["error"]
    assert "limit_usd" in refused["error"]
    assert len(caplog.records) == 1
    assert refused["policy_hash"] == events_of(tmp_path)[0]["policy_hash"]
    assert gate.live_windows()[0].limit == 0.02
    write_policy(tmp_path / "policy.yaml", "0.01", edited=9)
    ticks.now += 1.5
    with pytest.raises(PolicyDenied):
        spend(gate, 0.0)


def test_a_file_that_is_gone_for_a_moment_changes_nothing(
    gate: PolicyRuntime, tmp_path: Path, ticks: Clockwork
) -> None:
    (tmp_path / "policy.yaml").unlink()
    ticks.now += 1.5
    spend(gate, 0.001)
    write_policy(tmp_path / "policy.yaml", "0.001", edited=5)
    ticks.now += 1.5
    with pytest.raises(PolicyDenied):
        spend(gate, 0.0)


def test_twin_without_the_look_at_the_file_the_old_policy_goes_on(
    gate: PolicyRuntime, tmp_path: Path, ticks: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_in_force.PolicyInForce, "file_has_changed", lambda self: False)
    write_policy(tmp_path / "policy.yaml", "0.001", edited=5)
    ticks.now += 1.5
    spend(gate, 0.0)


def test_settings_without_a_policy_mean_no_rules_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings were read once; what the environment names by now is not looked at again."""
    write_policy(tmp_path / "policy.yaml", "0.0", edited=0)
    settings = Settings(tmp_path / "t.jsonl", tmp_path / "d.jsonl", None)
    monkeypatch.setenv("POLICY_PATH", str(tmp_path / "policy.yaml"))
    gate = PolicyRuntime.from_settings(settings, clock=VirtualClock(START))
    assert gate.policy.namespaces["default"].rules == ()
    spend(gate, 0.001)
    gate.close()
    from_environment = PolicyRuntime(telemetry_path=tmp_path / "t.jsonl", decisions_path=tmp_path / "d.jsonl")
    assert [rule.id for rule in from_environment.policy.namespaces["default"].rules] == ["cap"]


def test_settings_without_a_policy_follow_the_packaged_one(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "t.jsonl", tmp_path / "d.jsonl", None)
    gate = PolicyRuntime.from_settings(settings)
    spend(gate, 0.001)
    gate.close()
    (loaded,) = events_of(tmp_path)
    assert loaded["policy_text"] == "version: 1\nnamespaces:\n  default:\n    rules: []\n"


def test_a_policy_file_that_appears_later_is_taken_up_by_itself_and_usage_counts(
    tmp_path: Path, ticks: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody who puts a policy beside a running program expects it to be passed over."""
    monkeypatch.chdir(tmp_path)
    environ = {"GOVERNANCE_HOME": str(tmp_path)}
    for make in (
        lambda: PolicyRuntime.from_settings(Settings.from_environment(environ), clock=VirtualClock(START)),
        lambda: PolicyRuntime(clock=VirtualClock(START)),
    ):
        monkeypatch.setenv("GOVERNANCE_HOME", str(tmp_path))
        (tmp_path / "policy.yaml").unlink(missing_ok=True)
        gate = make()
        spend(gate, 0.012)
        monkeypatch.chdir("/")  # it is looked for where the gate was started
        write_policy(tmp_path / "policy.yaml", "0.01", edited=5)
        ticks.now += 1.5
        with pytest.raises(PolicyDenied):
            spend(gate, 0.001)
        gate.close()
        monkeypatch.chdir(tmp_path)


def test_a_file_that_appears_and_is_invalid_is_refused_and_the_next_edit_counts(
    tmp_path: Path, ticks: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({"GOVERNANCE_HOME": str(tmp_path)})
    gate = PolicyRuntime.from_settings(settings, clock=VirtualClock(START))
    assert gate.reload() is False  # there is nothing to read yet
    (tmp_path / "policy.yaml").write_text("")  # caught while it is being written
    ticks.now += 1.5
    spend(gate, 0.012)
    write_policy(tmp_path / "policy.yaml", "0.01", edited=5)
    ticks.now += 1.5
    with pytest.raises(PolicyDenied):
        spend(gate, 0.001)
    gate.close()


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    """Waiting for it would mean to allow everything meanwhile, over a typo."""
    missing = tmp_path / "missing.yaml"
    with pytest.raises(PolicyFileError, match="there is no such policy file"):
        PolicyRuntime(missing, telemetry_path=tmp_path / "t.jsonl", decisions_path=tmp_path / "d.jsonl")
    with pytest.raises(PolicyFileError):
        PolicyRuntime.from_settings(Settings(tmp_path / "t.jsonl", tmp_path / "d.jsonl", missing))
    with pytest.raises(SettingsError, match="there is no such file"):
        Settings.from_environment({"POLICY_PATH": str(missing)})


def test_a_file_that_cannot_be_looked_at_is_no_reason_to_fail(tmp_path: Path, ticks: Clockwork) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    write_policy(folder / "policy.yaml", "0.02", edited=0)
    gate = PolicyRuntime(
        folder / "policy.yaml",
        telemetry_path=tmp_path / "t.jsonl",
        decisions_path=tmp_path / "d.jsonl",
        clock=VirtualClock(START),
    )
    (folder / "policy.yaml").unlink()
    folder.rmdir()
    folder.touch()  # not a directory any more
    ticks.now += 1.5
    spend(gate, 0.001)
    gate.close()


def test_an_edit_while_the_gate_is_being_built_is_not_taken_for_read(
    tmp_path: Path, ticks: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    from policy_runtime import policy_file

    path = tmp_path / "policy.yaml"
    write_policy(path, "0.02", edited=0)
    load = policy_file.load_policy

    def load_and_be_edited(source: Any) -> Any:
        loaded = load(source)
        write_policy(path, "0.001", edited=5)
        return loaded

    monkeypatch.setattr(policy_file, "load_policy", load_and_be_edited)
    in_force = policy_in_force.PolicyInForce(path)
    ticks.now += 1.5
    assert in_force.file_has_changed()
