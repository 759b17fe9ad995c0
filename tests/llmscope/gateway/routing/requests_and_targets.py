"""Targets with known prices, and requests, for the tests of this folder.

USD per million tokens in/out, from the packaged price list: gpt-4o-mini 0.15/0.60, claude-haiku-3-5
0.80/4, gpt-4o 2.50/10.
"""

from __future__ import annotations

from llmscope.gateway.stages import Observation, RoutingRequest, Target

MINI = Target("openai", "gpt-4o-mini")
HAIKU = Target("anthropic", "claude-haiku-3-5-20241022")
GPT_4O = Target("openai", "gpt-4o")
UNPRICED = Target("local", "a-model-nobody-prices")


def request(
    request_id: str = "r1",
    *,
    tier: str = "cheap",
    model: str | None = None,
    tokens_in: int = 1000,
    max_output_tokens: int = 500,
) -> RoutingRequest:
    return RoutingRequest(request_id, "/answers", tier, model, tokens_in, max_output_tokens)


def answered(target: Target, latency_ms: float = 100.0) -> Observation:
    return Observation(target, True, False, latency_ms, 1)


def failed(target: Target, latency_ms: float = 1.0) -> Observation:
    return Observation(target, False, True, latency_ms, None)


def refused(target: Target) -> Observation:
    """Ended for the caller's own fault: an invalid request, a cancellation."""
    return Observation(target, False, False, 0.0, None)
