"""Streams through the vendors' real SDKs: in pieces, to the end or not, and left early."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmscope import AnswerFailed, InputUsage, ProviderResponse
from llmscope.gateway.provider import sdk
from tests.llmscope.gateway.scripted_vendor import ScriptedVendor, Then, patience_seconds
from tests.llmscope.gateway.vendors import PIECES, VENDORS, Vendor

pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
WHOLE = ProviderResponse(
    "Hello there", 100, 7, "stop", cache_read_tokens=40, cache_write_tokens=10, reasoning_tokens=2
)


@pytest.fixture(params=list(VENDORS))
def vendor(request: pytest.FixtureRequest) -> Vendor:
    return VENDORS[request.param]


async def all_items(provider: Any, vendor: Vendor) -> list[Any]:
    return [item async for item in provider.stream("Hi", vendor.model, 64)]


async def items_until_failure(provider: Any, vendor: Vendor, server: ScriptedVendor) -> tuple[str, Exception]:
    """The text that came, and what ended it."""
    pieces: list[str] = []
    with pytest.raises(Exception) as raised:  # noqa: PT011, PT012  the vendor's own class
        async for item in provider.stream("Hi", vendor.model, 64):
            if isinstance(item, str):
                pieces.append(item)
            if len(pieces) == len(PIECES):
                server.go_on.set()
    return "".join(pieces), raised.value


async def test_an_answer_arrives_in_pieces_and_whole_at_the_end(vendor: Vendor) -> None:
    async with ScriptedVendor(vendor.whole_stream()).running() as server:
        provider = vendor.make(server.base_url, 10)
        items = await all_items(provider, vendor)
        assert [item for item in items if isinstance(item, str)] == PIECES
        assert items[-1] == WHOLE
        counted = [item for item in items if isinstance(item, InputUsage)]
        assert counted == ([InputUsage(100, 40, 10)] if vendor.name == "anthropic" else [])
        (sent,) = server.requests
        assert (sent["stream"], sent[vendor.limit]) == (True, 64)
        asks_for_usage = vendor.name in {"openai_chat", "compatible"}
        assert sent.get("stream_options") == ({"include_usage": True} if asks_for_usage else None)
        assert "traceparent" not in server.headers[0]
        await provider.aclose()


async def test_who_leaves_early_closes_the_connection(vendor: Vendor) -> None:
    async with ScriptedVendor(vendor.cut_stream(), Then.HANG).running() as server:
        provider = vendor.make(server.base_url, 10)
        stream = provider.stream("Hi", vendor.model, 64)
        async for item in stream:
            if item == PIECES[0]:
                break
        assert not server.left.is_set()
        await stream.aclose()
        await asyncio.wait_for(server.left.wait(), 5)
        await provider.aclose()


async def test_who_is_cancelled_while_waiting_closes_the_connection(vendor: Vendor) -> None:
    async with ScriptedVendor(vendor.cut_stream(), Then.HANG).running() as server:
        provider = vendor.make(server.base_url, 10)
        arrived = asyncio.Event()

        async def read() -> None:
            async for item in provider.stream("Hi", vendor.model, 64):
                if item == PIECES[-1]:
                    arrived.set()

        reader = asyncio.create_task(read())
        await asyncio.wait_for(arrived.wait(), 5)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await asyncio.wait_for(server.left.wait(), 5)
        await provider.aclose()


async def test_twin_a_stream_that_does_not_close_its_response_leaves_the_vendor_talking(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never_closing(provider: str, stream: Any) -> Any:
        kept.append(stream)
        async for event in stream:
            yield event

    kept: list[Any] = []
    for module in ("openai_responses", "openai_chat", "anthropic_client"):
        monkeypatch.setattr(f"llmscope.gateway.provider.{module}.events_of", never_closing)
    async with ScriptedVendor(vendor.cut_stream(), Then.HANG).running() as server:
        provider = vendor.make(server.base_url, 10)
        stream = provider.stream("Hi", vendor.model, 64)
        async for item in stream:
            if item == PIECES[0]:
                break
        await stream.aclose()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.left.wait(), 0.1)
        await kept[0].close()
        await provider.aclose()


@pytest.mark.parametrize("then", [Then.END, Then.CLOSE, Then.RESET, Then.HANG])
async def test_a_stream_cut_in_the_middle_is_a_failure_after_its_pieces(vendor: Vendor, then: Then) -> None:
    async with ScriptedVendor(vendor.cut_stream(), then).running() as server:
        provider = vendor.make(server.base_url, patience_seconds(then))
        text, error = await items_until_failure(provider, vendor, server)
        assert text == "Hello there"
        assert provider.categorize_error(error) == ("timeout" if then is Then.HANG else "transient_error")
        assert provider.is_retryable(error)
        assert not provider.is_unbilled(error)
        assert isinstance(error, AnswerFailed) == (then is Then.END)
        await provider.aclose()


@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET, Then.HANG])
async def test_a_connection_that_breaks_before_anything_came_may_have_been_billed(
    vendor: Vendor, then: Then
) -> None:
    async with ScriptedVendor([], then, status=None).running() as server:
        server.go_on.set()
        provider = vendor.make(server.base_url, patience_seconds(then))
        for call in (provider.complete("Hi", vendor.model, 64), all_items(provider, vendor)):
            with pytest.raises(Exception) as raised:  # noqa: PT011  the vendor's own class
                await call
            category = provider.categorize_error(raised.value)
            assert category == ("timeout" if then is Then.HANG else "transient_error")
            assert not provider.is_unbilled(raised.value)
        await provider.aclose()


@pytest.mark.parametrize(
    "garbage",
    [b"data: {half\n\n", b"event: message_delta\ndata: {half\n\n", b"event: message_delta\ndata: \xff\n\n"],
)
async def test_garbage_in_the_middle_ends_the_stream(vendor: Vendor, garbage: bytes) -> None:
    async with ScriptedVendor([*vendor.cut_stream(), garbage]).running() as server:
        provider = vendor.make(server.base_url, 10)
        text, error = await items_until_failure(provider, vendor, server)
        assert text == "Hello there"
        assert isinstance(error, AnswerFailed)
        assert provider.categorize_error(error) == "transient_error"
        await provider.aclose()


async def test_a_page_instead_of_a_stream_is_no_answer(vendor: Vendor) -> None:
    async with ScriptedVendor([b"<html>Hello</html>"], content_type="text/html").running() as server:
        provider = vendor.make(server.base_url, 10)
        text, error = await items_until_failure(provider, vendor, server)
        assert (text, type(error)) == ("", AnswerFailed)
        await provider.aclose()


@pytest.mark.parametrize(
    ("code", "category"),
    [
        ("rate_limit_exceeded", "rate_limit"),
        ("overloaded_error", "transient_error"),
        (None, "transient_error"),
    ],
)
async def test_a_failure_told_within_the_stream_has_its_category(
    vendor: Vendor, code: str | None, category: str
) -> None:
    told = {"message": "a secret of Hello", "code": code, "type": code}
    event = {**told, "type": "error"} if vendor.name == "openai" else {"type": "error", "error": told}
    async with ScriptedVendor([*vendor.cut_stream(), *vendor.sse([event])]).running() as server:
        provider = vendor.make(server.base_url, 10)
        text, error = await items_until_failure(provider, vendor, server)
        assert text == "Hello there"
        assert provider.categorize_error(error) == category
        await provider.aclose()


async def test_a_response_that_fails_in_the_end_is_no_answer() -> None:
    vendor = VENDORS["openai"]
    failed = {
        **vendor.reply,
        "status": "failed",
        "output": [],
        "error": {"code": "server_error", "message": "x"},
    }
    last = {"type": "response.failed", "sequence_number": 3, "response": failed}
    async with ScriptedVendor([*vendor.cut_stream(), *vendor.sse([last])]).running() as server:
        provider = vendor.make(server.base_url, 10)
        text, error = await items_until_failure(provider, vendor, server)
        assert (text, type(error)) == ("Hello there", AnswerFailed)
        assert provider.categorize_error(error) == "transient_error"
        await provider.aclose()


async def test_a_refused_stream_has_its_status_and_its_wait(vendor: Vendor) -> None:
    refusal = ScriptedVendor(
        [b'{"error": {"message": "slow down"}}'],
        status=429, content_type="application/json", headers={"retry-after": "7"},
    )  # fmt: skip
    async with refusal.running() as server:
        provider = vendor.make(server.base_url, 10)
        text, error = await items_until_failure(provider, vendor, server)
        assert (text, provider.categorize_error(error)) == ("", "rate_limit")
        assert provider.retry_after_seconds(error) == 7
        assert provider.is_unbilled(error)
        assert len(server.requests) == 1
        await provider.aclose()


async def test_a_cut_answer_says_length_in_a_stream_too() -> None:
    ends = {
        "openai": {"response": {
            **VENDORS["openai"].reply, "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
        }, "type": "response.incomplete"},
        "openai_chat": {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
        "anthropic": {
            "type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 7},
        },
    }  # fmt: skip
    for name, end in ends.items():
        vendor = VENDORS[name]
        rest = vendor.events[-1:] if name != "openai" else []
        events = [*vendor.events[: vendor.cuts], end, *rest]
        async with ScriptedVendor([*vendor.sse(events), vendor.end.encode() or b"\n"]).running() as server:
            provider = vendor.make(server.base_url, 10)
            last = (await all_items(provider, vendor))[-1]
            assert (last.finish_reason, last.tokens_out, last.usage_known) == ("length", 7, True)
            await provider.aclose()


def test_only_loaded_modules_are_asked_for_error_classes() -> None:
    assert sdk._classes("APIError", of="no_such_sdk_is_loaded") == ()


@pytest.mark.parametrize("size", [1, 7])
async def test_where_the_network_cuts_its_packets_changes_nothing(vendor: Vendor, size: int) -> None:
    said = b"".join(vendor.whole_stream()).replace(b'" there"', '" thére"'.encode())
    packets = [said[begin : begin + size] for begin in range(0, len(said), size)]
    async with ScriptedVendor(packets).running() as server:
        provider = vendor.make(server.base_url, 10)
        items = await all_items(provider, vendor)
        assert [item for item in items if isinstance(item, str)] == ["Hello", " thére"]
        assert items[-1].tokens_out == 7
        await provider.aclose()
