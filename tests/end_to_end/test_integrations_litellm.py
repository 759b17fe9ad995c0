"""The LiteLLM recipe of `docs/integrations.md`, as it stands there, driven by a stand-in (see its module)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pytest_httpserver import HTTPServer

from policy_runtime import PolicyDenied, PolicyRuntime
from tests.end_to_end.documented_code import DOCS, run_section
from tests.end_to_end.litellm_stand_in import Proxy, UserAPIKeyAuth, install
from tests.policy_runtime.log_lines import read_lines

CAP = "{id: cap, primitive: budget_threshold, period: daily, limit_usd: 1.0, action: deny}"
KEY = UserAPIKeyAuth(team_id="acme", user_id="ann")
# gpt-4o, USD per million: 2.50 in, 1.25 cached, 10 out: 600 · 2.5 + 400 · 1.25 + 50 · 10 = 2,500.
COST_USD = 0.0025


def chat_reply() -> dict[str, Any]:
    return {
        "id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o",
        "choices": [{
            "index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello there"},
        }],
        "usage": {
            "prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050,
            "prompt_tokens_details": {"cached_tokens": 400},
        },
    }  # fmt: skip


def request(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": "Why?"}], **more}


class Recipe:
    """The page's code, loaded, and the logs it writes to."""

    def __init__(self, folder: Path, server: HTTPServer) -> None:
        self.folder, self.server = folder, server
        (folder / "policy.yaml").write_text(f"namespaces:\n  default:\n    rules:\n      - {CAP}\n")
        self.code = run_section(DOCS / "integrations.md", "LiteLLM")
        self.callback = self.code["proxy_handler_instance"]

    def deployment(self, name: str, status: int = 200) -> str:
        """The base URL of a vendor that always answers, or always fails with a status."""
        reply = chat_reply() if status == 200 else {"error": {"message": "no"}}
        self.server.expect_request(f"/{name}/chat/completions").respond_with_json(reply, status)
        return self.server.url_for(f"/{name}")

    def bills(self) -> list[dict[str, Any]]:
        return read_lines(self.folder / "logs" / "telemetry.jsonl")

    def decision(self) -> dict[str, Any]:
        log = read_lines(self.folder / "logs" / "policy_decisions.jsonl")
        (decision,) = [line for line in log if "event" not in line]
        return decision

    def money(self) -> tuple[float, float]:
        other = PolicyRuntime.from_settings()
        windows = other.live_windows()
        other.close()
        return (windows[0].spent, windows[0].reserved) if windows else (0, 0)


@pytest.fixture
def recipe(tmp_path: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipe]:
    monkeypatch.chdir(tmp_path)
    for name in ("TELEMETRY_PATH", "LLMSCOPE_TELEMETRY_PATH", "DECISIONS_PATH", "POLICY_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOVERNANCE_HOME", str(tmp_path))
    install(monkeypatch, httpserver.url_for("/own"))
    made = Recipe(tmp_path, httpserver)
    yield made
    made.callback.gate.close()
    made.code["gate"].close()


async def test_a_call_through_the_proxy_is_decided_and_billed(recipe: Recipe) -> None:
    proxy = Proxy(recipe.callback, [recipe.deployment("a")])
    reply = await proxy.chat(request(metadata={"feature_id": "chat"}), KEY)
    assert reply.choices[0].message.content == "Hello there"
    decision, (bill,) = recipe.decision(), recipe.bills()
    assert (decision["tenant_id"], decision["caller_id"], decision["feature_id"]) == ("acme", "ann", "chat")
    assert (bill["request_id"], bill["estimated_cost_usd"]) == (decision["request_id"], COST_USD)
    assert recipe.money() == (COST_USD, 0)
    ((sent, _),) = recipe.server.log
    assert sent.json["max_tokens"] == decision["reserved_tokens"] - decision["estimated_tokens_in"]
    assert recipe.callback.may_be_billed == {}


async def test_a_success_after_refused_attempts_is_billed_once_and_fully(recipe: Recipe) -> None:
    proxy = Proxy(recipe.callback, [recipe.deployment("a", 429), recipe.deployment("b")])
    await proxy.chat(request(), KEY)
    assert [bill["estimated_cost_usd"] for bill in recipe.bills()] == [COST_USD]
    assert recipe.money() == (COST_USD, 0)


async def test_twin_releasing_in_the_failure_event_would_lose_the_success(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def release(kwargs: Any, *rest: Any) -> None:
        request_id = kwargs["litellm_params"]["metadata"]["governance_request_id"]
        if recipe.callback.may_be_billed.pop(request_id, None) is not None:
            recipe.callback.gate.settle(request_id, cost_usd=0.0, status="error")

    monkeypatch.setattr(recipe.callback, "log_failure_event", release)
    with pytest.raises(AssertionError):
        await test_a_success_after_refused_attempts_is_billed_once_and_fully(recipe)


@pytest.mark.parametrize(
    ("statuses", "released"), [([429, 429], True), ([500, 429], False), ([429, 500], False)]
)
async def test_when_all_is_lost_only_what_cannot_be_billed_is_released(
    recipe: Recipe, statuses: list[int], released: bool
) -> None:
    proxy = Proxy(recipe.callback, [recipe.deployment(f"d{n}", status) for n, status in enumerate(statuses)])
    with pytest.raises(openai.APIStatusError):
        await proxy.chat(request(), KEY)
    assert [bill["estimated_cost_usd"] for bill in recipe.bills()] == ([0] if released else [])
    assert recipe.money() == (0, 0 if released else recipe.decision()["reserved_cost_usd"])


async def test_a_denial_reaches_the_client_with_its_status_and_no_vendor(recipe: Recipe) -> None:
    proxy = Proxy(recipe.callback, [recipe.deployment("a")])
    with pytest.raises(PolicyDenied) as denied:
        await proxy.chat(request(max_tokens=1_000_000), KEY)
    assert denied.value.status_code == 402
    assert (recipe.server.log, recipe.bills()) == ([], [])


async def test_a_client_cannot_settle_somebody_elses_request(recipe: Recipe) -> None:
    gate = recipe.callback.gate
    with gate.admit(route_name="/litellm", model_tier="expensive", prompt="x", request_id="victim"):
        pass
    reserved = recipe.money()[1]
    stolen = {"governance_request_id": "victim"}
    proxy = Proxy(recipe.callback, [recipe.deployment("a", 429)])
    with pytest.raises(openai.RateLimitError):
        await proxy.chat(request(metadata=dict(stolen)), KEY)
    await Proxy(recipe.callback, [recipe.deployment("b")]).chat(
        request(metadata=dict(stolen)), KEY, call_type="aembedding"
    )
    # Refused before the hook was reached, by the proxy's own authentication.
    await recipe.callback.async_post_call_failure_hook(
        request(metadata=dict(stolen)), type("E", (Exception,), {"status_code": 401})(), KEY
    )
    assert recipe.money() == (0, reserved)


@pytest.mark.parametrize(
    ("response_cost", "cache_hit", "cost_usd"),
    [(0.004, False, 0.004), (0.0, False, COST_USD), (0.0, True, 0)],
)
async def test_litellms_own_cost_is_taken_unless_it_is_the_zero_of_an_unknown_price(
    recipe: Recipe, response_cost: float, cache_hit: bool, cost_usd: float
) -> None:
    await Proxy(recipe.callback, [recipe.deployment("a")], response_cost, cache_hit).chat(request(), KEY)
    assert recipe.money() == (cost_usd, 0)


async def test_an_event_told_twice_bills_once(recipe: Recipe) -> None:
    proxy = Proxy(recipe.callback, [recipe.deployment("a")])
    reply = await proxy.chat(request(), KEY)
    request_id = recipe.decision()["request_id"]
    kwargs = {"model": "gpt-4o", "litellm_params": {"metadata": {"governance_request_id": request_id}}}
    recipe.callback.log_success_event(kwargs, reply, None, None)
    assert len(recipe.bills()) == 1


def test_in_ones_own_process_the_block_around_the_call_is_enough(recipe: Recipe) -> None:
    recipe.deployment("own")
    assert recipe.code["complete"]("Why?") == "Hello there"
    # The page's block leaves the cached tokens out: 1,000 · 2.5 + 50 · 10.
    assert recipe.money() == (0.003, 0)
