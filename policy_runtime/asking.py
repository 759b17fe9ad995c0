"""What goes into the gate: requests, checked and with their tokens estimated.

What does not belong here: what comes out (`verdict`, `decision_record`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from llmscope.context import LLMRequestContext
from llmscope.gateway.tokens import estimate_tokens
from llmscope.timestamps import MICROS
from policy_runtime.labels import Labels, labels_for

if TYPE_CHECKING:
    from policy_runtime.policy import Policy

# A random hex digit with its two highest bits made 10, as RFC 9562 marks its variant.
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class Ask(msgspec.Struct, frozen=True, gc=False):
    """One request as put to the gate, checked but not yet judged."""

    labels: Labels
    model_tier: str
    model: str | None
    tokens_in: int
    max_output_tokens: int | None
    request_id: str | None
    ttl_us: int


def ask_of(
    policy: Policy,
    context: LLMRequestContext | None,
    route_name: str,
    model_tier: str,
    prompt: str | None,
    tokens_in: int | None,
    max_output_tokens: int | None,
    model: str | None,
    request_id: str | None = None,
    ttl_seconds: float | None = None,
) -> Ask:
    """Check what a caller put to the gate.

    Raises:
        ValueError: neither prompt nor tokens_in, impossible numbers, or a reservation longer than the
            policy's longest window.
    """
    if tokens_in is None:
        if prompt is None:
            raise ValueError("the gate needs the prompt, or tokens_in, to estimate a request's cost")
        tokens_in = estimate_tokens(prompt)
    if tokens_in < 0 or (max_output_tokens is not None and max_output_tokens < 1):
        raise ValueError(f"tokens_in {tokens_in} and max_output_tokens {max_output_tokens} must be positive")
    context = context or LLMRequestContext()
    labels = labels_for(
        context.tenant_id,
        context.caller_id,
        context.use_case,
        context.feature_id,
        context.experiment_id,
        route_name,
        context.budget_namespace,
    )
    ttl_us = policy.ttl_us
    if ttl_seconds is not None:
        check_ttl(policy, ttl_seconds)
        ttl_us = round(ttl_seconds * MICROS)
    return Ask(labels, model_tier, model, tokens_in, max_output_tokens, request_id, ttl_us)


def new_request_id() -> str:
    """A random UUID (RFC 9562, version 4) as text, at half the price of the standard library's object."""
    digits = os.urandom(16).hex()
    variant = _VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def extended_until(policy: Policy, admitted_us: int, expires_us: int, now_us: int, seconds: float) -> int:
    """When a reservation lapses that is to last `seconds` from now: one longest window after the admission
    at the latest, which is as far as every gate follows it. Instants in microseconds since 1970.

    Args:
        expires_us: when it would have lapsed by its decision.

    Raises:
        ValueError: `seconds` is not positive or longer than the longest window, or that much time has passed
            since the admission.
    """
    check_ttl(policy, seconds)
    latest_us = admitted_us + policy.longest_window_us
    if now_us >= latest_us:
        raise ValueError(
            f"the request was admitted {(now_us - admitted_us) / MICROS:.0f} s ago, and no reservation lasts "
            f"longer than the policy's longest window, {policy.longest_window_us / MICROS:.0f} s"
        )
    return min(now_us + round(seconds * MICROS), max(expires_us, latest_us))


def check_ttl(policy: Policy, seconds: float) -> None:
    """Refuse a reservation that a gate starting later would not find.

    Raises:
        ValueError: it is not positive, or longer than the policy's longest window.
    """
    longest = max(policy.longest_window_us, policy.ttl_us) / MICROS
    if not 0 < seconds <= longest:
        raise ValueError(
            f"a reservation may last up to {longest:.0f} s (the policy's longest window), not {seconds} s: "
            "a gate that starts later reads no further back"
        )
