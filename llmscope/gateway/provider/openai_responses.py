"""OpenAI's Responses API: asking, and reading what it answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from llmscope.errors import AnswerFailed
from llmscope.gateway.provider.contract import ProviderResponse, StreamItem
from llmscope.gateway.provider.sdk import events_of, failed_answer, garbled_as_failed
from llmscope.gateway.provider.usage import finish_reason_of, read, responses_usage


async def complete(client: Any, provider: str, request: dict[str, Any]) -> ProviderResponse:
    """One answer to `request` (the arguments of `responses.create`)."""
    return _answer(provider, await garbled_as_failed(provider, client.responses.create(**request)))


async def stream(client: Any, provider: str, request: dict[str, Any]) -> AsyncGenerator[StreamItem, None]:
    """One answer in pieces."""
    pieces: list[str] = []
    received = await client.responses.create(**request, stream=True)
    async with aclosing(events_of(provider, received)) as events:
        async for event in events:
            kind, delta = read(event, "type"), read(event, "delta")
            if kind in {"response.output_text.delta", "response.refusal.delta"}:
                if isinstance(delta, str) and delta:
                    pieces.append(delta)
                    yield delta
            elif kind in {"response.completed", "response.incomplete", "response.failed"}:
                yield _answer(provider, read(event, "response"), "".join(pieces))
                return
            elif kind == "error":
                raise failed_answer(provider, event)
    raise AnswerFailed(provider, "it stops before its end")


def _answer(provider: str, reply: Any, streamed_text: str | None = None) -> ProviderResponse:
    status, output = read(reply, "status"), read(reply, "output")
    if status in {"failed", "cancelled"}:
        raise failed_answer(provider, read(reply, "error"))
    if not isinstance(output, list):
        raise AnswerFailed(provider, "it has no output")
    parts = [
        part for item in output if read(item, "type") == "message" for part in read(item, "content") or ()
    ]
    said = [text for part in parts if isinstance(text := read(part, "text"), str)]
    refused = [text for part in parts if isinstance(text := read(part, "refusal"), str)]
    return ProviderResponse(
        text="".join(said or refused) if streamed_text is None else streamed_text,
        finish_reason=_finish_reason(reply, output, bool(said), bool(refused)),
        **responses_usage(read(reply, "usage")).fields(),
    )


def _finish_reason(reply: Any, output: list[Any], said: bool, refused: bool) -> str | None:
    status = read(reply, "status")
    if status == "incomplete":
        return finish_reason_of(read(read(reply, "incomplete_details"), "reason") or status)
    if status != "completed":
        return finish_reason_of(status)
    if refused and not said:
        return "content_filter"
    called_tool = any(str(read(item, "type")).endswith("_call") for item in output)
    return "tool_calls" if called_tool and not said else "stop"
