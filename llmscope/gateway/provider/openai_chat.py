"""Chat completions, OpenAI's and everybody's: asking, and reading what is answered."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from llmscope.errors import AnswerFailed
from llmscope.gateway.provider.contract import ProviderResponse, StreamItem
from llmscope.gateway.provider.sdk import events_of, failed_answer, garbled_as_failed
from llmscope.gateway.provider.usage import chat_usage, finish_reason_of, read


async def complete(client: Any, provider: str, request: dict[str, Any]) -> ProviderResponse:
    """One answer to `request` (the arguments of `chat.completions.create`)."""
    reply = await garbled_as_failed(provider, client.chat.completions.create(**request))
    choices = read(reply, "choices")
    if not isinstance(choices, list) or not choices:
        error = read(reply, "error")
        raise failed_answer(provider, error) if error else AnswerFailed(provider, "it has no choices")
    message = read(choices[0], "message")
    said, refused = _text(read(message, "content")), _text(read(message, "refusal"))
    reason = finish_reason_of(read(choices[0], "finish_reason"))
    return ProviderResponse(
        text=said or refused,
        finish_reason="content_filter" if refused and not said else reason,
        **chat_usage(read(reply, "usage")).fields(),
    )


async def stream(client: Any, provider: str, request: dict[str, Any]) -> AsyncGenerator[StreamItem, None]:
    """One answer in pieces. It is whole once a reason for its end has come; the counts come after it,
    in an event without choices, from servers that send them at all."""
    pieces: list[str] = []
    reason: str | None = None
    refused = False
    usage: Any = None
    received = await client.chat.completions.create(**request, stream=True)
    async with aclosing(events_of(provider, received)) as events:
        async for event in events:
            usage = read(event, "usage") or usage
            for choice in (read(event, "choices") or ())[:1]:
                delta = read(choice, "delta")
                refused = refused or bool(read(delta, "refusal"))
                piece = _text(read(delta, "content")) or _text(read(delta, "refusal"))
                if piece:
                    pieces.append(piece)
                    yield piece
                reason = finish_reason_of(read(choice, "finish_reason")) or reason
    if reason is None:
        raise AnswerFailed(provider, "it stops before its end")
    yield ProviderResponse(
        text="".join(pieces),
        finish_reason="content_filter" if refused else reason,
        **chat_usage(usage).fields(),
    )


def _text(content: object) -> str:
    """The text of a message: a string, or at some servers a list of parts of which some are text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "".join(text for part in parts if isinstance(text := read(part, "text"), str))
