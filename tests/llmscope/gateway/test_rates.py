"""What a request costs at a rate: exact in every digit, rounded once."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope import ConfigurationError, Rate
from llmscope.gateway import rates
from llmscope.gateway.rates import RateTier

PRICES = st.decimals(min_value=0, max_value=1000, places=9)
COUNTS = st.integers(min_value=0, max_value=10**9)
SHARES = st.floats(0, 1)


def half_even(exact: Fraction) -> int:
    """The whole number nearest to `exact`, by the definition of half to even."""
    below = exact.numerator // exact.denominator
    rest = exact - below
    return below + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1))


@given(PRICES, PRICES, PRICES, PRICES, COUNTS, COUNTS, SHARES, SHARES)
def test_costs_are_exact_and_rounded_once(
    price_in: Decimal, price_out: Decimal, price_read: Decimal, price_write: Decimal,
    tokens_in: int, tokens_out: int, share_read: float, share_write: float,
) -> None:  # fmt: skip
    read = int(tokens_in * share_read)
    write = int((tokens_in - read) * share_write)
    rate = Rate("m", None, price_in, price_out, price_read, "v", (), price_write)
    usd_millions = (
        Fraction(price_in) * (tokens_in - read - write)
        + Fraction(price_read) * read
        + Fraction(price_write) * write
        + Fraction(price_out) * tokens_out
    )
    nano = rate.cost_nano(tokens_in, tokens_out, read, write)
    assert nano == half_even(usd_millions * 1000)
    with_decimal = Decimal(usd_millions.numerator) / Decimal(usd_millions.denominator)
    if usd_millions.denominator == 1:
        assert nano == int((with_decimal * 1000).to_integral_value("ROUND_HALF_EVEN"))


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=4, unique=True), COUNTS, COUNTS)
def test_the_highest_tier_passed_prices_the_whole_request(
    thresholds: list[int], tokens_in: int, tokens_out: int
) -> None:
    tiers = tuple(
        RateTier(above, Decimal(place), Decimal(place * 10), Decimal(0))
        for place, above in enumerate(sorted(thresholds), start=2)
    )
    passed = sum(above < tokens_in for above in thresholds)
    price = 1 if passed == 0 else passed + 1
    rate = Rate("m", None, Decimal(1), Decimal(10), Decimal(0), "v", tiers)
    assert rate.cost_nano(tokens_in, tokens_out) == 1000 * price * (tokens_in + 10 * tokens_out)


@pytest.mark.parametrize(("price", "nano"), [("0.0005", 0), ("0.0015", 2), ("0.0025", 2), ("0.00250001", 3)])
def test_half_a_nano_dollar_goes_to_the_even_one(price: str, nano: int) -> None:
    rate = Rate("m", None, Decimal(price), Decimal(0), Decimal(0), "v")
    assert rate.cost_nano(1, 0) == nano


def test_what_is_written_into_a_cache_has_a_price_of_its_own() -> None:
    rate = Rate("m", None, Decimal(3), Decimal(15), Decimal("0.3"), "v", (), Decimal("3.75"))
    # 100 plain, 400 read, 500 written, 10 out: 300 + 120 + 1875 + 150 millionths of a dollar.
    assert rate.cost_nano(1000, 10, 400, 500) == 2_445_000


def test_what_is_kept_in_a_cache_for_an_hour_has_a_price_of_its_own() -> None:
    rate = Rate("m", None, Decimal(3), Decimal(15), Decimal("0.3"), "v", (), Decimal("3.75"), Decimal(6))
    # As above, but 300 of the 500 for an hour: 300 × (6 - 3.75) more.
    assert rate.cost_nano(1000, 10, 400, 500, 300) == 3_120_000
    as_five_minutes = Rate("m", None, Decimal(3), Decimal(15), Decimal("0.3"), "v", (), Decimal("3.75"))
    assert as_five_minutes.cost_nano(1000, 10, 400, 500, 300) == 2_445_000
    for odd in (-1, 501):
        with pytest.raises(ConfigurationError, match="a part of cache_write_tokens"):
            rate.cost_nano(1000, 10, 400, 500, odd)


def test_without_a_price_for_writing_it_costs_as_plain_input() -> None:
    tier = RateTier(1000, Decimal(6), Decimal(30), Decimal("0.6"))
    rate = Rate("m", None, Decimal(3), Decimal(15), Decimal("0.3"), "v", (tier,))
    assert rate.cost_nano(1000, 0, 0, 1000) == rate.cost_nano(1000, 0) == 3_000_000
    assert rate.cost_nano(1001, 0, 0, 1001) == rate.cost_nano(1001, 0) == 6_006_000


@pytest.mark.parametrize(
    "counts", [(-1, 0), (0, -1), (0, 0, -1), (5, 0, 6), (5, 0, 0, 6), (5, 0, 3, 3), (5, 0, 0, -1)]
)
def test_impossible_counts_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match="non-negative"):
        Rate("m", None, Decimal(1), Decimal(1), Decimal(1), "v").cost_nano(*counts)


def test_rounding_each_part_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: at a coarser unit, in which parts are cut before they are added, the claim fails."""
    rate = Rate("m", None, Decimal("0.0004"), Decimal("0.0004"), Decimal(0), "v")
    assert rate.cost_nano(1, 1) == 1  # 0.4 + 0.4 nano-dollars
    monkeypatch.setattr(rates, "_FEMTO_PER_USD_PER_MTOK", 1000)
    monkeypatch.setattr(rates, "_FEMTO_PER_NANO", 1)
    assert Rate("m", None, Decimal("0.0004"), Decimal("0.0004"), Decimal(0), "v").cost_nano(1, 1) == 0
