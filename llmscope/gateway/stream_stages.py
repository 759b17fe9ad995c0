"""What a call whose answer is read in pieces passes through: the stages of `pipeline`, piece by piece.

    context → guards in → cache → route → (breaker, retry, fallback until the first piece)
            → provider → guards out

Each stage is a generator that reads the one before it and closes it, whatever ends the reading. What
does not belong here: who reads, what the call cost, its line (`streaming`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

from llmscope.errors import AnswerFailed, GuardBlocked
from llmscope.gateway import instrumentation, pipeline
from llmscope.gateway.attempts import (
    CANCELLED,
    OpenAttempt,
    Reply,
    attempt_until_open,
    category_of,
)
from llmscope.gateway.call import Call
from llmscope.gateway.provider import InputUsage, ProviderBase, ProviderResponse, StreamItem
from llmscope.gateway.stages import CachedAnswer, ResponseCache, StreamGuard
from llmscope.gateway.tokens import estimate_tokens

logger = logging.getLogger("llmscope")

Pieces = AsyncGenerator[str, None]


@dataclass
class Received:
    """What has come from the provider that is answering.

    Attributes:
        pieces: the text, as it came.
        input_usage: what the input was, from a vendor that counts it first.
        is_whole: whether the answer has come to its end.
    """

    pieces: list[str] = field(default_factory=list)
    input_usage: InputUsage | None = None
    is_whole: bool = False

    def cut_reply(self, prompt: str) -> Reply | None:
        """An answer that was cut costs its input and the output received: the input as the vendor
        counted it, else as estimated; the output as estimated. None before the first piece."""
        if not self.pieces:
            return None
        usage = self.input_usage or InputUsage(estimate_tokens(prompt))
        text = "".join(self.pieces)
        return Reply.of(
            ProviderResponse(
                text,
                usage.tokens_in,
                estimate_tokens(text),
                cache_read_tokens=usage.cache_read_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                cache_write_1h_tokens=usage.cache_write_1h_tokens,
            )
        )


async def pieces_of(call: Call, received: Received, ask: pipeline.Ask) -> Pieces:
    """Take the call through every stage of its route; yields the text for the caller.

    Args:
        ask: for routes on which only whole answers can be judged; see `pipeline`.

    Raises:
        LlmscopeError: see `pipeline.answer`; `AnswerFailed` where an answer ends before its end.
        Exception: the provider's own, of the last target tried, or in the middle of the answer.
    """
    await pipeline.prepare(call)
    cache = call.parts.cache
    source = _bought(call, received, ask) if cache is None else _from_cache(call, received, ask, cache)
    async with aclosing(source):
        async for piece in source:
            yield piece


async def _bought(call: Call, received: Received, ask: pipeline.Ask) -> Pieces:
    if call.parts.escalation is not None:
        text = await pipeline.buy(call, ask)
        received.is_whole = True
        if text:
            yield text
        return
    pipeline.route(call)
    guards = [stream for guard in call.parts.guards if (stream := guard.stream()) is not None]
    source = _from_provider(call, received)
    async with aclosing(_guarded(call, source, guards) if guards else source) as pieces:
        async for piece in pieces:
            yield piece


async def _guarded(call: Call, source: Pieces, guards: list[StreamGuard]) -> Pieces:
    """The pieces that every guard lets through, each after the one before it."""
    try:
        async with aclosing(source):
            async for piece in source:
                text = piece
                for guard in guards:
                    text = _passed(guard, guard.feed(text))
                if text:
                    yield text
        rest = ""
        for guard in guards:
            fed = _passed(guard, guard.feed(rest)) if rest else ""
            rest = fed + _passed(guard, guard.finish())
        if rest:
            yield rest
    finally:
        for guard in guards:
            call.take_verdict(guard.verdict, "out")


def _passed(guard: StreamGuard, text: str) -> str:
    verdict = guard.verdict
    if verdict.action == "block":
        raise GuardBlocked("out", verdict.classes)
    return text


async def _from_cache(call: Call, received: Received, ask: pipeline.Ask, cache: ResponseCache) -> Pieces:
    """What the cache has, in one piece; else what it has bought, piece by piece.

    Buying runs in a task of its own, at the provider's pace: whoever waits for the same answer does not
    wait for this caller to read it. When the reading ends early the buying does too.
    """
    arrived: asyncio.Queue[str | None] = asyncio.Queue()
    is_bought = False

    async def buy() -> CachedAnswer:
        nonlocal is_bought
        is_bought = True
        pieces = []
        async with aclosing(_bought(call, received, ask)) as source:
            async for piece in source:
                pieces.append(piece)
                arrived.put_nowait(piece)
        return pipeline.cacheable(call, "".join(pieces))

    async def find_or_buy() -> None:
        try:
            query = pipeline.cache_query(call)
            call.outcome = await cache.answer(query, buy, call.record.clock.monotonic())
        finally:
            arrived.put_nowait(None)

    task = asyncio.create_task(find_or_buy())
    try:
        while (piece := await arrived.get()) is not None:
            yield piece
        await task
        if not is_bought and call.outcome is not None and call.outcome.answer.text:
            yield call.outcome.answer.text
    finally:
        task.cancel()
        # It has been awaited above, or what it raises now is the end that was asked for.
        await asyncio.gather(task, return_exceptions=True)


async def _from_provider(call: Call, received: Received) -> Pieces:
    """The pieces of one provider's answer. Once the first has come nothing is retried: the caller has
    text already."""
    clock = call.record.clock
    items, attempt = await _opened(call, received)
    attempt.begin()
    error_type: str | None = CANCELLED  # by whoever closes this generator
    piece = "".join(received.pieces)
    try:
        while True:
            if piece:
                yielded_at = clock.monotonic()
                try:
                    yield piece
                finally:  # the reader's time is not the provider's
                    attempt.started += clock.monotonic() - yielded_at
            if received.is_whole:
                break
            piece = await _next_piece(call, received, items)
        error_type = None
    except Exception as error:  # noted and raised again: whatever an SDK raises
        error_type = category_of(call.provider, error)
        raise
    finally:
        if error_type is None:
            attempt.succeed()
        else:
            attempt.fail(error_type)
        await _close(call, items)


async def _opened(call: Call, received: Received) -> tuple[AsyncIterator[StreamItem], OpenAttempt]:
    """The answer of the first target that begins to answer, read up to its first piece of text."""

    async def once() -> AsyncIterator[StreamItem]:
        received.input_usage = None
        items = _stream_of(call)
        try:
            while not received.pieces and not received.is_whole:
                await _next_piece(call, received, items)
        except BaseException:  # raised again: the connection is closed however it ends
            if received.input_usage is not None:  # whatever the error says: the model has read the prompt
                call.record.may_be_billed = True
            await _close(call, items)
            raise
        return items

    while True:
        call.record.target = call.target
        call.has_asked = True
        try:
            return await attempt_until_open(
                call.record, call.provider, call.target.model, call.retry_attempts, once
            )
        except Exception as error:  # whatever an SDK raises; without a fallback it goes on
            if not call.falls_back(error):
                raise


def _stream_of(call: Call) -> AsyncIterator[StreamItem]:
    provider = call.provider
    # Stand-ins for providers need not be of our class; without a stream they answer in one piece.
    stream = getattr(type(provider), "stream", ProviderBase.stream)
    items: AsyncIterator[StreamItem] = stream(
        provider, call.prompt, call.target.model, call.max_output_tokens
    )
    return items


async def _next_piece(call: Call, received: Received, items: AsyncIterator[StreamItem]) -> str:
    """Take the next item; its text, or nothing if it has none that is new."""
    with instrumentation.vendor_spans_suppressed():
        item = await anext(items, None)
    piece = ""
    if isinstance(item, str):
        piece = item
    elif isinstance(item, InputUsage):
        received.input_usage = item
    elif item is None:
        raise AnswerFailed(str(call.provider.provider_name), "it stops before its end")
    else:
        call.take_reply(Reply.of(item))
        received.is_whole = True
        piece = "" if received.pieces else item.text
    if piece:
        received.pieces.append(piece)
    return piece


async def _close(call: Call, items: AsyncIterator[StreamItem]) -> None:
    """Close the provider's connection, so that it stops generating what nobody reads."""
    close = getattr(items, "aclose", None)
    if close is None:
        return
    try:
        await close()
    except Exception as error:  # noqa: BLE001  any SDK's; the answer, or what cut it, matters more
        logger.warning(
            "request %s: its stream could not be closed: %s", call.request_id, type(error).__name__
        )
