"""`governance evaluate`: run the suites, see how they stand, accept a run as the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from governance_pipeline.cli.main import Finding
from governance_pipeline.cli.output import Format, format_option, print_rows, say

if TYPE_CHECKING:
    from governance_pipeline.evaluation.regression import Comparison

_COLUMNS = (
    "suite",
    "scorer",
    "case_count",
    "mean_score",
    "baseline_score",
    "newly_failing",
    "verdict",
    "run_id",
)


@click.command(short_help="Run the evaluation suites against their baseline.")
@click.argument("suites", nargs=-1)
@click.option("--accept", is_flag=True, help="Make the latest run of each suite its baseline; runs nothing.")
@click.option("--no-run", is_flag=True, help="Only compare the latest runs.")
@format_option
def evaluate(suites: tuple[str, ...], accept: bool, no_run: bool, form: Format) -> None:
    """Ask every case of the SUITES (all of evaluation.yaml, unless named), score the answers, and compare
    with the accepted run. Exit code 1 when a scorer has got worse than its suite tolerates."""
    from governance_pipeline.errors import BadInput  # noqa: PLC0415
    from governance_pipeline.evaluation import regression, runs  # noqa: PLC0415
    from governance_pipeline.evaluation.results import read_results  # noqa: PLC0415
    from governance_pipeline.evaluation.suites import load_evaluation  # noqa: PLC0415
    from governance_pipeline.settings import Settings  # noqa: PLC0415
    from llmscope import SystemClock  # noqa: PLC0415

    settings = Settings.from_environment()
    evaluation = load_evaluation(settings.evaluation_path)
    known = [suite.name for suite in evaluation.suites]
    for name in suites:
        if name not in known:
            raise BadInput(f"there is no suite {name!r}; there are: {', '.join(known) or 'none'}")
    chosen = [suite for suite in evaluation.suites if not suites or suite.name in suites]
    if not chosen:
        say("There are no suites: name an evaluation file with EVALUATION_PATH, or write evaluation.yaml.")
    path = settings.evaluations_path
    if accept:
        for run_id in regression.accept(chosen, read_results(path), path, SystemClock()):
            say(f"accepted {run_id}")
        return
    if not no_run:
        runs.run_suites(chosen, path, telemetry_path=settings.telemetry_path)
    compared = regression.compare(chosen, read_results(path))
    print_rows(
        _COLUMNS,
        [
            [
                comparison.suite,
                comparison.scorer,
                comparison.case_count,
                comparison.mean_score,
                comparison.baseline_score,
                ", ".join(comparison.newly_failing),
                _verdict(comparison),
                comparison.run_id,
            ]
            for comparison in compared
        ],
        form,
    )
    worse = [comparison for comparison in compared if comparison.has_regressed]
    if worse:
        raise Finding(f"worse than accepted: {', '.join(f'{c.suite} by {c.scorer}' for c in worse)}")


def _verdict(comparison: Comparison) -> str:
    if comparison.mean_score is None:
        return "not_run"
    if comparison.baseline_score is None:
        return "no_baseline"
    return "regressed" if comparison.has_regressed else "as_good"
