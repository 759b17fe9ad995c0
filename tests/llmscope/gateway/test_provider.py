"""The vendors' real SDKs against a server on loopback: what is sent, counted, categorised and retried."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

import llmscope
from llmscope import (
    AnthropicProvider,
    OpenAIProvider,
    ProviderBase,
    ProviderResponse,
    RoutePolicy,
    VirtualClock,
)
from llmscope.gateway.provider import is_known_unbilled
from tests.llmscope.gateway.vendors import VENDORS
from tests.llmscope.scripted import events

PATH = {name: vendor.path for name, vendor in VENDORS.items()}
REPLY = {name: vendor.reply for name, vendor in VENDORS.items()}
MODEL = {name: vendor.model for name, vendor in VENDORS.items()}
# The price list's Anthropic models are the original's, and old by now.
pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
START = datetime(2026, 11, 21, tzinfo=UTC)


def provider_at(vendor: str, base_url: str, timeout_seconds: float = 10) -> Any:
    return VENDORS[vendor].make(base_url, timeout_seconds)


def base_url_of(server: HTTPServer) -> str:
    return server.url_for("").rstrip("/")


@pytest.fixture(params=list(VENDORS))
def vendor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def provider(vendor: str, httpserver: HTTPServer) -> AsyncIterator[Any]:
    made = provider_at(vendor, base_url_of(httpserver))
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
    assert answer == ProviderResponse(
        "Hello there", 100, 7, "stop", cache_read_tokens=40, cache_write_tokens=10, reasoning_tokens=2
    )
    ((request, _),) = httpserver.log
    sent = {"model": MODEL[vendor], VENDORS[vendor].limit: 64}
    sent["input" if vendor == "openai" else "messages"] = (
        "Hi" if vendor == "openai" else [{"role": "user", "content": "Hi"}]
    )
    assert request.json == sent


CUT = {
    "openai": {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    "anthropic": {"stop_reason": "max_tokens"},
}


def ended(vendor: str, reason: str, **message: Any) -> dict[str, Any]:
    """A chat completion that ended for `reason`."""
    choice = {
        "index": 0,
        "finish_reason": reason,
        "message": {"role": "assistant", "content": None, **message},
    }
    return {"choices": [choice]}


async def test_an_answer_cut_off_says_length(provider: Any, vendor: str, httpserver: HTTPServer) -> None:
    cut = CUT.get(vendor) or ended(vendor, "length", content="Hello")
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
    }.get(vendor) or ended(vendor, "tool_calls")  # fmt: skip
    httpserver.expect_request(PATH[vendor]).respond_with_json({**REPLY[vendor], **called})
    answer = await provider.complete("Hi", MODEL[vendor], 64)
    assert (answer.text, answer.finish_reason) == ("", "tool_calls")


async def test_a_refusal_is_an_answer_that_was_filtered(
    provider: Any, vendor: str, httpserver: HTTPServer
) -> None:
    refused = {
        "openai": {"output": [{
            "type": "message", "id": "m", "status": "completed", "role": "assistant",
            "content": [{"type": "refusal", "refusal": "No."}],
        }]},
        "anthropic": {"stop_reason": "refusal", "content": [{"type": "text", "text": "No."}]},
    }.get(vendor) or ended(vendor, "stop", refusal="No.")  # fmt: skip
    httpserver.expect_request(PATH[vendor]).respond_with_json({**REPLY[vendor], **refused})
    answer = await provider.complete("Hi", MODEL[vendor], 64)
    assert (answer.text, answer.finish_reason) == ("No.", "content_filter")


@pytest.mark.parametrize(
    "usage", [None, "many", {}, {"input_tokens": -1, "output_tokens": 1, "prompt_tokens": "9"}]
)
async def test_an_answer_without_sound_usage_is_not_free(
    provider: Any, vendor: str, httpserver: HTTPServer, usage: Any, log: Path
) -> None:
    httpserver.expect_request(PATH[vendor]).respond_with_json({**REPLY[vendor], "usage": usage})
    answer = await provider.complete("Hi", MODEL[vendor], 64)
    assert (answer.text, answer.usage_known) == ("Hello there", False)
    await llmscope.call_llm("Hi", "cheap", "/tested")
    (event,) = events(log)
    assert (event["status"], event["estimated_cost_usd"]) == ("success", None)
    assert event["cost_source"] == "degraded_unknown"


GARBAGE = {
    "a page": ("<html>Hello</html>", "text/html"),
    "half of it": ('{"id": "x", "choices": [{', "application/json"),
    "no UTF-8": (b'{"id": "\xff"}', "application/json"),
    "a list": ("[1, 2]", "application/json"),
    "null": ("null", "application/json"),
    "nothing in it": ("{}", "application/json"),
    "empty": ("", "application/json"),
}


@pytest.mark.parametrize("garbage", list(GARBAGE))
async def test_garbage_is_a_failure_that_may_have_been_billed(
    provider: Any, vendor: str, httpserver: HTTPServer, garbage: str, log: Path
) -> None:
    body, content_type = GARBAGE[garbage]
    httpserver.expect_request(PATH[vendor]).respond_with_response(Response(body, content_type=content_type))
    error = await error_of(provider, vendor)
    assert isinstance(error, llmscope.AnswerFailed)
    assert "Hello" not in str(error)
    assert (provider.categorize_error(error), provider.is_retryable(error)) == ("transient_error", True)
    with pytest.raises(llmscope.AnswerFailed):
        await llmscope.call_llm("Hi", "cheap", "/tested", clock=VirtualClock(START))
    (event,) = events(log)
    assert (event["error_type"], event["estimated_cost_usd"]) == ("transient_error", None)
    assert len(event["attempts"]) == 2


@pytest.mark.parametrize(
    ("code", "category"), [("rate_limit_exceeded", "rate_limit"), ("server_error", "transient_error")]
)
async def test_an_answer_that_says_that_it_failed_is_no_answer(
    httpserver: HTTPServer, code: str, category: str
) -> None:
    error = {"code": code, "message": "a secret of Hello"}
    for vendor, body in (
        ("openai", {**REPLY["openai"], "status": "failed", "output": [], "error": error}),
        ("compatible", {"error": error}),
    ):
        provider = provider_at(vendor, base_url_of(httpserver))
        httpserver.expect_request(PATH[vendor]).respond_with_json(body)
        failure = await error_of(provider, vendor)
        assert provider.categorize_error(failure) == category
        assert "secret" not in str(failure)
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
    provider = provider_at(vendor, base_url_of(httpserver), 0.05)
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
    # USD per million. OpenAI's: 60 × 0.15 + 40 × 0.075 + 7 × 0.60 (writing costs nothing extra);
    # Anthropic's: 50 × 3 + 10 × 3.75 + 40 × 0.30 + 7 × 15.
    assert result.estimated_cost_usd == (0.0003045 if vendor == "anthropic" else 0.0000162)
    assert (event["cache_read_tokens"], event["cache_write_tokens"]) == (40, 10)
    assert [attempt.get("error_type") for attempt in event["attempts"]] == ["rate_limit", None]


@pytest.mark.parametrize("vendor", ["anthropic"], indirect=True)
async def test_what_anthropic_keeps_for_an_hour_is_priced_as_such(
    provider: Any, vendor: str, httpserver: HTTPServer, log: Path
) -> None:
    usage = {
        **REPLY[vendor]["usage"],
        "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6},
    }
    httpserver.expect_oneshot_request(PATH[vendor]).respond_with_json({**REPLY[vendor], "usage": usage})
    result = await llmscope.call_llm("Hi", "cheap", "/tested")
    # USD per million: 50 × 3 + 4 × 3.75 + 6 × 6 + 40 × 0.30 + 7 × 15.
    assert result.estimated_cost_usd == 0.000318
    (event,) = events(log)
    assert (event["cache_write_tokens"], event["cache_write_1h_tokens"]) == (10, 6)


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
    provider = provider_at(vendor, base_url_of(httpserver))

    async def ask() -> str:
        answer = await provider.complete("Hi", MODEL[vendor], 64)
        await provider.aclose()
        return str(answer.text)

    assert [asyncio.run(ask()) for _ in range(2)] == ["Hello there"] * 2


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


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "unbilled"),
    [
        (ConnectionRefusedError(), True),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), True),
        (caused(OSError("all attempts"), ConnectionRefusedError()), True),
        (ExceptionGroup("all", [ConnectionRefusedError(), ConnectionRefusedError()]), True),
        (caused(OSError("all"), ExceptionGroup("all", [ConnectionRefusedError(), TimeoutError()])), False),
        (ExceptionGroup("all", [ExceptionGroup("v6", [ConnectionRefusedError()])]), True),
        (ConnectionResetError(), False),
        (caused(ConnectionResetError(), ConnectionRefusedError()), False),
        (caused(TimeoutError(), ConnectionRefusedError()), False),
        (RuntimeError(), False),
    ],
)
def test_free_is_what_never_connected(error: BaseException, unbilled: bool) -> None:
    assert is_known_unbilled(error, "transient_error") is unbilled


def test_a_cause_chain_that_bites_its_tail_is_walked_once() -> None:
    error, other = RuntimeError("a"), RuntimeError("b")
    error.__cause__, other.__cause__ = other, error
    assert not is_known_unbilled(error, "unknown")
