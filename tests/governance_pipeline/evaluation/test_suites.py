"""Suites: what is asked, scored, compared, and how a file's mistakes are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import llmscope
from governance_pipeline.errors import BadInput
from governance_pipeline.evaluation import regression, runs
from governance_pipeline.evaluation.results import EvaluationLine, append_results, read_results
from governance_pipeline.evaluation.suites import load_evaluation
from llmscope import ProviderResponse, RoutePolicy, VirtualClock
from tests.llmscope.scripted import ScriptedError, ScriptedProvider, events
from tests.registries import restored_registries

SAMPLE = Path(__file__).parents[3] / "fixtures" / "evaluation" / "evaluation.yaml"
START = datetime(2026, 11, 21, 12, tzinfo=UTC)
JUDGES = "tests.governance_pipeline.evaluation.judges"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with restored_registries():
        yield


def suite_in(folder: Path, answers: dict[str, str] | None, **section: Any) -> Path:
    """An evaluation.yaml with one suite of the capitals, answered from `answers` (None: by the route)."""
    cases = [
        {"id": "peru", "input": "Peru?", "expected": "Lima"},
        {"id": "kenya", "input": "Kenya?", "expected": "Nairobi"},
    ]
    (folder / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    suite = {"cases": "cases.jsonl", "scorers": [{"kind": "exact_match"}], **section}
    if answers is not None:
        lines = [{"input": question, "answer": answer} for question, answer in answers.items()]
        (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        suite["answers"] = "answers.jsonl"
    path = folder / "evaluation.yaml"
    path.write_text(json.dumps({"suites": {"capitals": suite}}))  # JSON is YAML
    return path


GOOD = {"Peru?": "Lima", "Kenya?": "Nairobi"}


def run(path: Path, folder: Path) -> list[EvaluationLine]:
    return runs.run_suites(
        load_evaluation(path).suites,
        folder / "evaluations.jsonl",
        telemetry_path=folder / "telemetry.jsonl",
        clock=VirtualClock(START),
    )


def test_the_sample_scores_what_can_be_seen_in_it(tmp_path: Path) -> None:
    scores = {(line.suite, line.case_id, line.scorer): line.score for line in run(SAMPLE, tmp_path)}
    assert scores == {
        ("capitals", "france", "exact_match"): 1.0,
        ("capitals", "japan", "exact_match"): 1.0,  # tokyo, for case is ignored
        ("capitals", "kenya", "exact_match"): 1.0,  # blanks around it
        ("capitals", "peru", "exact_match"): 0.0,  # Cusco
        ("orders", "one-item", "json_schema"): 1.0,
        ("orders", "one-item", "contains"): 1.0,
        ("orders", "no-items", "json_schema"): 0.0,  # an empty list
        ("orders", "no-items", "contains"): 1.0,
    }
    passed = {line.case_id: line.passed for line in read_results(tmp_path / "evaluations.jsonl")}
    assert passed == {
        "france": True, "japan": True, "kenya": True, "peru": False, "one-item": True, "no-items": False,
    }  # fmt: skip


def test_offline_two_runs_are_the_same_to_the_byte(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(SAMPLE, tmp_path / name)
        texts.append((tmp_path / name / "evaluations.jsonl").read_bytes())
    assert texts[0] == texts[1]


def test_no_question_and_no_answer_is_in_any_log(tmp_path: Path) -> None:
    run(SAMPLE, tmp_path)
    for log in tmp_path.glob("*.jsonl"):
        assert b"capital of" not in log.read_bytes()
        assert b"Cusco" not in log.read_bytes()


def test_recorded_answers_cost_nothing_and_stay_out_of_the_telemetry(tmp_path: Path) -> None:
    lines = run(suite_in(tmp_path, GOOD), tmp_path)
    assert [line.cost_usd for line in lines] == [None, None]
    assert not (tmp_path / "telemetry.jsonl").exists()


def test_a_suite_that_asks_a_provider_is_billed_like_any_call(tmp_path: Path) -> None:
    llmscope.register_provider("live", ScriptedProvider([ProviderResponse("Lima", 1000, 100)], name="live"))
    llmscope.register_route("/live", RoutePolicy(500, 0, False, {"cheap": "gpt-4o-mini"}, "live"))
    lines = run(suite_in(tmp_path, None, route_name="/live"), tmp_path)
    assert [(line.score, line.cost_usd) for line in lines] == [(1.0, 0.00021), (0.0, 0.00021)]
    told = events(tmp_path / "telemetry.jsonl")
    assert [event["use_case"] for event in told] == ["evaluation", "evaluation"]
    assert [event["request_id"] for event in told] == [line.request_id for line in lines]


def test_a_call_that_fails_scores_nothing_and_is_named(tmp_path: Path) -> None:
    steps = [ScriptedError("timeout"), ProviderResponse("Nairobi", 5, 1)]
    llmscope.register_provider("live", ScriptedProvider(steps, name="live"))
    llmscope.register_route("/live", RoutePolicy(500, 0, False, {"cheap": "gpt-4o-mini"}, "live"))
    peru, kenya = run(suite_in(tmp_path, None, route_name="/live"), tmp_path)
    assert (peru.score, peru.passed, peru.error_type) == (0.0, False, "ScriptedError")
    assert (kenya.score, kenya.passed, kenya.error_type) == (1.0, True, None)


def test_custom_scorers_and_judges_are_asked(tmp_path: Path) -> None:
    scorers = [
        {"kind": "custom", "function": f"{JUDGES}:is_short"},
        {"kind": "judge", "function": f"{JUDGES}:half_for_lima"},
    ]
    lines = run(suite_in(tmp_path, GOOD, scorers=scorers, pass_score=0.8), tmp_path)
    assert [line.score for line in lines] == [1.0, 0.5, 1.0, 1.0]
    assert [line.passed for line in lines] == [False, False, True, True]  # 0.75 and 1.0 against 0.8


def test_what_is_no_score_is_refused_without_quoting_it(tmp_path: Path) -> None:
    scorers = [{"kind": "custom", "function": f"{JUDGES}:not_a_number"}]
    with pytest.raises(BadInput, match="returned a str that is no score") as refused:
        run(suite_in(tmp_path, GOOD, scorers=scorers), tmp_path)
    assert "Lima" not in str(refused.value)


def compared(path: Path, folder: Path) -> regression.Comparison:
    (found,) = regression.compare(load_evaluation(path).suites, read_results(folder / "evaluations.jsonl"))
    return found


def accept(path: Path, folder: Path) -> None:
    log = folder / "evaluations.jsonl"
    regression.accept(load_evaluation(path).suites, read_results(log), log, VirtualClock(START))


def test_a_run_that_got_worse_than_the_accepted_one_is_a_regression(tmp_path: Path) -> None:
    path = suite_in(tmp_path, GOOD)
    run(path, tmp_path)
    assert compared(path, tmp_path).baseline_score is None
    accept(path, tmp_path)
    clock_later = VirtualClock(datetime(2026, 11, 22, tzinfo=UTC))
    suite_in(tmp_path, {**GOOD, "Peru?": "Cusco"})
    runs.run_suites(
        load_evaluation(path).suites, tmp_path / "evaluations.jsonl",
        telemetry_path=tmp_path / "t.jsonl", clock=clock_later,
    )  # fmt: skip
    found = compared(path, tmp_path)
    assert (found.baseline_score, found.mean_score, found.has_regressed) == (1.0, 0.5, True)
    assert found.newly_failing == ("peru",)


@pytest.mark.parametrize(("score", "has_regressed"), [(0.85, False), (0.84, True), (1.0, False)])
def test_a_fall_of_exactly_the_tolerance_is_none(tmp_path: Path, score: float, has_regressed: bool) -> None:
    path = suite_in(tmp_path, GOOD)
    log = tmp_path / "evaluations.jsonl"

    def scored(run_id: str, value: float) -> EvaluationLine:
        return EvaluationLine(
            event="evaluation_result", timestamp="2026-11-21T12:00:00.000000+00:00", run_id=run_id,
            suite="capitals", case_id="peru", scorer="exact_match", score=value, passed=True,
        )  # fmt: skip

    append_results(log, [scored("first", 0.9)])
    accept(path, tmp_path)
    append_results(log, [scored("second", score)])
    assert compared(path, tmp_path).has_regressed is has_regressed


def test_only_cases_that_both_runs_have_are_compared(tmp_path: Path) -> None:
    path = suite_in(tmp_path, GOOD)
    run(path, tmp_path)
    accept(path, tmp_path)
    (tmp_path / "cases.jsonl").write_text('{"id": "new", "input": "Peru?", "expected": "no"}\n')
    run(path, tmp_path)
    found = compared(path, tmp_path)
    assert (found.case_count, found.mean_score, found.has_regressed) == (0, None, False)


def test_a_suite_that_never_ran_cannot_be_accepted(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has not run yet"):
        accept(suite_in(tmp_path, GOOD), tmp_path)


def test_a_torn_line_loses_only_itself(tmp_path: Path) -> None:
    path = suite_in(tmp_path, GOOD)
    run(path, tmp_path)
    log = tmp_path / "evaluations.jsonl"
    log.write_bytes(log.read_bytes()[:-40])
    accept(path, tmp_path)
    assert [line.event for line in read_results(log)] == ["evaluation_result", "evaluation_baseline"]


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"scorer": []}, "unknown key 'scorer'. Did you mean 'scorers'?"),
    "an unknown scorer": ({"scorers": [{"kind": "exact"}]}, "evaluation.yaml:1"),
    "no scorer": ({"scorers": []}, "scorers"),
    "a function that is not there": (
        {"scorers": [{"kind": "custom", "function": "no.such:thing"}]}, "cannot be imported",
    ),
    "a name that is no function": ({"scorers": [{"kind": "custom", "function": "judge"}]}, "function"),
    "a schema that is none": (
        {"scorers": [{"kind": "json_schema", "json_schema": {"type": "nothing"}}]}, "is none",
    ),
    "a route that nobody registered": ({"route_name": "/nowhere"}, "No gateway policy"),
    "cases that are not there": ({"cases": "gone.jsonl"}, "gone.jsonl: there is no such file"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told(mistake: str, tmp_path: Path) -> None:
    section, message = MISTAKES[mistake]
    with pytest.raises(BadInput) as refused:
        run(suite_in(tmp_path, GOOD, **section), tmp_path)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a", "input": "q"', "cases.jsonl:1: not JSON"),
        ("[]", "a line is one object"),
        ('{"id": "a", "input": 3}', "`input` must be a text"),
        ('{"id": "a", "input": "q", "wanted": "x"}', "unknown key 'wanted'"),
        ('{"id": "a", "input": "Peru?"}', "needs `expected`"),
        ('{"id": "a", "input": "never recorded", "expected": "x"}', "no recorded answer for a"),
        (
            '{"id": "a", "input": "Peru?", "expected": "x"}\n' * 2,
            "cases.jsonl:2: the case id 'a' stands twice",
        ),
        ("\n", "there are no cases in it"),
    ],
)
def test_a_bad_case_is_told_with_its_line(line: str, message: str, tmp_path: Path) -> None:
    path = suite_in(tmp_path, GOOD)
    (tmp_path / "cases.jsonl").write_text(line)
    with pytest.raises(BadInput) as refused:
        load_evaluation(path)
    assert message in str(refused.value)
