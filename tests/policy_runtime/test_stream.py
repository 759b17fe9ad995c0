"""`gate.stream_llm`: decided on entering, settled by the stream's own line however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import llmscope
from llmscope import LLMRequestContext, ProviderResponse, RoutePolicy
from llmscope.gateway import streaming
from policy_runtime import PolicyDenied, PolicyRuntime
from tests.llmscope.scripted import StreamedProvider, events
from tests.registries import restored_registries

CONTEXT = LLMRequestContext(tenant_id="acme")
PIECES = ["one ", "two ", "three ", "four"]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[PolicyRuntime]:
    with restored_registries():
        llmscope.register_provider(
            "spelling",
            StreamedProvider(
                [*PIECES, ProviderResponse("".join(PIECES), 1000, 100, "stop")], name="spelling"
            ),
        )
        llmscope.register_route("/r", RoutePolicy(500, 0, False, {"cheap": "gpt-4o-mini"}, "spelling"))
        rule = {
            "id": "day",
            "primitive": "budget_threshold",
            "period": "daily",
            "limit_usd": 0.0007,
            "action": "deny",
        }
        made = PolicyRuntime(
            {"namespaces": {"default": {"rules": [rule]}}},
            telemetry_path=tmp_path / "t.jsonl",
            decisions_path=tmp_path / "d.jsonl",
        )
        yield made
        made.close()


def window(gate: PolicyRuntime) -> tuple[float, float]:
    """Spent and reserved, in USD."""
    (only,) = gate.live_windows()
    return only.spent, only.reserved


async def read(gate: PolicyRuntime, pieces: int = 99) -> str:
    text = ""
    async with gate.stream_llm("Spell", "cheap", "/r", context=CONTEXT) as stream:
        async for piece in stream:
            text += piece
            pieces -= 1
            if not pieces:
                break
    return text


async def test_a_whole_stream_settles_its_reservation_at_what_the_vendor_counted(
    gate: PolicyRuntime, tmp_path: Path
) -> None:
    assert await read(gate) == "one two three four"
    (decision,) = [line for line in events(tmp_path / "d.jsonl") if "event" not in line]
    (bill,) = events(tmp_path / "t.jsonl")
    assert bill["request_id"] == decision["request_id"]
    assert bill["estimated_cost_usd"] == 0.00021  # 1,000 × 0.15 + 100 × 0.60 per million
    assert window(gate) == (0.00021, 0)


async def test_a_stream_that_is_left_settles_at_its_input_and_what_was_received(
    gate: PolicyRuntime, tmp_path: Path
) -> None:
    assert await read(gate, pieces=2) == "one two "
    (bill,) = events(tmp_path / "t.jsonl")
    assert 0 < bill["estimated_cost_usd"] < 0.00001
    assert window(gate) == (bill["estimated_cost_usd"], 0)


async def test_a_denied_stream_sends_nothing(gate: PolicyRuntime, tmp_path: Path) -> None:
    for _ in range(2):
        await read(gate)
    with pytest.raises(PolicyDenied):
        await read(gate)
    assert len(events(tmp_path / "t.jsonl")) == 2


async def test_twin_a_stream_that_tells_nothing_when_left_keeps_its_reservation(
    gate: PolicyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(self: Any, error: Any) -> None:
        return None

    monkeypatch.setattr(streaming.AnswerStream, "_leave", silent)
    await read(gate, pieces=2)
    assert window(gate)[1] > 0
