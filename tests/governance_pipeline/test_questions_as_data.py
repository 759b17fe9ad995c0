"""The questions' SQL as data: every folder `tests/sql/<question>/<case>/` is rows in, rows expected.

`stg_requests.yaml` and `stg_decisions.yaml` hold the rows, `economics.yaml` and `params.yaml` what else
is given, `expected.yaml` the rows that must come out, in order; a row states the columns that its case
is about. The numbers in it are computed by hand, with the computation in a comment.
"""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from governance_pipeline.economics import load_economics
from governance_pipeline.facts import build_fct_requests
from governance_pipeline.questions import QUESTIONS, build_question, read_question, select_question
from tests.governance_pipeline.staged_rows import staged

CASES = Path(__file__).parents[1] / "sql"
FOLDERS = sorted(path.parent for path in CASES.glob("*/*/expected.yaml"))
GIVEN = {"stg_requests.yaml", "stg_decisions.yaml", "economics.yaml", "params.yaml", "expected.yaml"}


def rows_in(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


def agrees(seen: Any, expected: Any) -> bool:
    if isinstance(seen, Decimal) and isinstance(expected, int | float | str):
        return seen == Decimal(str(expected))
    if isinstance(seen, float) and isinstance(expected, int | float):
        return math.isclose(seen, expected, rel_tol=1e-9, abs_tol=1e-12)
    return type(seen) is type(expected) and bool(seen == expected)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_rows_in_rows_expected(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} <= GIVEN
    question = QUESTIONS[folder.parent.name]
    economics_path = folder / "economics.yaml"
    economics = load_economics(economics_path if economics_path.exists() else None)
    params = rows_in(folder / "params.yaml") or {}
    requests = rows_in(folder / "stg_requests.yaml") or []
    with staged(requests, rows_in(folder / "stg_decisions.yaml") or []) as con:
        build_fct_requests(con, economics)
        rows = select_question(con, question.name, economics, **params)
        build_question(con, question.name, economics, **params)
        assert read_question(con, question.name) == rows
    expected = rows_in(folder / "expected.yaml")
    differences = [
        f"row {number}, {column}: expected {value!r}, got {row[column]!r}"
        for number, (row, wanted) in enumerate(zip(rows, expected, strict=False), start=1)
        for column, value in wanted.items()
        if not agrees(row[column], value)
    ]
    assert not differences, "\n".join(differences)
    assert len(rows) == len(expected), (
        f"{len(expected)} rows expected, got {len(rows)}: {rows[len(expected) :]}"
    )
    for row in rows:
        assert tuple(row) == question.columns
        assert not any(isinstance(value, float) and not math.isfinite(value) for value in row.values())
    assert question.answer_sentence(rows).endswith(".")


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_has_at_least_four_cases_and_one_states_every_column(name: str) -> None:
    folders = [folder for folder in FOLDERS if folder.parent.name == name]
    assert len(folders) >= 4
    stated = {column for folder in folders for row in rows_in(folder / "expected.yaml") for column in row}
    assert stated == set(QUESTIONS[name].columns)


def test_a_wrong_expectation_is_seen() -> None:
    """Twin of the comparison itself."""
    assert agrees(Decimal("0.100000000"), 0.1)
    assert not agrees(Decimal("0.100000001"), 0.1)
    assert not agrees(None, 0)
    assert not agrees(1, True)
    assert not agrees(0.3333333, 1 / 3)
