"""Servers that speak OpenAI's chat completions, each with habits of its own, behind the real SDK."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

import llmscope
from llmscope import ConfigurationError, OpenAICompatibleProvider, OpenAIProvider, RoutePolicy
from tests.llmscope.gateway.scripted_vendor import ScriptedVendor
from tests.llmscope.gateway.vendors import CHAT_REPLY, VENDORS
from tests.llmscope.scripted import events

CHAT = "/v1/chat/completions"
COMPATIBLE = VENDORS["compatible"]


def base_url_of(server: HTTPServer) -> str:
    return server.url_for("/v1")


async def test_no_key_and_nothing_of_openais_environment_is_sent(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/elsewhere")
    httpserver.expect_request(CHAT).respond_with_json(CHAT_REPLY)
    provider = OpenAICompatibleProvider("ollama", base_url_of(httpserver))
    assert (await provider.complete("Hi", "llama3", 64)).text == "Hello there"
    ((request, _),) = httpserver.log
    assert request.headers["Authorization"] == "Bearer no-key-needed"
    assert not {name for name, value in request.headers if "secret" in value or "somebody" in value}
    await provider.aclose()


async def test_a_key_that_is_given_is_sent(httpserver: HTTPServer) -> None:
    httpserver.expect_request(CHAT).respond_with_json(CHAT_REPLY)
    provider = OpenAICompatibleProvider("vllm", base_url_of(httpserver), "token-abc")
    await provider.complete("Hi", "m", 64)
    ((request, _),) = httpserver.log
    assert request.headers["Authorization"] == "Bearer token-abc"
    await provider.aclose()


async def test_each_server_has_its_own_name_in_the_log(httpserver: HTTPServer, log: Path) -> None:
    httpserver.expect_request(CHAT).respond_with_json(CHAT_REPLY)
    for name in ("vllm-a", "vllm-b"):
        provider = OpenAICompatibleProvider(name, base_url_of(httpserver))
        llmscope.register_provider(name, provider)
        llmscope.register_route(f"/{name}", RoutePolicy(9, 0, False, {"cheap": "llama3"}, name))
        await llmscope.call_llm("Hi", "cheap", f"/{name}")
        await provider.aclose()
    assert [event["provider"] for event in events(log)] == ["vllm-a", "vllm-b"]
    assert {event["estimated_cost_usd"] for event in events(log)} == {None}  # nobody has a price for it


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_the_longest_answer_is_said_in_the_servers_words(httpserver: HTTPServer, field: Any) -> None:
    httpserver.expect_request(CHAT).respond_with_json(CHAT_REPLY)
    provider = OpenAICompatibleProvider("s", base_url_of(httpserver), output_limit_field=field)
    await provider.complete("Hi", "m", 64)
    ((request, _),) = httpserver.log
    limits = {name: value for name, value in request.json.items() if name.startswith("max")}
    assert limits == {field: 64}
    await provider.aclose()


async def test_a_server_that_refuses_the_question_for_usage_streams_without_it() -> None:
    def respond(request: Any) -> Response:
        if "stream_options" in request.json:
            return Response(json.dumps({"error": {"message": "unknown field"}}), 400)
        return Response(b"".join(silent), content_type="text/event-stream")

    events_without_usage = COMPATIBLE.events[:-1]
    silent = [*COMPATIBLE.sse(events_without_usage), COMPATIBLE.end.encode()]
    with HTTPServer(host="127.0.0.1", port=0) as server:
        server.expect_request(CHAT).respond_with_handler(respond)
        asking = OpenAICompatibleProvider("s", base_url_of(server))
        with pytest.raises(Exception, match="400") as refused:
            _ = [item async for item in asking.stream("Hi", "m", 64)]
        assert asking.categorize_error(refused.value) == "invalid_request"
        quiet = OpenAICompatibleProvider("s", base_url_of(server), stream_usage=False)
        items = [item async for item in quiet.stream("Hi", "m", 64)]
        assert (items[-1].text, items[-1].usage_known) == ("Hello there", False)
        await asking.aclose()
        await quiet.aclose()


async def test_counts_in_every_event_are_not_added_up() -> None:
    told = [{**event, "usage": {"prompt_tokens": 100, "completion_tokens": n, "total_tokens": 100 + n}}
            for n, event in enumerate(COMPATIBLE.events)]  # fmt: skip
    async with ScriptedVendor([*COMPATIBLE.sse(told), b"data: [DONE]\n\n"]).running() as server:
        provider = COMPATIBLE.make(server.base_url, 10)
        answer = [item async for item in provider.stream("Hi", "m", 64)][-1]
        assert (answer.tokens_in, answer.tokens_out) == (100, len(told) - 1)
        await provider.aclose()


async def test_a_stream_may_end_without_done_and_tell_reasoning_beside_the_text() -> None:
    thinking = {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}]}
    told = [thinking, *COMPATIBLE.events]
    async with ScriptedVendor(COMPATIBLE.sse(told)).running() as server:
        provider = COMPATIBLE.make(server.base_url, 10)
        items = [item async for item in provider.stream("Hi", "m", 64)]
        assert (items[-1].text, items[-1].finish_reason) == ("Hello there", "stop")
        await provider.aclose()


async def test_content_in_parts_is_joined(httpserver: HTTPServer) -> None:
    parts = [
        {"type": "thinking", "thinking": []},
        {"type": "text", "text": "Hello"},
        {"type": "text", "text": "!"},
    ]
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": parts}}
    httpserver.expect_request(CHAT).respond_with_json({**CHAT_REPLY, "choices": [choice]})
    provider = OpenAICompatibleProvider("mistral", base_url_of(httpserver))
    assert (await provider.complete("Hi", "m", 64)).text == "Hello!"
    await provider.aclose()


async def test_a_host_whose_every_address_refuses_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two addresses of one host are tried at once; the error is then a group."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    async def two_addresses(self: Any, host: Any, wanted_port: Any, **options: Any) -> Any:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.1", "127.0.0.2")
        ]

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", two_addresses)
    provider = OpenAICompatibleProvider("s", f"http://two-addresses.test:{port}/v1")
    with pytest.raises(Exception) as raised:  # noqa: PT011  the SDK's own class
        await provider.complete("Hi", "m", 64)
    assert _has_group(raised.value)
    assert provider.is_unbilled(raised.value)
    await provider.aclose()


def _has_group(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            return len(error.exceptions) == 2
        error = error.__cause__ or error.__context__
    return False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "", "base_url": "http://x/v1"}, "needs a name"),
        ({"name": " vllm", "base_url": "http://x/v1"}, "needs a name"),
        ({"name": "vllm", "base_url": "localhost:8000"}, "neither http"),
        ({"name": "vllm", "base_url": "http://x/v1", "output_limit_field": "limit"}, "max_completion_tokens"),
    ],
)
def test_what_cannot_be_a_server_is_refused_when_it_is_made(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        OpenAICompatibleProvider(**arguments)


def test_openai_has_two_apis() -> None:
    with pytest.raises(ConfigurationError, match="'responses' and 'chat'"):
        OpenAIProvider(api="assistants")  # type: ignore[arg-type]
