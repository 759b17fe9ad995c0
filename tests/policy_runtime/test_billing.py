"""What callers may settle with: every bill that is taken can be read by whoever folds the log."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from llmscope.telemetry_line import read_usage
from policy_runtime import billing
from tests.policy_runtime.gates import ASK, budget, policy

NO_COUNTS = [float("nan"), float("inf"), -1, 10.5, True, "10", Fraction(3, 2), 10**30]
NO_COSTS = [float("nan"), float("inf"), -0.01, True, "0.01", 1e9, Decimal("NaN"), 10**30, [1]]


@pytest.mark.parametrize("count", NO_COUNTS, ids=repr)
@pytest.mark.parametrize("name", ["tokens_in", "tokens_out", "cache_read_tokens", "cache_write_tokens"])
@pytest.mark.parametrize("stated", [{}, {"cost_usd": 0.001}], ids=["priced", "stated"])
def test_a_count_that_readers_would_reject_is_refused(
    make_gate: Any, tmp_path: Path, name: str, count: Any, stated: dict[str, Any]
) -> None:
    """Its line would be a reject: the money nowhere, the reservation lapsed."""
    gate = make_gate(policy(budget(1)))
    with gate.admit(**ASK) as admission:
        with pytest.raises(ValueError, match=f"{name} is"):
            admission.settle(**{"tokens_in": 10, "tokens_out": 1, **stated, name: count})
        assert not (tmp_path / "t.jsonl").exists()
        admission.settle(tokens_in=10, tokens_out=1)
    assert read_usage((tmp_path / "t.jsonl").read_bytes().rstrip(), "") is not None


def test_without_the_look_at_numbers_a_bill_is_a_reject(
    make_gate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: what the first test forbids."""
    monkeypatch.setattr(billing, "whole_tokens", lambda name, count: count)
    gate = make_gate(policy(budget(1)))
    with gate.admit(**ASK) as admission:
        admission.settle(cost_usd=0.5, tokens_in=-1, tokens_out=-1)
    (window,) = gate.live_windows()
    assert (window.spent, window.reserved) == (0.0, 0.0075)


@pytest.mark.parametrize("cost", NO_COSTS, ids=repr)
def test_an_amount_that_no_call_costs_is_refused(make_gate: Any, cost: Any) -> None:
    gate = make_gate(policy(budget(1)))
    with gate.admit(**ASK) as admission:
        with pytest.raises(ValueError, match="a bill is 0 or more and below a billion dollars"):
            admission.settle(cost_usd=cost)
        admission.settle(cost_usd=0.25)
    assert gate.live_windows()[0].spent == 0.25


@pytest.mark.parametrize("cost", [0.25, Decimal("0.25"), Fraction(1, 4)], ids=repr)
def test_an_amount_of_any_type_of_number_is_that_amount(make_gate: Any, cost: Any) -> None:
    gate = make_gate(policy(budget(1)))
    with gate.admit(**ASK) as admission:
        admission.settle(cost_usd=cost, tokens_in=Decimal(10), tokens_out=1.0)
    (window,) = gate.live_windows()
    assert (window.spent, window.reserved) == (0.25, 0.0)


def test_what_is_kept_in_a_cache_for_an_hour_is_billed_as_such(make_gate: Any, tmp_path: Path) -> None:
    gate = make_gate(policy(budget(1)))
    with gate.admit(**{**ASK, "model": "claude-sonnet-4-20250514"}) as admission:
        admission.settle(
            tokens_in=1000,
            tokens_out=10,
            cache_read_tokens=400,
            cache_write_tokens=500,
            cache_write_1h_tokens=300,
        )
    assert gate.live_windows()[0].spent == 0.00312
    assert b'"cache_write_1h_tokens":300' in (tmp_path / "t.jsonl").read_bytes()


@pytest.mark.parametrize("model", [5.0, ["gpt-4o"], "m" * 1001], ids=lambda model: repr(model)[:9])
def test_a_model_that_no_line_could_carry_is_refused(make_gate: Any, model: Any) -> None:
    gate = make_gate(policy(budget(1)))
    with gate.admit(**ASK) as admission:
        with pytest.raises(ValueError, match="model"):
            admission.settle(tokens_in=10, tokens_out=1, model=model)
        admission.settle(tokens_in=10, tokens_out=1)
