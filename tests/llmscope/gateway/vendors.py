"""The vendors' APIs as the real SDKs meet them on loopback: what each answers, whole and in pieces.

Every answer says "Hello there", from 100 input tokens of which 40 were cached and 10 written into the
cache, in 7 output tokens of which 2 were reasoning (Anthropic and chat completions say so in words of
their own).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from llmscope import AnthropicProvider, OpenAICompatibleProvider, OpenAIProvider

PIECES = ["Hello", " there"]
TEXT = "Hello there"

RESPONSES_REPLY = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-4o-mini",
    "output": [{
        "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
    }],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "usage": {
        "input_tokens": 100, "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
        "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 107,
    },
}  # fmt: skip
CHAT_USAGE = {
    "prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
    "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 107,
}  # fmt: skip
CHAT_REPLY = {
    "id": "chat_1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}
    ],
    "usage": CHAT_USAGE,
}  # fmt: skip
ANTHROPIC_USAGE = {
    "input_tokens": 50, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 40,
    "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 2},
}  # fmt: skip
ANTHROPIC_REPLY = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-20250514",
    "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": " there"}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": ANTHROPIC_USAGE,
}  # fmt: skip


def _responses_events() -> list[dict[str, Any]]:
    delta = {
        "type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0,
        "logprobs": [],
    }  # fmt: skip
    started = {**RESPONSES_REPLY, "status": "in_progress", "output": [], "usage": None}
    return [
        {"type": "response.created", "sequence_number": 0, "response": started},
        *({**delta, "sequence_number": 1 + i, "delta": piece} for i, piece in enumerate(PIECES)),
        {"type": "response.completed", "sequence_number": 3, "response": RESPONSES_REPLY},
    ]


def _chat_events() -> list[dict[str, Any]]:
    chunk = {"id": "chat_1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}

    def choice(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": None}

    return [
        choice({"role": "assistant", "content": ""}),
        *(choice({"content": piece}) for piece in PIECES),
        choice({}, "stop"),
        {**chunk, "choices": [], "usage": CHAT_USAGE},
    ]


def _anthropic_events() -> list[dict[str, Any]]:
    started = {
        **ANTHROPIC_REPLY, "content": [], "stop_reason": None,
        "usage": {**ANTHROPIC_USAGE, "output_tokens": 1, "output_tokens_details": None},
    }  # fmt: skip
    return [
        {"type": "message_start", "message": started},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in PIECES
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 2}},
        },
        {"type": "message_stop"},
    ]


class Vendor(NamedTuple):
    """One API.

    Attributes:
        make: `make(base URL without path, timeout in seconds)`.
        limit: what the API calls the longest answer.
        events: of a streamed answer.
        cuts: of how many events a stream consists whose last event is its second piece of text.
        end: what follows the last event.
        replace: `replace(text)`: the reply with another text (a tool call for None) and reason.
    """

    name: str
    make: Callable[[str, float], Any]
    path: str
    model: str
    limit: str
    reply: dict[str, Any]
    events: list[dict[str, Any]]
    cuts: int
    end: str = ""

    def body(self) -> bytes:
        """The whole answer, as it is sent."""
        return json.dumps(self.reply).encode()

    def sse(self, events: list[dict[str, Any]]) -> list[bytes]:
        """Server-sent events, one a piece."""
        return [
            (f"event: {event['type']}\n" if "type" in event else "").encode()
            + b"data: " + json.dumps(event).encode() + b"\n\n"
            for event in events
        ]  # fmt: skip

    def whole_stream(self) -> list[bytes]:
        """The answer in pieces, to its end."""
        return [*self.sse(self.events), *([self.end.encode()] if self.end else [])]

    def cut_stream(self) -> list[bytes]:
        """Only up to the second piece of text."""
        return self.sse(self.events[: self.cuts])


def _compatible(base: str, timeout_seconds: float) -> OpenAICompatibleProvider:
    return OpenAICompatibleProvider("vllm", f"{base}/v1", timeout_seconds=timeout_seconds)


DONE = "data: [DONE]\n\n"
VENDORS = {
    vendor.name: vendor
    for vendor in (
        Vendor(
            "openai",
            lambda base, seconds: OpenAIProvider(
                api_key="sk-test", base_url=f"{base}/v1", timeout_seconds=seconds
            ),
            "/v1/responses", "gpt-4o-mini", "max_output_tokens", RESPONSES_REPLY, _responses_events(), 3,
        ),
        Vendor(
            "openai_chat",
            lambda base, seconds: OpenAIProvider(
                api_key="sk-test", base_url=f"{base}/v1", timeout_seconds=seconds, api="chat"
            ),
            "/v1/chat/completions", "gpt-4o-mini", "max_completion_tokens", CHAT_REPLY, _chat_events(), 3, DONE,
        ),
        Vendor(
            "compatible", _compatible, "/v1/chat/completions", "gpt-4o-mini", "max_tokens", CHAT_REPLY,
            _chat_events(), 3, DONE,
        ),
        Vendor(
            "anthropic",
            lambda base, seconds: AnthropicProvider(api_key="sk-test", base_url=base, timeout_seconds=seconds),
            "/v1/messages", "claude-sonnet-4-20250514", "max_tokens", ANTHROPIC_REPLY, _anthropic_events(), 4,
        ),
    )
}  # fmt: skip
