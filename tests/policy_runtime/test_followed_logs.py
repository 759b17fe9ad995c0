"""Which telemetry logs a gate folds: its own, and those of programs that keep a file of their own."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from governance_pipeline.log_files import find_log_files
from governance_pipeline.settings import Settings as PipelineSettings
from llmscope import VirtualClock
from policy_runtime import PolicyDenied, PolicyRuntime, Settings, SettingsError, followed_logs
from tests.policy_runtime.gates import ASK, budget, policy
from tests.policy_runtime.log_lines import START, encode, original_line

RULES = policy(budget(0.02))


def write_bill(path: Path, request_id: str, cost_usd: float) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as log:
        log.write(encode(original_line(1, cost_usd, request_id)) + b"\n")


def settings_of(folder: Path, globs: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(folder)
    return Settings.from_environment({"GOVERNANCE_HOME": str(folder), "TELEMETRY_GLOBS": globs})


def test_what_another_program_bills_counts_for_the_budget_by_the_same_setting_as_for_the_warehouse(
    tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = tmp_path / "others"
    write_bill(others / "batch.jsonl", "b-1", 0.004)
    (others / "batch.jsonl.1.gz").write_bytes(gzip.compress(encode(original_line(1, 0.008, "b-0")) + b"\n"))
    (others / "batch.jsonl.lock").touch()
    globs = os.pathsep.join([str(others / "*.jsonl*"), str(tmp_path / "single.log")])
    (tmp_path / "policy.yaml").write_text(
        "namespaces: {default: {rules: [{id: cap, primitive: budget_threshold, period: hourly, "
        "limit_usd: 0.02, action: deny}]}}"
    )
    settings = settings_of(tmp_path, globs, monkeypatch)
    gate = PolicyRuntime.from_settings(settings, clock=clock)
    with gate.admit(**ASK) as admission:
        admission.settle(cost_usd=0.001)
    assert gate.live_windows()[0].spent == pytest.approx(0.013)
    write_bill(tmp_path / "single.log", "s-1", 0.01)  # a path is followed before there is such a file
    with pytest.raises(PolicyDenied), gate.admit(**ASK):
        pass
    gate.close()
    pipeline = PipelineSettings.from_environment({"GOVERNANCE_HOME": str(tmp_path), "TELEMETRY_GLOBS": globs})
    assert pipeline.telemetry_globs == settings.telemetry_globs
    assert others / "batch.jsonl" in find_log_files(pipeline.logs["telemetry"])


def test_twin_without_the_setting_the_other_programs_spending_is_not_seen(
    tmp_path: Path, clock: VirtualClock, make_gate: Any
) -> None:
    write_bill(tmp_path / "others" / "batch.jsonl", "b-1", 0.05)
    with make_gate(RULES).admit(**ASK):
        pass
    with (
        pytest.raises(PolicyDenied),
        make_gate(RULES, telemetry_paths=[tmp_path / "others" / "*"]).admit(**ASK),
    ):
        pass


def test_a_file_that_a_pattern_matches_later_is_followed_after_a_reload(
    tmp_path: Path, make_gate: Any
) -> None:
    gate = make_gate(RULES, telemetry_paths=[str(tmp_path / "others" / "*.jsonl")])
    write_bill(tmp_path / "others" / "late.jsonl", "l-1", 0.05)
    with gate.admit(**ASK) as admission:  # patterns are looked up at a start and a reload only
        admission.settle(cost_usd=0.001)
    assert gate.reload() is False  # the policy is the same
    with pytest.raises(PolicyDenied) as denied, gate.admit(**ASK):
        pass
    assert denied.value.record.window_cost_usd == pytest.approx(0.051)


def test_a_gate_that_is_given_its_own_log_takes_no_others_from_the_environment(
    tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bill(tmp_path / "others" / "batch.jsonl", "b-1", 0.05)
    monkeypatch.setenv("TELEMETRY_GLOBS", str(tmp_path / "others" / "*.jsonl"))
    monkeypatch.setenv("GOVERNANCE_HOME", str(tmp_path))
    given = PolicyRuntime(RULES, telemetry_path=tmp_path / "t.jsonl", clock=clock)
    assert given.evaluate(**ASK).decision == "allow"
    found = PolicyRuntime(RULES, clock=clock)
    assert found.evaluate(**ASK).decision == "deny"
    given.close()
    found.close()


@pytest.mark.parametrize("names", [["d.jsonl"], ["*.jsonl"], ["d.*"], ["./x/../d.jsonl"]], ids=str)
def test_a_name_that_would_find_the_decision_log_is_refused(
    tmp_path: Path, make_gate: Any, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="estimates would be counted as spending"):
        make_gate(RULES, telemetry_paths=names)


def test_one_file_for_both_logs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each decision's estimate would be taken for its bill, and the bill for a repeat of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "one.jsonl")
    for telemetry_path in ("one.jsonl", tmp_path / "link.jsonl"):
        with pytest.raises(SettingsError, match=r"names the decision log 'one\.jsonl'"):
            PolicyRuntime(RULES, telemetry_path=telemetry_path, decisions_path="one.jsonl")


def test_twin_one_file_for_both_logs_counts_estimates_as_spending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed_logs, "would_find", lambda name, path: False)
    monkeypatch.setattr(Path, "resolve", lambda self: object())
    one = tmp_path / "one.jsonl"
    gate = PolicyRuntime(RULES, telemetry_path=one, decisions_path=one, clock=VirtualClock(START))
    with gate.admit(**ASK) as admission:
        admission.settle(cost_usd=0.001)
    gate.close()
    again = PolicyRuntime(RULES, telemetry_path=one, decisions_path=one, clock=VirtualClock(START))
    assert again.live_windows()[0].spent != 0.001
    again.close()


def test_each_log_is_followed_once_and_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.log", "a.log.1", "a.log.2.gz", "b.log.gz", "t.jsonl", "a.log.lock"):
        Path(name).touch()
    found = followed_logs.followed_logs(
        Path("t.jsonl"), ["*", str(tmp_path / "a.log"), "nowhere"], Path("x/d.jsonl")
    )
    assert [path.name for path in found] == ["t.jsonl", "a.log", "b.log", "nowhere"]


def test_the_gates_own_log_is_a_path_whatever_characters_it_holds(tmp_path: Path) -> None:
    gate = PolicyRuntime(RULES, telemetry_path=tmp_path / "*.jsonl", decisions_path=tmp_path / "d.jsonl")
    with gate.admit(**ASK) as admission:
        admission.settle(cost_usd=0.001)
    assert gate.live_windows()[0].spent == 0.001
    gate.close()
