"""The monitor view: seed 003's example from the lines that make it, and every figure against a plain loop."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import llmscope
from governance_pipeline import monitor as monitor_module
from governance_pipeline import sql_files
from governance_pipeline.errors import BadInput
from governance_pipeline.monitor import monitor
from governance_pipeline.settings import Settings
from llmscope.gateway.breaker import Breakers
from llmscope.gateway.runtime import Runtime, use_runtime
from llmscope.gateway.stages import RouteParts
from tests.governance_pipeline.commands import Said, run_command, settings_of_an_empty_home
from tests.governance_pipeline.conftest import write_lines
from tests.llmscope.conftest import _restored_registries  # noqa: F401  (the gateway of one test registers)
from tests.llmscope.scripted import ScriptedError, ScriptedProvider

START = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return settings_of_an_empty_home(tmp_path, monkeypatch)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    return partial(run_command, capsys)


def record(
    number: int, provider: str, latency_ms: float, cost_usd: float, state: str, ok: bool
) -> dict[str, Any]:
    """A line as seed 003's monitor writes it: naive time, nested tokens, no attempts."""
    return {
        "timestamp": (START + timedelta(seconds=number)).replace(tzinfo=None).isoformat(),
        "request_id": f"req-{number}",
        "provider": provider,
        "model": "gpt-4",
        "latency_ms": latency_ms,
        "tokens": {"input": 150, "output": 200, "total": 350},
        "cost_usd": cost_usd,
        "success": ok,
        "error": None if ok else "mock failure",
        "circuit_breaker_state": state,
        "metadata": {"feature_version": "1.2.3"},
    }


def the_seeds_traffic() -> list[dict[str, Any]]:
    openai = [(900, True), (1000, False), (1200, False), (1300, False), (1750, False)]
    anthropic = [700, 790, 810, 1150]
    lines = [
        record(number, "openai", latency, 0.00052, "open" if number == 4 else "closed", ok)
        for number, (latency, ok) in enumerate(openai)
    ]
    return lines + [
        record(10 + number, "anthropic", latency, 0.0004, "closed", True)
        for number, latency in enumerate(anthropic)
    ]


SHOWN = """\
============================================================
LLM MONITORING STATISTICS
============================================================

Total Requests: 9
Total Cost: $0.0042

Provider Statistics:

  OPENAI:
    Requests: 5
    Success Rate: 20.0%
    Total Tokens: 1,750
    Total Cost: $0.0026
    Latency - P50: 1,200ms, P95: 1,660ms, P99: 1,732ms

  ANTHROPIC:
    Requests: 4
    Success Rate: 100.0%
    Total Tokens: 1,400
    Total Cost: $0.0016
    Latency - P50: 800ms, P95: 1,099ms, P99: 1,140ms

Circuit Breaker States:
  openai: open (Failures: 4, Error Rate: 80.0%, since 2024-01-20 10:30:04 UTC)
  anthropic: closed (Failures: 0, Error Rate: 0.0%)
============================================================
"""


def test_it_prints_what_the_seeds_example_prints(settings: Settings, run: Callable[..., Said]) -> None:
    write_lines(settings.telemetry_path, the_seeds_traffic())
    said = run("stats")
    assert (said.code, said.out) == (0, SHOWN)
    assert "As of 2024-01-20 10:30:13 UTC" in said.err


def test_programs_get_one_row_a_provider(settings: Settings, run: Callable[..., Said]) -> None:
    write_lines(settings.telemetry_path, the_seeds_traffic())
    rows = json.loads(run("stats", "--format", "json").out)
    assert [row["provider"] for row in rows] == ["openai", "anthropic"]
    assert rows[0] == {
        "provider": "openai", "request_count": 5, "success_rate": 0.2, "attempt_count": 5, "tokens_in": 750,
        "tokens_out": 1000, "total_cost_usd": 0.0026, "unpriced_count": 0, "latency_p50_ms": 1200.0,
        "latency_p95_ms": 1660.0, "latency_p99_ms": 1732.0, "latency_avg_ms": 1230.0, "latency_min_ms": 900.0,
        "latency_max_ms": 1750.0, "circuit_state": "open", "circuit_seen_at": "2024-01-20T10:30:04.000000+00:00",
        "circuit_opened_at": "2024-01-20T10:30:04.000000+00:00", "recent_failures": 4, "recent_error_rate": 0.8,
    }  # fmt: skip
    assert run("stats", "--format", "csv").out.splitlines()[0] == ",".join(rows[0])


@pytest.mark.parametrize("form", ["table", "json"])
def test_no_traffic_is_a_plain_sentence(form: str, settings: Settings, run: Callable[..., Said]) -> None:
    said = run("stats", "--format", form)
    assert (said.code, said.out) == (0, "" if form == "table" else "[]\n")
    assert said.err == "There was no traffic.\n"
    write_lines(settings.telemetry_path, the_seeds_traffic())
    later = run("stats", "--format", form, "--since", "2024-02-01")
    assert later.err.startswith("There was no traffic in that time.\n")


def test_since_and_another_file(settings: Settings, run: Callable[..., Said], tmp_path: Path) -> None:
    other = write_lines(tmp_path / "other.jsonl", the_seeds_traffic())
    said = run("stats", "--telemetry", str(other), "--since", "3s", "--format", "json")
    assert [(row["provider"], row["request_count"]) for row in json.loads(said.out)] == [("anthropic", 4)]
    gone = run("stats", "--telemetry", "gone.jsonl")
    assert (gone.code, gone.out) == (0, "")
    assert "there is no such file" in gone.err


@pytest.mark.parametrize(
    "arguments",
    [["--since", "soon"], ["--frmat", "json"], ["--format", "xml"], ["openai"], ["--telemetry", "."]],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], settings: Settings, run: Callable[..., Said]
) -> None:
    said = run("stats", *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)


# Against a plain loop --------------------------------------------------------------------------------------


def our_traffic(seed: int, count: int) -> list[dict[str, Any]]:
    """Lines as the gateway writes them: retries, fallbacks, hits, refusals, unknown costs."""
    draw = random.Random(seed)
    lines = []
    for number in range(count):
        line: dict[str, Any] = {
            "timestamp": (START + timedelta(seconds=number * 7)).isoformat(),
            "request_id": f"r{number}",
            "provider_selected": "openai",
            "provider_requested": "openai",
            "tokens_in": draw.randrange(1000),
            "tokens_out": draw.randrange(300),
            "estimated_cost_usd": draw.choice([None, draw.randrange(10**7) / 1e9]),
            "latency_ms": draw.randrange(100, 4000),
            "status": "success",
            "finish_reason": draw.choice(["stop", "length"]),
            "circuit_state": draw.choice(["closed", "closed", "half_open", "open"]),
        }
        kind = draw.random()
        if kind < 0.1:
            line |= {
                "status": "cached",
                "cache_hit": True,
                "cost_source": "cached_zero",
                "estimated_cost_usd": 0,
            }
        elif kind < 0.2:
            line |= {"status": "denied", "error_type": "guard_blocked"}
        elif kind < 0.3:
            line |= {"status": "error", "error_type": "circuit_open"}
        else:
            attempts = [
                {
                    "provider": "openai", "latency_ms": draw.random() * 3000, "status": "error",
                    "error_type": draw.choice(["timeout", "cancelled"]),
                }
                for _ in range(draw.randrange(3))
            ]  # fmt: skip
            if draw.random() < 0.4:
                line |= {"provider_selected": "anthropic", "fallback_triggered": True}
                line["fallback_reason"] = "timeout" if attempts else "circuit_open"
            last = {
                "provider": line["provider_selected"],
                "latency_ms": draw.random() * 3000,
                "status": "success",
            }
            if draw.random() < 0.2:
                last |= {"status": "error", "error_type": draw.choice(["rate_limit", "invalid_request"])}
                line |= {"status": "error", "error_type": last["error_type"]}
            line["attempts"] = [*attempts, last]
        lines.append(line)
    return lines


def interpolated(values: list[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def by_hand(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = defaultdict(
        lambda: {
            "asked": 0,
            "answered": 0,
            "tokens": 0,
            "cost": Decimal(0),
            "latencies": [],
            "results": [],
            "states": [],
        }
    )
    for line in lines:
        own = line["provider_selected"]
        if line["status"] == "cached":
            continue
        rows[own]["states"].append((line["timestamp"], line["circuit_state"]))
        if line.get("fallback_reason") == "circuit_open" and own != line["provider_requested"]:
            rows[line["provider_requested"]]["states"].append((line["timestamp"], "open"))
        if "attempts" not in line:
            continue
        rows[own]["tokens"] += line["tokens_in"] + line["tokens_out"]
        if line["status"] != "error" or "cost_source" not in line:
            rows[own]["cost"] += Decimal(repr(line["estimated_cost_usd"] or 0.0))
        last_at: dict[str, bool] = {}
        for attempt in line["attempts"]:
            row = rows[attempt["provider"]]
            row["latencies"].append(attempt["latency_ms"])
            last_at[attempt["provider"]] = attempt["status"] == "success"
            row["results"].append((line["timestamp"], attempt["status"], attempt.get("error_type")))
        for provider, is_answered in last_at.items():
            rows[provider]["asked"] += 1
            rows[provider]["answered"] += is_answered
    return rows


def test_every_figure_is_that_of_a_plain_loop(tmp_path: Path) -> None:
    lines = our_traffic(seed=11, count=600)
    seen = monitor([write_lines(tmp_path / "t.jsonl", lines)], complete=True)
    expected = by_hand(lines)
    rows = {row["provider"]: row for row in seen.by_name()}
    assert set(rows) == set(expected) == {"openai", "anthropic"}
    assert seen.request_count == 600
    assert seen.cache_hit_count == sum(line["status"] == "cached" for line in lines)
    for name, wanted in expected.items():
        row = rows[name]
        assert row["request_count"] == wanted["asked"]
        assert row["success_rate"] == wanted["answered"] / wanted["asked"]
        assert row["attempt_count"] == len(wanted["latencies"])
        assert row["tokens_in"] + row["tokens_out"] == wanted["tokens"]
        assert row["total_cost_usd"] == wanted["cost"]
        for share in (50, 95, 99):
            assert row[f"latency_p{share}_ms"] == pytest.approx(
                interpolated(wanted["latencies"], share / 100)
            )
        assert row["circuit_state"] == max(wanted["states"])[1]
        newest = max(at for at, _, _ in wanted["results"])
        begins = (datetime.fromisoformat(newest) - timedelta(seconds=300)).isoformat()
        recent = [(status, error) for at, status, error in wanted["results"] if at >= begins]
        failures = sum(
            status == "error" and error not in ("cancelled", "invalid_request") for status, error in recent
        )
        answers = sum(status == "success" for status, _ in recent)
        assert row["recent_failures"] == failures
        assert row["recent_error_rate"] == failures / (failures + answers)


def test_twin_counting_hits_as_the_providers_work_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = our_traffic(seed=11, count=600)
    file = sql_files.load_sql("reports/provider_stats")
    counted = "AND NOT (coalesce(telemetry.cache_hit"
    assert counted in file.text
    other = sql_files.parse_sql(
        file.name, file.text.replace(counted, "AND (TRUE OR coalesce(telemetry.cache_hit")
    )
    whole = sql_files.load_sql
    monkeypatch.setattr(monitor_module, "load_sql", lambda name: other if name == file.name else whole(name))
    [first, *_] = monitor([write_lines(tmp_path / "t.jsonl", lines)], complete=True).by_name()
    assert first["request_count"] != by_hand(lines)["openai"]["asked"]


def test_since_that_is_no_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="since"):
        monitor([], since="soon")


# Of a real gateway -----------------------------------------------------------------------------------------


async def test_a_circuit_that_opened_is_told_although_all_calls_went_elsewhere(tmp_path: Path) -> None:
    log = tmp_path / "t.jsonl"
    clock = llmscope.VirtualClock(START)
    good = llmscope.ProviderResponse("Hi", 10, 5, "stop")
    down = ScriptedProvider(
        [ScriptedError("transient_error")], name="monitored-a", clock=clock, latency_ms=40
    )
    up = ScriptedProvider([good], name="monitored-b", clock=clock, latency_ms=80)
    llmscope.register_provider("monitored-a", down)
    llmscope.register_provider("monitored-b", up)
    llmscope.register_route(
        "/monitored",
        llmscope.RoutePolicy(
            9, 0, False, {"cheap": "gpt-4o-mini"}, "monitored-a", fallbacks=(("monitored-b", "gpt-4o-mini"),)
        ),
    )
    use_runtime(Runtime({"/monitored": RouteParts(breaker_of=Breakers())}))
    try:
        for _ in range(8):
            await llmscope.call_llm("Hi", "cheap", "/monitored", clock=clock, telemetry_path=log)
            await clock.sleep(1)
    finally:
        use_runtime(None)
    rows = {row["provider"]: row for row in monitor([log], complete=True).by_name()}
    assert rows["monitored-a"]["request_count"] == 5
    assert rows["monitored-a"]["success_rate"] == 0
    assert (rows["monitored-a"]["circuit_state"], rows["monitored-b"]["circuit_state"]) == ("open", "closed")
    assert rows["monitored-a"]["recent_failures"] == 5
    assert rows["monitored-b"]["request_count"] == 8
    assert rows["monitored-b"]["success_rate"] == 1
    assert rows["monitored-b"]["latency_p50_ms"] == pytest.approx(80)
