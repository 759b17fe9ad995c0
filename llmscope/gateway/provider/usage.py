"""From what vendors report of an answer to counts in which nothing stands twice.

Pure. Cached and cache-written tokens are part of the input, reasoning is part of the output, whatever
the vendor's habit; and why an answer ended is told in one vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Readers of the log take token counts below this (a double holds them exactly).
_COUNT_LIMIT = 1 << 53

_FINISH_REASONS = {
    # OpenAI, and servers that speak like it
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "max_output_tokens": "length",
    "model_length": "length",
    "eos": "stop",
    "eos_token": "stop",
    # Anthropic
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def finish_reason_of(given: object) -> str | None:
    """`stop`, `length`, `tool_calls` or `content_filter`; a word that is none of the vendors' known ones
    stays as it is; None for no word at all."""
    return _FINISH_REASONS.get(given, given) if isinstance(given, str) and given else None


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of one answer; the fields are those of `ProviderResponse`."""

    tokens_in: int
    tokens_out: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    usage_known: bool = True
    cache_write_1h_tokens: int = 0

    def fields(self) -> dict[str, Any]:
        """As keyword arguments of `ProviderResponse`."""
        return {name: getattr(self, name) for name in self.__slots__}


UNKNOWN_USAGE = Usage(0, 0, usage_known=False)


def responses_usage(usage: object) -> Usage:
    """Of OpenAI's Responses API."""
    return _openai_usage(usage, "input_tokens", "output_tokens")


def chat_usage(usage: object) -> Usage:
    """Of chat completions, as OpenAI and the servers that speak like it report it."""
    return _openai_usage(usage, "prompt_tokens", "completion_tokens")


def _openai_usage(usage: object, name_in: str, name_out: str) -> Usage:
    """Cached and written tokens are within the input.

    Reasoning is within the output at OpenAI; some servers leave it out there and count it in the total
    only. So what a total holds beyond input and output is output; without a total, reasoning that
    exceeds the output was counted beside it. Counts that still contradict each other are no counts.
    """
    details_in, details_out = read(usage, f"{name_in}_details"), read(usage, f"{name_out}_details")
    tokens_in, tokens_out = count(read(usage, name_in)), count(read(usage, name_out))
    cached = part(read(details_in, "cached_tokens"))
    written = part(read(details_in, "cache_write_tokens"))
    reasoning = part(read(details_out, "reasoning_tokens"))
    if tokens_in is None or tokens_out is None or cached is None or written is None or reasoning is None:
        return UNKNOWN_USAGE
    total = count(read(usage, "total_tokens"))
    if total is not None:
        beside = max(0, total - tokens_in - tokens_out)
        reasoning = max(reasoning, beside)
        tokens_out += beside
    elif reasoning > tokens_out:
        tokens_out += reasoning
    if cached + written > tokens_in or reasoning > tokens_out:
        return UNKNOWN_USAGE
    return Usage(tokens_in, tokens_out, cached, written, reasoning)


def anthropic_usage(*reports: object) -> Usage:
    """Of Anthropic's Messages API, which counts cached and written input beside the rest.

    Args:
        reports: of one stream in their order: each count is cumulative, so the last one stands.
    """

    def last(name: str) -> object:
        given = [value for report in reports if (value := read(report, name)) is not None]
        return given[-1] if given else None

    plain, tokens_out = count(last("input_tokens")), count(last("output_tokens"))
    cached = part(last("cache_read_input_tokens"))
    written = part(last("cache_creation_input_tokens"))
    written_1h = part(read(last("cache_creation"), "ephemeral_1h_input_tokens"))
    reasoning = part(read(last("output_tokens_details"), "thinking_tokens"))
    if plain is None or tokens_out is None or cached is None or written is None or reasoning is None:
        return UNKNOWN_USAGE
    if reasoning > tokens_out or written_1h is None or written_1h > written:
        return UNKNOWN_USAGE
    return Usage(
        plain + cached + written, tokens_out, cached, written, reasoning, cache_write_1h_tokens=written_1h
    )


def count(value: object) -> int | None:
    """A whole number from 0 to 2⁵³ (`10.0` is one, `"10"` and `true` are none), else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 <= value < _COUNT_LIMIT and value == int(value) else None


def part(value: object) -> int | None:
    """How many of a count are of one kind: none if the vendor does not say; None if it is no count."""
    return 0 if value is None else count(value)


def read(holder: object, name: str) -> Any:
    """A field of what an SDK made of an answer: SDKs do not check it against their own types, so it may
    be anything."""
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
