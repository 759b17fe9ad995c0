"""`docs/providers.md` as a user would run it: the real SDK, a server on loopback, both logs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

import llmscope
from llmscope.gateway import cost_model, policies, provider
from policy_runtime import PolicyRuntime
from tests.end_to_end.documented_code import DOCS, run_section
from tests.llmscope.gateway.vendors import VENDORS
from tests.policy_runtime.log_lines import read_lines

PAGE = DOCS / "providers.md"
VLLM = VENDORS["compatible"]
PRICES = """\
version: mine-1
prices:
  - {model: qwen3-8b, provider: vllm, input_usd_per_mtok: 0.1, output_usd_per_mtok: 0.2}
  - {model: qwen3-32b, provider: vllm, input_usd_per_mtok: 1, output_usd_per_mtok: 2}
"""
POLICY = """\
tiers:
  cheap: {vllm: qwen3-8b}
  expensive: {vllm: qwen3-32b}
namespaces:
  default:
    rules:
      - {id: cap, primitive: budget_threshold, period: daily, limit_usd: 1, action: deny}
"""


@pytest.fixture
def page(
    httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, dict[str, Any]]]:
    def respond(request: Request) -> Response:
        if request.json.get("stream"):
            return Response(b"".join(sample["stream"]), content_type="text/event-stream")
        return Response(VLLM.body(), content_type="application/json")

    sample = {"stream": VLLM.whole_stream()}
    httpserver.expect_request(VLLM.path).respond_with_handler(respond)
    for name in ("TELEMETRY_PATH", "LLMSCOPE_TELEMETRY_PATH", "DECISIONS_PATH", "POLICY_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOVERNANCE_HOME", str(tmp_path))
    monkeypatch.setenv("VLLM_URL", httpserver.url_for("/v1"))
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "prices.yaml").write_text(PRICES)
    providers, routes = dict(provider._registry), dict(policies._ROUTE_POLICIES)
    monkeypatch.setattr(cost_model, "_registered", [])
    llmscope.register_prices(tmp_path / "prices.yaml")
    servers = run_section(PAGE, "Servers of your own")
    streams = run_section(PAGE, "Streams")
    yield {"servers": servers, "streams": streams, "sample": sample}
    streams["gate"].close()
    for registry, before in ((provider._registry, providers), (policies._ROUTE_POLICIES, routes)):
        registry.clear()
        registry.update(before)


def money() -> tuple[float, float]:
    """(spent, reserved), as another gate on the same logs sees them."""
    other = PolicyRuntime.from_settings()
    window = other.live_windows()[0]
    other.close()
    return window.spent, window.reserved


def bills(folder: Path) -> list[dict[str, Any]]:
    return read_lines(folder / "logs" / "telemetry.jsonl")


async def test_a_server_of_ones_own_is_called_and_priced(page: Any, tmp_path: Path) -> None:
    assert await page["servers"]["summary"]("the sky") == "Hello there"
    (bill,) = bills(tmp_path)
    assert (bill["provider"], bill["model"]) == ("vllm", "qwen3-8b")
    assert bill["estimated_cost_usd"] == 0.0000114  # 100 in at 0.1 and 7 out at 0.2 USD per million
    await page["servers"]["vllm"].aclose()


async def test_a_stream_is_printed_and_billed(
    page: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = await page["streams"]["spoken"]("the sky")
    (bill,) = bills(tmp_path)
    assert capsys.readouterr().out == "Hello there" == result.text
    assert bill["estimated_cost_usd"] == result.estimated_cost_usd
    await page["servers"]["vllm"].aclose()


async def test_a_stream_under_the_gate_settles_its_reservation(page: Any, tmp_path: Path) -> None:
    context = llmscope.LLMRequestContext(tenant_id="acme")
    assert await page["streams"]["governed"]("the sky", context) == "Hello there"
    (bill,) = bills(tmp_path)
    (decision,) = (
        line for line in read_lines(tmp_path / "logs" / "policy_decisions.jsonl") if "event" not in line
    )
    assert bill["request_id"] == decision["request_id"]
    assert (bill["model"], bill["tenant_id"]) == ("qwen3-32b", "acme")
    cost_usd = 0.000114  # 100 in at 1 and 7 out at 2 USD per million
    assert bill["estimated_cost_usd"] == cost_usd
    assert money() == (cost_usd, 0)
    await page["servers"]["vllm"].aclose()


async def test_a_stream_that_breaks_off_under_the_gate_is_spent_as_far_as_it_came(
    page: Any, tmp_path: Path
) -> None:
    """The block tells of the exception too; of two lines of one request the first known bill counts."""
    page["sample"]["stream"] = VLLM.cut_stream()
    with pytest.raises(llmscope.AnswerFailed):
        await page["streams"]["governed"]("the sky", llmscope.LLMRequestContext())
    first, *_ = bills(tmp_path)
    assert (first["error_type"], first["tokens_out"]) == ("transient_error", 2)
    assert first["estimated_cost_usd"] > 0
    assert money() == (first["estimated_cost_usd"], 0)
    await page["servers"]["vllm"].aclose()


async def test_a_provider_of_ones_own_needs_two_members(page: Any, tmp_path: Path) -> None:
    run_section(PAGE, "A provider of your own")
    llmscope.register_route("/echo", llmscope.RoutePolicy(9, 0, False, {"cheap": "gpt-4o"}, "echo"))
    assert (await llmscope.call_llm("a b", "cheap", "/echo")).text == "a b"
    async with llmscope.stream_llm("a b", "cheap", "/echo") as stream:
        assert [piece async for piece in stream] == ["a ", "b "]
    assert [bill["tokens_out"] for bill in bills(tmp_path)] == [5, 5]
