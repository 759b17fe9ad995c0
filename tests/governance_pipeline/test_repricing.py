"""As billed against repriced: the database's whole numbers against a plain loop over the same lines."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import llmscope
from governance_pipeline import pipeline, repricing, sql_files, warehouse
from governance_pipeline.errors import BadInput
from governance_pipeline.facts_at_hand import facts_at_hand, facts_of_logs
from governance_pipeline.settings import Settings
from llmscope import ProviderResponse, RoutePolicy
from llmscope.gateway.cost_model import PriceBook, price_book
from llmscope.gateway.price_list import read_price_list
from tests.governance_pipeline.commands import Said, run_command, settings_of_an_empty_home
from tests.governance_pipeline.conftest import write_lines
from tests.llmscope.conftest import _restored_registries  # noqa: F401  (the gateway of one test registers)
from tests.llmscope.scripted import ScriptedProvider

START = datetime(2026, 10, 28, tzinfo=UTC)
PRICES = """
version: other-1
prices:
  - {model: plain, input_usd_per_mtok: 0.0005, output_usd_per_mtok: 0.0015}
  - model: tiered
    input_usd_per_mtok: 1
    output_usd_per_mtok: 2
    cache_read_usd_per_mtok: 0.1
    cache_write_usd_per_mtok: 1.25
    tiers:
      - {above_input_tokens: 1000, input_usd_per_mtok: 3, output_usd_per_mtok: 7.000000001}
      - {above_input_tokens: 2000, input_usd_per_mtok: 5, output_usd_per_mtok: 11, cache_read_usd_per_mtok: 0.5}
  - {model: dated, input_usd_per_mtok: 10, output_usd_per_mtok: 10}
  - {model: dated, from: 2026-11-01, input_usd_per_mtok: 4, output_usd_per_mtok: 4}
  - {model: dated, provider: rented, input_usd_per_mtok: 40, output_usd_per_mtok: 40}
"""


@pytest.fixture
def book(tmp_path: Path) -> PriceBook:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES)
    return PriceBook(read_price_list(path))


def line(number: int, **keys: Any) -> dict[str, Any]:
    return {
        "timestamp": (START + timedelta(hours=number)).isoformat(),
        "request_id": f"r{number}",
        "tenant_id": "acme",
        "provider_selected": "own",
        "model_selected": "plain",
        "tokens_in": 100,
        "tokens_out": 10,
        "estimated_cost_usd": 0.001,
        "status": "success",
        **keys,
    }


def traffic(seed: int, count: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    lines = []
    for number in range(count):
        tokens_in = draw.choice([0, 1, 999, 1000, 1001, 2000, 2001, draw.randrange(5000)])
        read = draw.randrange(tokens_in + 1) if draw.random() < 0.5 else None
        left = tokens_in - (read or 0)
        lines.append(
            line(
                number,
                tenant_id=draw.choice(["acme", "globex"]),
                provider_selected=draw.choice(["own", "rented"]),
                model_selected=draw.choice(["plain", "tiered", "dated", "nobody-knows-this"]),
                tokens_in=tokens_in,
                tokens_out=draw.randrange(1, 400),
                cache_read_tokens=read,
                cache_write_tokens=draw.randrange(left + 1) if draw.random() < 0.3 else None,
                estimated_cost_usd=draw.choice([None, draw.randrange(10**7) / 1e9]),
            )
        )
    return lines


def price_of(bill: dict[str, Any]) -> int | None:
    """What the price list above says, by hand: no code of ours."""
    tokens_in = bill["tokens_in"]
    model, day = bill["model_selected"], bill["timestamp"][:10]
    if model == "plain":
        prices = ("0.0005", "0.0015", "0.0005", "0.0005")
    elif model == "tiered":
        if tokens_in > 2000:
            prices = ("5", "11", "0.5", "5")
        elif tokens_in > 1000:
            prices = ("3", "7.000000001", "3", "3")
        else:
            prices = ("1", "2", "0.1", "1.25")
    elif model == "dated":
        one = "40" if bill["provider_selected"] == "rented" else ("4" if day >= "2026-11-01" else "10")
        prices = (one,) * 4
    else:
        return None
    read, written = bill["cache_read_tokens"] or 0, bill["cache_write_tokens"] or 0
    counts = (tokens_in - read - written, bill["tokens_out"], read, written)
    exact = sum(Fraction(count) * Fraction(price) for count, price in zip(counts, prices, strict=True)) * 1000
    whole = exact.numerator // exact.denominator
    rest = exact - whole
    return whole + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1))


def by_hand(lines: Iterable[dict[str, Any]], *keys: str) -> dict[tuple[str, ...], dict[str, Any]]:
    rows: dict[tuple[str, ...], dict[str, Any]] = defaultdict(lambda: defaultdict(Decimal))
    for bill in lines:
        row = rows[tuple(bill[key] for key in keys)]
        billed = None if bill["estimated_cost_usd"] is None else Decimal(repr(bill["estimated_cost_usd"])).quantize(
            Decimal("1e-9"), ROUND_HALF_EVEN
        )  # fmt: skip
        nano = price_of(bill)
        repriced = None if nano is None else Decimal(nano) / 10**9
        row["request_count"] += 1
        row["tokens_in"] += bill["tokens_in"]
        row["tokens_out"] += bill["tokens_out"]
        row["billed_usd"] += billed or 0
        row["unpriced_before"] += billed is None
        row["repriced_usd"] += repriced or 0
        row["unpriced_after"] += repriced is None
        if billed is not None and repriced is not None:
            row["delta_usd"] += repriced - billed
        elif repriced is not None:
            row["newly_priced_usd"] += repriced
        elif billed is not None:
            row["not_repriced_usd"] += billed
    return rows


FIGURES = (
    "request_count", "tokens_in", "tokens_out", "billed_usd", "unpriced_before", "repriced_usd",
    "unpriced_after", "delta_usd", "newly_priced_usd", "not_repriced_usd",
)  # fmt: skip


def repriced(
    lines: list[dict[str, Any]], book: PriceBook, folder: Path, **options: Any
) -> list[dict[str, Any]]:
    path = write_lines(folder / "t.jsonl", lines)
    with facts_of_logs([path], [], complete=True) as facts:
        found = repricing.reprice(facts, book, **options)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


@pytest.mark.parametrize("by", ["model", "tenant"])
def test_the_sums_are_those_of_a_plain_loop_to_the_nano_dollar(
    by: repricing.By, book: PriceBook, tmp_path: Path
) -> None:
    lines = traffic(seed=3, count=400)
    keys = ("model_selected",) if by == "model" else ("model_selected", "tenant_id")
    columns = ("model",) if by == "model" else ("model", "tenant_id")
    rows = repriced(lines, book, tmp_path, by=by)
    expected = by_hand(lines, *keys)
    assert {tuple(row[key] for key in columns) for row in rows} == set(expected)
    for row in rows:
        wanted = expected[tuple(row[key] for key in columns)]
        assert {name: row[name] for name in FIGURES} == {name: wanted[name] for name in FIGURES}
        assert row["repriced_usd"] - row["billed_usd"] == (
            row["delta_usd"] + row["newly_priced_usd"] - row["not_repriced_usd"]
        )
    assert [abs(row["delta_usd"]) for row in rows] == sorted(
        (abs(row["delta_usd"]) for row in rows), reverse=True
    )


def broken(monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    file = sql_files.load_sql("reports/repriced")
    assert before in file.text
    other = sql_files.parse_sql(file.name, file.text.replace(before, after))
    whole = repricing.load_sql
    monkeypatch.setattr(repricing, "load_sql", lambda name: other if name == file.name else whole(name))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("> 500000 OR", ">= 500000 OR"),
        ("> rates.above_input_tokens", ">= rates.above_input_tokens"),
        ("AND bills.provider = rates.provider\n", "\n"),
        ("rates.femto_cache_write", "rates.femto_in"),
    ],
    ids=["half up", "tier from its threshold", "any provider", "writes as plain input"],
)
def test_twin_what_would_be_wrong_is_seen(
    before: str, after: str, book: PriceBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = traffic(seed=3, count=400)
    broken(monkeypatch, before, after)
    expected = by_hand(lines, "model_selected")
    rows = repriced(lines, book, tmp_path)
    assert any(
        row[name] != expected[(row["model"],)][name]
        for row in rows
        for name in ("repriced_usd", "request_count")
    )


@pytest.mark.parametrize(
    ("keys", "cost"),
    [
        ({}, Decimal("0.000000065")),
        ({"status": "cached", "cost_source": "cached_zero", "estimated_cost_usd": 0, "tokens_in": 0, "tokens_out": 0}, 0),
        ({"status": "cached", "cost_source": "cached_zero", "estimated_cost_usd": 0}, 0),
        ({"status": "error", "estimated_cost_usd": 0.0, "cost_source": "estimated_local_snapshot", "tokens_in": 0, "tokens_out": 0}, 0),
        ({"status": "error", "estimated_cost_usd": 0.0, "cost_source": "degraded_unknown", "tokens_in": 0, "tokens_out": 0}, None),
        ({"status": "error", "estimated_cost_usd": None, "tokens_in": 100}, None),
        ({"estimated_cost_usd": None, "tokens_in": 0, "tokens_out": 0}, None),
        ({"estimated_cost_usd": 0.5, "tokens_in": None, "tokens_out": None}, None),
        ({"estimated_cost_usd": None}, Decimal("0.000000065")),
        ({"cache_read_tokens": 60, "cache_write_tokens": 60}, None),
        ({"attempts": [{"status": "success"}, {"status": "success"}]}, None),
        ({"attempts": [{"status": "error"}, {"status": "success"}]}, Decimal("0.000000065")),
        ({"model_selected": None}, None),
        ({"model_selected": "nobody-knows-this"}, None),
    ],
)  # fmt: skip
def test_only_what_has_known_tokens_of_one_model_has_a_price(
    keys: dict[str, Any], cost: Decimal | None, book: PriceBook, tmp_path: Path
) -> None:
    [row] = repriced([line(1, **keys)], book, tmp_path)
    assert row["unpriced_after"] == (cost is None)
    assert row["repriced_usd"] == (cost or 0)


def test_since_counts_back_from_the_logs_own_now(book: PriceBook, tmp_path: Path) -> None:
    lines = [line(number) for number in range(48)]
    [row] = repriced(lines, book, tmp_path, since="1d")
    assert row["request_count"] == 25
    with pytest.raises(BadInput, match="since"):
        repriced(lines, book, tmp_path, since="soon")


def test_no_traffic_is_no_row_and_a_sentence(book: PriceBook) -> None:
    with facts_of_logs([], [], complete=True) as facts:
        found = repricing.reprice(facts, book)
    assert (found.rows, found.sentence) == ([], "There is no request to reprice.")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return settings_of_an_empty_home(tmp_path, monkeypatch)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    return partial(run_command, capsys)


def test_published_facts_and_logs_are_repriced_alike(settings: Settings, book: PriceBook) -> None:
    write_lines(settings.telemetry_path, traffic(seed=5, count=60))
    with facts_at_hand(settings) as facts:
        assert facts.origin == "logs"
        from_logs = repricing.reprice(facts, book, by="tenant")
    with warehouse.connect(settings.warehouse_path) as con:
        pipeline.refresh(con, settings)
    with facts_at_hand(settings) as facts:
        assert facts.origin == "published"
        assert repricing.reprice(facts, book, by="tenant") == from_logs


def test_facts_that_an_earlier_version_published_are_refused_with_the_fix(settings: Settings) -> None:
    write_lines(settings.telemetry_path, traffic(seed=5, count=5))
    with warehouse.connect(settings.warehouse_path) as con:
        pipeline.refresh(con, settings)
        for path in settings.answers_path.glob("current/fct_requests/*/data.parquet"):
            older = path.with_name("older")
            whole = con.read_parquet(str(path), hive_partitioning=False)
            whole.project("* EXCLUDE (cache_write_tokens)").write_parquet(str(older))
            older.replace(path)
    with pytest.raises(BadInput, match="governance materialize"), facts_at_hand(settings):
        pass


def test_the_command_shows_it_and_rewrites_nothing(
    settings: Settings, run: Callable[..., Said], tmp_path: Path
) -> None:
    write_lines(settings.telemetry_path, [line(n, model_selected="gpt-4o-mini") for n in range(3)])
    before = settings.telemetry_path.read_bytes()
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        "version: v2\nprices: [{model: gpt-4o-mini, input_usd_per_mtok: 1, output_usd_per_mtok: 1}]\n"
    )
    [row] = json.loads(run("reprice", "--prices", str(prices), "--format", "json").out)
    assert row == {
        "model": "gpt-4o-mini", "request_count": 3, "tokens_in": 300, "tokens_out": 30, "billed_usd": 0.003,
        "unpriced_before": 0, "repriced_usd": 0.00033, "unpriced_after": 0, "delta_usd": -0.00267,
        "newly_priced_usd": 0, "not_repriced_usd": 0, "price_version": "v2",
    }  # fmt: skip
    today = run("reprice", "--by", "tenant", "--since", "1h")
    assert "acme" in today.out
    assert price_book().find("gpt-4o-mini").price_version in today.out  # type: ignore[union-attr]
    assert "2 requests billed at 0.002000 USD would cost 0.000042 USD" in today.err
    from_file = run("reprice", "--telemetry", str(settings.telemetry_path), "--format", "csv")
    assert from_file.out.startswith("model,request_count,")
    assert settings.telemetry_path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--since", "soon"], "since"),
        (["--by", "colour"], "colour"),
        (["--prices", "gone.yaml"], "gone.yaml"),
        (["--prices", "bad.yaml"], "bad.yaml"),
        (["--prices", "."], "cannot be read"),
        (["--telemetry", "."], "no file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], told: str, settings: Settings, run: Callable[..., Said]
) -> None:
    Path("bad.yaml").write_text("version: v\nprices: 1\n")
    said = run("reprice", *arguments)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert said.err.count("\n") == 1


def test_without_traffic_it_says_so(settings: Settings, run: Callable[..., Said]) -> None:
    said = run("reprice", "--format", "json", "--telemetry", "gone.jsonl")
    assert (said.code, said.out) == (0, "[]\n")
    assert "There is no request to reprice." in said.err


async def test_at_the_prices_that_billed_them_nothing_changes(tmp_path: Path) -> None:
    log = tmp_path / "t.jsonl"
    models = (
        "gpt-4o",
        "gpt-4o-mini",
        "claude-sonnet-4-20250514",
        "gemini-2.5-pro",
        "deepseek-chat",
        "nobody",
    )
    draw = random.Random(1)
    answers = []
    for _ in range(60):
        tokens_in = draw.choice([1, 999, 250_000, draw.randrange(400_000)])
        read = draw.randrange(tokens_in + 1)
        write = draw.randrange(tokens_in - read + 1)
        usage = {"cache_read_tokens": read, "cache_write_tokens": write}
        answers.append(ProviderResponse("Hi", tokens_in, draw.randrange(5000), "stop", **usage))
    llmscope.register_provider("billing", ScriptedProvider(answers, name="billing"))
    llmscope.register_route(
        "/billed", RoutePolicy(9, 0, False, dict(zip(models, models, strict=True)), "billing")
    )
    for number in range(60):
        await llmscope.call_llm("Hi", models[number % 6], "/billed", telemetry_path=log)
    with facts_of_logs([log], [], complete=True) as facts:
        found = repricing.reprice(facts, price_book())
    rows = {row[0]: dict(zip(found.columns, row, strict=True)) for row in found.rows}
    assert set(rows) == set(models)
    assert (rows["nobody"]["unpriced_before"], rows["nobody"]["unpriced_after"]) == (10, 10)
    for model in models[:5]:
        assert rows[model]["repriced_usd"] == rows[model]["billed_usd"] > 0
        assert rows[model]["unpriced_before"] == rows[model]["unpriced_after"] == 0
