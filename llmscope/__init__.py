"""The runtime contract and gateway of governed LLM inference.

Import from here; the modules behind are loaded when a name is first used, so that `import llmscope`
costs next to nothing. (The package `llmscope` on the public index is an unrelated project.)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from llmscope.clock import Clock, SystemClock, VirtualClock
    from llmscope.context import LLMRequestContext
    from llmscope.envelope import CircuitState, CostSource, EnvelopeStatus, LLMRequestEnvelope
    from llmscope.errors import (
        AnswerFailed,
        CircuitOpen,
        ConfigurationError,
        ContextTooLargeError,
        DeadlineExceeded,
        EventLogError,
        GuardBlocked,
        LlmscopeError,
        MalformedLine,
        StreamNotFinished,
    )
    from llmscope.gateway.client import GatewayResult, call_llm
    from llmscope.gateway.cost_model import Rate, estimate_cost, get_pricing, rate_for, register_prices
    from llmscope.gateway.otel_setup import setup_otel, shutdown_otel
    from llmscope.gateway.policies import (
        RoutePolicy,
        available_routes,
        get_model_for_tier,
        get_route_policy,
        register_route,
    )
    from llmscope.gateway.provider import (
        AnthropicProvider,
        InputUsage,
        OpenAICompatibleProvider,
        OpenAIProvider,
        ProviderBase,
        ProviderResponse,
        StreamItem,
        available_providers,
        get_provider,
        register_provider,
    )
    from llmscope.gateway.runtime import Runtime, current_runtime, use_runtime
    from llmscope.gateway.runtime_file import load_runtime
    from llmscope.gateway.simulated import SimulatedProvider, SimulatedProviderError
    from llmscope.gateway.streaming import (
        AnswerStream,
        stream_llm,
    )
    from llmscope.gateway.telemetry import emit, usage_line, write_line, write_line_async
    from llmscope.gateway.tokens import estimate_tokens
    from llmscope.settings import Settings

_HOME_OF = {
    "AnswerFailed": "errors",
    "AnswerStream": "gateway.streaming",
    "AnthropicProvider": "gateway.provider",
    "CircuitOpen": "errors",
    "CircuitState": "envelope",
    "Clock": "clock",
    "ConfigurationError": "errors",
    "ContextTooLargeError": "errors",
    "CostSource": "envelope",
    "DeadlineExceeded": "errors",
    "EnvelopeStatus": "envelope",
    "EventLogError": "errors",
    "GatewayResult": "gateway.client",
    "GuardBlocked": "errors",
    "InputUsage": "gateway.provider",
    "LLMRequestContext": "context",
    "LLMRequestEnvelope": "envelope",
    "LlmscopeError": "errors",
    "MalformedLine": "errors",
    "OpenAICompatibleProvider": "gateway.provider",
    "OpenAIProvider": "gateway.provider",
    "ProviderBase": "gateway.provider",
    "ProviderResponse": "gateway.provider",
    "Rate": "gateway.cost_model",
    "RoutePolicy": "gateway.policies",
    "Runtime": "gateway.runtime",
    "Settings": "settings",
    "SimulatedProvider": "gateway.simulated",
    "SimulatedProviderError": "gateway.simulated",
    "StreamItem": "gateway.provider",
    "StreamNotFinished": "errors",
    "SystemClock": "clock",
    "VirtualClock": "clock",
    "available_providers": "gateway.provider",
    "available_routes": "gateway.policies",
    "call_llm": "gateway.client",
    "current_runtime": "gateway.runtime",
    "emit": "gateway.telemetry",
    "estimate_cost": "gateway.cost_model",
    "estimate_tokens": "gateway.tokens",
    "get_model_for_tier": "gateway.policies",
    "get_pricing": "gateway.cost_model",
    "get_provider": "gateway.provider",
    "get_route_policy": "gateway.policies",
    "load_runtime": "gateway.runtime_file",
    "rate_for": "gateway.cost_model",
    "register_prices": "gateway.cost_model",
    "register_provider": "gateway.provider",
    "register_route": "gateway.policies",
    "setup_otel": "gateway.otel_setup",
    "shutdown_otel": "gateway.otel_setup",
    "stream_llm": "gateway.streaming",
    "usage_line": "gateway.telemetry",
    "use_runtime": "gateway.runtime",
    "write_line": "gateway.telemetry",
    "write_line_async": "gateway.telemetry",
}

__all__ = [
    "AnswerFailed",
    "AnswerStream",
    "AnthropicProvider",
    "CircuitOpen",
    "CircuitState",
    "Clock",
    "ConfigurationError",
    "ContextTooLargeError",
    "CostSource",
    "DeadlineExceeded",
    "EnvelopeStatus",
    "EventLogError",
    "GatewayResult",
    "GuardBlocked",
    "InputUsage",
    "LLMRequestContext",
    "LLMRequestEnvelope",
    "LlmscopeError",
    "MalformedLine",
    "OpenAICompatibleProvider",
    "OpenAIProvider",
    "ProviderBase",
    "ProviderResponse",
    "Rate",
    "RoutePolicy",
    "Runtime",
    "Settings",
    "SimulatedProvider",
    "SimulatedProviderError",
    "StreamItem",
    "StreamNotFinished",
    "SystemClock",
    "VirtualClock",
    "__version__",
    "available_providers",
    "available_routes",
    "call_llm",
    "current_runtime",
    "emit",
    "estimate_cost",
    "estimate_tokens",
    "get_model_for_tier",
    "get_pricing",
    "get_provider",
    "get_route_policy",
    "load_runtime",
    "rate_for",
    "register_prices",
    "register_provider",
    "register_route",
    "setup_otel",
    "shutdown_otel",
    "stream_llm",
    "usage_line",
    "use_runtime",
    "write_line",
    "write_line_async",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'llmscope' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"llmscope.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
