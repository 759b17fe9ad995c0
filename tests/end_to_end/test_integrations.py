"""`docs/integrations.md` as a user would run it: the vendors' real SDKs inside `admit`, a server on loopback.

Each way of calling is driven through each way that a call can end; both logs and the live windows of
another gate on the same logs are looked at every time.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from policy_runtime import AlreadySettled, PolicyDenied, PolicyRuntime
from tests.end_to_end.documented_code import DOCS, python_blocks, run_section
from tests.policy_runtime.log_lines import read_lines

PAGE = DOCS / "integrations.md"
POLICY = """\
tiers:
  cheap: {openai: gpt-4o-mini, anthropic: claude-haiku-4-5}
  expensive: {openai: gpt-4o, anthropic: claude-sonnet-4-6}
namespaces:
  default:
    rules:
      - {id: cap, primitive: budget_threshold, period: daily, limit_usd: LIMIT, action: ACTION}
"""
QUESTION = "Why is the sky blue?"

OPENAI_USAGE = {
    "input_tokens": 1000, "input_tokens_details": {"cached_tokens": 400}, "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 1050,
}  # fmt: skip
OPENAI_REPLY = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-4o",
    "output": [{
        "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "text": "Hello there", "annotations": []}],
    }],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": OPENAI_USAGE,
}  # fmt: skip
ANTHROPIC_USAGE = {
    "input_tokens": 500, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 400, "output_tokens": 50,
}  # fmt: skip
ANTHROPIC_REPLY = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6",
    "content": [{"type": "text", "text": "Hello there"}], "stop_reason": "end_turn", "stop_sequence": None,
    "usage": ANTHROPIC_USAGE,
}  # fmt: skip


def openai_events() -> list[dict[str, Any]]:
    delta = {
        "type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0,
        "logprobs": [],
    }  # fmt: skip
    started = {**OPENAI_REPLY, "status": "in_progress", "output": [], "usage": None}
    return [
        {"type": "response.created", "sequence_number": 0, "response": started},
        {**delta, "sequence_number": 1, "delta": "Hello"},
        {**delta, "sequence_number": 2, "delta": " there"},
        {"type": "response.completed", "sequence_number": 3, "response": OPENAI_REPLY},
    ]


def anthropic_events() -> list[dict[str, Any]]:
    started = {
        **ANTHROPIC_REPLY, "content": [], "stop_reason": None, "usage": {**ANTHROPIC_USAGE, "output_tokens": 1}
    }  # fmt: skip
    delta = {"type": "content_block_delta", "index": 0}
    return [
        {"type": "message_start", "message": started},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {**delta, "delta": {"type": "text_delta", "text": "Hello"}},
        {**delta, "delta": {"type": "text_delta", "text": " there"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 50},
        },
        {"type": "message_stop"},
    ]


class Vendor(NamedTuple):
    section: str
    path: str
    reply: dict[str, Any]
    events: list[dict[str, Any]]
    cheap_model: str
    cost_usd: float
    # of a stream cut after two words
    cut_cost_usd: Callable[[int], float]


VENDORS = {
    # gpt-4o, USD per million: 2.50 in, 1.25 cached, 10 out: 600 · 2.5 + 400 · 1.25 + 50 · 10 = 2,500.
    "openai": Vendor(
        "OpenAI", "/v1/responses", OPENAI_REPLY, openai_events(), "gpt-4o-mini", 0.0025,
        lambda estimated_in: (estimated_in * 2.5 + 2 * 10) / 1e6,
    ),
    # claude-sonnet-4-6: 3 in, 0.30 cached, 3.75 into the cache, 15 out:
    # 500 · 3 + 400 · 0.3 + 100 · 3.75 + 50 · 15 = 2,745.
    "anthropic": Vendor(
        "Anthropic", "/v1/messages", ANTHROPIC_REPLY, anthropic_events(), "claude-haiku-4-5", 0.002745,
        lambda _: (500 * 3 + 400 * 0.3 + 100 * 3.75 + 2 * 15) / 1e6,
    ),
}  # fmt: skip


class Site:
    """A folder with logs and a policy, a vendor on loopback, and the page's code between them."""

    def __init__(self, vendor: Vendor, server: HTTPServer, folder: Path) -> None:
        self.vendor, self.server, self.folder = vendor, server, folder
        self.code: dict[str, Any] = {}

    def load(self, limit_usd: float = 1.0, action: str = "deny") -> Site:
        policy = POLICY.replace("LIMIT", str(limit_usd)).replace("ACTION", action)
        (self.folder / "policy.yaml").write_text(policy)
        self.code = run_section(PAGE, self.vendor.section)
        return self

    def answers(self, reply: dict[str, Any]) -> None:
        self.server.expect_request(self.vendor.path).respond_with_json(reply)

    def fails(self, status: int) -> None:
        self.server.expect_request(self.vendor.path).respond_with_json({"error": {"message": "no"}}, status)

    def streams(self, events: list[dict[str, Any]], claimed_bytes: int | None = None) -> None:
        """Answer with server-sent events; a claimed length that is not reached is a broken connection."""

        def handler(request: Request) -> Response:
            body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
            response = Response(iter([body.encode()]), content_type="text/event-stream")
            if claimed_bytes is not None:
                response.headers["Content-Length"] = str(claimed_bytes)
            return response

        self.server.expect_request(self.vendor.path).respond_with_handler(handler)

    def with_options(self, **options: Any) -> None:
        for name in ("client", "async_client"):
            self.code[name] = self.code[name].with_options(**options)

    def decisions(self) -> list[dict[str, Any]]:
        log = read_lines(self.folder / "logs" / "policy_decisions.jsonl")
        return [line for line in log if "event" not in line]

    def bills(self) -> list[dict[str, Any]]:
        return read_lines(self.folder / "logs" / "telemetry.jsonl")

    def money(self) -> tuple[float, float]:
        """(spent, reserved), as another gate on the same logs sees them."""
        other = PolicyRuntime.from_settings()
        window = other.live_windows()[0]
        other.close()
        return window.spent, window.reserved

    async def call(self, way: str) -> str:
        """What the page's function answers, whichever kind it is."""
        function = self.code[way]
        if way == "answer":
            return str(function(QUESTION, "acme"))
        if way == "answer_async":
            return str(await function(QUESTION, "acme"))
        if way == "stream":
            return "".join(function(QUESTION, "acme"))
        chunks: AsyncIterator[str] = function(QUESTION, "acme")
        return "".join([chunk async for chunk in chunks])


ANSWERS = ["answer", "answer_async"]
STREAMS = ["stream", "stream_async"]


@pytest.fixture(params=list(VENDORS))
def site(
    request: pytest.FixtureRequest, httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    base = httpserver.url_for("").rstrip("/")
    monkeypatch.chdir(tmp_path)
    for name in ("TELEMETRY_PATH", "LLMSCOPE_TELEMETRY_PATH", "DECISIONS_PATH", "POLICY_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOVERNANCE_HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_BASE_URL", f"{base}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", base)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY", "false")
    made = Site(VENDORS[request.param], httpserver, tmp_path)
    yield made
    for name in ("gate", "client"):
        if name in made.code:
            made.code[name].close()


@pytest.mark.parametrize("way", ANSWERS)
async def test_an_answer_is_billed_as_the_vendor_counted_it(site: Site, way: str) -> None:
    site.load().answers(site.vendor.reply)
    assert await site.call(way) == "Hello there"
    (decision,), (bill,) = site.decisions(), site.bills()
    assert (decision["decision"], decision["tenant_id"]) == ("allow", "acme")
    assert bill["request_id"] == decision["request_id"]
    assert (bill["tokens_in"], bill["tokens_out"], bill["cache_read_tokens"]) == (1000, 50, 400)
    assert (bill["estimated_cost_usd"], bill["status"]) == (site.vendor.cost_usd, "success")
    assert bill["latency_ms"] > 0
    assert site.money() == (site.vendor.cost_usd, 0)
    ((request, _),) = site.server.log
    assert request.json["model"] == decision["model"]


@pytest.mark.parametrize("way", STREAMS)
async def test_a_whole_stream_is_billed_as_the_vendor_counted_it(site: Site, way: str) -> None:
    site.load().streams(site.vendor.events)
    assert await site.call(way) == "Hello there"
    (bill,) = site.bills()
    assert (bill["tokens_in"], bill["tokens_out"], bill["status"]) == (1000, 50, "success")
    assert site.money() == (site.vendor.cost_usd, 0)


@pytest.mark.parametrize("claimed_bytes", [None, 1_000_000], ids=["ends", "breaks"])
@pytest.mark.parametrize("way", STREAMS)
async def test_a_cut_stream_costs_its_input_and_what_was_received(
    site: Site, way: str, claimed_bytes: int | None
) -> None:
    words = [event for event in site.vendor.events if "delta" in event["type"]][:2]
    cut = site.vendor.events[: site.vendor.events.index(words[-1]) + 1]
    site.load().streams(cut, claimed_bytes)
    if claimed_bytes is None:
        assert await site.call(way) == "Hello there"
    else:
        with pytest.raises(Exception, match=r"Connection error|peer closed connection"):
            await site.call(way)
    (decision,), (bill,) = site.decisions(), site.bills()
    cost_usd = site.vendor.cut_cost_usd(decision["estimated_tokens_in"])
    assert (bill["status"], bill["tokens_out"]) == ("error", 2)
    assert bill["estimated_cost_usd"] == pytest.approx(cost_usd, abs=1e-9)
    assert site.money() == (bill["estimated_cost_usd"], 0)


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_that_its_reader_leaves_is_settled_then(site: Site, way: str) -> None:
    site.load().streams(site.vendor.events)
    if way == "stream":
        chunks = site.code[way](QUESTION, "acme")
        assert next(chunks) == "Hello"
        chunks.close()
    else:
        async with aclosing(site.code[way](QUESTION, "acme")) as left:
            assert await anext(left) == "Hello"
    (bill,) = site.bills()
    assert (bill["status"], bill["tokens_out"]) == ("error", 1)
    assert site.money() == (bill["estimated_cost_usd"], 0)


@pytest.mark.parametrize("way", STREAMS)
async def test_twin_a_stream_that_does_not_settle_in_finally_is_seen_to_fail(
    site: Site, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policy_runtime.admission.Admission.settle", lambda self, **bill: None)
    with pytest.raises(AssertionError):
        await test_a_cut_stream_costs_its_input_and_what_was_received(site, way, 1_000_000)


@pytest.mark.parametrize(
    ("status", "category", "known"),
    [(429, "rate_limit", True), (401, "auth_error", True), (500, "transient_error", False)],
)
@pytest.mark.parametrize("way", ANSWERS + STREAMS)
async def test_a_refusal_is_free_and_a_server_error_unknown(
    site: Site, way: str, status: int, category: str, known: bool
) -> None:
    site.load().fails(status)
    with pytest.raises(Exception) as raised:  # noqa: PT011  the vendor's own class
        await site.call(way)
    assert raised.value.status_code == status  # type: ignore[attr-defined]
    (decision,), (bill,) = site.decisions(), site.bills()
    assert (bill["status"], bill["error_type"]) == ("error", category)
    assert bill["estimated_cost_usd"] == (0 if known else None)
    assert site.money() == (0, 0 if known else decision["reserved_cost_usd"])
    assert len(site.server.log) == 1


@pytest.mark.parametrize("way", ANSWERS + STREAMS)
async def test_a_refused_connection_is_free(site: Site, way: str) -> None:
    site.load()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: whoever connects is refused
        site.with_options(base_url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(Exception, match="Connection error"):
            await site.call(way)
    (bill,) = site.bills()
    assert (bill["status"], bill["estimated_cost_usd"]) == ("error", 0)
    assert site.money() == (0, 0)


@pytest.mark.parametrize("way", ANSWERS + STREAMS)
async def test_a_timeout_may_have_been_billed(site: Site, way: str) -> None:
    over = threading.Event()

    def hang(request: Request) -> Response:
        over.wait(30)
        return Response(status=503)

    site.load().server.expect_request(site.vendor.path).respond_with_handler(hang)
    site.with_options(timeout=0.2)
    try:
        with pytest.raises(Exception, match="timed out"):
            await site.call(way)
    finally:
        over.set()
    (decision,), (bill,) = site.decisions(), site.bills()
    assert (bill["error_type"], bill["estimated_cost_usd"]) == ("timeout", None)
    assert site.money() == (0, decision["reserved_cost_usd"])


@pytest.mark.parametrize("way", ANSWERS + STREAMS)
async def test_a_denied_call_reaches_no_vendor(site: Site, way: str) -> None:
    site.load(limit_usd=0.0001).answers(site.vendor.reply)
    with pytest.raises(PolicyDenied):
        await site.call(way)
    assert site.server.log == []
    assert ([line["decision"] for line in site.decisions()], site.bills()) == (["deny"], [])


@pytest.mark.parametrize("way", ANSWERS)
async def test_a_downgrade_calls_the_same_vendors_cheaper_model(site: Site, way: str) -> None:
    site.load(limit_usd=0.0001, action="downgrade").answers(site.vendor.reply)
    await site.call(way)
    ((request, _),) = site.server.log
    assert request.json["model"] == site.vendor.cheap_model
    assert site.bills()[0]["model"] == site.vendor.cheap_model


# -- the rest of the page --------------------------------------------------------------------------------

openai_site = pytest.mark.parametrize("site", ["openai"], indirect=True)


@openai_site
async def test_the_decorated_functions_are_billed(site: Site) -> None:
    site.vendor = site.vendor._replace(section="A decorator")
    site.load().answers(site.vendor.reply)
    assert site.code["answer"](QUESTION).output_text == "Hello there"
    user = {"tenant": "acme", "id": "ann"}
    assert (await site.code["answer_async"](QUESTION, user)).output_text == "Hello there"
    assert (await site.code["answer_async"](QUESTION, user, important=True)).output_text == "Hello there"
    decisions = site.decisions()
    assert [line["model"] for line in decisions] == ["gpt-4o", "gpt-4o-mini", "gpt-4o"]
    assert [line["tenant_id"] for line in decisions] == ["default", "acme", "acme"]
    assert [line["request_id"] for line in site.bills()] == [line["request_id"] for line in decisions]
    # The page's bill leaves the cached tokens out: 1,000 · 2.5 + 50 · 10, and 1,000 · 0.15 + 50 · 0.6.
    assert site.money() == (pytest.approx(0.003 + 0.00018 + 0.003), 0)
    site.code["the_gate"]().close()


@openai_site
def test_a_bill_that_comes_later_settles_once(site: Site) -> None:
    site.vendor = site.vendor._replace(section="A bill that comes later")
    site.load()
    request_id = site.code["submit"]("A long document.")
    spent, reserved = site.money()
    assert spent == 0
    assert reserved > 0
    assert site.code["batch_finished"](request_id, 1000, 50) is True
    assert site.code["batch_finished"](request_id, 1000, 50) is False
    assert site.money() == (0.003, 0)
    with pytest.raises(AlreadySettled):
        PolicyRuntime.from_settings().settle(request_id, cost_usd=1.0)


@openai_site
def test_a_denial_is_told_as_a_problem_document(site: Site) -> None:
    site.vendor = site.vendor._replace(section="Telling a client that it was denied")
    site.load(limit_usd=0)
    with pytest.raises(PolicyDenied) as denied:
        PolicyRuntime.from_settings().admit(
            route_name="/answer-routed", model_tier="cheap", prompt=QUESTION
        ).__enter__()
    status, headers, body = site.code["response_of"](denied.value)
    assert (status, headers) == (402, {"Content-Type": "application/problem+json"})
    assert json.loads(body)["policy_id"] == "cap"


def test_every_section_with_code_is_run_here() -> None:
    run = {vendor.section for vendor in VENDORS.values()} | {
        "A decorator",
        "A bill that comes later",
        "Telling a client that it was denied",
        "LiteLLM",  # tests/end_to_end/test_integrations_litellm.py
    }
    assert set(python_blocks(PAGE)) == run
