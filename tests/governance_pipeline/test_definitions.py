"""The code location: what it holds, and a whole refresh in a real Dagster instance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetKey,
    AssetSpec,
    DagsterInstance,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    Definitions,
    ScheduleDefinition,
    TableSchema,
    build_schedule_context,
)

from governance_pipeline import warehouse
from governance_pipeline.checks import CHECKS
from governance_pipeline.dagster_home import open_instance
from governance_pipeline.definitions import build_defs, defs
from governance_pipeline.materialize import materialize_all
from governance_pipeline.questions import QUESTIONS
from governance_pipeline.resources import WRITER_POOL
from governance_pipeline.settings import Settings
from tests.governance_pipeline.refresh_logs import (
    append,
    append_cost_spike,
    settings_in,
    telemetry_line,
    write_cost_history,
    write_ordinary_logs,
)

LAYERS = {
    "raw": {"raw_telemetry", "raw_policy_decisions"},
    "staging": {"stg_requests", "stg_decisions"},
    "marts": {"fct_requests", "cost_anomalies"},
    "questions": {
        "cost_by_tenant_and_feature",
        "experiment_cost_vs_outcome",
        "budget_pressure_by_namespace",
        "fallback_latency_masking",
        "unsafe_routes",
    },
    "published": {"published_answers"},
    "alerts": {"alerts"},
    "archive": {"archived_segments"},
    "evaluation": {"evaluation_results"},
}
ON_DEMAND = {"alerts", "archive", "evaluation"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = settings_in(tmp_path)
    write_ordinary_logs(made)
    return made


def specs_of(definitions: Definitions) -> Mapping[str, AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def materialize(settings: Settings) -> list[str]:
    told: list[str] = []
    outcome = materialize_all(settings, say=told.append)
    assert outcome.succeeded, outcome.failure
    assert outcome.failed_checks == ()
    return told


def metadata_of(instance: DagsterInstance, asset: str) -> Mapping[str, Any]:
    event = instance.get_latest_materialization_event(AssetKey(asset))
    assert event is not None
    assert event.asset_materialization is not None
    return event.asset_materialization.metadata


def test_the_assets_have_exactly_the_names_of_the_contract_in_their_layers(settings: Settings) -> None:
    specs = specs_of(build_defs(settings))
    assert set(specs) == set().union(*LAYERS.values())
    assert {name: spec.group_name for name, spec in specs.items()} == {
        name: layer for layer, names in LAYERS.items() for name in names
    }


def test_every_asset_says_what_it_is_and_whose(settings: Settings) -> None:
    for name, spec in specs_of(build_defs(settings)).items():
        assert spec.description, name
        assert [owner.startswith("team:") for owner in spec.owners] == [True], name
        assert spec.kinds, name
    for name, question in QUESTIONS.items():
        assert question.words in (specs_of(build_defs(settings))[name].description or "")


def test_every_asset_and_check_takes_its_turn_at_the_warehouse(settings: Settings) -> None:
    definitions = build_defs(settings)
    opens_none = {"evaluation_results", "evaluation_results_no_regression"}
    for node in [*(definitions.assets or []), *(definitions.asset_checks or [])]:
        assert (node.op.pool == WRITER_POOL) is (node.op.name not in opens_none)  # type: ignore[union-attr]


def test_everything_that_watches_runs_without_being_switched_on(settings: Settings) -> None:
    definitions = build_defs(settings)
    assert {sensor.name for sensor in definitions.sensors or []} == {
        "log_growth",
        "cost_anomaly",
        "failed_checks",
        "alert_log",
        "production_scores",
    }
    assert {sensor.default_status for sensor in definitions.sensors or []} == {DefaultSensorStatus.RUNNING}
    assert {schedule.name for schedule in definitions.schedules or []} == {
        "questions_hourly",
        "audit_daily",
        "freshness_watch",
    }
    assert {schedule.default_status for schedule in definitions.schedules or []} == {  # type: ignore[union-attr]
        DefaultScheduleStatus.RUNNING
    }


def test_the_location_of_the_environment_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOVERNANCE_HOME", str(tmp_path))
    definitions = defs()
    Definitions.validate_loadable(definitions)
    assert list(tmp_path.iterdir()) == []  # loading touches nothing


def test_a_refresh_materialises_everything_and_every_check_passes(settings: Settings) -> None:
    told = materialize(settings)
    layers = {layer: names for layer, names in LAYERS.items() if layer not in ON_DEMAND}
    assert {sentence.split(":")[0] for sentence in told if not sentence.startswith("check")} == set().union(
        *layers.values()
    )
    assert sum(" passed: " in sentence for sentence in told) == len(CHECKS)
    with open_instance(settings) as instance:
        for layer, names in layers.items():
            for name in names:
                metadata = metadata_of(instance, name)
                if layer == "published":
                    assert metadata["version"].value == "v00000001"
                    continue
                schema = metadata["dagster/column_schema"].value
                assert isinstance(schema, TableSchema)
                assert metadata["preview"].value
        assert metadata_of(instance, "raw_telemetry")["dagster/row_count"].value == 54
        assert metadata_of(instance, "fct_requests")["dagster/row_count"].value == 60
        for name, question in QUESTIONS.items():
            metadata = metadata_of(instance, name)
            columns = [column.name for column in metadata["dagster/column_schema"].value.columns]
            assert tuple(columns) == question.columns
            assert metadata["answer"].value.endswith(".")
            assert len(metadata["config_hash"].value) == 16


def test_one_asset_can_be_materialised_by_itself_as_the_ui_does(settings: Settings) -> None:
    materialize(settings)
    with open_instance(settings) as instance:
        for name in ["raw_telemetry", "stg_requests", "fct_requests", *QUESTIONS, "published_answers"]:
            selection = [AssetKey(name)]
            if name == "raw_telemetry":  # both logs are taken in one transaction
                selection.append(AssetKey("raw_policy_decisions"))
            job = build_defs(settings).resolve_implicit_global_asset_job_def()
            result = job.execute_in_process(instance=instance, asset_selection=selection)
            assert result.success
            assert [event.asset_key for event in result.get_asset_materialization_events()] == selection


def test_the_schedules_ask_for_jobs_that_exist(settings: Settings) -> None:
    definitions = build_defs(settings)
    for schedule in definitions.schedules or []:
        assert isinstance(schedule, ScheduleDefinition)
        with build_schedule_context() as context:
            assert len(schedule.evaluate_tick(context).run_requests or []) == 1
        assert definitions.resolve_job_def(schedule.job_name).name == schedule.job_name


def test_the_audit_runs_every_check_and_builds_nothing(settings: Settings) -> None:
    materialize(settings)
    with open_instance(settings) as instance:
        job = build_defs(settings).resolve_job_def("audit")
        result = job.execute_in_process(instance=instance)
    assert result.success
    assert result.get_asset_materialization_events() == []
    assert len(result.get_asset_check_evaluations()) == len(CHECKS)


def test_the_audit_finds_a_bill_that_was_altered_in_a_log_already_counted(settings: Settings) -> None:
    materialize(settings)
    bill = b'"estimated_cost_usd": 0.001'
    with settings.telemetry_path.open("r+b") as log:
        log.seek(log.read().index(bill, 2000))  # beyond what tells the file from others
        log.write(bill.replace(b"0.001", b"0.007"))
    failed = {}
    with open_instance(settings) as instance:
        for job in ("refresh", "audit"):
            definition = build_defs(settings).resolve_job_def(job)
            result = definition.execute_in_process(instance=instance, raise_on_error=False)
            evaluations = result.get_asset_check_evaluations()
            failed[job] = {found.check_name for found in evaluations if not found.passed}
    assert failed == {"refresh": set(), "audit": {"reconciliation"}}


def test_the_config_hash_follows_economics(settings: Settings, tmp_path: Path) -> None:
    materialize(settings)
    economics = tmp_path / "economics.yaml"
    economics.write_text("revenue: [{revenue_per_request_usd: 0.01}]\n")
    priced = Settings.in_home(tmp_path, economics_path=economics)
    with open_instance(settings) as instance:
        before = metadata_of(instance, "unsafe_routes")["config_hash"].value
    materialize(priced)
    with open_instance(priced) as instance:
        assert metadata_of(instance, "unsafe_routes")["config_hash"].value != before


def tables_of(path: Path) -> dict[str, tuple[list[str], list[tuple[Any, ...]]]]:
    """Every table of staging and marts: its columns, and its rows in a fixed order."""
    with warehouse.connect(path) as con:
        names = con.execute(
            "SELECT table_schema || '.' || table_name FROM information_schema.tables "
            "WHERE table_schema IN ('staging', 'marts') ORDER BY ALL"
        ).fetchall()
        return {
            name: (con.table(name).columns, sorted(con.table(name).fetchall(), key=repr)) for (name,) in names
        }


def test_deleting_the_warehouse_and_materialising_again_gives_identical_tables(settings: Settings) -> None:
    end = write_cost_history(settings)
    materialize_all(settings, say=lambda sentence: None)
    append_cost_spike(settings, end + 60)
    append(settings.telemetry_path, telemetry_line(7, 40_000), b"not json\n")
    settings.telemetry_path.rename(settings.telemetry_path.with_name("telemetry.jsonl.1"))
    append(settings.telemetry_path, telemetry_line(800, 50_000, None), telemetry_line(800, 50_001))
    assert materialize_all(settings, say=lambda sentence: None).succeeded
    before = tables_of(settings.warehouse_path)
    settings.warehouse_path.unlink()
    assert materialize_all(settings, say=lambda sentence: None).succeeded
    after = tables_of(settings.warehouse_path)
    assert set(after) >= {f"marts.{name}" for name in [*QUESTIONS, "fct_requests", "cost_anomalies"]}
    assert after["marts.cost_anomalies"][1]
    # File numbers count files in the order they were met; everything else must be the same.
    assert {name: without_file_ids(table) for name, table in after.items()} == {
        name: without_file_ids(table) for name, table in before.items()
    }


def without_file_ids(table: tuple[list[str], list[tuple[Any, ...]]]) -> list[dict[str, Any]]:
    columns, rows = table
    kept = [
        {name: value for name, value in zip(columns, row, strict=True) if not name.endswith("file_id")}
        for row in rows
    ]
    return sorted(kept, key=repr)


def test_twin_a_table_that_depends_on_the_clock_would_be_seen_to_differ(settings: Settings) -> None:
    materialize(settings)
    before = without_file_ids(tables_of(settings.warehouse_path)["marts.fct_requests"])
    with warehouse.connect(settings.warehouse_path) as con:
        con.execute("UPDATE marts.fct_requests SET timestamp = now() WHERE request_id = 'r7'")
    assert without_file_ids(tables_of(settings.warehouse_path)["marts.fct_requests"]) != before
