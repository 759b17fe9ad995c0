"""Streams that are cut, by their reader or by the provider: one line each, at the cost of what was received."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import types
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from llmscope import AnswerFailed, InputUsage, VirtualClock, stream_llm
from llmscope.gateway import stream_stages, streaming
from tests.llmscope.gateway.test_streaming import ANSWER, PROMPT, START, WORDS, cut_usd, read, timed_out, use
from tests.llmscope.scripted import ScriptedError, StreamedProvider, events


async def leave_by_break() -> None:
    async with stream_llm(PROMPT, "cheap", "/s") as stream:
        async for piece in stream:
            if piece == WORDS[1]:
                break


async def leave_by_an_error_of_its_own() -> None:
    async def reader() -> None:
        async with stream_llm(PROMPT, "cheap", "/s") as stream:
            async for piece in stream:
                if piece == WORDS[1]:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await reader()


async def leave_a_generator() -> None:
    async def body() -> AsyncIterator[str]:
        async with stream_llm(PROMPT, "cheap", "/s") as stream:
            async for piece in stream:
                yield piece

    reader = body()
    async for piece in reader:
        if piece == WORDS[1]:
            break
    await reader.aclose()


async def leave_when_told() -> None:
    async with stream_llm(PROMPT, "cheap", "/s") as stream:
        async for piece in stream:
            if piece == WORDS[1]:
                raise asyncio.CancelledError


async def leave_while_waiting() -> None:
    arrived = asyncio.Event()

    async def reader() -> None:
        async with stream_llm(PROMPT, "cheap", "/s") as stream:
            async for piece in stream:
                if piece == WORDS[1]:
                    arrived.set()

    task = asyncio.create_task(reader())
    await arrived.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


WAYS_TO_LEAVE: dict[str, tuple[Callable[[], Any], str]] = {
    "break": (leave_by_break, "client_disconnect"),
    "own error": (leave_by_an_error_of_its_own, "client_disconnect"),
    "closed generator": (leave_a_generator, "client_disconnect"),
    "cancelled": (leave_when_told, "cancelled"),
    "cancelled while waiting": (leave_while_waiting, "cancelled"),
}


@pytest.mark.parametrize("way", list(WAYS_TO_LEAVE))
async def test_a_stream_that_is_left_costs_its_input_and_what_was_received(way: str, log: Path) -> None:
    never = asyncio.Event()
    provider = StreamedProvider([*WORDS[:2], never, WORDS[2], ANSWER])
    use(provider)
    leave, error_type = WAYS_TO_LEAVE[way]
    try:
        await leave()
    except asyncio.CancelledError:
        assert way == "cancelled"
    (event,) = events(log)
    assert (event["status"], event["error_type"]) == ("error", error_type)
    assert "finish_reason" not in event
    assert (event["tokens_in"], event["tokens_out"]) == (5, 2)
    assert (event["estimated_cost_usd"], event["cost_source"]) == (cut_usd(2), "estimated_local_snapshot")
    assert event["price_version"]
    assert [attempt["error_type"] for attempt in event["attempts"]] == ["cancelled"]
    assert (provider.closed, len(provider.calls)) == (1, 1)


async def test_twin_a_stream_whose_end_is_not_told_in_finally_leaves_no_line(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(self: Any, error: BaseException | None) -> None:
        await self._pieces.aclose()

    monkeypatch.setattr(streaming.AnswerStream, "_leave", nothing)
    with pytest.raises(FileNotFoundError):
        await test_a_stream_that_is_left_costs_its_input_and_what_was_received("break", log)


async def test_twin_without_what_was_received_a_cut_has_no_known_cost(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_stages.Received, "cut_reply", lambda self, prompt: None)
    with pytest.raises(AssertionError):
        await test_a_stream_that_is_left_costs_its_input_and_what_was_received("break", log)
    (event,) = events(log)
    assert (event["estimated_cost_usd"], event["cost_source"]) == (None, "degraded_unknown")


async def test_a_stream_that_nobody_iterates_costs_its_first_piece(log: Path) -> None:
    provider = StreamedProvider([*WORDS, ANSWER])
    use(provider)
    async with stream_llm(PROMPT, "cheap", "/s"):
        pass
    (event,) = events(log)
    assert (event["error_type"], event["estimated_cost_usd"]) == ("client_disconnect", cut_usd(1))
    assert provider.closed == 1


async def test_a_coroutine_that_is_thrown_away_leaves_its_line(log: Path) -> None:
    """Its event loop has gone on without it: nothing can be awaited any more."""
    use(StreamedProvider([*WORDS, ANSWER]))

    @types.coroutine
    def forever() -> Any:
        while True:
            yield "waiting"

    async def reader() -> None:
        async with stream_llm(PROMPT, "cheap", "/s") as stream:
            async for _ in stream:
                await forever()

    coroutine = reader()
    while coroutine.send(None) != "waiting":
        pass
    coroutine.close()
    (event,) = events(log)
    assert (event["error_type"], event["estimated_cost_usd"]) == ("client_disconnect", cut_usd(1))


async def test_input_that_the_vendor_counted_first_is_taken_from_there(log: Path) -> None:
    use(StreamedProvider([InputUsage(1000, 400), *WORDS, ANSWER]))
    await leave_by_break()
    (event,) = events(log)
    assert (event["tokens_in"], event["tokens_out"], event["cache_read_tokens"]) == (1000, 2, 400)
    assert event["estimated_cost_usd"] == round((600 * 0.15 + 400 * 0.075 + 2 * 0.60) / 1e6, 9)


async def test_a_cut_answer_of_an_unpriced_model_has_no_known_cost(log: Path) -> None:
    use(StreamedProvider([*WORDS, ANSWER]), model="nobody-prices-this")
    await leave_by_break()
    (event,) = events(log)
    assert (event["estimated_cost_usd"], event["cost_source"]) == (None, "degraded_unknown")
    assert event["tokens_out"] == 2


@pytest.mark.parametrize("retries", [0, 3])
async def test_an_error_in_the_middle_is_not_tried_again(retries: int, log: Path) -> None:
    broken = StreamedProvider([*WORDS, timed_out()])
    spare = StreamedProvider([*WORDS, ANSWER], name="spare")
    use(broken, spare, retries=retries)
    pieces: list[str] = []

    async def reader() -> None:
        async with stream_llm(PROMPT, "cheap", "/s") as stream:
            async for piece in stream:
                pieces.append(piece)

    with pytest.raises(ScriptedError, match="timeout"):
        await reader()
    (event,) = events(log)
    assert pieces == WORDS
    assert (len(broken.calls), spare.calls) == (1, [])
    assert (event["status"], event["error_type"]) == ("error", "timeout")
    assert event["estimated_cost_usd"] == cut_usd(3)
    assert (event["fallback_triggered"], event["retry_count"]) == (False, 0)
    assert "finish_reason" not in event


async def test_even_a_free_error_in_the_middle_costs_what_was_received(log: Path) -> None:
    use(StreamedProvider([*WORDS, ScriptedError("rate_limit")]))
    with pytest.raises(ScriptedError):
        await read()
    (event,) = events(log)
    assert (event["error_type"], event["estimated_cost_usd"]) == ("rate_limit", cut_usd(3))


async def test_a_stream_that_just_stops_is_no_whole_answer(log: Path) -> None:
    use(StreamedProvider(WORDS))
    with pytest.raises(AnswerFailed, match="stops before its end"):
        await read()
    (event,) = events(log)
    assert (event["error_type"], event["estimated_cost_usd"]) == ("transient_error", cut_usd(3))


async def test_a_cut_costs_what_was_received_whatever_failed_before_it(log: Path) -> None:
    """As for a whole answer: what a failed attempt may have cost no provider reports."""
    clock = VirtualClock(START)
    use(StreamedProvider([timed_out()], [*WORDS, ANSWER], clock=clock))
    async with stream_llm(PROMPT, "cheap", "/s", clock=clock):
        pass
    (event,) = events(log)
    assert event["estimated_cost_usd"] == cut_usd(1)


async def test_a_call_that_is_cancelled_before_the_first_piece_has_no_known_cost(log: Path) -> None:
    never = asyncio.Event()
    provider = StreamedProvider([InputUsage(9), never])
    use(provider)
    task = asyncio.create_task(read())
    while not provider.calls:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (event,) = events(log)
    assert (event["error_type"], event["estimated_cost_usd"]) == ("cancelled", None)
    assert provider.closed == 1


async def test_a_connection_that_cannot_be_closed_is_told_and_hides_nothing(
    log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck(StreamedProvider):
        async def stream(self, prompt: str, model: str, max_output_tokens: int) -> AsyncIterator[Any]:
            try:
                yield "one"
                yield "two"
            finally:
                raise OSError("one two")

    use(Stuck())
    await leave_by_break_at_once()
    (event,) = events(log)
    assert (event["error_type"], event["estimated_cost_usd"]) == ("client_disconnect", cut_usd(1))
    assert "could not be closed: OSError" in caplog.text
    assert "one two" not in caplog.text


async def leave_by_break_at_once() -> None:
    async with stream_llm(PROMPT, "cheap", "/s") as stream:
        async for _ in stream:
            break


@pytest.mark.parametrize("way", list(WAYS_TO_LEAVE))
async def test_neither_prompt_nor_answer_is_written_anywhere(
    way: str, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with contextlib.suppress(asyncio.CancelledError):
        await test_a_stream_that_is_left_costs_its_input_and_what_was_received(way, log)
    for text in (PROMPT, "blue", WORDS[1].strip(), WORDS[2].strip()):
        assert text not in log.read_text()
        assert text not in caplog.text
