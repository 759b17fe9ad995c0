"""Prices: which applies to a model, on a day, for a provider; and refusals that name file and fix."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest

import llmscope
from llmscope import ConfigurationError, rate_for, register_prices
from llmscope.gateway import cost_model, price_table
from llmscope.gateway.cost_model import PriceBook, find_rate, price_book
from llmscope.gateway.price_list import read_price_list
from tests.llmscope.scripted import ScriptedProvider, events

TODAY = date(2026, 11, 21)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def prices(path: Path, *entries: str, version: str = "mine-1") -> Path:
    return write(path, f"version: {version}\nprices:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries))


# The table -----------------------------------------------------------------------------------------------


def test_an_unlisted_model_is_priced_from_the_table_and_resolved_once_a_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rate = rate_for("gpt-4.1")
    assert (rate.input_usd_per_mtok, rate.output_usd_per_mtok) == (2, 8)
    assert rate.price_version.startswith("genai-prices-")
    assert "gpt-4.1" not in llmscope.get_pricing()
    monkeypatch.setattr(cost_model, "look_up", None)  # whoever looked again would fail
    assert rate_for("gpt-4.1") is rate


@pytest.mark.parametrize("tokens_in", [1, 200_000, 200_001, 900_000])
@pytest.mark.parametrize("model", ["gemini-2.5-pro", "claude-sonnet-4-5"])
def test_long_requests_pay_the_tables_dearer_tier(tokens_in: int, model: str) -> None:
    from genai_prices import Usage, calc_price

    read, written = tokens_in // 2, tokens_in // 4
    usage = Usage(
        input_tokens=tokens_in, output_tokens=1000, cache_read_tokens=read, cache_write_tokens=written
    )
    price = calc_price(usage, model).total_price
    assert rate_for(model).cost_nano(tokens_in, 1000, read, written) == round(price * 10**9)


def test_a_model_with_cheap_hours_is_priced_at_its_dearest() -> None:
    assert rate_for("deepseek-chat").output_usd_per_mtok == Decimal("1.1")


def test_the_tables_price_is_that_of_the_day_of_the_request() -> None:
    before = rate_for("o3", datetime(2025, 6, 9, 23, 59, tzinfo=UTC))
    since = rate_for("o3", datetime(2025, 6, 10, tzinfo=UTC))
    assert (before.output_usd_per_mtok, since.output_usd_per_mtok) == (40, 8)
    tiered = rate_for("claude-sonnet-4-6", datetime(2026, 3, 12, tzinfo=UTC))
    assert [tier.above_input_tokens for tier in tiered.tiers] == [200_000]
    assert rate_for("claude-sonnet-4-6", datetime(2026, 3, 13, tzinfo=UTC)).tiers == ()


def test_an_unknown_model_has_no_price_which_is_not_0() -> None:
    for _ in range(2):
        assert find_rate("nobody-knows-this") is None
        with pytest.raises(ConfigurationError, match="Unknown model"):
            rate_for("nobody-knows-this")


def test_a_listed_price_needs_no_table() -> None:
    code = (
        "import sys, llmscope; llmscope.estimate_cost('gpt-4o', 1, 1); llmscope.get_pricing();"
        "print('genai_prices' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_packaged_list_agrees_with_the_table_where_both_know_a_model() -> None:
    for model in ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-20250514"):
        listed, table = rate_for(model), price_table.look_up(model, TODAY)
        assert table is not None
        for counts in ((10_000, 1_000, 0, 0), (10_000, 1_000, 5_000, 0), (10_000, 1_000, 2_000, 3_000)):
            assert listed.cost_nano(*counts) == table.cost_nano(*counts)


def test_five_minutes_in_anthropics_cache_cost_a_quarter_more_than_input() -> None:
    for model in ("claude-sonnet-4-20250514", "claude-haiku-3-5-20241022"):
        rate = rate_for(model)
        assert rate.cache_write_usd_per_mtok == rate.input_usd_per_mtok * Decimal("1.25")


@pytest.mark.parametrize(
    "model",
    ["claude-sonnet-4-20250514", "claude-haiku-3-5-20241022", "claude-sonnet-4-6", "claude-haiku-4-5"],
)
def test_an_hour_in_anthropics_cache_costs_twice_the_input(model: str) -> None:
    """In the packaged list as in the maintained table."""
    rate = rate_for(model)
    assert rate.cache_write_1h_usd_per_mtok == rate.input_usd_per_mtok * 2


def test_an_own_list_prices_an_hour_in_the_cache_for_long_requests_too(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "version: own\nprices:\n  - model: m\n    input_usd_per_mtok: 1\n    output_usd_per_mtok: 0\n"
        "    cache_write_usd_per_mtok: 2\n    cache_write_1h_usd_per_mtok: 4\n"
        "    tiers: [{above_input_tokens: 1000, input_usd_per_mtok: 10, output_usd_per_mtok: 0,\n"
        "             cache_write_usd_per_mtok: 20, cache_write_1h_usd_per_mtok: 40}]\n"
    )
    register_prices(tmp_path / "own.yaml")
    rate = rate_for("m")
    assert rate.cost_nano(1000, 0, 0, 600, 100) == (400 * 1 + 500 * 2 + 100 * 4) * 1000
    assert rate.cost_nano(1001, 0, 0, 600, 100) == (401 * 10 + 500 * 20 + 100 * 40) * 1000


# One's own lists -----------------------------------------------------------------------------------------


def test_get_pricing_gives_a_copy() -> None:
    llmscope.get_pricing()["gpt-4o"]["input_per_1m"] = 0.0
    assert llmscope.get_pricing()["gpt-4o"]["input_per_1m"] == 2.5


def test_a_list_of_ones_own_beats_everything(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Unknown model"):
        rate_for("in-house")
    path = prices(
        tmp_path / "prices.yaml",
        "model: in-house, input_usd_per_mtok: 1, output_usd_per_mtok: 2.5",
        "model: gpt-4o, input_usd_per_mtok: 1.5, output_usd_per_mtok: 9, cache_read_usd_per_mtok: 0.5",
    )
    assert register_prices(path) == ["in-house", "gpt-4o"]
    assert rate_for("in-house").cost_nano(1_000_000, 1_000_000, 500_000) == 3_500_000_000
    assert rate_for("gpt-4o").price_version == "mine-1"
    assert rate_for("gpt-4o-mini").price_version == "llmscope-2026-11-21"
    assert llmscope.get_pricing()["gpt-4o"] == {"input_per_1m": 1.5, "output_per_1m": 9.0}
    second = prices(
        tmp_path / "second.yaml", "model: gpt-4o, input_usd_per_mtok: 7, output_usd_per_mtok: 7", version="b"
    )
    register_prices(second)
    assert (rate_for("gpt-4o").price_version, rate_for("in-house").price_version) == ("b", "mine-1")


def test_a_price_applies_from_its_day_on_and_before_it_the_next_list_does(tmp_path: Path) -> None:
    register_prices(
        prices(
            tmp_path / "prices.yaml",
            "model: gpt-4o, from: 2026-10-01, input_usd_per_mtok: 4, output_usd_per_mtok: 4",
            "model: gpt-4o, from: 2026-11-01, input_usd_per_mtok: 3, output_usd_per_mtok: 3",
        )
    )

    def price_at(*moment: int) -> Decimal:
        return rate_for("gpt-4o", datetime(*moment, tzinfo=UTC)).input_usd_per_mtok  # type: ignore[arg-type,misc]

    assert price_at(2026, 9, 30, 23, 59, 59) == Decimal("2.5")  # the packaged list
    assert price_at(2026, 10, 1) == 4
    assert price_at(2026, 10, 31, 23, 59, 59) == 4
    assert price_at(2026, 11, 1) == 3
    in_tokyo = datetime(2026, 11, 1, 8, 59, tzinfo=timezone(timedelta(hours=9)))  # still October in UTC
    assert rate_for("gpt-4o", in_tokyo).input_usd_per_mtok == 4
    with pytest.raises(ConfigurationError, match="time zone"):
        rate_for("gpt-4o", datetime(2026, 11, 1))  # noqa: DTZ001  what is refused


def test_today_ends_at_midnight_for_a_process_that_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_prices(
        prices(
            tmp_path / "prices.yaml",
            "model: m, input_usd_per_mtok: 1, output_usd_per_mtok: 1",
            "model: m, from: 2026-11-22, input_usd_per_mtok: 2, output_usd_per_mtok: 2",
        )
    )
    midnight = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    monkeypatch.setattr(cost_model.time, "time", lambda: midnight - 0.001)
    assert rate_for("m").input_usd_per_mtok == 1
    monkeypatch.setattr(cost_model.time, "time", lambda: midnight)
    assert rate_for("m").input_usd_per_mtok == 2


def test_tiers_of_a_list_price_long_requests_whole(tmp_path: Path) -> None:
    path = write(
        tmp_path / "prices.yaml",
        "version: v\nprices:\n  - model: long\n    input_usd_per_mtok: 1\n    output_usd_per_mtok: 10\n"
        "    cache_read_usd_per_mtok: 0.1\n    tiers:\n"
        "      - {above_input_tokens: 1000, input_usd_per_mtok: 2, output_usd_per_mtok: 20}\n"
        "      - {above_input_tokens: 5000, input_usd_per_mtok: 3, output_usd_per_mtok: 30,"
        " cache_read_usd_per_mtok: 0.3}\n",
    )
    register_prices(path)
    rate = rate_for("long")
    assert rate.cost_nano(1000, 100) == 1000 * (1000 + 1000)
    assert rate.cost_nano(1001, 100) == 1000 * (2002 + 2000)
    assert rate.cost_nano(2000, 0, 2000) == 1000 * 4000  # that tier names no price for cached input
    assert rate.cost_nano(6000, 0, 6000) == 1000 * 1800


def test_an_entry_for_the_provider_asked_beats_one_for_all(tmp_path: Path) -> None:
    register_prices(
        prices(
            tmp_path / "prices.yaml",
            "model: llama, provider: rented, input_usd_per_mtok: 5, output_usd_per_mtok: 5",
            "model: llama, input_usd_per_mtok: 1, output_usd_per_mtok: 1",
            "model: llama, provider: own-metal, input_usd_per_mtok: 0, output_usd_per_mtok: 0",
        )
    )
    asked = {provider: rate_for("llama", provider=provider).input_usd_per_mtok for provider in
             ("rented", "own-metal", "elsewhere", None)}  # fmt: skip
    assert asked == {"rented": 5, "own-metal": 0, "elsewhere": 1, None: 1}
    assert rate_for("gpt-4o", provider="my-proxy") == rate_for("gpt-4o")
    assert rate_for("gpt-4.1", provider="my-proxy").input_usd_per_mtok == 2


def test_a_book_with_another_list_leaves_the_processs_own_alone(tmp_path: Path) -> None:
    added = read_price_list(
        prices(tmp_path / "p.yaml", "model: gpt-4o, input_usd_per_mtok: 9, output_usd_per_mtok: 9")
    )
    other = price_book().with_list(added)
    found = other.find("gpt-4o")
    assert found is not None
    assert (found.input_usd_per_mtok, rate_for("gpt-4o").input_usd_per_mtok) == (9, Decimal("2.5"))


def test_memory_is_bounded_whatever_callers_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_model, "look_up", lambda model, day, provider: None)
    monkeypatch.setattr(cost_model, "_MOST_REMEMBERED", 10)
    book = PriceBook()
    for number in range(100):
        assert book.find(f"m{number}") is None
        assert len(book._known) <= 10


GOOD = "model: m, input_usd_per_mtok: 1, output_usd_per_mtok: 2"
TIER = "{above_input_tokens: 9, input_usd_per_mtok: 1, output_usd_per_mtok: 2}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version: v\nprices:\n- {model: m, input_usd_per_mtok: 1}", ":3, m: `output_usd_per_mtok` is missing"),
        ("version: v\nprices:\n- {input_usd_per_mtok: 1, output_usd_per_mtok: 2}", ":3: `model` is missing"),
        (f"version: v\nprices:\n- {{{GOOD}, provder: x}}", ":3, m: unknown key 'provder'. Did you mean 'provider'?"),
        ("version: v\nprices: [{model: m, input_usd_per_mtok: '1', output_usd_per_mtok: 2}]", "without quotes"),
        ("version: v\nprices: [{model: m, input_usd_per_mtok: -1, output_usd_per_mtok: 2}]", "found -1"),
        ("version: v\nprices: [{model: m, input_usd_per_mtok: .nan, output_usd_per_mtok: 2}]", "found nan"),
        (f"version: v\nprices: [{{{GOOD}, from: soon}}]", "found 'soon'"),
        (f"version: v\nprices:\n- {{{GOOD}}}\n- {{{GOOD}}}", ":4: m stands there twice (first on line 3)"),
        (f"version: v\nprices: [{{{GOOD}, input_usd_per_mtok: 3}}]", "'input_usd_per_mtok' stands twice"),
        (f"version: v\nprices: [{{{GOOD}, tiers: [{TIER}, {TIER}]}}]", "the tiers begin above [9, 9]"),
        ("prices: []", "`version` is missing"),
        ("version: v\nmodels: {}", "unknown key 'models'"),
        ("[1, 2", "not valid YAML"),
        ("", "a price list is a mapping"),
    ],
)  # fmt: skip
def test_a_list_that_cannot_be_used_is_refused_whole(text: str, told: str, tmp_path: Path) -> None:
    path = write(tmp_path / "prices.yaml", text)
    with pytest.raises(ConfigurationError, match=re.escape(told)) as refused:
        register_prices(path)
    assert str(path) in str(refused.value)
    assert find_rate("m") is None


def test_a_list_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        register_prices(tmp_path / "missing.yaml")


async def test_a_call_is_priced_by_its_own_clock_and_provider(tmp_path: Path, log: Path) -> None:
    register_prices(
        prices(
            tmp_path / "prices.yaml",
            "model: m, provider: s, input_usd_per_mtok: 1, output_usd_per_mtok: 0",
            "model: m, provider: s, from: 2030-01-01, input_usd_per_mtok: 3, output_usd_per_mtok: 0",
            "model: m, input_usd_per_mtok: 100, output_usd_per_mtok: 0",
        )
    )
    answer = llmscope.ProviderResponse("Hi", 1_000_000, 1)
    llmscope.register_provider("s", ScriptedProvider([answer], name="s"))
    llmscope.register_route("/m", llmscope.RoutePolicy(9, 0, False, {"cheap": "m"}, "s"))
    costs = []
    for year in (2029, 2030):
        clock = llmscope.VirtualClock(datetime(year, 6, 1, tzinfo=UTC))
        costs.append((await llmscope.call_llm("Hi", "cheap", "/m", clock=clock)).estimated_cost_usd)
    assert costs == [1.0, 3.0]
    assert {event["price_version"] for event in events(log)} == {"mine-1"}


def test_the_documented_list_is_one(tmp_path: Path) -> None:
    documented = (Path(llmscope.__file__).parents[1] / "docs" / "prices.md").read_text()
    [listed] = re.findall(r"^```yaml\n(.*?)^```$", documented, re.DOTALL | re.MULTILINE)
    register_prices(write(tmp_path / "prices.yaml", listed))
    before, since = datetime(2026, 10, 31, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    assert [rate_for("gpt-4o", at).output_usd_per_mtok for at in (before, since)] == [10, 8]
    assert rate_for("llama-3.3-70b", provider="own-metal").cost_nano(1000, 1000) == 0
    assert rate_for("long-reader").cost_nano(200_001, 0, 0, 200_001) == 200_001 * 7500
