"""Counts in sentences: the singular is a word of its own."""

from __future__ import annotations

import pytest

from governance_pipeline.wording import counted


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 cells differ"), (1, "1 cell differs"), (2, "2 cells differ"), (1204, "1,204 cells differ")],
)
def test_verb_and_noun_go_with_the_number(count: int, told: str) -> None:
    assert counted(count, "cell differs", "cells differ") == told


def test_a_plain_noun_takes_an_s() -> None:
    assert [counted(count, "more row") for count in (0, 1, 2)] == ["0 more rows", "1 more row", "2 more rows"]
