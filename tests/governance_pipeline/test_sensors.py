"""Sensors: a refresh when the logs have grown, an alert when something was published, never a writer kept waiting."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import (
    DagsterInstance,
    SensorDefinition,
    SensorResult,
    SkipReason,
    build_run_status_sensor_context,
    build_sensor_context,
)

from governance_pipeline import pipeline, sensors, warehouse
from governance_pipeline.alerts import make_alert, raise_alerts, read_alerts
from governance_pipeline.dagster_home import PROCESS_TAG, end_dead_runs, open_instance, process_identity
from governance_pipeline.definitions import build_defs
from governance_pipeline.freshness import Unread, unread_in
from governance_pipeline.materialize import materialize_all
from governance_pipeline.publish import Manifest, current_manifest
from governance_pipeline.sensors import GrowthCursor, build_sensors, judge_growth
from governance_pipeline.settings import Settings
from tests.governance_pipeline.refresh_logs import (
    append,
    append_cost_spike,
    settings_in,
    telemetry_line,
    write_cost_history,
    write_ordinary_logs,
)

NEW_LINES = Unread("telemetry", Path("telemetry.jsonl"), 0, 500, True, 0.0)
TORN_TAIL = Unread("telemetry", Path("telemetry.jsonl"), 0, 500, False, 0.0)


def manifest_at(offset: int) -> Manifest:
    return Manifest("v1", None, ({"fingerprint": "f", "ingested_bytes": offset},))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def instance(settings: Settings) -> Iterator[DagsterInstance]:
    with open_instance(settings) as opened:
        yield opened


def sensor_named(settings: Settings, name: str) -> SensorDefinition:
    return next(sensor for sensor in build_sensors(settings) if sensor.name == name)


def refresh(settings: Settings) -> None:
    with warehouse.connect(settings.warehouse_path) as con:
        assert pipeline.refresh(con, settings).publication is not None


def test_new_whole_lines_ask_for_a_refresh() -> None:
    tick = judge_growth(GrowthCursor(), [NEW_LINES], manifest_at(0), 1000.0, refreshing=False)
    assert tick.run_key is not None
    assert tick.cursor.attempt == 1


def test_a_torn_tail_or_nothing_new_asks_for_none() -> None:
    for unread in ([], [TORN_TAIL]):
        assert judge_growth(GrowthCursor(), unread, None, 1000.0, refreshing=False).run_key is None


def test_while_a_refresh_runs_none_is_asked_for() -> None:
    assert judge_growth(GrowthCursor(), [NEW_LINES], None, 1000.0, refreshing=True).run_key is None


def test_a_refresh_that_failed_is_tried_again_later_and_later_under_another_key() -> None:
    cursor, keys, waits, now = GrowthCursor(), [], [], 1000.0
    for _ in range(9):
        asked_before = now
        while (
            tick := judge_growth(cursor, [NEW_LINES], manifest_at(0), now, refreshing=False)
        ).run_key is None:
            now += 1
        waits.append(now - asked_before)
        keys.append(tick.run_key)
        cursor = tick.cursor
    assert len(set(keys)) == 9
    assert waits == [0, 10, 20, 40, 80, 160, 320, 600, 600]


def test_once_something_is_published_counting_begins_anew() -> None:
    first = judge_growth(GrowthCursor(), [NEW_LINES], manifest_at(0), 1000.0, refreshing=False)
    second = judge_growth(first.cursor, [NEW_LINES], manifest_at(500), 1001.0, refreshing=False)
    assert second.run_key is not None
    assert second.run_key != first.run_key
    assert second.cursor.attempt == 1


def test_the_cursor_survives_dagster() -> None:
    cursor = GrowthCursor("abc", 3, 12.5)
    assert GrowthCursor.parse(cursor.text()) == cursor
    assert GrowthCursor.parse(None) == GrowthCursor()


def test_growth_is_told_from_offsets_through_rotation_and_truncation(settings: Settings) -> None:
    def unread() -> list[tuple[str, int]]:
        manifest = current_manifest(settings.answers_path)
        assert manifest is not None
        found = unread_in(settings.logs, manifest.sources)
        return [(part.path.name, part.offset) for part in found]

    write_ordinary_logs(settings)
    refresh(settings)
    taken = settings.telemetry_path.stat().st_size
    assert unread() == []
    append(settings.telemetry_path, telemetry_line(900, 50_000))
    assert unread() == [("telemetry.jsonl", taken)]
    settings.telemetry_path.rename(settings.telemetry_path.with_name("telemetry.jsonl.1"))
    append(settings.telemetry_path, telemetry_line(901, 50_001))
    assert unread() == [("telemetry.jsonl.1", taken), ("telemetry.jsonl", 0)]
    refresh(settings)
    assert unread() == []
    with settings.telemetry_path.open("r+b") as log:
        log.truncate(0)
    append(settings.telemetry_path, telemetry_line(902, 50_002), telemetry_line(903, 50_003))
    assert unread() == [("telemetry.jsonl", 0)]


def test_the_log_growth_sensor_asks_once_and_rests_when_published(
    settings: Settings, instance: DagsterInstance
) -> None:
    sensor = sensor_named(settings, "log_growth")
    with build_sensor_context(instance=instance) as context:
        assert isinstance(sensor(context), SkipReason)
    write_ordinary_logs(settings)
    with build_sensor_context(instance=instance) as context:
        result = sensor(context)
        assert isinstance(result, SensorResult)
        assert len(result.run_requests or []) == 1
    refresh(settings)
    with build_sensor_context(instance=instance, cursor=result.cursor) as context:
        assert isinstance(sensor(context), SkipReason)


def test_sensors_work_while_another_process_holds_the_warehouse(
    settings: Settings, instance: DagsterInstance
) -> None:
    end = write_cost_history(settings)
    append_cost_spike(settings, end + 60)
    refresh(settings)
    append(settings.telemetry_path, telemetry_line(900_000, end + 600))
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()",
            str(settings.warehouse_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with build_sensor_context(instance=instance) as context:
            assert isinstance(sensor_named(settings, "log_growth")(context), SensorResult)
        with build_sensor_context(instance=instance) as context:
            sensor_named(settings, "cost_anomaly")(context)
        assert [alert.kind for alert in read_alerts(settings.alerts_path)] == ["cost_anomaly"]
    finally:
        holder.communicate(b"")


def test_ops_alerts_follows_the_log_of_alerts_while_nothing_is_published(
    settings: Settings, instance: DagsterInstance
) -> None:
    sensor = sensor_named(settings, "alert_log")
    with build_sensor_context(instance=instance) as context:
        assert isinstance(sensor(context), SkipReason)
    told = make_alert(
        "check_failed", about=["reconciliation"], subject="fct_requests/reconciliation",
        time="2026-11-21T11:00:00.000000+00:00", message="They differ.", data={},
    )  # fmt: skip
    raise_alerts([told], settings.alerts_path)
    with build_sensor_context(instance=instance) as context:
        tick = sensor(context)
    assert isinstance(tick, SensorResult)
    assert len(tick.run_requests or []) == 1
    with build_sensor_context(instance=instance, cursor=tick.cursor) as context:
        assert isinstance(sensor(context), SkipReason), "nothing new"
    job = build_defs(settings).resolve_job_def("record_alerts")
    assert job.execute_in_process(instance=instance).success
    with warehouse.connect(settings.warehouse_path) as con:
        assert con.execute("SELECT id FROM ops.alerts").fetchall() == [(told.id,)]
    assert not settings.answers_path.exists()


def test_an_episode_is_told_once_however_often_the_sensor_ticks_and_runs_repeat(
    settings: Settings, instance: DagsterInstance
) -> None:
    end = write_cost_history(settings)
    append_cost_spike(settings, end + 60)
    sensor = sensor_named(settings, "cost_anomaly")
    for round_number in range(3):
        refresh(settings)
        with build_sensor_context(instance=instance) as context:
            sensor(context)
        append(settings.telemetry_path, telemetry_line(900_000 + round_number, end + 400 + round_number))
    [alert] = read_alerts(settings.alerts_path)
    assert alert.subject == "feature:search"
    assert alert.data["ratio"] > 3
    refresh(settings)
    with warehouse.connect(settings.warehouse_path) as con:
        assert con.execute("SELECT id FROM ops.alerts").fetchall() == [(alert.id,)]


def test_budget_crossings_of_the_decision_log_go_through_the_same_door(
    settings: Settings, instance: DagsterInstance
) -> None:
    write_ordinary_logs(settings)
    append(
        settings.decisions_path,
        b'{"schema_version":"0.1.0","event":"budget_alert","timestamp":"2026-11-19T10:00:00.000000+00:00",'
        b'"charged_namespace":"team-1","policy_id":"cap","primitive":"budget_threshold","threshold":0.8,'
        b'"window_cost_usd":0.81,"window_limit_usd":1.0,"window_start":"2026-11-19T09:00:00.000000+00:00"}\n',
    )
    refresh(settings)
    sensor = sensor_named(settings, "cost_anomaly")
    for _ in range(2):
        with build_sensor_context(instance=instance) as context:
            sensor(context)
    [alert] = read_alerts(settings.alerts_path)
    assert alert.kind == "budget_alert"
    assert alert.subject == "namespace:team-1"
    assert "80%" in alert.data["message"]


def test_a_failed_blocking_check_is_told_once_until_something_is_published(
    settings: Settings, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ordinary_logs(settings)
    spoil_costs(monkeypatch)
    sensor = sensor_named(settings, "failed_checks")
    for _ in range(2):
        result = (
            build_defs(settings)
            .resolve_job_def("refresh")
            .execute_in_process(instance=instance, raise_on_error=False)
        )
        assert not result.success
        context = build_run_status_sensor_context(
            "failed_checks", result.get_run_failure_event(), instance, result.dagster_run
        )
        sensor(context.for_run_failure())
    [alert] = read_alerts(settings.alerts_path)
    assert alert.kind == "check_failed"
    assert alert.subject == "fct_requests/reconciliation"
    assert current_manifest(settings.answers_path) is None


def spoil_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have staging add a nano-dollar to one request: a defect that reconciliation is there to see."""
    sound = pipeline.build_stg_requests

    def spoiled(con: object) -> int:
        rows = sound(con)  # type: ignore[arg-type]
        con.execute(  # type: ignore[attr-defined]
            "UPDATE staging.stg_requests SET cost_usd = cost_usd + 0.000000001 WHERE request_id = 'r7'"
        )
        return rows

    monkeypatch.setattr(pipeline, "build_stg_requests", spoiled)


def test_the_command_tells_of_a_failed_check_itself(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ordinary_logs(settings)
    spoil_costs(monkeypatch)
    outcome = materialize_all(settings, say=lambda sentence: None)
    assert not outcome.succeeded
    assert "reconciliation" in outcome.failure
    assert [alert.kind for alert in read_alerts(settings.alerts_path)] == ["check_failed"]


def test_a_run_whose_process_died_is_ended_and_its_slot_freed(
    settings: Settings, instance: DagsterInstance
) -> None:
    job = build_defs(settings).resolve_job_def("refresh")
    dead, alive = "vm-elsewhere:1:1", process_identity()
    gone = ":".join([*alive.split(":")[:-2], "999999999", "1"])
    runs = {
        identity: instance.create_run_for_job(
            job, tags={PROCESS_TAG: identity}, status=sensors._UNFINISHED[3]
        )
        for identity in (dead, alive, gone)
    }
    assert end_dead_runs(instance) == [runs[gone].run_id]
    assert instance.get_run_by_id(runs[gone].run_id).is_failure  # type: ignore[union-attr]


def test_a_run_that_died_before_it_named_its_process_is_ended_after_two_minutes(
    settings: Settings, instance: DagsterInstance
) -> None:
    job = build_defs(settings).resolve_job_def("refresh")
    nameless = instance.create_run_for_job(job, status=sensors._UNFINISHED[3])
    named = instance.create_run_for_job(
        job, tags={PROCESS_TAG: process_identity()}, status=sensors._UNFINISHED[3]
    )
    began = instance.get_run_record_by_id(nameless.run_id).create_timestamp.timestamp()  # type: ignore[union-attr]
    assert end_dead_runs(instance, now_seconds=began + 119) == []
    assert end_dead_runs(instance, now_seconds=began + 121) == [nameless.run_id]
    assert not instance.get_run_by_id(named.run_id).is_finished  # type: ignore[union-attr]
