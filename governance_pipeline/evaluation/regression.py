"""The latest run of each suite, held against the run that was accepted last.

A scorer has got worse when its mean over the cases of both runs has fallen by more than the suite's
tolerance. What does not belong here: running anything (`runs`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from governance_pipeline.errors import BadInput
from governance_pipeline.evaluation.results import EvaluationLine, append_results
from governance_pipeline.evaluation.runs import RESULT
from governance_pipeline.evaluation.suites import LoadedSuite
from llmscope.clock import Clock
from llmscope.timestamps import format_instant

BASELINE = "evaluation_baseline"
# Means are compared as decimals a person would read: 0.80 and 0.85 differ by 0.05, not by a little more.
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Comparison:
    """How one scorer of one suite stands.

    Attributes:
        run_id: the latest run; None if the suite never ran.
        baseline_run_id: the accepted run; None if none was.
        case_count: cases that both runs have (all of the latest, without a baseline).
        mean_score: of the latest run.
        baseline_score: of the accepted one, over the same cases.
        newly_failing: ids of cases that passed then and do not now.
        has_regressed: whether the mean fell by more than the tolerance.
    """

    suite: str
    scorer: str
    run_id: str | None
    baseline_run_id: str | None
    case_count: int
    mean_score: float | None
    baseline_score: float | None
    newly_failing: tuple[str, ...]
    has_regressed: bool


def compare(suites: Sequence[LoadedSuite], lines: Sequence[EvaluationLine]) -> list[Comparison]:
    """One comparison per suite and scorer, in the order of the file."""
    runs = _results_by_run(lines)
    found = []
    for suite in suites:
        latest = next((run for run in reversed(runs) if runs[run][0].suite == suite.name), None)
        accepted = [line.run_id for line in lines if line.event == BASELINE and line.suite == suite.name]
        baseline = accepted[-1] if accepted and accepted[-1] in runs else None
        for scorer in suite.section.scorers:
            now = _scores(runs.get(latest or "", ()), scorer.name)
            then = _scores(runs.get(baseline or "", ()), scorer.name)
            found.append(_comparison(suite, scorer.name, latest, baseline, now, then))
    return found


def accept(
    suites: Sequence[LoadedSuite], lines: Sequence[EvaluationLine], path: Path, clock: Clock
) -> list[str]:
    """Make the latest run of each suite its baseline; returns the ids of those runs.

    Raises:
        BadInput: a suite has not run yet.
    """
    latest = {}
    for run_id, results in _results_by_run(lines).items():
        latest[results[0].suite] = run_id
    missing = [suite.name for suite in suites if suite.name not in latest]
    if missing:
        raise BadInput(f"suite {missing[0]!r} has not run yet: run it before its results are accepted")
    stamp = format_instant(clock.now())
    accepted = [
        EvaluationLine(event=BASELINE, timestamp=stamp, suite=suite.name, run_id=latest[suite.name])
        for suite in suites
    ]
    append_results(path, accepted)
    return [str(line.run_id) for line in accepted]


def _comparison(
    suite: LoadedSuite,
    scorer: str,
    latest: str | None,
    baseline: str | None,
    now: dict[str, EvaluationLine],
    then: dict[str, EvaluationLine],
) -> Comparison:
    common = [case for case in now if case in then] if baseline is not None else list(now)
    mean = _mean(now[case].score for case in common)
    before = _mean(then[case].score for case in common) if baseline is not None else None
    has_regressed = (
        mean is not None
        and before is not None
        and before - mean > suite.section.regression_tolerance + _EPSILON
    )
    failing = [case for case in common if case in then and then[case].passed and not now[case].passed]
    return Comparison(
        suite=suite.name,
        scorer=scorer,
        run_id=latest,
        baseline_run_id=baseline,
        case_count=len(common),
        mean_score=mean,
        baseline_score=before,
        newly_failing=tuple(failing),
        has_regressed=has_regressed,
    )


def _results_by_run(lines: Iterable[EvaluationLine]) -> dict[str, list[EvaluationLine]]:
    runs: dict[str, list[EvaluationLine]] = {}
    for line in lines:
        if line.event == RESULT and line.run_id is not None:
            runs.setdefault(line.run_id, []).append(line)
    return runs


def _scores(results: Iterable[EvaluationLine], scorer: str) -> dict[str, EvaluationLine]:
    return {str(line.case_id): line for line in results if line.scorer == scorer}


def _mean(scores: Iterable[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None
