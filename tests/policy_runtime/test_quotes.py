"""What is reserved when it is not known yet which model will answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import llmscope
from llmscope import ProviderResponse, RoutePolicy, load_runtime, use_runtime
from llmscope.gateway import cost_model
from policy_runtime import PolicyRuntime
from tests.llmscope.scripted import ScriptedProvider, events
from tests.registries import restored_registries

# USD per million tokens in and out: gpt-4o-mini 0.15/0.60, gpt-4o 2.50/10; 1,000 tokens in, 500 out at most.
MINI_USD = 0.00045
LARGE_USD = 0.0075


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with restored_registries():
        yield


def reserved_on(tmp_path: Path, **route: Any) -> float:
    llmscope.register_route("/r", RoutePolicy(500, 0, False, {"cheap": "gpt-4o-mini"}, **route))
    gate = PolicyRuntime(
        {"namespaces": {"default": {"rules": []}}},
        telemetry_path=tmp_path / "t.jsonl",
        decisions_path=tmp_path / "d.jsonl",
    )
    with gate.admit(route_name="/r", model_tier="cheap", tokens_in=1000):
        pass
    gate.close()
    reserved = [line for line in events(tmp_path / "d.jsonl") if "event" not in line][-1]["reserved_cost_usd"]
    assert isinstance(reserved, float)
    return reserved


MINI, LARGE = ("openai", "gpt-4o-mini"), ("openai", "gpt-4o")


@pytest.mark.parametrize(
    ("route", "reserved_usd"),
    [
        ({}, MINI_USD),
        ({"fallbacks": (LARGE,)}, LARGE_USD),
        ({"candidates": {"cheap": (MINI, LARGE)}}, LARGE_USD),
        ({"candidates": {"cheap": (MINI,), "expensive": (LARGE,)}}, MINI_USD),  # another tier's
        ({"candidates": {"cheap": (MINI, LARGE)}, "is_cascade": True}, MINI_USD + LARGE_USD),
        ({"candidates": {"cheap": (MINI,)}, "fallbacks": (LARGE,), "is_cascade": True}, MINI_USD + LARGE_USD),
        ({"candidates": {"cheap": (MINI, ("openai", "nobody-prices-this"))}}, MINI_USD),
    ],
)
def test_the_worst_case_is_that_the_dearest_answers_or_in_a_cascade_all(
    tmp_path: Path, route: dict[str, Any], reserved_usd: float
) -> None:
    assert reserved_on(tmp_path, **route) == pytest.approx(reserved_usd, abs=1e-9)


async def test_a_cascade_behind_the_gate_stays_within_its_reservation(tmp_path: Path) -> None:
    llmscope.register_provider(
        "small", ScriptedProvider([ProviderResponse("poor", 5, 500, "stop")], name="small")
    )
    llmscope.register_provider(
        "large", ScriptedProvider([ProviderResponse("good", 5, 500, "stop")], name="large")
    )
    candidates = [{"provider": "small", "model": "gpt-4o-mini"}, {"provider": "large", "model": "gpt-4o"}]
    routing = {"policy": "cascade", "candidates": {"cheap": candidates}, "quality_estimator": "judge"}
    routes = {"/r": {"provider": "small", "tiers": {"cheap": "gpt-4o-mini"}, "routing": routing}}
    use_runtime(load_runtime({"routes": routes}, {"judge": lambda prompt, answer: float(answer == "good")}))
    gate = PolicyRuntime(
        {"namespaces": {"default": {"rules": []}}},
        telemetry_path=tmp_path / "t.jsonl",
        decisions_path=tmp_path / "d.jsonl",
    )
    result = await gate.call_llm("Hello, how are you today?", "cheap", "/r", model="auto")
    gate.close()
    (decision,) = [line for line in events(tmp_path / "d.jsonl") if "event" not in line]
    (bill,) = events(tmp_path / "t.jsonl")
    assert (result.text, bill["request_id"]) == ("good", decision["request_id"])
    assert 0.005 < bill["estimated_cost_usd"] <= decision["reserved_cost_usd"]


async def test_the_gate_reserves_for_the_whole_conversation_up_to_the_budget_of_the_context(
    tmp_path: Path,
) -> None:
    llmscope.register_provider("a", ScriptedProvider([ProviderResponse("ok", 10, 5, "stop")], name="a"))
    context = {"strategy": "sliding_window", "max_context_tokens": 300, "window_turns": 2}
    routes = {"/r": {"provider": "a", "tiers": {"cheap": "gpt-4o-mini"}, "context": context}}
    use_runtime(load_runtime({"routes": routes}))
    gate = PolicyRuntime(
        {"namespaces": {"default": {"rules": []}}},
        telemetry_path=tmp_path / "t.jsonl",
        decisions_path=tmp_path / "d.jsonl",
    )
    await gate.call_llm("And now?", "cheap", "/r")
    await gate.call_llm("And now?", "cheap", "/r", history=["one two three four five"] * 10)
    await gate.call_llm("And now?", "cheap", "/r", history=["one two three four five"] * 1000)
    gate.close()
    estimated = [line["estimated_tokens_in"] for line in events(tmp_path / "d.jsonl") if "event" not in line]
    assert estimated[0] < 10
    assert 50 <= estimated[1] < 300
    assert estimated[2] == 300


def test_a_model_is_reserved_for_at_the_price_of_the_provider_that_serves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_model, "_registered", [])
    dear = {
        "model": "gpt-4o-mini",
        "provider": "reseller",
        "input_usd_per_mtok": 1.5,
        "output_usd_per_mtok": 6,
    }
    path = tmp_path / "prices.yaml"
    path.write_text(json.dumps({"version": "mine", "prices": [dear]}))  # JSON is YAML
    llmscope.register_prices(path)
    llmscope.register_provider("reseller", ScriptedProvider([], name="reseller"))
    assert reserved_on(tmp_path, provider_name="reseller") == pytest.approx(10 * MINI_USD, abs=1e-9)
    candidates = {"cheap": (MINI, ("reseller", "gpt-4o-mini"))}
    assert reserved_on(tmp_path, candidates=candidates) == pytest.approx(10 * MINI_USD, abs=1e-9)
