"""Prices: exact sums, lists that beat the table, and refusals that name file and fix."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmscope
from llmscope import ConfigurationError, Rate, rate_for, register_prices
from llmscope.gateway import cost_model

PRICES = st.decimals(min_value=0, max_value=1000, places=6)
COUNTS = st.integers(min_value=0, max_value=10**9)


@given(PRICES, PRICES, PRICES, COUNTS, COUNTS, st.floats(0, 1))
def test_costs_are_exact_and_rounded_once(
    price_in: Decimal,
    price_out: Decimal,
    price_cached: Decimal,
    tokens_in: int,
    tokens_out: int,
    share: float,
) -> None:
    cached = int(tokens_in * share)
    rate = Rate("m", None, price_in, price_out, price_cached, "v")
    usd = ((tokens_in - cached) * price_in + cached * price_cached + tokens_out * price_out) / Decimal(
        1_000_000
    )
    assert rate.cost_nano(tokens_in, tokens_out, cached) == int(
        (usd * 10**9).to_integral_value("ROUND_HALF_EVEN")
    )


@pytest.mark.parametrize(("price", "nano"), [("0.0005", 0), ("0.0015", 2), ("0.0025", 2), ("0.00250001", 3)])
def test_half_a_nano_dollar_goes_to_the_even_one(price: str, nano: int) -> None:
    rate = Rate("m", None, Decimal(price), Decimal(0), Decimal(0), "v")
    assert rate.cost_nano(1, 0) == nano


@pytest.mark.parametrize("counts", [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (5, 0, 6)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        rate_for("gpt-4o").cost_nano(*counts)


def test_an_unlisted_model_is_priced_from_the_table_and_resolved_once() -> None:
    rate = rate_for("gpt-4.1")
    assert (rate.input_usd_per_mtok, rate.output_usd_per_mtok) == (2, 8)
    assert rate.price_version.startswith("genai-prices-")
    assert rate_for("gpt-4.1") is rate
    assert "gpt-4.1" not in llmscope.get_pricing()


@pytest.mark.parametrize("tokens_in", [1, 200_000, 200_001, 900_000])
def test_long_requests_pay_the_tables_dearer_tier(tokens_in: int) -> None:
    from genai_prices import Usage, calc_price

    usage = Usage(input_tokens=tokens_in, output_tokens=1000, cache_read_tokens=tokens_in // 2)
    price = calc_price(usage, "gemini-2.5-pro").total_price
    assert rate_for("gemini-2.5-pro").cost_nano(tokens_in, 1000, tokens_in // 2) == round(price * 10**9)


def test_a_model_with_cheap_hours_is_priced_at_its_dearest() -> None:
    assert rate_for("deepseek-chat").output_usd_per_mtok == Decimal("1.1")


def test_a_listed_price_needs_no_table() -> None:
    code = (
        "import sys, llmscope; llmscope.estimate_cost('gpt-4o', 1, 1); llmscope.get_pricing();"
        "print('genai_prices' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_get_pricing_gives_a_copy() -> None:
    llmscope.get_pricing()["gpt-4o"]["input_per_1m"] = 0.0
    assert llmscope.get_pricing()["gpt-4o"]["input_per_1m"] == 2.5


def test_a_list_of_ones_own_beats_everything(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Unknown model"):
        rate_for("in-house")
    path = tmp_path / "prices.yaml"
    path.write_text(
        "version: mine-1\n"
        "models:\n"
        "  in-house: {input_usd_per_mtok: 1, output_usd_per_mtok: 2.5}\n"
        "  gpt-4o: {input_usd_per_mtok: 1.5, output_usd_per_mtok: 9, cache_read_usd_per_mtok: 0.5}\n"
    )
    assert register_prices(path) == ["in-house", "gpt-4o"]
    assert rate_for("in-house").cost_nano(1_000_000, 1_000_000, 500_000) == 3_500_000_000
    assert rate_for("gpt-4o").price_version == "mine-1"
    assert rate_for("gpt-4o-mini").price_version == "llmscope-2026-03-19"


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("version: v\nmodels: {m: {input_usd_per_mtok: 1}}", "output_usd_per_mtok"),
        ("version: v\nmodels: {m: {input_usd_per_mtok: 1, output_usd_per_mtok: 2, inptu: 3}}", "inptu"),
        ("version: v\nmodels: {m: {input_usd_per_mtok: '1', output_usd_per_mtok: 2}}", "m"),
        ("version: v\nmodels: {m: {input_usd_per_mtok: -1, output_usd_per_mtok: 2}}", "-1"),
        ("version: v\nmodels: {m: {input_usd_per_mtok: .nan, output_usd_per_mtok: 2}}", "nan"),
        ("models: {}", "version"),
        ("[1, 2", "is not YAML"),
        ("", "price list"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_whole(text: str, fragment: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=fragment) as refused:
        register_prices(path)
    assert str(path) in str(refused.value)
    with pytest.raises(ConfigurationError):
        rate_for("m")


def test_a_list_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        register_prices(tmp_path / "missing.yaml")


def test_the_packaged_list_agrees_with_the_table_where_both_know_a_model() -> None:
    for model in ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-20250514"):
        listed, table = rate_for(model), cost_model._look_up(model)
        assert (listed.input_usd_per_mtok, listed.output_usd_per_mtok, listed.cache_read_usd_per_mtok) == (
            table.input_usd_per_mtok, table.output_usd_per_mtok, table.cache_read_usd_per_mtok,
        )  # fmt: skip
