"""`stream_llm`: one line whatever ends the stream, and what a stream costs that was cut."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import llmscope
from llmscope import (
    ConfigurationError,
    InputUsage,
    ProviderResponse,
    RoutePolicy,
    StreamNotFinished,
    VirtualClock,
    stream_llm,
)
from tests.llmscope.scripted import ScriptedError, ScriptedProvider, StreamedProvider, events

START = datetime(2026, 11, 21, tzinfo=UTC)
PROMPT = "why is the sky blue"  # five words, five tokens
WORDS = ["one", " two", " three"]
ANSWER = ProviderResponse("one two three", 1000, 50, "stop", cache_read_tokens=400)
# gpt-4o-mini: 0.15 USD per million in, 0.075 cached, 0.60 out.
ANSWER_USD = (600 * 0.15 + 400 * 0.075 + 50 * 0.60) / 1e6


def cut_usd(words: int, tokens_in: int = 5) -> float:
    return round((tokens_in * 0.15 + words * 0.60) / 1e6, 9)


def use(
    *providers: StreamedProvider | ScriptedProvider, retries: int = 1, model: str = "gpt-4o-mini"
) -> None:
    """Route `/s` to the first provider and let it fall back to the others."""
    for provider in providers:
        llmscope.register_provider(provider.name, provider)
    fallbacks = tuple((provider.name, "gpt-4o") for provider in providers[1:])
    llmscope.register_route(
        "/s", RoutePolicy(64, retries, False, {"cheap": model}, providers[0].name, fallbacks)
    )


def timed_out() -> ScriptedError:
    return ScriptedError("timeout", retryable=True)


async def read(**options: Any) -> tuple[list[str], llmscope.GatewayResult]:
    async with stream_llm(PROMPT, "cheap", "/s", **options) as stream:
        pieces = [piece async for piece in stream]
        return pieces, stream.result


async def test_a_whole_answer_is_billed_as_the_vendor_counted_it(log: Path) -> None:
    clock = VirtualClock(START)
    provider = StreamedProvider([0.2, *WORDS, 0.3, ANSWER], clock=clock)
    use(provider)
    pieces, result = await read(clock=clock, request_id="r-1", metadata={"note": "kept"})
    (event,) = events(log)
    assert pieces == WORDS
    assert result == llmscope.GatewayResult(
        "one two three", "gpt-4o-mini", "r-1", 1000, 50, ANSWER_USD, False, "stop", "scripted", 500.0
    )
    assert (event["request_id"], event["status"], event["finish_reason"]) == ("r-1", "success", "stop")
    assert (event["tokens_in"], event["tokens_out"], event["cache_read_tokens"]) == (1000, 50, 400)
    assert (event["estimated_cost_usd"], event["note"]) == (ANSWER_USD, "kept")
    assert (event["latency_ms"], event["time_to_first_token_ms"]) == (500.0, 200.0)
    assert [attempt["status"] for attempt in event["attempts"]] == ["success"]
    assert provider.calls == [(PROMPT, "gpt-4o-mini", 64)]
    assert provider.closed == 1


async def test_a_stream_that_is_never_entered_sends_nothing(log: Path) -> None:
    provider = StreamedProvider([*WORDS, ANSWER])
    use(provider)
    stream_llm(PROMPT, "cheap", "/s")
    assert provider.calls == []
    assert not log.exists()


async def test_a_whole_answer_without_usage_has_no_known_cost(log: Path) -> None:
    use(StreamedProvider([*WORDS, ProviderResponse("one two three", 0, 0, "stop", usage_known=False)]))
    _, result = await read()
    (event,) = events(log)
    assert result.estimated_cost_usd is None
    assert (event["status"], event["cost_source"]) == ("success", "degraded_unknown")


async def test_before_the_first_piece_there_are_retries_and_fallbacks(log: Path) -> None:
    clock = VirtualClock(START)
    slow = StreamedProvider([InputUsage(9), 1.0, timed_out()], clock=clock)
    spare = StreamedProvider([0.2, *WORDS, ANSWER], name="spare", clock=clock)
    use(slow, spare, retries=1)
    pieces, result = await read(clock=clock)
    (event,) = events(log)
    assert (pieces, result.provider, result.selected_model) == (WORDS, "spare", "gpt-4o")
    assert [attempt.get("error_type") for attempt in event["attempts"]] == ["timeout", "timeout", None]
    assert (event["fallback_reason"], event["retry_count"]) == ("timeout", 1)
    # 1 s, 1 s of backoff, 1 s, 0.2 s
    assert (event["latency_ms"], event["time_to_first_token_ms"]) == (3200.0, 3200.0)
    assert (slow.closed, spare.closed) == (2, 1)


async def test_who_gets_no_answer_learns_it_on_entering(log: Path) -> None:
    use(StreamedProvider([ScriptedError("auth_error")]))
    with pytest.raises(ScriptedError):
        async with stream_llm(PROMPT, "cheap", "/s"):
            pytest.fail("there is no stream")
    (event,) = events(log)
    assert (event["error_type"], event["estimated_cost_usd"]) == ("auth_error", 0)
    assert "time_to_first_token_ms" not in event


async def test_what_fails_after_its_input_was_counted_may_have_been_billed(log: Path) -> None:
    use(
        StreamedProvider([InputUsage(9), ScriptedError("rate_limit")], [ScriptedError("rate_limit")]),
        retries=0,
    )
    for _ in range(2):
        with pytest.raises(ScriptedError):
            await read()
    assert [event["estimated_cost_usd"] for event in events(log)] == [None, 0]


async def test_the_readers_own_time_is_no_latency(log: Path) -> None:
    clock = VirtualClock(START)
    use(StreamedProvider([0.2, WORDS[0], 0.1, WORDS[1], 0.1, ANSWER], clock=clock))
    async with stream_llm(PROMPT, "cheap", "/s", clock=clock) as stream:
        await clock.sleep(50)
        async for _ in stream:
            await clock.sleep(10)
    async with stream_llm(PROMPT, "cheap", "/s", clock=clock) as stream:
        async for _ in stream:
            await clock.sleep(10)
            break
    whole, cut = events(log)
    assert (whole["latency_ms"], whole["time_to_first_token_ms"]) == (400.0, 200.0)
    assert (cut["latency_ms"], cut["time_to_first_token_ms"]) == (200.0, 200.0)
    assert [event["attempts"][0]["latency_ms"] for event in (whole, cut)] == [400.0, 200.0]


async def test_a_provider_that_does_not_stream_answers_in_one_piece(log: Path) -> None:
    use(ScriptedProvider([ANSWER]))
    pieces, result = await read()
    assert (pieces, result.tokens_out) == (["one two three"], 50)
    assert len(events(log)) == 1


async def test_a_stand_in_for_a_provider_needs_no_stream_of_its_own(log: Path) -> None:
    class StandIn:
        provider_name = "stand-in"

        async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
            return ANSWER

    llmscope.register_provider("stand-in", StandIn())  # type: ignore[arg-type]
    llmscope.register_route("/s", RoutePolicy(64, 0, False, {"cheap": "gpt-4o-mini"}, "stand-in"))
    assert (await read())[0] == ["one two three"]


async def test_an_answer_without_text_is_whole_and_has_no_pieces(log: Path) -> None:
    use(StreamedProvider([ProviderResponse("", 1000, 50, "tool_calls")]))
    pieces, result = await read()
    (event,) = events(log)
    assert (pieces, result.text, result.finish_reason) == ([], "", "tool_calls")
    assert (event["status"], event["tokens_out"]) == ("success", 50)
    assert "time_to_first_token_ms" not in event


async def test_there_is_no_result_before_the_end_and_none_of_a_cut_answer(log: Path) -> None:
    use(StreamedProvider([*WORDS, ANSWER]))
    async with stream_llm(PROMPT, "cheap", "/s", request_id="r-7") as stream:
        with pytest.raises(StreamNotFinished, match="r-7"):
            _ = stream.result
        assert stream.request_id == "r-7"
    with pytest.raises(StreamNotFinished):
        _ = stream.result


async def test_a_stream_that_has_ended_stays_ended(log: Path) -> None:
    use(StreamedProvider([*WORDS, ANSWER]))
    async with stream_llm(PROMPT, "cheap", "/s") as stream:
        assert [piece async for piece in stream] == WORDS
        assert [piece async for piece in stream] == []
        assert stream.result.text == "one two three"
    assert [event["status"] for event in events(log)] == ["success"]


async def test_what_the_reader_does_after_the_end_is_not_the_streams(log: Path) -> None:
    use(StreamedProvider([*WORDS, ANSWER]))

    async def reader() -> None:
        async with stream_llm(PROMPT, "cheap", "/s") as stream:
            assert [piece async for piece in stream] == WORDS
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await reader()
    assert [event["status"] for event in events(log)] == ["success"]


async def test_unknown_names_are_refused_before_anything_is_sent(log: Path) -> None:
    with pytest.raises(ConfigurationError, match="No gateway policy"):
        async with stream_llm(PROMPT, "cheap", "/nowhere"):
            pytest.fail("there is no route")
    assert not log.exists()


async def test_a_log_that_cannot_be_written_costs_nobody_an_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    use(StreamedProvider([*WORDS, ANSWER]))
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    pieces, _ = await read(telemetry_path=blocked / "telemetry.jsonl")
    assert pieces == WORDS
    assert "could not be written" in caplog.text


async def test_fifty_streams_at_once_leave_fifty_lines(log: Path) -> None:
    use(StreamedProvider([*WORDS, ANSWER]))

    async def one(number: int) -> None:
        async with stream_llm(PROMPT, "cheap", "/s", request_id=f"r-{number}") as stream:
            async for _ in stream:
                if number % 2:
                    break

    await asyncio.gather(*(one(number) for number in range(50)))
    told = events(log)
    assert {event["request_id"] for event in told} == {f"r-{number}" for number in range(50)}
    assert len(told) == 50
    for event in told:
        is_cut = int(event["request_id"][2:]) % 2
        assert event["estimated_cost_usd"] == (cut_usd(1) if is_cut else ANSWER_USD)


async def test_an_answer_that_comes_only_as_a_whole_is_one_piece(log: Path) -> None:
    use(StreamedProvider([ANSWER]))
    assert (await read())[0] == ["one two three"]
