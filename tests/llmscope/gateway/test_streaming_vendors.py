"""`stream_llm` over the vendors' real SDKs and a server on loopback: every end leaves one line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

import llmscope
from llmscope import RoutePolicy, VirtualClock, stream_llm
from tests.llmscope.gateway.scripted_vendor import ScriptedVendor, Then, patience_seconds
from tests.llmscope.gateway.vendors import PIECES, VENDORS, Vendor
from tests.llmscope.scripted import events

pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
START = datetime(2026, 11, 21, tzinfo=UTC)
PROMPT = "why is the sky blue"  # five words, five tokens


@pytest.fixture(params=list(VENDORS))
def vendor(request: pytest.FixtureRequest) -> Vendor:
    return VENDORS[request.param]


def cut_usd(vendor: Vendor, words: int) -> float:
    """Anthropic counts the input first: 50 plain, 10 written and 40 cached tokens at 3, 3.75 and 0.30 USD
    per million, 15 out. For gpt-4o-mini it is five words at 0.15, 0.60 out."""
    if vendor.name == "anthropic":
        return round((50 * 3 + 10 * 3.75 + 40 * 0.30 + words * 15) / 1e6, 9)
    return round((5 * 0.15 + words * 0.60) / 1e6, 9)


@asynccontextmanager
async def routed(
    vendor: Vendor, base_url: str, timeout_seconds: float = 10, retries: int = 0
) -> AsyncIterator[None]:
    provider = vendor.make(base_url, timeout_seconds)
    llmscope.register_provider("under-test", provider)
    llmscope.register_route("/s", RoutePolicy(64, retries, False, {"cheap": vendor.model}, "under-test"))
    yield
    await provider.aclose()


async def read(**options: Any) -> list[str]:
    async with stream_llm(PROMPT, "cheap", "/s", **options) as stream:
        return [piece async for piece in stream]


async def test_a_whole_stream_is_billed_as_the_vendor_counted_it(vendor: Vendor, log: Path) -> None:
    async with ScriptedVendor(vendor.whole_stream()).running() as server, routed(vendor, server.base_url):
        assert await read() == PIECES
    (event,) = events(log)
    assert (event["status"], event["finish_reason"], event["provider"]) == (
        "success", "stop", {"openai_chat": "openai", "compatible": "vllm"}.get(vendor.name, vendor.name),
    )  # fmt: skip
    assert (event["tokens_in"], event["tokens_out"], event["cache_read_tokens"]) == (100, 7, 40)
    # as for a whole answer: 60 · 0.15 + 40 · 0.075 + 7 · 0.60; 50 · 3 + 10 · 3.75 + 40 · 0.30 + 7 · 15
    assert event["estimated_cost_usd"] == (0.0003045 if vendor.name == "anthropic" else 0.0000162)


@pytest.mark.parametrize("then", list(Then))
async def test_a_stream_cut_by_the_vendor_costs_what_was_received(
    vendor: Vendor, then: Then, log: Path
) -> None:
    pieces: list[str] = []

    async def reader() -> None:
        async with stream_llm(PROMPT, "cheap", "/s") as stream:
            async for piece in stream:
                pieces.append(piece)
                if piece == PIECES[-1]:
                    server.go_on.set()

    async with (
        ScriptedVendor(vendor.cut_stream(), then).running() as server,
        routed(vendor, server.base_url, patience_seconds(then), retries=2),
    ):
        with pytest.raises(Exception):  # noqa: B017, PT011  the vendor's own class
            await reader()
        assert len(server.requests) == 1
    (event,) = events(log)
    assert pieces == PIECES
    assert (event["status"], event["error_type"]) == (
        "error", "timeout" if then is Then.HANG else "transient_error",
    )  # fmt: skip
    assert event["estimated_cost_usd"] == cut_usd(vendor, 2)
    assert "finish_reason" not in event


async def test_a_stream_that_is_left_is_closed_at_the_vendor_and_billed(vendor: Vendor, log: Path) -> None:
    async with (
        ScriptedVendor(vendor.cut_stream(), Then.HANG).running() as server,
        routed(vendor, server.base_url),
    ):
        async with stream_llm(PROMPT, "cheap", "/s") as stream:
            assert await anext(stream) == PIECES[0]
        await asyncio.wait_for(server.left.wait(), 5)
    (event,) = events(log)
    assert (event["error_type"], event["estimated_cost_usd"]) == ("client_disconnect", cut_usd(vendor, 1))


async def test_a_cancelled_stream_is_closed_at_the_vendor_and_billed(vendor: Vendor, log: Path) -> None:
    arrived = asyncio.Event()

    async def reader() -> None:
        async with stream_llm(PROMPT, "cheap", "/s") as stream:
            async for piece in stream:
                if piece == PIECES[-1]:
                    arrived.set()

    async with (
        ScriptedVendor(vendor.cut_stream(), Then.HANG).running() as server,
        routed(vendor, server.base_url),
    ):
        task = asyncio.create_task(reader())
        await asyncio.wait_for(arrived.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.left.wait(), 5)
    (event,) = events(log)
    assert (event["error_type"], event["estimated_cost_usd"]) == ("cancelled", cut_usd(vendor, 2))


async def test_a_refusal_is_waited_out_and_tried_again(
    vendor: Vendor, httpserver: HTTPServer, log: Path
) -> None:
    httpserver.expect_ordered_request(vendor.path).respond_with_response(
        Response("{}", 429, {"retry-after": "9"})
    )
    httpserver.expect_ordered_request(vendor.path).respond_with_data(
        b"".join(vendor.whole_stream()), content_type="text/event-stream"
    )
    clock = VirtualClock(START)
    async with routed(vendor, httpserver.url_for("").rstrip("/"), retries=1):
        assert await read(clock=clock) == PIECES
    (event,) = events(log)
    assert clock.monotonic() == pytest.approx(9)
    assert [attempt.get("error_type") for attempt in event["attempts"]] == ["rate_limit", None]
    assert event["status"] == "success"


@pytest.mark.parametrize(
    ("status", "category", "cost_usd"),
    [
        (429, "rate_limit", 0),
        (500, "transient_error", None),
        (400, "invalid_request", 0),
        (401, "auth_error", 0),
    ],
)
async def test_a_stream_that_never_begins_is_free_only_if_it_was_refused(
    vendor: Vendor, status: int, category: str, cost_usd: float | None, httpserver: HTTPServer, log: Path
) -> None:
    httpserver.expect_request(vendor.path).respond_with_json({"error": {"message": "no"}}, status)
    async with routed(vendor, httpserver.url_for("").rstrip("/")):
        with pytest.raises(Exception) as raised:  # noqa: PT011  the vendor's own class
            await read()
    assert raised.value.status_code == status  # type: ignore[attr-defined]
    (event,) = events(log)
    assert (event["error_type"], event["estimated_cost_usd"]) == (category, cost_usd)


@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET, Then.HANG])
async def test_a_connection_lost_before_the_first_piece_has_no_known_cost(
    vendor: Vendor, then: Then, log: Path
) -> None:
    clock = VirtualClock(START)
    async with (
        ScriptedVendor([], then, status=None).running() as server,
        routed(vendor, server.base_url, patience_seconds(then), retries=1),
    ):
        server.go_on.set()
        with pytest.raises(Exception):  # noqa: B017, PT011  the vendor's own class
            await read(clock=clock)
        assert len(server.requests) == 2
    (event,) = events(log)
    category = "timeout" if then is Then.HANG else "transient_error"
    assert [attempt["error_type"] for attempt in event["attempts"]] == [category] * 2
    assert (event["estimated_cost_usd"], event["cost_source"]) == (None, "degraded_unknown")


async def test_twin_a_provider_that_takes_the_cut_for_the_end_bills_nothing(
    vendor: Vendor, log: Path
) -> None:
    def careless(base_url: str, timeout_seconds: float) -> Any:
        provider = vendor.make(base_url, timeout_seconds)
        whole = type(provider).stream

        async def stream(self: Any, prompt: str, model: str, max_output_tokens: int) -> Any:
            try:
                async for item in whole(self, prompt, model, max_output_tokens):
                    yield item
            except llmscope.AnswerFailed:
                yield llmscope.ProviderResponse("Hello there", 0, 0, "stop")

        provider.__class__ = type("Careless", (type(provider),), {"stream": stream})
        return provider

    with pytest.raises(pytest.fail.Exception):
        await test_a_stream_cut_by_the_vendor_costs_what_was_received(
            vendor._replace(make=careless), Then.END, log
        )
    (event,) = events(log)
    assert (event["status"], event["estimated_cost_usd"]) == ("success", 0)
