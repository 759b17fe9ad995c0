"""Functions that a test's evaluation.yaml names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_short(case: Mapping[str, Any], answer: str) -> bool:
    """A custom scorer."""
    return len(answer) <= 10


async def half_for_lima(question: str, expected: str | None, answer: str) -> float:
    """A judge."""
    return 0.5 if answer == "Lima" else 1.0


def not_a_number(case: Mapping[str, Any], answer: str) -> Any:
    """A scorer that is wrong: it returns the answer."""
    return answer


def cheap_tenant(request: Mapping[str, Any]) -> float | None:
    """A scorer of production that knows only one tenant."""
    if request["tenant_id"] != "acme" or request["cost_usd"] is None:
        return None
    return float(request["cost_usd"] < 1)
