"""`call_llm`: what is tried, what it costs, what is written, and what the caller gets."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import llmscope
from llmscope import LLMRequestContext, ProviderResponse, RoutePolicy, VirtualClock
from llmscope.gateway import call, telemetry
from llmscope.telemetry_line import read_usage
from tests.llmscope.scripted import ScriptedError, ScriptedProvider, events

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
GOOD = ProviderResponse("answer", 1000, 100, "stop")


def route(
    *providers: ScriptedProvider, retries: int = 2, models: tuple[str, ...] = ("gpt-4o-mini", "gpt-4o")
) -> str:
    """Register providers as a route: the first is tried first, the others are its fallbacks."""
    for provider in providers:
        llmscope.register_provider(provider.name, provider)
    first, *others = zip([p.name for p in providers], models, strict=False)
    llmscope.register_route(
        "/tested", RoutePolicy(500, retries, False, {"cheap": first[1]}, first[0], tuple(others))
    )
    return "/tested"


def usage_of(path: Path) -> Any:
    (line,) = path.read_bytes().splitlines()
    return read_usage(line, "fallback-id")


async def test_retries_wait_one_then_two_seconds_on_the_callers_clock(log: Path) -> None:
    clock = VirtualClock(START)
    busy = ScriptedError("transient_error", retryable=True)
    name = route(ScriptedProvider([busy, busy, GOOD], clock=clock, latency_ms=100))
    result = await llmscope.call_llm("Hi", "cheap", name, clock=clock)
    (event,) = events(log)
    assert result.text == "answer"
    assert clock.monotonic() == pytest.approx(3.3)
    assert event["latency_ms"] == pytest.approx(3300.0)
    assert event["timestamp"] == "2026-11-21T12:00:03.300000+00:00"
    assert event["retry_count"] == 2
    assert event["fallback_triggered"] is False
    assert [attempt["status"] for attempt in event["attempts"]] == ["error", "error", "success"]
    assert event["attempts"][0] == {
        "provider": "scripted", "model": "gpt-4o-mini", "latency_ms": 100.0, "status": "error",
        "error_type": "transient_error",
    }  # fmt: skip


async def test_a_longer_retry_after_is_waited_for(log: Path) -> None:
    clock = VirtualClock(START)
    limited = ScriptedError("rate_limit", retryable=True, retry_after=7.5)
    await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([limited, GOOD])), clock=clock)
    assert clock.monotonic() == pytest.approx(7.5)


async def test_a_retry_after_of_minutes_goes_to_the_fallback_at_once(log: Path) -> None:
    clock = VirtualClock(START)
    limited = ScriptedError("rate_limit", retryable=True, retry_after=600)
    name = route(ScriptedProvider([limited], name="a"), ScriptedProvider([GOOD], name="b"))
    result = await llmscope.call_llm("Hi", "cheap", name, clock=clock)
    assert (result.provider, clock.monotonic()) == ("b", 0.0)


async def test_fallbacks_are_tried_after_the_retries_and_everything_is_recorded(log: Path) -> None:
    clock = VirtualClock(START)
    slow = ScriptedError("timeout", retryable=True)
    name = route(
        ScriptedProvider([slow], name="first", clock=clock, latency_ms=1000),
        ScriptedProvider([GOOD], name="second", clock=clock, latency_ms=200),
        retries=1,
    )
    result = await llmscope.call_llm("Hi", "cheap", name, clock=clock)
    (event,) = events(log)
    assert (result.provider, result.selected_model, result.finish_reason) == ("second", "gpt-4o", "stop")
    assert (event["provider_requested"], event["model_requested"]) == ("first", "gpt-4o-mini")
    assert (event["provider_selected"], event["model_selected"]) == ("second", "gpt-4o")
    assert (event["fallback_triggered"], event["fallback_reason"], event["retry_count"]) == (
        True,
        "timeout",
        1,
    )
    assert [(a["provider"], a["status"]) for a in event["attempts"]] == [
        ("first", "error"), ("first", "error"), ("second", "success"),
    ]  # fmt: skip
    assert event["latency_ms"] == pytest.approx(1000 + 1000 + 1000 + 200)
    assert event["estimated_cost_usd"] == 0.0035  # 1,000 × 2.50 + 100 × 10.00 per million
    assert event["price_version"].startswith("llmscope-")


async def test_an_invalid_request_is_not_sent_anywhere_else(log: Path) -> None:
    second = ScriptedProvider([GOOD], name="second")
    name = route(ScriptedProvider([ScriptedError("invalid_request")], name="first"), second)
    with pytest.raises(ScriptedError):
        await llmscope.call_llm("Hi", "cheap", name)
    assert second.calls == []


async def test_an_error_that_is_not_retryable_goes_to_the_fallback_without_waiting(log: Path) -> None:
    clock = VirtualClock(START)
    name = route(
        ScriptedProvider([ScriptedError("auth_error")], name="a"), ScriptedProvider([GOOD], name="b")
    )
    result = await llmscope.call_llm("Hi", "cheap", name, clock=clock)
    assert (result.provider, clock.monotonic()) == ("b", 0.0)


@pytest.mark.parametrize("category", ["auth_error", "rate_limit", "invalid_request"])
async def test_a_refused_call_is_known_to_cost_nothing(category: str, log: Path) -> None:
    with pytest.raises(ScriptedError):
        await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([ScriptedError(category)])))
    (event,) = events(log)
    assert (event["estimated_cost_usd"], event["cost_source"]) == (0.0, "estimated_local_snapshot")
    assert (event["status"], event["error_type"]) == ("error", category)
    assert usage_of(log).cost_nano == 0


async def test_a_refused_connection_is_known_to_cost_nothing(log: Path) -> None:
    error = ScriptedError("transient_error")
    error.__cause__ = ConnectionRefusedError(111, "refused")
    with pytest.raises(ScriptedError):
        await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([error])))
    assert usage_of(log).cost_nano == 0


@pytest.mark.parametrize("category", ["timeout", "transient_error", "unknown"])
async def test_a_call_that_may_have_been_billed_has_no_known_cost(category: str, log: Path) -> None:
    with pytest.raises(ScriptedError):
        await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([ScriptedError(category)])))
    (event,) = events(log)
    assert (event["estimated_cost_usd"], event["cost_source"]) == (None, "degraded_unknown")
    assert usage_of(log).cost_nano is None


async def test_one_possibly_billed_attempt_makes_the_whole_call_unknown(log: Path) -> None:
    steps = [ScriptedError("timeout", retryable=True), ScriptedError("rate_limit")]
    with pytest.raises(ScriptedError):
        await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider(steps)), clock=VirtualClock(START))
    assert usage_of(log).cost_nano is None


async def test_a_cancelled_call_leaves_an_error_line_of_unknown_cost(log: Path) -> None:
    clock = VirtualClock(START)
    name = route(ScriptedProvider([GOOD], clock=clock, latency_ms=60_000))
    task = asyncio.create_task(llmscope.call_llm("Hi", "cheap", name, clock=clock))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (event,) = events(log)
    assert (event["status"], event["error_type"]) == ("error", "cancelled")
    assert (event["estimated_cost_usd"], event["cost_source"]) == (None, "degraded_unknown")
    assert event["attempts"][0]["error_type"] == "cancelled"


async def test_an_abandoned_coroutine_leaves_its_line_too(log: Path) -> None:
    clock = VirtualClock(START)
    name = route(ScriptedProvider([GOOD], clock=clock, latency_ms=60_000))
    coroutine = llmscope.call_llm("Hi", "cheap", name, clock=clock)
    coroutine.send(None)
    coroutine.close()
    assert [event["error_type"] for event in events(log)] == ["cancelled"]


async def test_an_unpriced_model_answers_with_an_unknown_cost(log: Path) -> None:
    name = route(ScriptedProvider([GOOD]), models=("in-house-model-7",))
    result = await llmscope.call_llm("Hi", "cheap", name)
    (event,) = events(log)
    assert (result.text, result.estimated_cost_usd) == ("answer", None)
    assert (event["status"], event["estimated_cost_usd"], event["cost_source"]) == (
        "success", None, "degraded_unknown",
    )  # fmt: skip
    assert "price_version" not in event
    assert usage_of(log).cost_nano is None


@pytest.mark.parametrize(
    "response",
    [
        ProviderResponse("answer", 0, 0, usage_known=False),
        ProviderResponse("answer", None, None),  # type: ignore[arg-type]
        ProviderResponse("answer", -1, 5),
    ],
)
async def test_an_answer_without_token_counts_has_an_unknown_cost(
    response: ProviderResponse, log: Path
) -> None:
    result = await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([response])))
    assert (result.text, result.estimated_cost_usd) == ("answer", None)
    assert usage_of(log).cost_nano is None


async def test_cached_input_is_priced_as_such(log: Path) -> None:
    cached = ProviderResponse("answer", 1_000_000, 0, "stop", cache_read_tokens=400_000)
    await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([cached])))
    (event,) = events(log)
    assert event["estimated_cost_usd"] == 0.12  # 0.6 × 0.15 + 0.4 × 0.075
    assert event["cache_read_tokens"] == 400_000


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"route_name": "/nowhere"}, "No gateway policy"),
        ({"model_tier": "golden"}, "not configured"),
        ({"route_name": "/fallback-to-nobody"}, "not registered"),
    ],
)
async def test_a_wrong_name_is_refused_before_anything_is_sent_or_written(
    arguments: dict[str, str], fragment: str, log: Path
) -> None:
    provider = ScriptedProvider([GOOD])
    name = route(provider)
    llmscope.register_route(
        "/fallback-to-nobody",
        RoutePolicy(500, 0, False, {"cheap": "gpt-4o-mini"}, "scripted", (("nobody", "gpt-4o"),)),
    )
    with pytest.raises(ValueError, match=fragment):
        await llmscope.call_llm("Hi", **{"model_tier": "cheap", "route_name": name, **arguments})
    assert provider.calls == []
    assert not log.exists()


async def test_the_gate_may_choose_id_model_length_and_log(log: Path, tmp_path: Path) -> None:
    provider = ScriptedProvider([GOOD])
    other = tmp_path / "other.jsonl"
    result = await llmscope.call_llm(
        "Hi", "cheap", route(provider), request_id="minted", model="gpt-4o", max_output_tokens=64,
        telemetry_path=other,
    )  # fmt: skip
    (event,) = events(other)
    assert (result.request_id, event["request_id"], event["model_selected"]) == ("minted", "minted", "gpt-4o")
    assert provider.calls == [("Hi", "gpt-4o", 64)]
    assert not log.exists()


async def test_the_environment_decides_where_nothing_is_patched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert telemetry.TELEMETRY_PATH is None
    monkeypatch.setenv("TELEMETRY_PATH", str(tmp_path / "named.jsonl"))
    await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([GOOD])))
    assert len(events(tmp_path / "named.jsonl")) == 1


async def test_metadata_adds_keys_but_replaces_none(log: Path) -> None:
    metadata = {
        "conversation_id": 7, "status": "denied", "latency_ms": -1, "estimated_cost_usd": 99.0,
        "request_id": "forged", "timestamp": "1999", "event": "outcome", "cost_usd": 5, "tokens": "many",
        "connection": object(), "when": float("nan"),
    }  # fmt: skip
    result = await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([GOOD])), metadata)
    (event,) = events(log)
    assert event["conversation_id"] == 7
    assert (event["status"], event["request_id"]) == ("success", result.request_id)
    assert event["estimated_cost_usd"] == 0.00021
    assert not {"event", "cost_usd", "tokens", "connection"} & set(event)
    assert set(event["dropped_metadata"]) == {
        "status", "latency_ms", "estimated_cost_usd", "request_id", "timestamp", "event", "cost_usd",
        "tokens", "connection",
    }  # fmt: skip
    assert usage_of(log).cost_nano == 210_000


@pytest.mark.parametrize("huge", ["x" * (1 << 20), [[]]])
async def test_metadata_that_would_make_the_line_unreadable_is_dropped(huge: Any, log: Path) -> None:
    for _ in range(1200 if isinstance(huge, list) else 0):
        huge = [huge]
    await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([GOOD])), {"huge": huge})
    (event,) = events(log)
    assert event["dropped_metadata"] == ["huge"]


async def test_a_context_that_is_no_text_still_gives_a_line(log: Path) -> None:
    context = LLMRequestContext(tenant_id="broken \ud800", caller_id=object())  # type: ignore[arg-type]
    await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([GOOD])), context=context)
    assert events(log)[0]["tenant_id"] == "broken ?"


async def test_a_log_that_cannot_be_written_costs_the_caller_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("no folder")
    with caplog.at_level(logging.DEBUG, logger="llmscope"):
        result = await llmscope.call_llm(
            "a secret prompt", "cheap", route(ScriptedProvider([GOOD])), telemetry_path=blocked / "t.jsonl"
        )
    assert result.text == "answer"
    assert "could not be written" in caplog.text
    assert "secret" not in caplog.text
    assert "answer" not in caplog.text


async def test_twin_a_log_failure_inside_the_provider_block_would_lose_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tell_and_raise(told: call.Call, envelope: Any) -> None:
        telemetry.write_line(*told._line(envelope))

    monkeypatch.setattr(call.Call, "tell", tell_and_raise)
    blocked = tmp_path / "a-file"
    blocked.write_text("no folder")
    with pytest.raises(OSError, match="cannot append"):
        await llmscope.call_llm(
            "Hi", "cheap", route(ScriptedProvider([GOOD])), telemetry_path=blocked / "t.jsonl"
        )


def test_a_full_disk_costs_neither_the_answer_nor_the_log(tmp_path: Path) -> None:
    script = """
        import asyncio, resource, signal, sys
        import llmscope
        from tests.llmscope.scripted import ScriptedProvider
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1200, 1200))
        llmscope.register_provider("s", ScriptedProvider([llmscope.ProviderResponse("paid", 1, 1)]))
        llmscope.register_route("/s", llmscope.RoutePolicy(9, 0, False, {"cheap": "gpt-4o-mini"}, "s"))
        for _ in range(5):
            print(asyncio.run(llmscope.call_llm("Hi", "cheap", "/s", telemetry_path=sys.argv[1])).text)
    """
    path = tmp_path / "t.jsonl"
    root = Path(llmscope.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        capture_output=True, text=True, check=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert done.stdout.split() == ["paid"] * 5
    assert 1 <= len(events(path)) < 5
    assert path.read_bytes().endswith(b"\n")


async def test_concurrent_calls_keep_their_attempts_apart(log: Path) -> None:
    clock = VirtualClock(START)
    busy = ScriptedError("transient_error", retryable=True)
    llmscope.register_provider("even", ScriptedProvider([GOOD], name="even", clock=clock, latency_ms=50))
    llmscope.register_provider("odd", ScriptedProvider([busy, GOOD], name="odd", clock=clock, latency_ms=50))
    for name in ("even", "odd"):
        llmscope.register_route(f"/{name}", RoutePolicy(9, 1, False, {"cheap": "gpt-4o-mini"}, name))
    await asyncio.gather(*(llmscope.call_llm("Hi", "cheap", f"/{n}", clock=clock) for n in ("even", "odd")))
    attempts = {event["route"]: len(event["attempts"]) for event in events(log)}
    assert attempts == {"/even": 1, "/odd": 2}


async def test_a_contended_log_does_not_block_the_event_loop(log: Path) -> None:
    import fcntl

    log.parent.mkdir(parents=True)
    held = os.open(log, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    task = asyncio.create_task(llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([GOOD]))))
    turns = 0
    while turns < 200 and not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns == 200
    fcntl.flock(held, fcntl.LOCK_UN)
    os.close(held)
    assert (await task).text == "answer"
    assert len(events(log)) == 1
