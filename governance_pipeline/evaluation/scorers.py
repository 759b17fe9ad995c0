"""How good an answer is, from 0 to 1.

What does not belong here: what follows from a score (`runs`, `regression`).
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from governance_pipeline.errors import BadInput
from governance_pipeline.evaluation.suites import (
    Case,
    Contains,
    CustomOfRequest,
    ExactMatch,
    Finished,
    JsonSchema,
    Judge,
    RequestScorer,
    Scorer,
    WithinLatency,
)


async def score_answer(scorer: Scorer, case: Case, answer: str) -> float:
    """What `scorer` gives `answer`, from 0 to 1.

    Raises:
        BadInput: a function cannot be imported or gave no number from 0 to 1, or a schema is none.
        Exception: whatever the user's own function raises.
    """
    if isinstance(scorer, (ExactMatch, Contains)):
        expected, given = (case.expected or "").strip(), answer.strip()
        if scorer.ignore_case:
            expected, given = expected.casefold(), given.casefold()
        return float(expected == given if isinstance(scorer, ExactMatch) else expected in given)
    if isinstance(scorer, JsonSchema):
        return float(_fulfils(answer, case.json_schema or scorer.json_schema or {}))
    function = imported(scorer.function)
    if isinstance(scorer, Judge):
        score = function(case.input, case.expected, answer)
    else:
        score = function({"id": case.id, "input": case.input, "expected": case.expected}, answer)
    return _checked(await score if inspect.isawaitable(score) else score, scorer.function)


def score_request(scorer: RequestScorer, request: Mapping[str, Any]) -> float | None:
    """What `scorer` gives a row of `fct_requests`, from 0 to 1; None where it cannot tell.

    Raises:
        BadInput: as `score_answer`.
        Exception: whatever the user's own function raises.
    """
    if isinstance(scorer, Finished):
        return float(bool(request["is_success"]))
    if isinstance(scorer, CustomOfRequest):
        score = imported(scorer.function)(dict(request))
        return None if score is None else _checked(score, scorer.function)
    measured, most = (
        (request["latency_ms"], scorer.max_ms)
        if isinstance(scorer, WithinLatency)
        else (request["cost_usd"], scorer.max_usd)
    )
    return None if measured is None else float(float(measured) <= most)


def imported(name: str) -> Callable[..., Any]:
    """The function that `package.module:function` names.

    Raises:
        BadInput: it cannot be imported, or cannot be called.
    """
    module, _, attribute = name.partition(":")
    try:
        function = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as exc:
        raise BadInput(f"the function {name!r} cannot be imported: {exc}") from exc
    if not callable(function):
        raise BadInput(f"{name!r} is a {type(function).__name__}, which cannot be called")
    return function  # type: ignore[no-any-return]


def _fulfils(answer: str, schema: dict[str, Any]) -> bool:
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415  for suites that have a schema

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as exc:
        raise BadInput(f"the JSON Schema of a scorer or case is none: {exc.message}") from exc
    try:
        value = json.loads(answer)
    except json.JSONDecodeError:
        return False
    return bool(Draft202012Validator(schema).is_valid(value))


def _checked(score: Any, function: str) -> float:
    if not isinstance(score, (bool, int, float)) or not 0 <= score <= 1 or math.isnan(score):
        # What was returned may be the answer itself, which no message quotes.
        raise BadInput(
            f"{function!r} returned a {type(score).__name__} that is no score: give a number from 0 to 1"
        )
    return float(score)
