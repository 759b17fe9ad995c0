"""`evaluation.yaml`: suites of cases, how answers are scored, and which production traffic is sampled.

    suites:
      support:
        cases: support.jsonl            # one {"id", "input", "expected"} a line, beside this file
        answers: support-answers.jsonl  # recorded answers; without it the route's own provider is asked
        route_name: /answer-routed
        scorers:
          - {kind: exact_match}
    production:
      sample_share: 0.01
      scorers:
        - {kind: finished}

What does not belong here: scoring (`scorers`).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from governance_pipeline.errors import BadInput
from llmscope.strict_yaml import read_strict_yaml, validated

# Seed 002: a case passes at a mean score of 0.7, a scorer has got worse when its mean fell by over 0.05, one
# request in a hundred is sampled, and a mean below 0.5 is told.
PASS_SCORE = 0.7
REGRESSION_TOLERANCE = 0.05
SAMPLE_SHARE = 0.01
ALERT_BELOW = 0.5

Share = Annotated[float, Field(gt=0, le=1)]
FunctionName = Annotated[str, Field(pattern=r"^[\w.]+:\w+$", description="package.module:function")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @property
    def name(self) -> str:
        """By what its scores are known: its kind, and the function that it calls."""
        function = getattr(self, "function", None)
        kind = str(getattr(self, "kind", ""))
        return kind if function is None else f"{kind}:{function}"


class ExactMatch(_Section):
    """1 for the expected answer, blanks around it aside, else 0."""

    kind: Literal["exact_match"]
    ignore_case: bool = False


class Contains(_Section):
    """1 for an answer in which the expected text stands, else 0."""

    kind: Literal["contains"]
    ignore_case: bool = False


class JsonSchema(_Section):
    """1 for an answer that is JSON and fulfils the schema (the case's own, if it has one), else 0."""

    kind: Literal["json_schema"]
    json_schema: dict[str, Any] | None = None


class Custom(_Section):
    """What `function(case, answer)` says: a number from 0 to 1, or a truth."""

    kind: Literal["custom"]
    function: FunctionName


class Judge(_Section):
    """What `function(question, expected, answer)` says, usually by asking another model."""

    kind: Literal["judge"]
    function: FunctionName


Scorer = Annotated[ExactMatch | Contains | JsonSchema | Custom | Judge, Field(discriminator="kind")]


class Suite(_Section):
    """Cases that are asked and scored together."""

    cases: str
    answers: str | None = None
    route_name: str = "/answer-routed"
    model_tier: str = "cheap"
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    scorers: list[Scorer] = Field(min_length=1)
    pass_score: Share = PASS_SCORE
    regression_tolerance: float = Field(default=REGRESSION_TOLERANCE, ge=0, lt=1)


class Finished(_Section):
    """1 for a request that was answered to its end, else 0."""

    kind: Literal["finished"]


class WithinLatency(_Section):
    """1 for a caller who waited no longer than `max_ms`, else 0."""

    kind: Literal["within_latency"]
    max_ms: float = Field(gt=0)


class WithinCost(_Section):
    """1 for a known cost of at most `max_usd`, else 0; an unknown cost is not scored."""

    kind: Literal["within_cost"]
    max_usd: float = Field(gt=0)


class CustomOfRequest(_Section):
    """What `function(request)` says of a row of `fct_requests`; None does not score it."""

    kind: Literal["custom"]
    function: FunctionName


RequestScorer = Annotated[
    Finished | WithinLatency | WithinCost | CustomOfRequest, Field(discriminator="kind")
]


class Production(_Section):
    """Which of the real traffic is scored, and when its scores are told."""

    sample_share: Share = SAMPLE_SHARE
    scorers: list[RequestScorer] = Field(min_length=1)
    alert_below: float = Field(default=ALERT_BELOW, gt=0, le=1)
    minimum_sample: Annotated[int, Field(ge=1)] = 20


class EvaluationFile(_Section):
    """A whole `evaluation.yaml`."""

    version: Literal[1] = 1
    suites: dict[str, Suite] = {}
    production: Production | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One question of a suite.

    Attributes:
        expected: what a good answer is; None for scorers that need none.
        json_schema: of this case's answer.
    """

    id: str
    input: str
    expected: str | None = None
    json_schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LoadedSuite:
    """A suite with its cases.

    Attributes:
        answers: recorded answers by input; None when a provider is asked.
        hash: of everything that decides its results, offline: section, cases and recorded answers.
    """

    name: str
    section: Suite
    cases: tuple[Case, ...]
    answers: dict[str, str] | None
    hash: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an `evaluation.yaml` asks for."""

    suites: tuple[LoadedSuite, ...] = ()
    production: Production | None = None


def load_evaluation(path: str | os.PathLike[str] | None) -> Evaluation:
    """Load a file and the cases that it names; None is an evaluation of nothing.

    Raises:
        BadInput: naming file, line and the fix.
    """
    if path is None:
        return Evaluation()
    path = Path(path)
    file = read_strict_yaml(path, kind="an evaluation file is a mapping with `suites:`", refuse=BadInput)
    settings = validated(file, EvaluationFile, refuse=BadInput)
    suites = tuple(_load_suite(name, section, path.parent) for name, section in settings.suites.items())
    return Evaluation(suites, settings.production)


def _load_suite(name: str, section: Suite, folder: Path) -> LoadedSuite:
    cases_text = _read(folder / section.cases)
    cases = _cases(cases_text, folder / section.cases)
    answers_text = None if section.answers is None else _read(folder / section.answers)
    answers = None
    if answers_text is not None:
        lines = _lines(answers_text, folder / str(section.answers))
        answers = {_text(line, "input", where): _text(line, "answer", where) for where, line in lines}
        missing = [case.id for case in cases if case.input not in answers]
        if missing:
            raise BadInput(
                f"{folder / str(section.answers)}: no recorded answer for {', '.join(missing[:5])}: "
                "record one per case, with the case's own input"
            )
    if any(scorer.kind in {"exact_match", "contains"} for scorer in section.scorers):
        without = [case.id for case in cases if case.expected is None]
        if without:
            raise BadInput(f"{folder / section.cases}: case {without[0]!r} needs `expected` for its scorers")
    decides = json.dumps([section.model_dump(mode="json"), cases_text, answers_text])
    return LoadedSuite(name, section, cases, answers, hashlib.sha256(decides.encode()).hexdigest()[:16])


def _cases(text: str, path: Path) -> tuple[Case, ...]:
    cases: dict[str, Case] = {}
    for where, line in _lines(text, path):
        unknown = set(line) - {"id", "input", "expected", "json_schema"}
        if unknown:
            raise BadInput(
                f"{where}: unknown key {min(unknown)!r}; a case has id, input, expected, json_schema"
            )
        case = Case(
            id=_text(line, "id", where),
            input=_text(line, "input", where),
            expected=_text(line, "expected", where) if line.get("expected") is not None else None,
            json_schema=line.get("json_schema"),
        )
        if case.id in cases:
            raise BadInput(f"{where}: the case id {case.id!r} stands twice: rename one of them")
        cases[case.id] = case
    if not cases:
        raise BadInput(f"{path}: there are no cases in it: a suite without cases says nothing")
    return tuple(cases.values())


def _lines(text: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as exc:
            raise BadInput(f"{where}: not JSON: {exc.msg}") from exc
        if not isinstance(value, dict):
            raise BadInput(f"{where}: a line is one object, found {type(value).__name__}")
        found.append((where, value))
    return found


def _text(line: dict[str, Any], key: str, where: str) -> str:
    value = line.get(key)
    if not isinstance(value, str):
        raise BadInput(f"{where}: `{key}` must be a text, found {value!r}")
    return value


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"{path}: cannot be read as UTF-8 text: {exc}") from exc
