"""Every check passes on what ingest made of the logs, and fails on the one thing it is there to see."""

from __future__ import annotations

import os
import time
from pathlib import Path

import duckdb
import pytest

from governance_pipeline import checks, pipeline, warehouse
from governance_pipeline.checks import CHECKS, CheckOutcome
from governance_pipeline.settings import Settings
from tests.governance_pipeline.refresh_logs import (
    append,
    decision_line,
    settings_in,
    telemetry_line,
    write_ordinary_logs,
)

BY_NAME = {check.name: check for check in CHECKS}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = settings_in(tmp_path)
    write_ordinary_logs(made)
    return made


def refreshed(con: duckdb.DuckDBPyConnection, settings: Settings) -> dict[str, CheckOutcome]:
    return pipeline.refresh(con, settings, publishing=False).outcomes


def run(name: str, con: duckdb.DuckDBPyConnection, settings: Settings) -> CheckOutcome:
    return BY_NAME[name].run(con, settings)


def test_every_check_passes_on_sound_logs(settings: Settings) -> None:
    with warehouse.connect(settings.warehouse_path) as con:
        outcomes = refreshed(con, settings)
    assert set(outcomes) == set(BY_NAME)
    assert {name: outcome.summary for name, outcome in outcomes.items() if not outcome.passed} == {}


def test_every_check_passes_on_no_logs_at_all(tmp_path: Path) -> None:
    nothing = settings_in(tmp_path)
    with warehouse.connect(nothing.warehouse_path) as con:
        assert all(outcome.passed for outcome in refreshed(con, nothing).values())


def test_every_check_passes_on_hostile_lines_and_rotation(settings: Settings) -> None:
    append(
        settings.telemetry_path,
        b"\n",
        b"   \n",
        b"not json\n",
        b'{"timestamp": "yesterday"}\n',
        b"\xff\xfe\n",
        b"x" * (2 << 20) + b"\n",
        telemetry_line(1000, 40_000),
    )
    with warehouse.connect(settings.warehouse_path) as con:
        refreshed(con, settings)
        settings.telemetry_path.rename(settings.telemetry_path.with_name("telemetry.jsonl.1"))
        append(settings.telemetry_path, telemetry_line(1001, 40_001), b'{"torn')
        outcomes = refreshed(con, settings)
    assert {name: outcome.summary for name, outcome in outcomes.items() if not outcome.passed} == {}
    assert outcomes["telemetry_line_accounting"].numbers["rejects"] == 4
    assert outcomes["telemetry_line_accounting"].numbers["files"] == 2


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("telemetry_line_accounting", "DELETE FROM raw.telemetry WHERE request_id = 'r7'"),
        ("telemetry_line_accounting", "INSERT INTO raw.telemetry SELECT * FROM raw.telemetry LIMIT 1"),
        ("decision_line_accounting", "DELETE FROM raw.policy_decisions WHERE request_id = 'r9'"),
        (
            "reconciliation",
            "UPDATE staging.stg_requests SET cost_usd = cost_usd + 0.000000001 WHERE request_id = 'r7'",
        ),
        (
            "reconciliation",
            "UPDATE marts.fct_requests SET cost_usd = cost_usd + 0.000000001 WHERE request_id = 'r7'",
        ),
        ("reconciliation", "UPDATE marts.fct_requests SET cost_usd = NULL WHERE request_id = 'r7'"),
        ("reconciliation", "DELETE FROM marts.fct_requests WHERE request_id = 'r7'"),
        (
            "reconciliation",
            "UPDATE marts.fct_requests SET charged_namespace = 'other' WHERE request_id = 'r7'",
        ),
        ("accepted_values", "UPDATE staging.stg_decisions SET decision = 'maybe' WHERE request_id = 'r7'"),
        ("accepted_values", "UPDATE staging.stg_requests SET status = 'shrug' WHERE request_id = 'r7'"),
    ],
)
def test_a_check_fails_when_the_warehouse_differs_from_the_logs(
    settings: Settings, name: str, damage: str
) -> None:
    with warehouse.connect(settings.warehouse_path) as con:
        assert refreshed(con, settings)[name].passed
        con.execute(damage)
        assert not run(name, con, settings).passed


def test_line_accounting_fails_when_an_offset_is_not_committed(settings: Settings) -> None:
    with warehouse.connect(settings.warehouse_path) as con:
        refreshed(con, settings)
        append(settings.telemetry_path, telemetry_line(2000, 40_000))
        before = con.execute("SELECT ingested_bytes, overlap FROM raw.ingest_files WHERE log = 'telemetry'")
        [(taken, overlap)] = before.fetchall()
        pipeline.ingest_logs(con, settings)
        con.execute(
            "UPDATE raw.ingest_files SET ingested_bytes = ?, overlap = ? WHERE log = 'telemetry'",
            [taken, overlap],
        )
        pipeline.ingest_logs(con, settings)  # the line is taken a second time
        assert not run("telemetry_line_accounting", con, settings).passed


def test_reconciliation_fails_when_staging_keeps_the_wrong_duplicate(settings: Settings) -> None:
    append(
        settings.telemetry_path,
        telemetry_line(3000, 40_000, None),
        telemetry_line(3000, 40_001, 0.004),
        telemetry_line(3000, 40_002, 0.009),
    )
    with warehouse.connect(settings.warehouse_path) as con:
        assert refreshed(con, settings)["reconciliation"].passed
        con.execute("UPDATE staging.stg_requests SET cost_usd = 0.009 WHERE request_id = 'r3000'")
        assert not run("reconciliation", con, settings).passed


def test_duplicates_are_named(settings: Settings) -> None:
    append(settings.telemetry_path, telemetry_line(7, 40_000))
    with warehouse.connect(settings.warehouse_path) as con:
        outcome = refreshed(con, settings)["duplicate_requests"]
    assert not outcome.passed
    assert outcome.numbers == {"request_ids": 1, "extra_lines": 1}
    assert "r7" in outcome.summary


def test_an_admitted_request_without_telemetry_is_missed_once_it_has_expired(settings: Settings) -> None:
    append(settings.decisions_path, decision_line(4000, 36_000))
    with warehouse.connect(settings.warehouse_path) as con:
        assert refreshed(con, settings)["missing_telemetry"].passed
        append(settings.decisions_path, decision_line(4001, 36_000 + 901, "deny"))
        outcome = refreshed(con, settings)["missing_telemetry"]
    assert not outcome.passed
    assert outcome.numbers["requests"] == 1


def test_time_disorder_is_tolerated_up_to_fifteen_minutes(settings: Settings) -> None:
    append(settings.telemetry_path, telemetry_line(5000, 40_000), telemetry_line(5001, 40_000 - 900))
    with warehouse.connect(settings.warehouse_path) as con:
        assert refreshed(con, settings)["time_disorder"].passed
        append(settings.telemetry_path, telemetry_line(5002, 40_000 - 901))
        outcome = refreshed(con, settings)["time_disorder"]
    assert not outcome.passed
    assert outcome.numbers == {"telemetry": 1}


def test_freshness_goes_by_the_file_and_not_by_the_times_in_it(settings: Settings) -> None:
    with warehouse.connect(settings.warehouse_path) as con:
        refreshed(con, settings)  # the events are old, yet nothing is unread
        assert run("log_freshness", con, settings).passed
        append(settings.telemetry_path, telemetry_line(6000, 40_000))
        outcome = run("log_freshness", con, settings)
        assert outcome.passed
        assert outcome.numbers["unread_bytes"] > 0
        hour_ago = time.time() - 3600
        os.utime(settings.telemetry_path, (hour_ago, hour_ago))
        assert not run("log_freshness", con, settings).passed
        pipeline.ingest_logs(con, settings)
        assert run("log_freshness", con, settings).passed


def test_freshness_remembers_how_long_a_busy_log_has_waited(settings: Settings) -> None:
    with warehouse.connect(settings.warehouse_path) as con:
        refreshed(con, settings)
        append(settings.telemetry_path, telemetry_line(6000, 40_000))
        assert run("log_freshness", con, settings).passed
        con.execute("UPDATE ops.unread_since SET since_seconds = since_seconds - 3600")
        append(settings.telemetry_path, telemetry_line(6001, 40_001))  # the file itself was written just now
        assert not run("log_freshness", con, settings).passed


def test_a_torn_tail_is_pending_and_never_stale(settings: Settings) -> None:
    append(settings.telemetry_path, b'{"timestamp": "2026-')
    hour_ago = time.time() - 3600
    os.utime(settings.telemetry_path, (hour_ago, hour_ago))
    with warehouse.connect(settings.warehouse_path) as con:
        assert refreshed(con, settings)["log_freshness"].passed


def test_files_that_are_gone_are_left_out_of_the_recount_and_named(settings: Settings) -> None:
    """Gone before they were counted again: what was ingested of them and never checked cannot be."""
    with warehouse.connect(settings.warehouse_path) as con:
        pipeline.ingest_logs(con, settings)
        settings.telemetry_path.unlink()
        append(settings.telemetry_path, telemetry_line(7000, 41_000))
        outcomes = refreshed(con, settings)
    assert outcomes["reconciliation"].passed
    assert outcomes["reconciliation"].numbers["requests"] == 1
    assert outcomes["telemetry_line_accounting"].passed
    assert outcomes["telemetry_line_accounting"].numbers["files_no_longer_on_disk"] == 1


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_another_runs_steps_in_between_are_no_difference(settings: Settings, steps: int) -> None:
    """Runs take turns at the warehouse step by step: another may ingest, or stage too, before this one checks."""
    others = (pipeline.ingest_logs, pipeline.stage_requests, pipeline.stage_decisions)
    with warehouse.connect(settings.warehouse_path) as con:
        refreshed(con, settings)
        append(settings.telemetry_path, telemetry_line(1000, 40_000))
        append(settings.decisions_path, decision_line(1000, 39_999))
        for step in others[:steps]:
            step(con, settings)
        assert run("reconciliation", con, settings).passed


def test_twin_without_joining_what_came_since_there_is_a_false_alarm(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_join_what_came_since", lambda con, settings: None)
    with warehouse.connect(settings.warehouse_path) as con:
        refreshed(con, settings)
        append(settings.telemetry_path, telemetry_line(1000, 40_000))
        pipeline.ingest_logs(con, settings)
        assert not run("reconciliation", con, settings).passed
