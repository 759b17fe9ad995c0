"""The `governance` command: rows on stdout, words on stderr, exit codes 0 to 3, never a traceback."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from governance_pipeline import archive, pipeline, warehouse
from governance_pipeline.ingest import _files
from governance_pipeline.questions import QUESTIONS
from governance_pipeline.settings import Settings
from llmscope.clock import VirtualClock
from tests.governance_pipeline.commands import Said, run_command, settings_of_an_empty_home
from tests.governance_pipeline.refresh_logs import (
    START,
    append,
    decision_line,
    instant,
    telemetry_line,
    write_ordinary_logs,
)

COMMANDS = (
    "demo", "ask", "materialize", "check", "explain", "status", "stats", "reprice", "rejects",
    "rebuild", "archive",
)  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    made = settings_of_an_empty_home(tmp_path, monkeypatch)
    write_ordinary_logs(made)
    return made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    return partial(run_command, capsys)


def refresh(settings: Settings) -> None:
    with warehouse.connect(settings.warehouse_path) as con:
        assert pipeline.refresh(con, settings).publication is not None


@contextmanager
def holder_of(path: Path) -> Iterator[int]:
    """Another process that holds the warehouse; yields its number."""
    program = (
        "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process.pid
        finally:
            process.communicate(b"")


def test_each_command_explains_itself(settings: Settings, run: Callable[..., Said]) -> None:
    listed = run("--help")
    assert listed.code == 0
    for command in COMMANDS:
        assert command in listed.out
        told = run(command, "--help")
        assert told.code == 0
        assert f"Usage: governance {command}" in told.out


@pytest.mark.parametrize("question", list(QUESTIONS))
def test_json_is_one_array_with_keys_in_column_order_and_money_as_numbers(
    settings: Settings, run: Callable[..., Said], question: str
) -> None:
    refresh(settings)
    said = run("ask", question, "--format", "json")
    assert said.code == 0
    rows = json.loads(said.out)
    assert isinstance(rows, list)
    for row in rows:
        assert tuple(row) == QUESTIONS[question].columns
        for name, value in row.items():
            if name.endswith("_usd"):
                assert value is None or isinstance(value, int | float)
    assert said.out.count("\n") == 1
    assert "As of 2026-11-19 17:50:00 UTC" in said.err


def test_unknown_is_null_in_json_and_nothing_in_csv(settings: Settings, run: Callable[..., Said]) -> None:
    refresh(settings)
    [row, *_] = json.loads(run("ask", "cost_by_tenant_and_feature", "--format", "json").out)
    assert row["margin_usd"] is None
    [first, *_] = csv.DictReader(io.StringIO(run("ask", "cost_by_tenant_and_feature", "--format", "csv").out))
    assert first["margin_usd"] == ""
    assert float(first["total_cost_usd"]) == row["total_cost_usd"]


def test_an_empty_answer_is_an_empty_array_and_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Said]
) -> None:
    monkeypatch.setenv("GOVERNANCE_HOME", str(tmp_path / "nothing"))
    for question in QUESTIONS:
        said = run("ask", question, "--format", "json")
        assert (said.code, said.out) == (0, "[]\n")
        assert "Nothing is published" in said.err


def test_the_two_log_files_give_the_rows_of_the_warehouse(
    settings: Settings, run: Callable[..., Said]
) -> None:
    refresh(settings)
    for question in QUESTIONS:
        files = ["--telemetry", str(settings.telemetry_path), "--decisions", str(settings.decisions_path)]
        from_files = run("ask", question, "--format", "json", *files).out
        assert json.loads(from_files) == json.loads(run("ask", question, "--format", "json").out)


def test_a_missing_file_is_taken_as_empty_and_said_to_be(
    settings: Settings, run: Callable[..., Said]
) -> None:
    said = run("ask", "unsafe_routes", "--telemetry", "gone.jsonl", "--format", "json")
    assert (said.code, said.out) == (0, "[]\n")
    assert "gone.jsonl: there is no such file" in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", "why"],
        ["ask", "unsafe_routes", "--since", "yesterday"],
        ["ask", "unsafe_routes", "--threshold", "much"],
        ["ask", "unsafe_routes", "--threshold", "nan"],
        ["ask", "unsafe_routes", "--threshold", "inf"],
        ["ask", "unsafe_routes", "--threshold", "-1"],
        ["ask", "unsafe_routes", "--telemetry", "."],
        ["archive", "everything"],
        ["rejects", "--limit", "0"],
        ["ask", "cost_by_tenant_and_feature", "--threshold", "1"],
        ["ask"],
        ["ask", "unsafe_routes", "--frmat", "json"],
        ["asks"],
        ["check"],
        ["check", "gone.yaml"],
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    settings: Settings, run: Callable[..., Said], arguments: list[str]
) -> None:
    said = run(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("governance: ")
    assert said.err.count("\n") == 1


def test_a_setting_that_names_nothing_is_bad_input(
    settings: Settings, run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("ECONOMICS_PATH", "POLICY_PATH", "ALERT_SINKS_PATH"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "gone.yaml")
            said = run("ask", "unsafe_routes")
        assert said.code == 2
        assert variable in said.err


@pytest.mark.parametrize("variable", ["TELEMETRY_PATH", "LLMSCOPE_TELEMETRY_PATH"])
def test_each_command_reads_the_logs_that_the_environment_names(
    settings: Settings,
    run: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
) -> None:
    """And not those in the default place, where there is another bill for every request."""
    elsewhere = tmp_path / "elsewhere"
    append(elsewhere / "bills.jsonl", telemetry_line(1, 1, 0.75))
    append(elsewhere / "decisions.jsonl", decision_line(1, 0))
    monkeypatch.setenv(variable, str(elsewhere / "bills.jsonl"))
    monkeypatch.setenv("DECISIONS_PATH", str(elsewhere / "decisions.jsonl"))
    [row] = json.loads(run("ask", "cost_by_tenant_and_feature", "--format", "json").out)
    assert (row["request_count"], row["total_cost_usd"]) == (1, 0.75)
    [row] = json.loads(run("ask", "budget_pressure_by_namespace", "--format", "json").out)
    assert row["total_count"] == 1
    request_id = json.loads((elsewhere / "bills.jsonl").read_text())["request_id"]
    assert "0.75" in run("explain", request_id).out
    assert "0.75" in run("stats", "--format", "json").out


def test_materialize_tells_its_progress_and_publishes(settings: Settings, run: Callable[..., Said]) -> None:
    said = run("materialize")
    assert said.code == 0, said.err
    assert said.out == ""
    assert "fct_requests: 60 rows" in said.err
    assert "check reconciliation passed" in said.err
    assert run("ask", "unsafe_routes").code == 0


def test_materialize_exits_1_when_a_blocking_check_fails(
    settings: Settings, run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("materialize").code == 0
    before = (settings.answers_path / "current").resolve()
    with warehouse.connect(settings.warehouse_path) as con:
        con.execute("DELETE FROM raw.telemetry WHERE request_id = 'r7'")
    said = run("materialize")
    assert said.code == 1
    assert "telemetry_line_accounting" in said.err.splitlines()[-1]
    assert (settings.answers_path / "current").resolve() == before


def test_rebuild_mends_what_a_check_has_found(settings: Settings, run: Callable[..., Said]) -> None:
    refresh(settings)
    with warehouse.connect(settings.warehouse_path) as con:
        con.execute("DELETE FROM raw.telemetry WHERE request_id = 'r7'")
    assert run("materialize").code == 1
    assert run("rebuild").code == 0
    assert run("materialize").code == 0


def test_rebuild_refuses_to_lose_what_only_the_warehouse_holds(
    settings: Settings, run: Callable[..., Said]
) -> None:
    refresh(settings)
    settings.telemetry_path.unlink()
    said = run("rebuild")
    assert said.code == 2
    assert "telemetry.jsonl" in said.err
    assert "--accept-loss" in said.err
    with warehouse.connect(settings.warehouse_path) as con:
        assert con.table("raw.telemetry").count("*").fetchall() == [(54,)]
    assert run("rebuild", "--accept-loss").code == 0
    with warehouse.connect(settings.warehouse_path) as con:
        assert con.table("raw.telemetry").count("*").fetchall() == [(0,)]


def test_archive_shows_first_and_then_does_what_it_showed(
    settings: Settings, run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "SystemClock", lambda: VirtualClock(START + timedelta(days=2)))
    nothing = run("archive", "--format", "json")
    assert (nothing.code, nothing.out) == (0, "[]\n")
    assert "no warehouse yet" in nothing.err
    rotated = settings.telemetry_path.with_name("telemetry.jsonl.1")
    settings.telemetry_path.rename(rotated)
    refresh(settings)
    size = rotated.stat().st_size
    shown = run("archive", "--remove", "--dry-run", "--format", "json")
    expected = {
        "log": "telemetry",
        "path": "home/logs/telemetry.jsonl.1",
        "segment_bytes": size,
        "latest_line": "2026-11-19T17:40:01.000000+00:00",
        "segment": "new",
        "log_file": "removed",
    }
    assert (shown.code, json.loads(shown.out)) == (0, [expected])
    assert "Nothing was touched" in shown.err
    assert not settings.archive_path.exists()
    assert rotated.exists()

    kept = run("archive")
    assert kept.code == 0
    assert "1 segment archived" in kept.err
    assert "0 log files removed" in kept.err
    assert rotated.exists()
    append(settings.decisions_path, decision_line(600, 36_100, event="policy_loaded", policy_text="newer"))
    refresh(settings)
    needed = run("archive", "--remove")
    assert "so it needs: home/logs/telemetry.jsonl.1" in needed.err
    assert rotated.exists()
    with warehouse.connect(settings.warehouse_path) as con:
        con.execute("DELETE FROM raw.policy_decisions WHERE event = 'policy_loaded'")
    [row] = json.loads(run("archive", "--remove", "--format", "json").out)
    assert row == {**expected, "segment": "archived"}
    assert not rotated.exists()
    assert run("explain", "r7").code == 0


def test_a_damaged_archive_is_exit_code_3_and_takes_nothing_away(
    settings: Settings, run: Callable[..., Said]
) -> None:
    rotated = settings.telemetry_path.with_name("telemetry.jsonl.1")
    settings.telemetry_path.rename(rotated)
    refresh(settings)
    assert run("archive").code == 0
    [segment] = settings.archive_path.rglob("*.parquet")
    segment.write_bytes(segment.read_bytes()[:-20])
    for command in (["archive", "--remove"], ["rebuild"], ["materialize"]):
        if command != ["archive", "--remove"]:
            rotated.unlink(missing_ok=True)
            settings.warehouse_path.unlink(missing_ok=True)
        said = run(*command)
        assert said.code == 3, said.err
        assert said.err.splitlines()[-1].startswith(f"governance: {segment.relative_to(Path.cwd())}")
        assert rotated.exists() == (command == ["archive", "--remove"])


def test_a_warehouse_held_by_another_process_is_exit_code_3_and_names_it(
    settings: Settings, run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh(settings)
    monkeypatch.setattr(warehouse, "_FIRST_WAIT_SECONDS", 100.0)
    with holder_of(settings.warehouse_path) as pid:
        said = run("rejects")
        assert said.code == 3
        assert str(pid) in said.err
        assert run("ask", "unsafe_routes").code == 0  # readers wait for nobody


def test_check_tells_each_rule_in_words(settings: Settings, run: Callable[..., Said], tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "version: 1\nnamespaces:\n  default:\n    rules:\n"
        "      - {id: cap, primitive: budget_threshold, period: hourly, limit_usd: 2, action: deny}\n"
    )
    said = run("check", str(policy))
    assert said.code == 0
    assert "cap" in said.out
    policy.write_text(policy.read_text().replace("limit_usd: 2", "limit_usd: -2"))
    wrong = run("check", str(policy))
    assert wrong.code == 1
    assert f"{policy}:5" in wrong.err
    assert "cap" in wrong.err
    assert json.loads(run("check", "--schema").out)["properties"]["namespaces"]


def test_explain_tells_a_settled_request_from_the_logs_alone(
    settings: Settings, run: Callable[..., Said]
) -> None:
    said = run("explain", "r7")
    assert said.code == 0
    assert "tenant tenant-1" in said.out
    assert "allowed it" in said.out
    assert "reserved $0.002" in said.out
    assert "settled (spent $0.001000002)" in said.out
    [row] = json.loads(run("explain", "r7", "--format", "json").out)
    assert row["standing"] == "settled"
    assert row["spent_usd"] == 0.001000002
    assert row["decision"]["decision"] == "allow"
    assert row["telemetry"][0]["cost_usd"] == 0.001000002
    assert not settings.warehouse_path.exists()


def test_explain_tells_every_rule_of_a_denial(settings: Settings, run: Callable[..., Said]) -> None:
    rules: list[dict[str, Any]] = [
        {
            "policy_id": "cap",
            "primitive": "budget_threshold",
            "mode": "enforce",
            "outcome": "deny",
            "spent_usd": 0.9,
            "limit_usd": 1.0,
        },
        {"policy_id": "watch", "primitive": "cost_anomaly", "mode": "shadow", "outcome": "alert"},
    ]
    append(
        settings.decisions_path,
        decision_line(
            900,
            50_000,
            "deny",
            policy_id="cap",
            reason="budget_exceeded",
            rules=rules,
            window_cost_usd=0.9,
            window_reserved_usd=0.05,
            window_limit_usd=1.0,
            window_start=instant(46_400),
        ),
    )
    said = run("explain", "r900")
    assert "denied it, because of rule cap (budget_exceeded)" in said.out
    assert "rule cap (budget_threshold) said deny: spent_usd $0.9, limit_usd $1" in said.out
    assert "rule watch (cost_anomaly) (shadow: recorded, not applied) said alert" in said.out
    assert "$0.9 spent and $0.05 reserved of $1" in said.out
    assert "Standing now: denied" in said.out


def test_explain_says_why_where_no_rule_denied(settings: Settings, run: Callable[..., Said]) -> None:
    keys = {"budget_namespace": "tream", "charged_namespace": "default", "reason": "unknown_namespace"}
    append(settings.decisions_path, decision_line(900, 50_000, "deny", **keys))
    said = run("explain", "r900")
    assert "charged to budget namespace default (it named tream)" in said.out
    assert "The gate denied it (unknown_namespace), no rule did." in said.out


def test_explain_goes_by_the_last_extension_as_the_gate_does(
    settings: Settings, run: Callable[..., Said]
) -> None:
    extended = {"event": "reservation_extended", "request_id": "r900", "schema_version": "0.1.0"}
    append(settings.decisions_path, decision_line(900, 50_000))
    for written, until in ((50_100, 300_000_000), (50_200, 50_300)):
        line = {**extended, "timestamp": instant(written), "reservation_expires_at": instant(until)}
        append(settings.decisions_path, json.dumps(line).encode() + b"\n")
    [row] = json.loads(run("explain", "r900", "--format", "json").out)
    assert (row["standing"], row["reserved_usd"], row["lapsed_usd"]) == ("lapsed", 0.0, 0.002)


def test_explain_finds_rotated_lines_and_takes_the_first_known_cost(
    settings: Settings, run: Callable[..., Said]
) -> None:
    append(settings.telemetry_path, telemetry_line(901, 50_000, None), telemetry_line(901, 50_002, 0.004))
    settings.telemetry_path.rename(settings.telemetry_path.with_name("telemetry.jsonl.1"))
    append(settings.telemetry_path, telemetry_line(901, 50_001, 0.003))
    [row] = json.loads(run("explain", "r901", "--format", "json").out)
    assert (row["standing"], row["spent_usd"]) == ("ungoverned", 0.003)
    assert len(row["telemetry"]) == 3


def test_explain_of_an_unknown_id_is_exit_code_1(settings: Settings, run: Callable[..., Said]) -> None:
    said = run("explain", "r123456")
    assert (said.code, said.out) == (1, "")
    assert "r123456" in said.err


def test_rejects_show_file_offset_reason_and_beginning(settings: Settings, run: Callable[..., Said]) -> None:
    offset = settings.telemetry_path.stat().st_size
    append(settings.telemetry_path, b"\x00\xffnot json\n")
    empty = run("rejects", "--format", "json")
    assert (empty.code, empty.out) == (0, "[]\n")
    refresh(settings)
    [row] = json.loads(run("rejects", "--format", "json").out)
    assert row["path"] == str(settings.telemetry_path)
    assert row["line_offset"] == offset
    assert row["reason"] in ("not_json", "not_utf8")
    assert "not json" in row["line_head"]
    assert "not json" in run("rejects").out


def test_status_shows_live_windows(
    settings: Settings, run: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("status", "--format", "json").out == "[]\n"
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "version: 1\nnamespaces:\n  team-1:\n    rules:\n"
        "      - {id: cap, primitive: budget_threshold, period: hourly, limit_usd: 2, action: deny}\n"
    )
    from llmscope import LLMRequestContext
    from policy_runtime import PolicyRuntime

    gate = PolicyRuntime(
        policy, telemetry_path=settings.telemetry_path, decisions_path=settings.decisions_path
    )
    context = LLMRequestContext(tenant_id="t", budget_namespace="team-1")
    with gate.admit(
        context=context, route_name="/answer-routed", model_tier="cheap", prompt="one two three"
    ) as admission:
        admission.settle(tokens_in=1000, tokens_out=100)
    gate.close()
    monkeypatch.setenv("POLICY_PATH", str(policy))
    [row] = json.loads(run("status", "--format", "json").out)
    assert (row["policy_id"], row["limit"], row["reserved"]) == ("cap", 2.0, 0.0)
    assert row["spent"] > 0
    assert f"{admission.request_id}" in run("explain", admission.request_id).out


@pytest.mark.parametrize("arguments", [["status"], ["status", "--estimates"]], ids=" ".join)
def test_status_of_a_log_that_cannot_be_read_is_exit_code_3(
    settings: Settings, run: Callable[..., Said], arguments: list[str]
) -> None:
    settings.telemetry_path.rename(settings.telemetry_path.with_name("elsewhere"))
    settings.telemetry_path.mkdir()
    said = run(*arguments, "--format", "json")
    assert (said.code, said.out) == (3, "")
    assert settings.telemetry_path.name in said.err
    assert len(said.err.splitlines()) == 1


def test_check_tells_a_folder_from_a_file_that_is_not_there(run: Callable[..., Said], tmp_path: Path) -> None:
    for options in ([], ["--runtime"]):
        folder, missing = (
            run("check", str(tmp_path), *options),
            run("check", str(tmp_path / "x.yaml"), *options),
        )
        assert (folder.code, missing.code) == (2, 2)
        assert f"{tmp_path} is no file" in folder.err
        assert f"{tmp_path / 'x.yaml'}: there is no such file" in missing.err


def test_no_commands_line_of_help_is_cut(run: Callable[..., Said]) -> None:
    assert "..." not in run("--help").out.partition("Commands:")[2]


def test_status_shows_how_far_estimates_were_off(settings: Settings, run: Callable[..., Said]) -> None:
    """By hand, gpt-4o-mini: 100 tokens in at 0.15, out at 0.60 USD per million."""
    from policy_runtime import PolicyRuntime

    assert run("status", "--estimates", "--format", "json").out == "[]\n"
    gate = PolicyRuntime(None, telemetry_path=settings.telemetry_path, decisions_path=settings.decisions_path)
    for tokens_out in (100, 300):
        ask = {"route_name": "/measured", "model_tier": "cheap", "model": "gpt-4o-mini", "tokens_in": 100}
        with gate.admit(**ask, max_output_tokens=1000) as admission:
            admission.settle(tokens_in=100, tokens_out=tokens_out)
    with gate.admit(**ask) as admission:
        pass  # not settled: neither right nor wrong yet
    gate.close()
    [row] = json.loads(run("status", "--estimates", "--format", "json").out)
    reserved = 100 * 0.15e-6 + 1000 * 0.6e-6
    # Nothing had been answered when the first was decided; when the second was, 100 tokens.
    expected = (reserved + 100 * 0.15e-6 + 100 * 0.6e-6) / 2
    cost = 100 * 0.15e-6 + 200 * 0.6e-6
    assert (row["route_name"], row["model"], row["model_tier"]) == ("/measured", "gpt-4o-mini", "cheap")
    assert row["settled_count"] == 2
    assert row["mean_reserved_usd"] == pytest.approx(reserved)
    assert row["mean_expected_usd"] == pytest.approx(expected)
    assert row["mean_cost_usd"] == pytest.approx(cost)
    assert row["reserved_over_cost"] == pytest.approx(reserved / cost, abs=1e-3)
    assert row["expected_over_cost"] == pytest.approx(expected / cost, abs=1e-3)
    assert "settled_count" in run("status").out
    assert run("status", "--format", "json").out == "[]\n"


def test_the_module_is_the_command(settings: Settings) -> None:
    for arguments, code in ((["--version"], 2), (["ask", "unsafe_routes", "--format", "json"], 0)):
        ran = subprocess.run(
            [sys.executable, "-m", "governance_pipeline", *arguments],
            capture_output=True,
            check=False,
            text=True,
        )
        assert ran.returncode == code, ran.stderr
        assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("pipe", ["|", "2>&1 |"])
@pytest.mark.parametrize("arguments", ["ask cost_by_tenant_and_feature --format csv", "rebuild"])
def test_a_reader_that_leaves_early_is_no_error(settings: Settings, pipe: str, arguments: str) -> None:
    command = f"{{ {sys.executable} -m governance_pipeline {arguments}; echo $? >&3; }} {pipe} true"
    shell = f"exec 3>status; {command}; wait"
    ran = subprocess.run(["sh", "-c", shell], capture_output=True, check=False, text=True)
    assert "Traceback" not in ran.stderr
    assert "BrokenPipe" not in ran.stderr
    assert Path("status").read_text() == "0\n"
    assert settings.warehouse_path.exists() == (arguments == "rebuild"), "the work was done all the same"


def test_without_a_command_help_is_shown_and_no_line_of_it_is_cut(
    settings: Settings, run: Callable[..., Said]
) -> None:
    said = run()
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("Usage: governance")
    described = said.err.partition("Commands:")[2].splitlines()
    assert len(described) > len(COMMANDS)
    cut = {line.split()[0] for line in described if line.endswith("...")}
    assert cut <= {"status"}


def test_files_that_are_no_logs_are_said_to_count_for_nothing(
    settings: Settings, run: Callable[..., Said], tmp_path: Path
) -> None:
    wrong = tmp_path / "picture.png"
    wrong.write_bytes(b"\x89PNG\n\x00\x01\n")
    said = run("ask", "unsafe_routes", "--telemetry", str(wrong), "--format", "json")
    assert (said.code, said.out) == (0, "[]\n")
    assert "2 lines are no log lines of ours and count for nothing." in said.err
    wrong.write_bytes(b"\x89PNG\n")
    assert "1 line is no log line of ours" in run("ask", "unsafe_routes", "--telemetry", str(wrong)).err


def test_a_log_that_may_not_be_read_is_exit_code_3(
    settings: Settings, run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(_files, "LogFile", refuse)  # the tests may run as root, whom nothing is denied
    for arguments in (["materialize"], ["rebuild"], ["ask", "unsafe_routes"]):
        said = run(*arguments)
        assert said.code == 3, said.err
        assert said.err.splitlines()[-1] == (
            "governance: home/logs/telemetry.jsonl cannot be read: Permission denied"
        )


@pytest.mark.parametrize("arguments", [["materialize"], ["rebuild"], ["ask", "unsafe_routes"], ["demo"]])
def test_a_home_that_cannot_be_is_exit_code_3(
    settings: Settings, run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    Path("file").write_text("no folder")
    monkeypatch.setenv("GOVERNANCE_HOME", "file/home")
    said = run(*arguments)
    assert said.code == 3
    assert said.out == ""
    assert said.err.startswith("governance: ")
    assert said.err.count("\n") == 1


def test_a_mistake_in_alerts_yaml_is_told_before_the_work(settings: Settings) -> None:
    Path("sinks.yaml").write_text("sinks: [{name: a}]\n")
    ran = subprocess.run(
        [sys.executable, "-m", "governance_pipeline", "materialize"],
        env={**os.environ, "ALERT_SINKS_PATH": "sinks.yaml"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "governance: sinks.yaml:1: sink 'a': give exactly one of url and url_env\n"
    assert not settings.warehouse_path.exists()


def test_the_command_loads_dagster_only_to_run_it(settings: Settings) -> None:
    probe = (
        "import sys\n"
        "from governance_pipeline.cli import main\n"
        "try:\n    main(['ask', 'unsafe_routes', '--format', 'json'])\n"
        "except SystemExit:\n    pass\n"
        "print([name for name in ('dagster', 'rich', 'apprise') if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_materialize_says_who_holds_the_warehouse_and_exits_3(
    settings: Settings, run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh(settings)
    monkeypatch.setattr(warehouse, "_FIRST_WAIT_SECONDS", 100.0)
    with holder_of(settings.warehouse_path) as pid:
        said = run("materialize")
    assert said.code == 3
    assert f"process {pid}" in said.err.splitlines()[-1]


def test_a_mistake_in_economics_is_bad_input_of_materialize_too(
    settings: Settings, run: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    economics = tmp_path / "economics.yaml"
    economics.write_text("revenu: []\n")
    said = run("materialize")
    assert said.code == 2
    assert "economics.yaml:1" in said.err.splitlines()[-1]


def test_check_tells_a_runtime_file_in_words_or_its_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = Path(__file__).parents[2] / "fixtures" / "runtime" / "runtime.yaml"
    said = run_command(capsys, "check", "--runtime", str(sample))
    assert said.code == 0
    assert "Route /support: served by openai" in said.out
    assert "is valid" in said.err
    bad = tmp_path / "runtime.yaml"
    bad.write_text("routes:\n  /r:\n    tiers: {cheap: m}\n    retri: off\n")
    said = run_command(capsys, "check", "--runtime", str(bad))
    assert said.code == 1
    assert f"{bad}:4, route '/r': unknown key 'retri'. Did you mean 'retry'?" in said.err
    assert run_command(capsys, "check", "--runtime", str(tmp_path / "none.yaml")).code == 2
    assert '"RouteSection"' in run_command(capsys, "check", "--runtime", "--schema").out
