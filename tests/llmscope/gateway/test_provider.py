"""The vendors' real SDKs against a server on loopback: what is sent, counted, categorised and retried."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

import llmscope
from llmscope import AnthropicProvider, OpenAIProvider, ProviderBase, RoutePolicy, VirtualClock
from llmscope.gateway.provider import is_known_unbilled
from tests.llmscope.scripted import events

OPENAI_REPLY = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-4o-mini",
    "output": [{
        "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
    }],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "usage": {
        "input_tokens": 100, "input_tokens_details": {"cached_tokens": 40}, "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 107,
    },
}  # fmt: skip
ANTHROPIC_REPLY = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-20250514",
    "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}],
    "stop_reason": "end_turn", "stop_sequence": None,
    "usage": {
        "input_tokens": 60, "output_tokens": 7, "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 30,
    },
}  # fmt: skip
PATH = {"openai": "/v1/responses", "anthropic": "/v1/messages"}
REPLY = {"openai": OPENAI_REPLY, "anthropic": ANTHROPIC_REPLY}
MODEL = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-20250514"}
# The price list's Anthropic models are the original's, and old by now.
pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
START = datetime(2026, 11, 21, tzinfo=UTC)


def provider_at(vendor: str, base_url: str) -> Any:
    if vendor == "openai":
        return OpenAIProvider(api_key="sk-test", base_url=f"{base_url}/v1", timeout_seconds=10)
    return AnthropicProvider(api_key="sk-test", base_url=base_url, timeout_seconds=10)


@pytest.fixture(params=["openai", "anthropic"])
def vendor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def provider(vendor: str, httpserver: HTTPServer) -> AsyncIterator[Any]:
    made = provider_at(vendor, httpserver.url_for("").rstrip("/"))
    llmscope.register_provider("under-test", made)
    llmscope.register_route("/tested", RoutePolicy(64, 1, False, {"cheap": MODEL[vendor]}, "under-test"))
    yield made
    await made.aclose()


async def error_of(provider: ProviderBase, vendor: str) -> Exception:
    with pytest.raises(Exception) as raised:  # noqa: PT011  the vendor's own class
        await provider.complete("Hi", MODEL[vendor], 64)
    return raised.value


async def test_an_answer_is_normalised(provider: Any, vendor: str, httpserver: HTTPServer) -> None:
    httpserver.expect_request(PATH[vendor], method="POST").respond_with_json(REPLY[vendor])
    answer = await provider.complete("Hi", MODEL[vendor], 64)
    assert (answer.text, answer.tokens_in, answer.tokens_out) == ("Hello", 100, 7)
    assert answer.cache_read_tokens == {"openai": 40, "anthropic": 30}[vendor]
    assert answer.finish_reason == "stop"
    ((request, _),) = httpserver.log
    assert request.json["model"] == MODEL[vendor]
    assert request.json[{"openai": "max_output_tokens", "anthropic": "max_tokens"}[vendor]] == 64


async def test_an_answer_cut_off_says_length(provider: Any, vendor: str, httpserver: HTTPServer) -> None:
    cut = {
        "openai": {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        "anthropic": {"stop_reason": "max_tokens"},
    }[vendor]
    httpserver.expect_request(PATH[vendor]).respond_with_json({**REPLY[vendor], **cut})
    assert (await provider.complete("Hi", MODEL[vendor], 64)).finish_reason == "length"


async def test_a_tool_call_counts_as_a_proper_end(provider: Any, vendor: str, httpserver: HTTPServer) -> None:
    called = {
        "openai": {"output": [{
            "type": "function_call", "id": "f", "call_id": "c", "name": "n", "arguments": "{}",
            "status": "completed",
        }]},
        "anthropic": {
            "stop_reason": "tool_use", "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {}}]
        },
    }[vendor]  # fmt: skip
    httpserver.expect_request(PATH[vendor]).respond_with_json({**REPLY[vendor], **called})
    answer = await provider.complete("Hi", MODEL[vendor], 64)
    assert (answer.text, answer.finish_reason) == ("", "tool_calls")


async def test_openai_without_usage_is_not_free(httpserver: HTTPServer) -> None:
    provider = provider_at("openai", httpserver.url_for("").rstrip("/"))
    httpserver.expect_request(PATH["openai"]).respond_with_json({**OPENAI_REPLY, "usage": None})
    assert not (await provider.complete("Hi", "gpt-4o-mini", 64)).usage_known
    await provider.aclose()


@pytest.mark.parametrize(
    ("status", "category", "retryable", "unbilled"),
    [
        (400, "invalid_request", False, True), (401, "auth_error", False, True),
        (403, "auth_error", False, True),
        (404, "invalid_request", False, True), (422, "invalid_request", False, True),
        (429, "rate_limit", True, True), (500, "transient_error", True, False),
        (503, "transient_error", True, False),
    ],
)  # fmt: skip
async def test_statuses_have_their_categories_and_the_sdk_does_not_retry(
    status: int,
    category: str,
    retryable: bool,
    unbilled: bool,
    provider: Any,
    vendor: str,
    httpserver: HTTPServer,
) -> None:
    httpserver.expect_request(PATH[vendor]).respond_with_json({"error": {"message": "no"}}, status=status)
    error = await error_of(provider, vendor)
    assert provider.categorize_error(error) == category
    assert provider.is_retryable(error) is retryable
    assert provider.is_unbilled(error) is unbilled
    assert len(httpserver.log) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
async def test_retry_after_is_read_in_every_form(
    headers: dict[str, str], seconds: float | None, provider: Any, vendor: str, httpserver: HTTPServer
) -> None:
    httpserver.expect_request(PATH[vendor]).respond_with_response(Response("{}", 429, headers))
    assert provider.retry_after_seconds(await error_of(provider, vendor)) == seconds


async def test_a_retry_after_date_is_relative_to_the_responses_own(
    provider: Any, vendor: str, httpserver: HTTPServer
) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
    httpserver.expect_request(PATH[vendor]).respond_with_response(Response("{}", 429, {"retry-after": later}))
    seconds = provider.retry_after_seconds(await error_of(provider, vendor))
    assert seconds == pytest.approx(300, abs=30)


async def test_a_refused_connection_is_retryable_and_free(vendor: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    provider = provider_at(vendor, f"http://127.0.0.1:{port}")
    error = await error_of(provider, vendor)
    assert provider.categorize_error(error) == "transient_error"
    assert provider.is_retryable(error)
    assert provider.is_unbilled(error)
    assert provider.retry_after_seconds(error) is None
    await provider.aclose()


async def test_a_timeout_is_retryable_and_may_be_billed(vendor: str, httpserver: HTTPServer) -> None:
    def too_slow(request: Any) -> Response:
        released.wait(5)
        return Response("{}")

    import threading

    released = threading.Event()
    httpserver.expect_request(PATH[vendor]).respond_with_handler(too_slow)
    provider = provider_at(vendor, httpserver.url_for("").rstrip("/"))
    provider._timeout_seconds = 0.05
    error = await error_of(provider, vendor)
    released.set()
    assert provider.categorize_error(error) == "timeout"
    assert provider.is_retryable(error)
    assert not provider.is_unbilled(error)
    await provider.aclose()


async def test_the_gateway_honours_retry_after_and_prices_the_answer(
    provider: Any, vendor: str, httpserver: HTTPServer, log: Path
) -> None:
    httpserver.expect_ordered_request(PATH[vendor]).respond_with_response(
        Response("{}", 429, {"retry-after": "9"})
    )
    httpserver.expect_ordered_request(PATH[vendor]).respond_with_json(REPLY[vendor])
    clock = VirtualClock(START)
    task = asyncio.create_task(llmscope.call_llm("Hi", "cheap", "/tested", clock=clock))
    result = await task
    (event,) = events(log)
    assert clock.monotonic() == pytest.approx(9)
    # openai: 60 × 0.15 + 40 × 0.075 + 7 × 0.60; anthropic: 70 × 3 + 30 × 0.30 + 7 × 15 (USD per million)
    assert result.estimated_cost_usd == {"openai": 0.0000162, "anthropic": 0.000324}[vendor]
    assert event["cache_read_tokens"] == {"openai": 40, "anthropic": 30}[vendor]
    assert [attempt.get("error_type") for attempt in event["attempts"]] == ["rate_limit", None]


@pytest.mark.parametrize(
    ("made", "variable"), [(OpenAIProvider, "OPENAI_API_KEY"), (AnthropicProvider, "ANTHROPIC_API_KEY")]
)
async def test_a_missing_key_is_said_at_the_first_call_and_costs_nothing(
    made: type[Any], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    provider = made()
    with pytest.raises(ValueError, match=variable) as missing:
        await provider.complete("Hi", "any", 1)
    assert provider.categorize_error(missing.value) == "auth_error"
    assert provider.is_unbilled(missing.value)


def test_one_provider_serves_one_event_loop_after_another(vendor: str, httpserver: HTTPServer) -> None:
    httpserver.expect_request(PATH[vendor]).respond_with_json(REPLY[vendor])
    provider = provider_at(vendor, httpserver.url_for("").rstrip("/"))

    async def ask() -> str:
        answer = await provider.complete("Hi", MODEL[vendor], 64)
        await provider.aclose()
        return str(answer.text)

    assert [asyncio.run(ask()) for _ in range(2)] == ["Hello", "Hello"]


def test_a_provider_of_old_needs_only_two_members() -> None:
    class Minimal(ProviderBase):
        @property
        def provider_name(self) -> str:
            return "minimal"

        async def complete(
            self, prompt: str, model: str, max_output_tokens: int
        ) -> llmscope.ProviderResponse:
            return llmscope.ProviderResponse("Hi", 1, 1)

    error = RuntimeError("unexpected")
    minimal = Minimal()
    assert not minimal.is_retryable(error)
    assert minimal.categorize_error(error) == "unknown"
    assert minimal.retry_after_seconds(error) is None
    assert not minimal.is_unbilled(error)


def test_a_cause_chain_that_bites_its_tail_is_walked_once() -> None:
    error, other = RuntimeError("a"), RuntimeError("b")
    error.__cause__, other.__cause__ = other, error
    assert not is_known_unbilled(error, "unknown")


def traced_call(vendor: str, httpserver: HTTPServer, folder: Path, *, prelude: str = "") -> int:
    """How many spans one call makes in a process with a real SDK."""
    httpserver.expect_request(PATH[vendor]).respond_with_json(REPLY[vendor])
    root = Path(llmscope.__file__).parent.parent
    script = f"""
        import asyncio, llmscope
        from tests.llmscope.gateway.test_provider import provider_at
        {prelude}
        llmscope.setup_otel()
        llmscope.register_provider("v", provider_at({vendor!r}, {httpserver.url_for("").rstrip("/")!r}))
        llmscope.register_route("/v", llmscope.RoutePolicy(9, 0, False, {{"cheap": {MODEL[vendor]!r}}}, "v"))
        asyncio.run(llmscope.call_llm("Hi", "cheap", "/v", telemetry_path={str(folder / "t.jsonl")!r}))
        llmscope.shutdown_otel()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    )  # fmt: skip
    return done.stdout.count('"parent_id"')  # a span id stands on metric exemplars too


def test_the_sdks_own_spans_do_not_double_ours(vendor: str, httpserver: HTTPServer, tmp_path: Path) -> None:
    assert traced_call(vendor, httpserver, tmp_path) == 1
    ((request, _),) = httpserver.log
    assert "traceparent" not in request.headers


def test_twin_left_to_itself_the_anthropic_sdk_would_double_them(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    itself = (
        "llmscope.AnthropicProvider._new_client = lambda self, sdk, **options: sdk.AsyncAnthropic(**options)"
    )
    assert traced_call("anthropic", httpserver, tmp_path, prelude=itself) == 2
