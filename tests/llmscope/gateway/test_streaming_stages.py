"""Streams through the stages of a route: guards, cache, breaker, cascade, deadline, span."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace

import llmscope
from llmscope import (
    ConfigurationError,
    DeadlineExceeded,
    GuardBlocked,
    ProviderResponse,
    VirtualClock,
    stream_llm,
)
from llmscope.envelope import CircuitState
from llmscope.gateway import stream_stages
from llmscope.gateway.breaker import Breakers
from llmscope.gateway.cache.exact import ExactCache
from llmscope.gateway.guards.moderation import ModerationGuard
from llmscope.gateway.guards.pii import PiiGuard
from llmscope.gateway.routing.cascade import QualityEscalation
from llmscope.gateway.runtime import Runtime, use_runtime
from llmscope.gateway.stages import RetryPolicy, RouteParts
from tests.llmscope.gateway.test_instrumentation import Recorder, recorder  # noqa: F401  a fixture
from tests.llmscope.gateway.test_streaming import (
    ANSWER,
    ANSWER_USD,
    PROMPT,
    START,
    WORDS,
    cut_usd,
    read,
    timed_out,
    use,
)
from tests.llmscope.scripted import ScriptedProvider, StreamedProvider, events

LETTER = ["Write to ann", "@exam", "ple.org or", " call."]
REPLY = ProviderResponse("".join(LETTER), 10, 9, "stop")


@pytest.fixture(autouse=True)
def _no_runtime() -> Iterator[None]:
    yield
    use_runtime(None)


def with_parts(**parts: Any) -> None:
    use_runtime(Runtime({"/s": RouteParts(**parts)}))


async def pieces_until(error: type[BaseException]) -> list[str]:
    """The pieces that were read before `error` came."""
    pieces: list[str] = []

    async def reader() -> None:
        async with stream_llm(PROMPT, "cheap", "/s") as stream:
            async for piece in stream:
                pieces.append(piece)

    with pytest.raises(error):
        await reader()
    return pieces


# Guards ------------------------------------------------------------------------------------------------


async def test_what_is_redacted_never_leaves_in_any_piece(log: Path) -> None:
    use(StreamedProvider([*LETTER, REPLY]))
    with_parts(guards=(PiiGuard(),))
    pieces, result = await read()
    (event,) = events(log)
    assert "".join(pieces) == result.text
    assert "example.org" not in result.text
    assert result.text == "Write to [EMAIL] or call."
    assert len(pieces) > 1
    assert (event["pii_detected"], event["redaction_applied"], event["status"]) == (True, True, "success")
    assert event["tokens_out"] == 9  # what was bought, not what was let through


async def test_a_blocked_answer_is_cut_and_paid_for_as_far_as_it_came(log: Path) -> None:
    rest = asyncio.Event()
    provider = StreamedProvider([*LETTER, rest, REPLY])
    use(provider)
    with_parts(guards=(PiiGuard(action_out="block"),))
    pieces = await pieces_until(GuardBlocked)
    (event,) = events(log)
    assert "@" not in "".join(pieces)
    assert (event["status"], event["error_type"], event["pii_detected"]) == ("denied", "guard_blocked", True)
    assert event["estimated_cost_usd"] == cut_usd(event["tokens_out"])
    assert event["tokens_out"] >= 5
    assert provider.closed == 1


async def test_what_was_found_stands_on_the_line_of_a_cut_stream_too(log: Path) -> None:
    use(StreamedProvider([*LETTER, REPLY]))
    with_parts(guards=(PiiGuard(),))
    async with stream_llm(PROMPT, "cheap", "/s") as stream:
        async for piece in stream:
            if "or" in piece:
                break
    (event,) = events(log)
    assert (event["error_type"], event["pii_detected"]) == ("client_disconnect", True)


async def test_an_answer_that_is_judged_whole_is_held_to_its_end(log: Path) -> None:
    use(StreamedProvider([*WORDS, ANSWER]))
    with_parts(guards=(ModerationGuard(lambda text: "three" in text, directions=["out"]),))
    assert await pieces_until(GuardBlocked) == []
    (event,) = events(log)
    assert (event["status"], event["estimated_cost_usd"]) == ("denied", ANSWER_USD)


async def test_guards_follow_each_other_piece_by_piece(log: Path) -> None:
    use(StreamedProvider([*LETTER, REPLY]))
    judged: list[str] = []
    moderation = ModerationGuard(lambda text: bool(judged.append(text)), directions=["out"])
    with_parts(guards=(PiiGuard(), moderation))
    pieces, _ = await read()
    assert len(pieces) == 1
    assert judged == pieces  # the second sees what the first has let through
    assert "example.org" not in judged[0]


async def test_a_guard_that_cannot_judge_a_stream_is_told_before_anything_is_sent(log: Path) -> None:
    async def moderate(text: str) -> bool:
        return False

    provider = StreamedProvider([*WORDS, ANSWER])
    use(provider)
    with_parts(guards=(ModerationGuard(moderate, directions=["out"]),))
    assert await pieces_until(ConfigurationError) == []
    assert provider.calls == []
    assert events(log)[0]["estimated_cost_usd"] == 0


async def test_a_blocked_prompt_is_never_sent(log: Path) -> None:
    provider = StreamedProvider([*WORDS, ANSWER])
    use(provider)
    with_parts(guards=(ModerationGuard(lambda text: True, directions=["in"]),))
    assert await pieces_until(GuardBlocked) == []
    (event,) = events(log)
    assert (provider.calls, event["status"], event["estimated_cost_usd"]) == ([], "denied", 0)


async def test_twin_a_stream_without_its_guards_lets_the_address_through(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_stages, "_guarded", lambda call, source, guards: source)
    with pytest.raises(AssertionError):
        await test_what_is_redacted_never_leaves_in_any_piece(log)


# Cache -------------------------------------------------------------------------------------------------


async def test_a_cached_answer_comes_in_one_piece_and_costs_nothing(log: Path) -> None:
    provider = StreamedProvider([*WORDS, ANSWER])
    use(provider)
    with_parts(cache=ExactCache())
    assert (await read())[0] == WORDS
    pieces, result = await read()
    bought, found = events(log)
    assert (pieces, result.cache_hit, result.text) == (["one two three"], True, "one two three")
    assert (bought["cache_hit"], bought["estimated_cost_usd"]) == (False, ANSWER_USD)
    assert (found["cache_hit"], found["cost_source"], found["estimated_cost_usd"]) == (True, "cached_zero", 0)
    assert found["cache_saved_usd"] == ANSWER_USD
    assert len(provider.calls) == 1


async def test_streams_and_whole_answers_share_the_cache(log: Path) -> None:
    provider = StreamedProvider([*WORDS, ANSWER])
    use(provider)
    with_parts(cache=ExactCache())
    await read()
    assert (await llmscope.call_llm(PROMPT, "cheap", "/s")).cache_hit
    assert len(provider.calls) == 1


async def test_of_many_readers_of_one_answer_one_buys(log: Path) -> None:
    provider = StreamedProvider([*WORDS, ANSWER])
    use(provider)
    with_parts(cache=ExactCache())
    outcomes = await asyncio.gather(*(read() for _ in range(20)))
    assert len(provider.calls) == 1
    assert sorted(len(pieces) for pieces, _ in outcomes) == [1] * 19 + [3]
    assert {result.text for _, result in outcomes} == {"one two three"}
    told = events(log)
    assert sum(event["estimated_cost_usd"] for event in told) == ANSWER_USD
    assert len(told) == 20


async def test_a_buyer_that_leaves_lets_the_next_one_buy(log: Path) -> None:
    never = asyncio.Event()
    provider = StreamedProvider([WORDS[0], never], [*WORDS, ANSWER])
    use(provider)
    with_parts(cache=ExactCache())
    async with stream_llm(PROMPT, "cheap", "/s") as leaving:
        waiting = asyncio.create_task(read())
        assert await anext(leaving) == WORDS[0]
        assert not waiting.done()
    pieces, _ = await waiting
    cut, whole = events(log)
    assert pieces == WORDS
    assert (cut["error_type"], cut["estimated_cost_usd"]) == ("client_disconnect", cut_usd(1))
    assert (whole["status"], whole["estimated_cost_usd"]) == ("success", ANSWER_USD)
    assert provider.closed == 2


async def test_a_slow_reader_keeps_nobody_waiting_for_the_same_answer(log: Path) -> None:
    use(StreamedProvider([*WORDS, ANSWER]))
    with_parts(cache=ExactCache())
    async with stream_llm(PROMPT, "cheap", "/s") as slow:
        assert await anext(slow) == WORDS[0]
        assert (await read())[0] == ["one two three"]
        assert [piece async for piece in slow] == WORDS[1:]
    assert {event["status"] for event in events(log)} == {"success", "cached"}


async def test_an_answer_that_broke_off_is_nobody_elses(log: Path) -> None:
    provider = StreamedProvider([*WORDS, timed_out()], [*WORDS, ANSWER])
    use(provider)
    with_parts(cache=ExactCache())
    with pytest.raises(Exception, match="timeout"):
        await read()
    _, result = await read()
    assert not result.cache_hit
    assert events(log)[0]["estimated_cost_usd"] == cut_usd(3)


async def test_what_is_kept_is_what_the_guards_let_through(log: Path) -> None:
    use(StreamedProvider([*LETTER, REPLY]))
    with_parts(cache=ExactCache(), guards=(PiiGuard(),))
    first, _ = await read()
    found, result = await read()
    assert result.cache_hit
    assert found == ["".join(first)]
    assert "example.org" not in found[0]


# Breaker, deadline, cascade ----------------------------------------------------------------------------


async def test_streams_that_break_off_open_the_circuit(log: Path) -> None:
    clock = VirtualClock(START)
    breakers = Breakers(consecutive_failures=3)
    use(StreamedProvider([*WORDS, timed_out()], clock=clock), retries=0)
    with_parts(breaker_of=breakers)
    for _ in range(3):
        with pytest.raises(Exception, match="timeout"):
            await read(clock=clock)
    assert breakers("scripted").state(clock.monotonic()) is CircuitState.OPEN
    with pytest.raises(llmscope.CircuitOpen):
        await read(clock=clock)
    assert events(log)[-1]["estimated_cost_usd"] == 0


async def test_streams_that_are_left_speak_against_nobody(log: Path) -> None:
    breakers = Breakers(consecutive_failures=3)
    use(StreamedProvider([*WORDS, ANSWER]))
    with_parts(breaker_of=breakers)
    for _ in range(5):
        async with stream_llm(PROMPT, "cheap", "/s"):
            pass
    assert breakers("scripted").state(0.0) is CircuitState.CLOSED


async def test_a_probe_is_answered_by_its_first_piece(log: Path) -> None:
    clock = VirtualClock(START)
    breakers = Breakers(consecutive_failures=1, cooldown_seconds=30)
    use(StreamedProvider([timed_out()], [*WORDS, ANSWER], clock=clock), retries=0)
    with_parts(breaker_of=breakers)
    with pytest.raises(Exception, match="timeout"):
        await read(clock=clock)
    await clock.sleep(30)
    async with stream_llm(PROMPT, "cheap", "/s", clock=clock) as probe:
        assert breakers("scripted").state(clock.monotonic()) is CircuitState.CLOSED
        assert (await read(clock=clock))[0] == WORDS
        assert [piece async for piece in probe] == WORDS


async def test_the_deadline_is_for_the_first_piece(log: Path) -> None:
    never = asyncio.Event()
    provider = StreamedProvider([never])
    use(provider, retries=0)
    with_parts(retry=RetryPolicy(deadline_seconds=0.05))
    with pytest.raises(DeadlineExceeded):
        await read()
    (event,) = events(log)
    assert (event["error_type"], event["estimated_cost_usd"]) == ("timeout", None)
    assert provider.closed == 1


async def test_a_stream_that_has_begun_outlives_the_deadline(log: Path) -> None:
    clock = VirtualClock(START)
    use(StreamedProvider([*WORDS, 100.0, ANSWER], clock=clock))
    with_parts(retry=RetryPolicy(deadline_seconds=60))
    assert (await read(clock=clock))[0] == WORDS
    assert events(log)[0]["latency_ms"] == 100_000


async def test_a_cascade_is_judged_whole_and_comes_in_one_piece(log: Path) -> None:
    cheap, dear = ScriptedProvider([ANSWER], name="cheap"), ScriptedProvider([REPLY], name="dear")
    use(cheap, dear)
    with_parts(escalation=QualityEscalation(lambda prompt, answer: 0.0))
    pieces, result = await read()
    (event,) = events(log)
    assert pieces == [REPLY.text]
    assert result.provider == "dear"
    # gpt-4o: 10 in at 2.50 and 9 out at 10 USD per million
    assert event["estimated_cost_usd"] == round(ANSWER_USD + (10 * 2.5 + 9 * 10) / 1e6, 9)


async def test_a_router_hears_of_a_stream_when_it_ends(log: Path) -> None:
    heard: list[Any] = []

    class Router:
        def choose(self, request: Any, now_seconds: float) -> Any:
            target = llmscope.gateway.stages.Target("scripted", "gpt-4o-mini")
            return llmscope.gateway.stages.RoutingChoice((target,), "fixed", "the only one")

        def observe(self, observation: Any, now_seconds: float) -> None:
            heard.append((observation.is_success, observation.is_fault, observation.latency_ms))

    clock = VirtualClock(START)
    use(StreamedProvider([*WORDS, 0.5, ANSWER], [*WORDS, 0.5, timed_out()], clock=clock), retries=0)
    with_parts(router=Router())
    await read(clock=clock)
    with pytest.raises(Exception, match="timeout"):
        await read(clock=clock)
    assert heard == [(True, False, 500.0), (False, True, 500.0)]
    assert events(log)[0]["routing_decision"] == "fixed"


# Span --------------------------------------------------------------------------------------------------


async def test_a_stream_is_one_span_that_the_readers_own_spans_stand_beside(
    log: Path,
    recorder: Recorder,  # noqa: F811  the fixture
) -> None:
    use(StreamedProvider([*WORDS, ANSWER]))
    tracer = recorder.tracers.get_tracer("reader")
    async with stream_llm(PROMPT, "cheap", "/s") as stream:
        async for _ in stream:
            assert not trace.get_current_span().get_span_context().is_valid
            with tracer.start_as_current_span("reading"):
                pass
    spans = {span.name: span for span in recorder.exporter.get_finished_spans()}
    (event,) = events(log)
    span = spans["chat gpt-4o-mini"]
    assert event["span_id"] == f"{span.context.span_id:016x}"
    assert span.attributes["gen_ai.usage.output_tokens"] == 50
    assert spans["reading"].parent is None
    assert len(spans) == 2


async def test_a_cut_stream_is_a_failed_span(log: Path, recorder: Recorder) -> None:  # noqa: F811
    use(StreamedProvider([*WORDS, ANSWER]))
    async with stream_llm(PROMPT, "cheap", "/s"):
        pass
    span = recorder.span()
    assert span.attributes["llm_gateway.error_category"] == "client_disconnect"
    assert not span.status.is_ok


async def test_the_request_is_made_within_the_span(log: Path, recorder: Recorder) -> None:  # noqa: F811
    class Traced(StreamedProvider):
        async def stream(self, prompt: str, model: str, max_output_tokens: int) -> Any:
            async for item in super().stream(prompt, model, max_output_tokens):
                seen.append(trace.get_current_span().get_span_context().span_id)
                yield item

    seen: list[int] = []
    use(Traced([*WORDS, ANSWER]))
    await read()
    assert set(seen) == {recorder.span().context.span_id}
