"""How good an answer is, from 0 to 1.

What does not belong here: what follows from a score (`runs`, `regression`).
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
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
from llmscope.named_functions import imported_function


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
    function = imported_function(scorer.function, refuse=BadInput)
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
        score = imported_function(scorer.function, refuse=BadInput)(dict(request))
        return None if score is None else _checked(score, scorer.function)
    measured, most = (
        (request["latency_ms"], scorer.max_ms)
        if isinstance(scorer, WithinLatency)
        else (request["cost_usd"], scorer.max_usd)
    )
    return None if measured is None else float(float(measured) <= most)


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
