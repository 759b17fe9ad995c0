"""Evaluation in Dagster: running the suites, the check that holds them to their baseline, and the sensor
that scores a sample of production.

No part of a refresh: suites may ask real models. What does not belong here: scoring itself (`evaluation`).
"""

from __future__ import annotations

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    DefaultSensorStatus,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    asset,
    asset_check,
    sensor,
)

from governance_pipeline.alerts import load_sinks, raise_alerts
from governance_pipeline.assets.presentation import DATA_TEAM, PREVIEW_ROWS, markdown_table
from governance_pipeline.evaluation.production import low_scores, score_production
from governance_pipeline.evaluation.regression import Comparison, compare
from governance_pipeline.evaluation.results import read_results
from governance_pipeline.evaluation.runs import run_suites
from governance_pipeline.evaluation.suites import load_evaluation
from governance_pipeline.settings import Settings
from governance_pipeline.wording import counted

EVALUATION_ASSET = "evaluation_results"
EVALUATION_INTERVAL_SECONDS = 60


@asset(
    name=EVALUATION_ASSET,
    group_name="evaluation",
    owners=[DATA_TEAM],
    kinds={"python"},
    description="Every suite of evaluation.yaml, run once more: each case asked, each answer scored, each "
    "score in evaluations.jsonl. Suites with recorded answers need no model and no network.",
)
def evaluation_results(settings: ResourceParam[Settings]) -> MaterializeResult[None]:
    """Run the suites."""
    evaluation = load_evaluation(settings.evaluation_path)
    lines = run_suites(evaluation.suites, settings.evaluations_path, telemetry_path=settings.telemetry_path)
    passed = {(line.run_id, line.case_id) for line in lines if line.passed}
    cases = {(line.run_id, line.case_id) for line in lines}
    rows = [(line.suite, line.case_id, line.scorer, line.score, line.passed) for line in lines]
    return MaterializeResult(
        metadata={
            "dagster/row_count": len(lines),
            "answer": f"{counted(len(passed), 'case')} of {len(cases)} passed."
            if cases
            else "There are no suites: name an evaluation file with EVALUATION_PATH.",
            "preview": MetadataValue.md(
                markdown_table(["suite", "case", "scorer", "score", "passed"], rows[:PREVIEW_ROWS])
            ),
        }
    )


@asset_check(
    asset=EVALUATION_ASSET,
    name="no_regression",
    blocking=True,
    description="No scorer's mean has fallen, against the accepted run, by more than its suite tolerates.",
)
def no_regression(settings: ResourceParam[Settings]) -> AssetCheckResult:
    """Compare the latest runs with their baselines."""
    evaluation = load_evaluation(settings.evaluation_path)
    compared = compare(evaluation.suites, read_results(settings.evaluations_path))
    worse = [comparison for comparison in compared if comparison.has_regressed]
    return AssetCheckResult(
        passed=not worse,
        severity=AssetCheckSeverity.ERROR,
        description="; ".join(told(comparison) for comparison in worse or compared) or "There are no suites.",
        metadata={"scorers": len(compared), "regressed": len(worse)},
    )


def told(comparison: Comparison) -> str:
    """One comparison in a sentence."""
    name = f"{comparison.suite} by {comparison.scorer}"
    if comparison.mean_score is None:
        return f"{name}: not run yet"
    cases = counted(comparison.case_count, "case")
    if comparison.baseline_score is None:
        return f"{name}: {comparison.mean_score:.3f} over {cases}, nothing accepted to compare with"
    failing = f"; failing now: {', '.join(comparison.newly_failing)}" if comparison.newly_failing else ""
    scores = f"{comparison.mean_score:.3f}, accepted {comparison.baseline_score:.3f}"
    return f"{name}: {scores}, over {cases}{failing}"


def build_production_sensor(settings: Settings) -> SensorDefinition:
    """The sensor that scores what was published since it last looked."""

    @sensor(
        name="production_scores",
        minimum_interval_seconds=EVALUATION_INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Scores a sample of the published requests, and alerts where the scores are low.",
    )
    def production_scores(context: SensorEvaluationContext) -> SkipReason:
        del context
        production = load_evaluation(settings.evaluation_path).production
        if production is None:
            return SkipReason("evaluation.yaml has no section `production`.")
        scored = score_production(production, settings.answers_path, settings.evaluations_path)
        raised = raise_alerts(
            low_scores(production, read_results(settings.evaluations_path)),
            settings.alerts_path,
            sinks=load_sinks(settings.sinks_path),
        )
        return SkipReason(
            f"{counted(len(scored), 'new score')}, {counted(len(raised.written), 'alert')} written."
        )

    return production_scores
