"""What goes into the gate: requests, checked and with their tokens estimated.

What does not belong here: what comes out (`verdict`, `decision_record`).
"""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Any

import msgspec

from llmscope.context import LLMRequestContext
from llmscope.gateway.tokens import estimate_tokens
from llmscope.telemetry_line import text_of
from llmscope.timestamps import MICROS
from policy_runtime.labels import Labels, labels_for
from policy_runtime.windows import SHORTEST_RESERVATION_SECONDS

if TYPE_CHECKING:
    from policy_runtime.policy import Policy

# A random hex digit with its two highest bits made 10, as RFC 9562 marks its variant.
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
# Readers reject lines of 1 MiB, and a record repeats labels under every rule that counts by them.
MOST_LABEL_CHARACTERS = 1000
# At the dearest price there is, 1,000 USD per million, the money of both still fits a line.
MOST_TOKENS = 10**11
_TEXT_NAMES = (
    "tenant_id", "caller_id", "use_case", "feature_id", "experiment_id", "route_name", "budget_namespace",
    "model_tier", "model", "request_id",
)  # fmt: skip


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
        ValueError: neither prompt nor tokens_in, impossible numbers or labels, or a reservation longer than
            the policy's longest window.
        TypeError: the context is none.
    """
    if tokens_in is None:
        if not isinstance(prompt, str):
            what = "" if prompt is None else f"; prompt is {type(prompt).__name__}, not text"
            raise ValueError(f"the gate needs the prompt, or tokens_in, to estimate a request's cost{what}")
        tokens_in = estimate_tokens(prompt)
    elif type(tokens_in) is not int or not 0 <= tokens_in <= MOST_TOKENS:
        tokens_in = whole_tokens("tokens_in", tokens_in)
    if max_output_tokens is not None:
        max_output_tokens = whole_tokens("max_output_tokens", max_output_tokens, at_least=1)
    context = context or LLMRequestContext()
    try:
        texts: tuple[str | None, ...] = (
            context.tenant_id, context.caller_id, context.use_case, context.feature_id, context.experiment_id,
            route_name, context.budget_namespace, model_tier, model, request_id,
        )  # fmt: skip
    except AttributeError:
        raise TypeError(f"context is a {type(context).__name__}; it must be an LLMRequestContext") from None
    characters = 0
    for text in texts:
        if text is not None:
            if type(text) is not str or not text.isascii():
                characters = MOST_LABEL_CHARACTERS + 1
                break
            characters += len(text)
    if characters > MOST_LABEL_CHARACTERS:
        texts = tuple(map(readable_text, _TEXT_NAMES, texts))
    tenant, caller, use_case, feature, experiment, route, namespace, tier, model, request_id = texts
    labels = labels_for(tenant, caller, use_case, feature, experiment, route, namespace)
    ttl_us = policy.ttl_us
    if ttl_seconds is not None:
        check_ttl(policy, ttl_seconds)
        ttl_us = round(ttl_seconds * MICROS)
    return Ask(labels, tier or "", model or None, tokens_in, max_output_tokens, request_id or None, ttl_us)


def whole_tokens(name: str, count: Any, *, at_least: int = 0) -> int:
    """A count of tokens as an int, whichever type of whole number it is.

    Raises:
        ValueError: it is no whole number, or none that a request can have.
    """
    try:
        whole = None if isinstance(count, (bool, str, bytes)) else int(count)
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None or whole != count or not at_least <= whole <= MOST_TOKENS:
        raise ValueError(f"{name} is {count!r}; it is a whole number from {at_least} to {MOST_TOKENS:,}")
    return whole


def readable_text(name: str, value: Any) -> str | None:
    """A text as readers of the logs will find it.

    Raises:
        ValueError: no line could carry it.
    """
    if value is None:
        return None
    if isinstance(value, str):
        label = str.__str__(value)  # of an enumeration's member its value
    else:
        try:
            label = text_of(value if isinstance(value, bool) else operator.index(value)) or ""
        except TypeError:
            raise ValueError(f"{name} is {value!r:.80}, a {type(value).__name__}; it must be text") from None
    if len(label) > MOST_LABEL_CHARACTERS:
        raise ValueError(f"{name} has {len(label):,} characters, of at most {MOST_LABEL_CHARACTERS:,}")
    try:
        label.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} is {label!r}, which is no Unicode text") from None
    return label


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
        ValueError: `seconds` is under a millisecond or over the longest window, or that much time has passed
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
        ValueError: it is shorter than a millisecond, or longer than the policy's longest window.
    """
    longest = max(policy.longest_window_us, policy.ttl_us) / MICROS
    if not SHORTEST_RESERVATION_SECONDS <= seconds <= longest:
        raise ValueError(
            f"a reservation may last from {SHORTEST_RESERVATION_SECONDS} s to {longest:.0f} s (the policy's "
            f"longest window), not {seconds} s: a gate that starts later reads no further back"
        )
