"""The price of this very request decides, by the real price list."""

from __future__ import annotations

from pathlib import Path

from benchmarks.routing_traffic import Planted, constant, drive
from llmscope import register_prices
from llmscope.gateway.routing import CheapestRouter
from llmscope.gateway.stages import Target
from tests.llmscope.gateway.routing.requests_and_targets import (
    GPT_4O,
    HAIKU,
    MINI,
    UNPRICED,
    answered,
    failed,
    request,
)

READER = Target("p", "routing-test-reader")  # cheap input, dear output
WRITER = Target("p", "routing-test-writer")  # the other way round
TWIN = Target("q", "routing-test-twin")  # costs what the writer costs


def register(folder: Path) -> None:
    (folder / "prices.yaml").write_text(
        "version: routing-test-1\n"
        "prices:\n"
        "  - {model: routing-test-reader, input_usd_per_mtok: 1, output_usd_per_mtok: 20}\n"
        "  - {model: routing-test-writer, input_usd_per_mtok: 5, output_usd_per_mtok: 5}\n"
        "  - {model: routing-test-twin, input_usd_per_mtok: 5, output_usd_per_mtok: 5}\n"
        "  - {model: routing-test-sold-twice, provider: dear, input_usd_per_mtok: 9, output_usd_per_mtok: 9}\n"
        "  - {model: routing-test-sold-twice, provider: fair, input_usd_per_mtok: 2, output_usd_per_mtok: 2}\n"
    )
    register_prices(folder / "prices.yaml")


def test_cheapest_first_and_the_rest_are_fallbacks_by_price() -> None:
    """The forerunner had no fallback: the one provider's failure was the caller's."""
    choice = CheapestRouter([GPT_4O, HAIKU, MINI]).choose(request(), 0.0)
    assert choice.targets == (MINI, HAIKU, GPT_4O)
    assert choice.decision == "cheapest"
    # 1,000 tokens in at 0.15 and 500 out at 0.60 USD per million.
    assert choice.reason == "openai/gpt-4o-mini: 0.00045 USD expected"


def test_the_price_is_of_this_request_not_of_a_thousand_tokens(tmp_path: Path) -> None:
    """10,000 in and 100 out: 0.012 against 0.0505 USD; 100 in and 1,000 out: 0.0201 against 0.0055."""
    register(tmp_path)
    router = CheapestRouter([WRITER, READER])
    assert router.choose(request(tokens_in=10_000, max_output_tokens=100), 0.0).targets == (READER, WRITER)
    assert router.choose(request(tokens_in=100, max_output_tokens=1000), 0.0).targets == (WRITER, READER)


def test_answers_are_expected_as_long_as_configured_and_never_longer_than_allowed(tmp_path: Path) -> None:
    register(tmp_path)
    usual = CheapestRouter([WRITER, READER], expected_output_tokens=20)
    assert usual.choose(request(tokens_in=100, max_output_tokens=1000), 0.0).targets[0] == READER
    longer = CheapestRouter([WRITER, READER], expected_output_tokens=100_000)
    assert longer.choose(request(tokens_in=10_000, max_output_tokens=100), 0.0).targets[0] == READER


def test_what_nobody_prices_comes_last_and_is_named() -> None:
    choice = CheapestRouter([UNPRICED, GPT_4O, MINI]).choose(request(), 0.0)
    assert choice.targets == (MINI, GPT_4O, UNPRICED)
    assert choice.reason.endswith("; without a price: local/a-model-nobody-prices")


def test_without_any_price_the_configured_order_stands() -> None:
    other = Target("local", "another-model-nobody-prices")
    choice = CheapestRouter([UNPRICED, other]).choose(request(), 0.0)
    assert choice.targets == (UNPRICED, other)
    assert choice.reason.startswith("local/a-model-nobody-prices: no known price")


def test_ties_keep_the_configured_order(tmp_path: Path) -> None:
    register(tmp_path)
    assert CheapestRouter([WRITER, TWIN]).choose(request(), 0.0).targets == (WRITER, TWIN)
    assert CheapestRouter([TWIN, WRITER]).choose(request(), 0.0).targets == (TWIN, WRITER)


def test_simulation_price_alone_decides_whatever_latency_and_failures() -> None:
    planted = {
        MINI: Planted(constant(2000.0), constant(0.5)),
        HAIKU: Planted(constant(10.0)),
        GPT_4O: Planted(constant(10.0)),
    }
    router = CheapestRouter([GPT_4O, HAIKU, MINI])
    assert {routed.target for routed in drive(router, planted, requests=500, per_second=10)} == {MINI}


def test_observations_change_nothing() -> None:
    router = CheapestRouter([HAIKU, MINI])
    for _ in range(100):
        router.observe(failed(MINI), 1.0)
        router.observe(answered(HAIKU), 1.0)
    assert router.choose(request(), 2.0).targets == (MINI, HAIKU)


def test_one_model_at_two_providers_costs_what_each_of_them_takes(tmp_path: Path) -> None:
    register(tmp_path)
    dear, fair = Target("dear", "routing-test-sold-twice"), Target("fair", "routing-test-sold-twice")
    choice = CheapestRouter([dear, fair]).choose(request(model="routing-test-sold-twice"), 0.0)
    assert choice.targets == (fair, dear)
