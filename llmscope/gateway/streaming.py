"""`stream_llm`: `call_llm` for an answer that is shown while it is written.

Whatever happens, one line of telemetry is written: for a whole answer, for one that its reader left or
that broke off, for one that never began. A stream that was cut costs its input and the output received.

What does not belong here: what a streamed call passes through (`stream_stages`), vendors (`provider`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from llmscope.clock import Clock
from llmscope.context import LLMRequestContext
from llmscope.envelope import LLMRequestEnvelope
from llmscope.errors import StreamNotFinished
from llmscope.gateway import client, instrumentation
from llmscope.gateway.attempts import milliseconds
from llmscope.gateway.call import Call
from llmscope.gateway.client import GatewayResult
from llmscope.gateway.policies import ModelTier
from llmscope.gateway.stream_stages import Received, pieces_of

CLIENT_DISCONNECT = "client_disconnect"
"""The `error_type` of a stream that its reader left before its end, without being cancelled."""


@asynccontextmanager
async def stream_llm(
    prompt: str,
    model_tier: ModelTier,
    route_name: str,
    metadata: Mapping[str, Any] | None = None,
    context: LLMRequestContext | None = None,
    *,
    request_id: str | None = None,
    model: str | None = None,
    max_output_tokens: int | None = None,
    clock: Clock | None = None,
    telemetry_path: str | os.PathLike[str] | None = None,
    history: Sequence[str] = (),
) -> AsyncIterator[AnswerStream]:
    """Ask a model and read its answer in pieces, and record what came of it.

        async with stream_llm(prompt, "cheap", "/answer-routed") as stream:
            async for piece in stream:
                ...
        stream.result.estimated_cost_usd

    Entering the block sends the request and waits for the first piece; retries and fallbacks happen
    there, as in `call_llm`, and who gets no answer learns it there. After the first piece nothing is
    tried again, and the route's deadline is met: from then on the provider's own timeout between pieces
    counts. Leaving the block early closes the connection, so that the vendor stops generating.

    An answer from a cache comes in one piece, and so does one that a cascade has to judge as a whole.

    Args: those of `call_llm`.

    Raises:
        ConfigurationError: unknown route, tier or provider; nothing was sent and nothing is logged.
        LlmscopeError: what a stage of the route refuses, on entering or, about the answer, while
            iterating; its line is written.
        Exception: the provider's own: of the last attempt on entering, or in the middle of the answer.
    """
    call = client.new_call(
        prompt,
        model_tier,
        route_name,
        metadata,
        context,
        history=history,
        request_id=request_id,
        model=model,
        max_output_tokens=max_output_tokens,
        clock=clock,
        telemetry_path=telemetry_path,
    )
    stream = AnswerStream(call)
    await stream._begin()
    try:
        yield stream
    except BaseException as error:  # every ending has its line; the error goes on to the caller
        await stream._leave(error)
        raise
    await stream._leave(None)


class AnswerStream:
    """The pieces of one answer, in order; made by `stream_llm`, to be read once and by one reader."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._clock = call.record.clock
        self._span = instrumentation.start_call_span(call.target.model, call.request_attributes())
        self._received = Received()
        # Looked up now: tests replace `client._call_provider`.
        self._pieces = pieces_of(call, self._received, client._call_provider)
        self._ahead: str | None = None
        self._handed_on: list[str] = []
        self._ready_at: float | None = None
        self._first_piece_ms: float | None = None
        self._result: GatewayResult | None = None
        self._is_told = False

    @property
    def request_id(self) -> str:
        """The id of the call, under which its line is."""
        return self._call.request_id

    @property
    def result(self) -> GatewayResult:
        """What the whole answer is and cost, once its last piece has been read.

        Raises:
            StreamNotFinished: it has not, or never will be, because the answer was cut.
        """
        if self._result is None:
            raise StreamNotFinished(self.request_id)
        return self._result

    def __aiter__(self) -> AnswerStream:
        return self

    async def __anext__(self) -> str:
        piece, self._ahead = self._ahead, None
        if piece is None:
            piece = await self._next()
        if piece is None:
            raise StopAsyncIteration
        self._handed_on.append(piece)
        return piece

    async def _begin(self) -> None:
        self._ahead = await self._next()

    async def _next(self) -> str | None:
        """The next piece; None at the end, when the line has been written."""
        if self._is_told:
            return None
        self._leave_out_the_readers_time()
        try:
            with self._span.current():
                piece = await anext(self._pieces, None)
        except BaseException as error:  # raised again: every ending has its line
            await self._finish(error, None)
            raise
        if piece is None:
            await self._finish(None, None)
            return None
        self._ready_at = self._clock.monotonic()
        if self._first_piece_ms is None:
            self._first_piece_ms = milliseconds(self._ready_at - self._call.started)
        return piece

    async def _leave(self, error: BaseException | None) -> None:
        """The reader is leaving the block; unless the stream has ended already, it is cut."""
        if self._is_told:
            return
        self._leave_out_the_readers_time()
        if error is None or isinstance(error, Exception):  # which is the reader's own
            await self._finish(asyncio.CancelledError(), CLIENT_DISCONNECT)
        else:
            await self._finish(error, CLIENT_DISCONNECT if isinstance(error, GeneratorExit) else None)

    def _leave_out_the_readers_time(self) -> None:
        """A call's latency is what its caller waited, not what it does with the pieces meanwhile."""
        if self._ready_at is not None:
            self._call.started += self._clock.monotonic() - self._ready_at
            self._ready_at = None

    async def _finish(self, error: BaseException | None, error_type: str | None) -> None:
        """Close what is open, then write the line. `error_type` replaces the category of `error`."""
        self._is_told = True
        try:
            with self._span.current():
                await self._pieces.aclose()
        finally:
            try:
                envelope = self._envelope(error, error_type)
                if error is None or isinstance(error, (Exception, asyncio.CancelledError)):
                    await self._call.tell(envelope)
                else:  # possibly nothing can be awaited any more
                    self._call.tell_now(envelope)
                if error is None:
                    self._result = client.result_of(self._call, "".join(self._handed_on), envelope)
            finally:
                self._span.end()

    def _envelope(self, error: BaseException | None, error_type: str | None) -> LLMRequestEnvelope:
        call = self._call
        if error is None:
            envelope = call.answer_envelope()
            self._span.set(call.response_attributes(envelope))
        else:
            if not self._received.is_whole:
                reply = self._received.cut_reply(call.prompt)
                if reply is not None:
                    call.take_reply(reply)
            envelope = call.error_envelope(error)
            if call.answers:  # what has been received has a known cost, whatever failed before it
                call.bill(envelope)
            envelope.error_type = error_type or envelope.error_type
            self._span.fail(error, str(envelope.error_type))
        envelope.time_to_first_token_ms = self._first_piece_ms
        envelope.trace_id, envelope.span_id = self._span.ids()
        return envelope
