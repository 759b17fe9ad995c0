"""Code and tests written for the original llmscope pass on ours: names, patch points, messages, shapes."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock, patch

import pytest

import llmscope
from llmscope.gateway import client, cost_model, policies, provider, telemetry

ORIGINAL_NAMES = {
    "AnthropicProvider", "CostSource", "EnvelopeStatus", "GatewayResult", "LLMRequestContext",
    "LLMRequestEnvelope", "OpenAIProvider", "ProviderBase", "ProviderResponse", "RoutePolicy", "__version__",
    "available_providers", "call_llm", "estimate_cost", "get_model_for_tier", "get_pricing", "get_provider",
    "get_route_policy", "register_provider", "setup_otel", "shutdown_otel",
}  # fmt: skip
# Spec 2.2, success; keys in brackets there appear when set.
ORIGINAL_ORDER = [
    "schema_version", "request_id", "tenant_id", "route", "caller_id", "use_case", "provider_selected",
    "model_selected", "model_tier", "routing_decision", "tokens_in", "tokens_out", "tokens_total",
    "estimated_cost_usd", "cost_source", "latency_ms", "status", "cache_hit", "eval_hooks", "audit_tags",
    "timestamp", "provider", "model", "schema_valid", "conversation_id", "selected_model",
]  # fmt: skip


def stand_in(**overrides: Any) -> Mock:
    mock = Mock()
    mock.provider_name = "openai"
    mock.complete = AsyncMock(return_value=llmscope.ProviderResponse("Hello", 100, 50))
    mock.is_retryable = Mock(return_value=False)
    mock.categorize_error = Mock(return_value="unknown")
    for name, value in overrides.items():
        setattr(mock, name, value)
    return mock


def only_event(path: Path) -> dict[str, Any]:
    (line,) = path.read_text().splitlines()
    return json.loads(line)


def test_every_public_name_of_the_original_is_there() -> None:
    assert set(llmscope.__all__) >= ORIGINAL_NAMES
    for name in llmscope.__all__:
        assert getattr(llmscope, name) is not None


def test_all_is_exactly_what_is_exported() -> None:
    assert set(llmscope.__all__) == {*llmscope._HOME_OF, "__version__"}
    assert llmscope.__all__ == sorted(llmscope.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = llmscope.nonsense


@pytest.mark.parametrize(
    "module",
    [
        "context", "envelope", "semconv", "gateway", "gateway.client", "gateway.provider",
        "gateway.telemetry",
        "gateway.cost_model", "gateway.policies", "gateway.otel_setup", "gateway.semconv",
    ],
)  # fmt: skip
def test_every_module_of_the_original_is_there(module: str) -> None:
    assert importlib.import_module(f"llmscope.{module}")


def test_signatures_keep_the_originals_order() -> None:
    assert list(inspect.signature(client.call_llm).parameters)[:5] == [
        "prompt", "model_tier", "route_name", "metadata", "context",
    ]  # fmt: skip
    assert list(inspect.signature(telemetry.emit).parameters)[:15] == [
        "request_id", "route", "provider", "model", "latency_ms", "status", "tokens_in", "tokens_out",
        "estimated_cost_usd", "cache_hit", "schema_valid", "error_type", "metadata", "cost_source",
        "envelope",
    ]  # fmt: skip
    assert [f.name for f in dataclasses.fields(llmscope.GatewayResult)][:7] == [
        "text", "selected_model", "request_id", "tokens_in", "tokens_out", "estimated_cost_usd", "cache_hit",
    ]  # fmt: skip
    assert list(inspect.signature(client._call_provider).parameters) == [
        "provider", "prompt", "model", "max_output_tokens", "retry_attempts",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        llmscope.GatewayResult("t", "m", "r", 1, 2, 0.1, False),
        llmscope.ProviderResponse("t", 1, 2),
        llmscope.RoutePolicy(100, 1, False, {"cheap": "gpt-4o-mini"}),
        llmscope.LLMRequestContext(tenant_id="acme"),
    ],
)
def test_value_types_are_frozen(value: Any) -> None:
    field = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, "changed")


def test_route_policies_default_to_openai_and_have_the_two_built_in_routes() -> None:
    assert llmscope.RoutePolicy(100, 1, False, {}).provider_name == "openai"
    for route in ("/answer-routed", "/conversation-turn"):
        policy = policies.get_route_policy(route)
        assert (policy.max_output_tokens, policy.retry_attempts, policy.cache_enabled) == (500, 2, False)
        assert policy.model_for_tier == {"cheap": "gpt-4o-mini", "expensive": "gpt-4o"}


@pytest.mark.parametrize(
    ("call", "fragment"),
    [
        (lambda: policies.get_route_policy("/nowhere"), "No gateway policy"),
        (lambda: policies.get_model_for_tier("/answer-routed", "golden"), "not configured"),
        (lambda: provider.get_provider("nobody"), "not registered"),
        (lambda: cost_model.estimate_cost("unknown-model", 1, 1), "Unknown model"),
        (lambda: cost_model.estimate_cost("gpt-4o-mini", -1, 1), "non-negative"),
        (lambda: cost_model.estimate_cost("gpt-4o-mini", 1, -1), "non-negative"),
    ],
)
def test_value_errors_say_what_the_originals_said(call: Any, fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        call()


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("gpt-4o-mini", 0.45),
        ("gpt-4o", 7.50),
        ("claude-sonnet-4-20250514", 10.50),
        ("claude-haiku-3-5-20241022", 2.80),
    ],
)
def test_the_four_models_cost_what_they_cost_there(model: str, usd: float) -> None:
    assert cost_model.estimate_cost(model, 1_000_000, 500_000) == usd
    assert set(cost_model.get_pricing()[model]) == {"input_per_1m", "output_per_1m"}


def test_openai_and_anthropic_are_registered_without_any_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert provider.get_provider("openai").provider_name == "openai"
    assert {"openai", "anthropic"} <= set(provider.available_providers())


async def test_a_patched_get_provider_serves_the_call_and_is_awaited_by_position(log: Path) -> None:
    mock = stand_in()
    with patch("llmscope.gateway.client.get_provider", return_value=mock):
        result = await llmscope.call_llm(
            prompt="Hi",
            model_tier="cheap",
            route_name="/answer-routed",
            metadata={"routing_decision": "cheap"},
        )
    mock.complete.assert_awaited_once_with("Hi", "gpt-4o-mini", 500)
    assert (result.text, result.selected_model, result.cache_hit) == ("Hello", "gpt-4o-mini", False)
    assert result.estimated_cost_usd == 0.000045
    event = only_event(log)
    assert event["status"] == "success"
    assert event["request_id"] == result.request_id
    assert event["routing_decision"] == "cheap"
    assert (event["model"], event["selected_model"]) == ("gpt-4o-mini", "gpt-4o-mini")


async def test_a_stand_in_made_from_the_base_class_will_do(log: Path) -> None:
    mock = Mock(spec=llmscope.ProviderBase)
    mock.provider_name = "mock"
    mock.complete = AsyncMock(side_effect=RuntimeError("no"))
    mock.is_retryable.return_value = False
    with patch("llmscope.gateway.client.get_provider", return_value=mock), pytest.raises(RuntimeError):
        await llmscope.call_llm("Hi", "cheap", "/answer-routed")
    event = only_event(log)
    assert (event["provider"], event["error_type"], event["estimated_cost_usd"]) == ("mock", "unknown", None)


async def test_a_patched_call_provider_needs_to_return_only_three_values(log: Path) -> None:
    answer = AsyncMock(return_value=("Hello", 10, 20))
    with patch("llmscope.gateway.client._call_provider", new=answer):
        result = await llmscope.call_llm("Hi", "cheap", "/answer-routed", {"tenant_id": "m", "use_case": "u"})
    assert (result.text, result.tokens_in, result.tokens_out) == ("Hello", 10, 20)
    event = only_event(log)
    assert (event["tenant_id"], event["use_case"], event["audit_tags"]) == ("m", "u", {})
    assert set(answer.await_args.kwargs) == {
        "provider", "prompt", "model", "max_output_tokens", "retry_attempts",
    }  # fmt: skip


async def test_a_patched_call_provider_that_fails_leaves_an_error_line(log: Path) -> None:
    context = llmscope.LLMRequestContext(tenant_id="acme", caller_id="api", use_case="support")
    failing = AsyncMock(side_effect=RuntimeError("Provider error"))
    with (
        patch("llmscope.gateway.client._call_provider", new=failing),
        pytest.raises(RuntimeError, match="Provider error"),
    ):
        await llmscope.call_llm("Hi", "cheap", "/answer-routed", context=context)
    event = only_event(log)
    assert (event["status"], event["tenant_id"], event["caller_id"]) == ("error", "acme", "api")
    assert (event["tokens_in"], event["tokens_out"], event["error_type"]) == (0, 0, "unknown")


async def test_the_context_beats_the_metadata(log: Path) -> None:
    context = llmscope.LLMRequestContext(
        tenant_id="c", feature_id="f", experiment_id="e", budget_namespace="b"
    )
    metadata = {"tenant_id": "m", "use_case": "mu", "experiment_id": "me"}
    with patch("llmscope.gateway.client._call_provider", new=AsyncMock(return_value=("Hello", 1, 2))):
        await llmscope.call_llm("Hi", "cheap", "/answer-routed", metadata=metadata, context=context)
    event = only_event(log)
    assert event["tenant_id"] == "c"
    assert "use_case" not in event
    tags = {"feature_id": "f", "experiment_id": "e", "budget_namespace": "b"}
    assert event["audit_tags"] == tags
    assert {name: event[name] for name in tags} == tags


async def test_the_events_keys_come_in_the_originals_order(log: Path) -> None:
    context = llmscope.LLMRequestContext(tenant_id="t", caller_id="c", use_case="u", feature_id="f")
    with patch("llmscope.gateway.client.get_provider", return_value=stand_in()):
        await llmscope.call_llm(
            "Hi", "cheap", "/answer-routed", {"routing_decision": "cheap", "conversation_id": 7}, context
        )
    keys = list(only_event(log))
    assert [key for key in keys if key in ORIGINAL_ORDER] == ORIGINAL_ORDER
    assert "error_type" not in keys


def test_emit_without_an_envelope_writes_the_flat_event(log: Path) -> None:
    telemetry.emit(
        "test-id", "/answer-routed", "openai", "gpt-4o-mini", 123.45, "success", 100, 50, 0.001,
        cache_hit=False, schema_valid=True, error_type=None,
        metadata={"routing_decision": "cheap", "selected_model": "gpt-4o-mini", "tenant_id": "acme"},
    )  # fmt: skip
    event = only_event(log)
    assert event.pop("timestamp").endswith("+00:00")
    assert event == {
        "request_id": "test-id", "route": "/answer-routed", "provider": "openai", "model": "gpt-4o-mini",
        "latency_ms": 123.45, "status": "success", "tokens_in": 100, "tokens_out": 50,
        "estimated_cost_usd": 0.001, "cost_source": "estimated_local_snapshot", "cache_hit": False,
        "schema_valid": True, "error_type": None, "schema_version": "0.1.0", "routing_decision": "cheap",
        "selected_model": "gpt-4o-mini", "tenant_id": "acme",
    }  # fmt: skip


def test_envelopes_drop_none_and_write_enums_as_text() -> None:
    envelope = llmscope.LLMRequestEnvelope(
        schema_version="0.1.0", request_id="r", tenant_id="t", route="/x",
        cost_source=llmscope.CostSource.CACHED_ZERO, status=llmscope.EnvelopeStatus.CACHED,
        circuit_state=llmscope.CircuitState.HALF_OPEN,
    )  # fmt: skip
    plain = envelope.to_dict()
    assert (plain["cost_source"], plain["status"], plain["circuit_state"]) == (
        "cached_zero",
        "cached",
        "half_open",
    )
    assert type(plain["status"]) is str
    assert not {"trace_id", "tokens_in", "feature_id"} & set(plain)


@pytest.mark.parametrize("module", ["llmscope", "llmscope.gateway.client"])
def test_importing_loads_no_sdk_no_opentelemetry_no_price_table(module: str) -> None:
    heavy = [
        "openai",
        "anthropic",
        "opentelemetry",
        "numpy",
        "genai_prices",
        "yaml",
        "httpx",
        "httpx2",
        "pydantic",
    ]
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_gen_ai_names_stand_in_one_module_only() -> None:
    package = Path(llmscope.__file__).parent
    with_literal = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if '"gen_ai.' in path.read_text(encoding="utf-8")
    ]
    assert with_literal == ["gateway/semconv.py"]
