"""What `call_llm` leaves in the log when a real SDK's call goes wrong, by each of four APIs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import llmscope
from llmscope import RoutePolicy, VirtualClock
from llmscope.gateway.provider import contract
from tests.llmscope.gateway.scripted_vendor import ScriptedVendor, Then, patience_seconds
from tests.llmscope.gateway.vendors import VENDORS, Vendor
from tests.llmscope.scripted import events

pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
START = datetime(2026, 11, 21, tzinfo=UTC)
UNKNOWN = (None, "degraded_unknown")
FREE = (0, "estimated_local_snapshot")


@pytest.fixture(params=list(VENDORS))
def vendor(request: pytest.FixtureRequest) -> Vendor:
    return VENDORS[request.param]


@asynccontextmanager
async def routed(vendor: Vendor, base_url: str, timeout_seconds: float = 10) -> AsyncIterator[None]:
    provider = vendor.make(base_url, timeout_seconds)
    llmscope.register_provider("under-test", provider)
    llmscope.register_route("/s", RoutePolicy(64, 1, False, {"cheap": vendor.model}, "under-test"))
    yield
    await provider.aclose()


async def the_line_of_a_failure(log: Path) -> dict[str, Any]:
    with pytest.raises(Exception):  # noqa: B017, PT011  the vendor's own class
        await llmscope.call_llm("Hi", "cheap", "/s", clock=VirtualClock(START))
    (event,) = events(log)
    assert event["status"] == "error"
    assert (event["tokens_in"], event["tokens_out"]) == (0, 0)
    return event


def cost_of(event: dict[str, Any]) -> tuple[float | None, str]:
    return event["estimated_cost_usd"], event["cost_source"]


@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET, Then.HANG])
@pytest.mark.parametrize("answered", ["nothing", "half"])
async def test_an_answer_that_does_not_arrive_may_have_been_billed(
    vendor: Vendor, then: Then, answered: str, log: Path
) -> None:
    half = [vendor.body()[:40]] if answered == "half" else []
    script = ScriptedVendor(
        half, then, status=200 if answered == "half" else None, content_type="application/json"
    )
    async with script.running() as server, routed(vendor, server.base_url, patience_seconds(then)):
        server.go_on.set()
        event = await the_line_of_a_failure(log)
        assert len(server.requests) == 2  # it was worth another attempt
    category = "timeout" if then is Then.HANG else "transient_error"
    assert [attempt["error_type"] for attempt in event["attempts"]] == [category] * 2
    assert (event["error_type"], cost_of(event)) == (category, UNKNOWN)


async def test_a_cancelled_call_is_closed_at_the_vendor_and_may_have_been_billed(
    vendor: Vendor, log: Path
) -> None:
    async with ScriptedVendor([], Then.HANG).running() as server, routed(vendor, server.base_url):
        task = asyncio.create_task(llmscope.call_llm("Hi", "cheap", "/s"))
        while not server.requests:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.left.wait(), 5)
    (event,) = events(log)
    assert (event["error_type"], cost_of(event)) == ("cancelled", UNKNOWN)


async def test_a_refused_connection_is_known_to_be_free(vendor: Vendor, log: Path) -> None:
    async with routed(vendor, unused_address()):
        event = await the_line_of_a_failure(log)
    assert (event["error_type"], cost_of(event)) == ("transient_error", FREE)


async def test_twin_who_does_not_look_for_the_refusal_does_not_know_it(
    vendor: Vendor, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "_never_connected", lambda error: False)
    with pytest.raises(AssertionError):
        await test_a_refused_connection_is_known_to_be_free(vendor, log)
    assert cost_of(events(log)[0]) == UNKNOWN


def unused_address() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"
