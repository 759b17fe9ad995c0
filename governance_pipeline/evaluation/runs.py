"""Running a suite: every case through `call_llm`, every answer to every scorer, every score into the log.

A suite with recorded answers calls nobody and costs nothing: its telemetry goes into a log of its own, which
no warehouse reads. One without asks the route's provider; those calls cost money and stand in the telemetry
like any others, with use case `evaluation`. What does not belong here: whether a run is good (`regression`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from governance_pipeline.errors import BadInput
from governance_pipeline.evaluation.recorded import RecordedProvider
from governance_pipeline.evaluation.results import EvaluationLine, append_results
from governance_pipeline.evaluation.scorers import score_answer
from governance_pipeline.evaluation.suites import Case, LoadedSuite
from llmscope import (
    GatewayResult,
    LLMRequestContext,
    RoutePolicy,
    SystemClock,
    call_llm,
    get_route_policy,
    register_provider,
    register_route,
)
from llmscope.clock import Clock
from llmscope.timestamps import format_instant

USE_CASE = "evaluation"
RESULT = "evaluation_result"
OFFLINE_LOG = "evaluation_telemetry.jsonl"


def run_suites(
    suites: Sequence[LoadedSuite],
    results_path: Path,
    *,
    telemetry_path: Path,
    clock: Clock | None = None,
) -> list[EvaluationLine]:
    """Run suites one after the other; the results are in the log when this returns.

    Args:
        results_path: evaluations.jsonl.
        telemetry_path: where calls to real providers are noted; recorded ones are noted beside it.

    Raises:
        BadInput: a scorer cannot be used; what was scored before it is in the log.
        EventLogError: a log could not be written.
    """
    clock = clock or SystemClock()
    found: list[EvaluationLine] = []
    for suite in suites:
        with _route_of(suite) as route_name:
            log = telemetry_path if suite.answers is None else results_path.with_name(OFFLINE_LOG)
            lines = asyncio.run(_run(suite, route_name, log, clock))
        append_results(results_path, lines)
        found += lines
    return found


async def _run(suite: LoadedSuite, route_name: str, log: Path, clock: Clock) -> list[EvaluationLine]:
    begun = format_instant(clock.now())
    run_id = f"{suite.name}@{begun}:{suite.hash[:8]}"
    lines: list[EvaluationLine] = []
    for case in suite.cases:
        lines += await _run_case(suite, case, run_id, route_name, log, clock)
    return lines


async def _run_case(
    suite: LoadedSuite, case: Case, run_id: str, route_name: str, log: Path, clock: Clock
) -> list[EvaluationLine]:
    request_id = f"{run_id}:{case.id}"
    result: GatewayResult | None = None
    error_type = None
    try:
        result = await call_llm(
            case.input,
            suite.section.model_tier,
            route_name,
            context=LLMRequestContext(use_case=USE_CASE, feature_id=f"{USE_CASE}:{suite.name}"),
            request_id=request_id,
            max_output_tokens=suite.section.max_output_tokens,
            clock=clock,
            telemetry_path=log,
        )
    except Exception as error:  # noqa: BLE001  whatever a provider raises is this case's result
        error_type = type(error).__name__
    scores = []
    for scorer in suite.section.scorers:
        score = 0.0 if result is None else await score_answer(scorer, case, result.text)
        scores.append((scorer.name, score))
    passed = sum(score for _, score in scores) / len(scores) >= suite.section.pass_score
    stamp = format_instant(clock.now())
    return [
        EvaluationLine(
            event=RESULT,
            timestamp=stamp,
            run_id=run_id,
            suite=suite.name,
            suite_hash=suite.hash,
            case_id=case.id,
            scorer=name,
            score=score,
            passed=passed,
            request_id=request_id,
            route_name=suite.section.route_name,
            provider=None if result is None else result.provider,
            model=None if result is None else result.selected_model,
            tokens_in=None if result is None else result.tokens_in,
            tokens_out=None if result is None else result.tokens_out,
            cost_usd=None if result is None or suite.answers is not None else result.estimated_cost_usd,
            latency_ms=None if result is None or suite.answers is not None else result.latency_ms,
            error_type=error_type,
        )
        for name, score in scores
    ]


@contextmanager
def _route_of(suite: LoadedSuite) -> Iterator[str]:
    """The route that the suite's calls take: its own, or one of the same models that answers from the
    recording, through none of the stages that a runtime gives the real one."""
    name = suite.section.route_name
    try:
        policy = get_route_policy(name)
    except ValueError as exc:
        raise BadInput(f"suite {suite.name!r}: {exc}") from exc
    if suite.answers is None:
        yield name
        return
    recorded = f"evaluation:{suite.name}"
    register_provider(recorded, RecordedProvider(suite.answers))
    register_route(
        recorded,
        RoutePolicy(
            max_output_tokens=policy.max_output_tokens,
            retry_attempts=0,
            cache_enabled=False,
            model_for_tier=policy.model_for_tier,
            provider_name=recorded,
        ),
    )
    yield recorded
