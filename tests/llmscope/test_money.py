"""Money is rounded once, half to even, and never drifts."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.money import from_nano, quantise, to_nano


@pytest.mark.parametrize(
    ("usd", "nano"),
    [
        (0.0000000005, 0), (0.0000000015, 2), (0.0000000025, 2), (0.0000000035, 4), (-0.0000000015, -2),
        (1.0000000005, 1_000_000_000), (0.1, 100_000_000), (1, 1_000_000_000), (0, 0), (0.000045, 45_000),
        (Decimal("0.0000000025"), 2), (Decimal("0.00000000251"), 3), (999_999_999.0, 999_999_999 * 10**9),
    ],
)  # fmt: skip
def test_amounts_are_rounded_half_to_even(usd: float | Decimal, nano: int) -> None:
    assert to_nano(usd) == nano


@given(st.floats(min_value=-1e9, max_value=1e9, allow_nan=False))
def test_the_fast_path_rounds_as_decimal_arithmetic_does(usd: float) -> None:
    exact = Decimal(repr(usd)).quantize(Decimal("1e-9"), rounding=ROUND_HALF_EVEN)
    assert to_nano(usd) == int(exact * 10**9)


@given(st.integers(min_value=0, max_value=10**15))
def test_what_is_written_reads_back_the_same(nano: int) -> None:
    assert to_nano(from_nano(nano)) == nano


def test_a_quantised_amount_has_nine_decimals() -> None:
    assert str(quantise(1.5)) == "1.500000000"


@pytest.mark.parametrize("usd", [math.nan, math.inf, -math.inf])
def test_what_is_no_amount_is_refused(usd: float) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        to_nano(usd)
