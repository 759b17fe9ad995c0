"""Evaluation in a real Dagster instance, its sensor, and the command."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, DagsterInstance, Definitions, asset, build_sensor_context, materialize

from governance_pipeline import pipeline, warehouse
from governance_pipeline.alerts import read_alerts
from governance_pipeline.assets.evaluation import (
    build_production_sensor,
    evaluation_results,
    no_regression,
)
from governance_pipeline.evaluation import regression, runs
from governance_pipeline.evaluation.production import PRODUCTION_SCORE, score_production
from governance_pipeline.evaluation.results import read_results
from governance_pipeline.evaluation.suites import Production, load_evaluation
from governance_pipeline.settings import Settings
from llmscope import SystemClock
from tests.governance_pipeline.commands import run_command
from tests.governance_pipeline.refresh_logs import append, settings_in, telemetry_line, write_ordinary_logs
from tests.registries import restored_registries

FIXTURES = Path(__file__).parents[3] / "fixtures" / "evaluation"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with restored_registries():
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    shutil.copytree(FIXTURES, tmp_path / "evaluation")
    home = settings_in(tmp_path / "home")
    home.telemetry_path.parent.mkdir(parents=True)
    return replace(home, evaluation_path=tmp_path / "evaluation" / "evaluation.yaml")


def answer_wrongly(settings: Settings) -> None:
    answers = Path(str(settings.evaluation_path)).with_name("capitals-answers.jsonl")
    answers.write_text(answers.read_text().replace("Paris", "Lyon"))


@asset(deps=["evaluation_results"])
def deployed() -> None:
    """What must not happen after a regression."""


def materialised(settings: Settings, instance: DagsterInstance) -> Any:
    return materialize(
        [evaluation_results, no_regression, deployed],
        instance=instance,
        resources={"settings": settings},
        raise_on_error=False,
    )


def test_a_regression_blocks_what_depends_on_the_results(settings: Settings) -> None:
    evaluation = load_evaluation(settings.evaluation_path)
    with DagsterInstance.ephemeral() as instance:
        first = materialised(settings, instance)
        assert first.success
        log = settings.evaluations_path
        regression.accept(evaluation.suites, read_results(log), log, SystemClock())
        answer_wrongly(settings)
        second = materialised(settings, instance)
        assert not second.success
        (check,) = second.get_asset_check_evaluations()
        assert not check.passed
        assert "capitals by exact_match: 0.500, accepted 0.750" in str(check.description)
        assert "failing now: france" in str(check.description)
        done = {event.asset_key for event in second.get_asset_materialization_events()}
        assert AssetKey("deployed") not in done


def test_twin_without_an_accepted_run_nothing_blocks(settings: Settings) -> None:
    with DagsterInstance.ephemeral() as instance:
        assert materialised(settings, instance).success
        answer_wrongly(settings)
        assert materialised(settings, instance).success


def test_the_asset_says_how_many_passed(settings: Settings) -> None:
    with DagsterInstance.ephemeral() as instance:
        result = materialised(settings, instance)
    (event,) = [
        event for event in result.get_asset_materialization_events()
        if event.asset_key == AssetKey("evaluation_results")
    ]  # fmt: skip
    metadata = event.materialization.metadata
    assert metadata["answer"].value == "4 cases of 6 passed."
    assert "| capitals | peru | exact_match | 0 | False |" in str(metadata["preview"].value)


# Production ------------------------------------------------------------------------------------------


def published(settings: Settings, requests: int = 400) -> None:
    write_ordinary_logs(settings, requests, spacing_seconds=60)
    refresh(settings)


def refresh(settings: Settings) -> None:
    with warehouse.connect(settings.warehouse_path) as con:
        pipeline.refresh(con, settings)


def scored_ids(settings: Settings) -> set[str | None]:
    return {
        line.request_id for line in read_results(settings.evaluations_path) if line.event == PRODUCTION_SCORE
    }


def production_of(share: float, *scorers: dict[str, Any], **more: Any) -> Production:
    return Production.model_validate({"sample_share": share, "scorers": list(scorers), **more})


def test_a_share_of_the_requests_is_scored_once_and_always_the_same(settings: Settings) -> None:
    published(settings)
    production = production_of(0.25, {"kind": "finished"})
    first = score_production(production, settings.answers_path, settings.evaluations_path)
    everybody = {
        line["request_id"] for line in map(json.loads, settings.telemetry_path.read_bytes().splitlines())
    }
    quarter = {i for i in everybody if int(hashlib.md5(i.encode()).hexdigest(), 16) < 0.25 * 2**128}
    assert {line.request_id for line in first} == quarter
    assert 0.15 * len(everybody) < len(quarter) < 0.35 * len(everybody)
    assert score_production(production, settings.answers_path, settings.evaluations_path) == []
    append(settings.telemetry_path, telemetry_line(9001, 5000), telemetry_line(9002, 1))  # new, and late
    refresh(settings)
    score_production(
        production_of(1.0, {"kind": "finished"}), settings.answers_path, settings.evaluations_path
    )
    assert {"r9001", "r9002"} <= scored_ids(settings)


def test_what_a_scorer_cannot_tell_is_not_scored(settings: Settings) -> None:
    settings.telemetry_path.write_bytes(
        telemetry_line(1, 1, cost_usd=None, tenant_id="acme", latency_ms=50)
        + telemetry_line(2, 2, cost_usd=0.5, tenant_id="acme", latency_ms=5000)
        + telemetry_line(3, 3, cost_usd=0.5, tenant_id="other", latency_ms=50, status="error")
    )
    refresh(settings)
    judges = "tests.governance_pipeline.evaluation.judges"
    production = production_of(
        1.0,
        {"kind": "finished"},
        {"kind": "within_latency", "max_ms": 1000},
        {"kind": "within_cost", "max_usd": 0.1},
    )
    lines = score_production(production, settings.answers_path, settings.evaluations_path)
    assert {(line.request_id, line.scorer): line.score for line in lines} == {
        ("r1", "finished"): 1.0, ("r1", "within_latency"): 1.0,
        ("r2", "finished"): 1.0, ("r2", "within_latency"): 0.0, ("r2", "within_cost"): 0.0,
        ("r3", "finished"): 0.0, ("r3", "within_latency"): 1.0, ("r3", "within_cost"): 0.0,
    }  # fmt: skip
    custom = production_of(1.0, {"kind": "custom", "function": f"{judges}:cheap_tenant"})
    lines = score_production(
        custom, settings.answers_path, settings.evaluations_path.with_name("other.jsonl")
    )
    assert {line.request_id: line.score for line in lines} == {"r2": 1.0}


def test_the_sensor_scores_and_alerts_once(settings: Settings) -> None:
    path = Path(str(settings.evaluation_path))
    path.write_text(
        "production: {sample_share: 1.0, minimum_sample: 20, alert_below: 0.5, scorers: [{kind: finished}]}\n"
    )
    settings.telemetry_path.write_bytes(
        b"".join(
            telemetry_line(number, number, status="error" if number % 4 else "success")
            for number in range(40)
        )
    )
    refresh(settings)
    sensor = build_production_sensor(settings)
    with DagsterInstance.ephemeral() as instance:
        told = [str(sensor(build_sensor_context(instance))) for _ in range(2)]
    assert "40 new scores, 1 alert written." in told[0]
    assert "0 new scores, 0 alerts written." in told[1]
    (alert,) = read_alerts(settings.alerts_path)
    assert alert.kind == "evaluation_low"
    assert alert.data["mean_score"] == 0.25


def test_without_a_production_section_the_sensor_says_so(settings: Settings) -> None:
    bare = replace(settings, evaluation_path=None)
    with DagsterInstance.ephemeral() as instance:
        assert "no section `production`" in str(build_production_sensor(bare)(build_sensor_context(instance)))


# The command -----------------------------------------------------------------------------------------


def test_the_command_runs_compares_and_accepts(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOVERNANCE_HOME", str(settings.home))
    monkeypatch.setenv("EVALUATION_PATH", str(settings.evaluation_path))
    said = run_command(capsys, "evaluate", "capitals", "--format", "json")
    assert said.code == 0
    (row,) = json.loads(said.out)
    assert (row["suite"], row["mean_score"], row["verdict"]) == ("capitals", 0.75, "no_baseline")
    assert run_command(capsys, "evaluate", "--accept").code == 2  # orders has not run
    assert "accepted capitals@" in run_command(capsys, "evaluate", "capitals", "--accept").err
    answer_wrongly(settings)
    worse = run_command(capsys, "evaluate", "capitals")
    assert worse.code == 1
    assert "worse than accepted: capitals by exact_match" in worse.err
    assert run_command(capsys, "evaluate", "nobody").code == 2
    monkeypatch.setenv("EVALUATION_PATH", str(settings.home / "gone.yaml"))
    assert run_command(capsys, "evaluate").code == 2


def test_no_part_of_a_refresh_runs_a_suite(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from governance_pipeline.definitions import build_defs

    monkeypatch.setattr(runs, "run_suites", lambda *_, **__: pytest.fail("a refresh asked a model"))
    defs: Definitions = build_defs(settings)
    for job in ("refresh", "audit"):
        steps = {node.name for node in defs.resolve_job_def(job).nodes}
        assert not any("evaluation" in step or "regression" in step for step in steps)
