"""Lines for calls that somebody else made: the same event, from the same envelope."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import llmscope
from llmscope import LLMRequestContext
from llmscope.telemetry_line import read_usage
from tests.llmscope.scripted import events


def test_usage_of_somebody_elses_call_is_the_same_event(tmp_path: Path) -> None:
    context = LLMRequestContext(tenant_id="t", feature_id="f", budget_namespace="b")
    line = llmscope.usage_line(
        request_id="r", context=context, route_name="/x", model="gpt-4o", provider="openai",
        model_tier="cheap", tokens_in=10, tokens_out=5, cost_nano=75_000,
        cost_source="estimated_local_snapshot",
        finish_reason="stop", timestamp=datetime(2026, 11, 21, tzinfo=UTC), extra={"gateway": "litellm"},
    )  # fmt: skip
    assert llmscope.write_line(tmp_path / "t.jsonl", line) == 0
    (event,) = events(tmp_path / "t.jsonl")
    assert event["timestamp"] == "2026-11-21T00:00:00.000000+00:00"
    assert event["gateway"] == "litellm"
    usage = read_usage(line, "")
    assert usage is not None
    assert (usage.request_id, usage.cost_nano, usage.feature_id, usage.budget_namespace, usage.success) == (
        "r", 75_000, "f", "b", True,
    )  # fmt: skip


def test_usage_of_unknown_cost_stays_unknown() -> None:
    line = llmscope.usage_line(
        request_id="r", context=LLMRequestContext(), route_name=None, model=None, tokens_in=None,
        tokens_out=None, cost_source="degraded_unknown", status="error",
        error_type="timeout", timestamp=1_800_000_000_000_000,
    )  # fmt: skip
    usage = read_usage(line, "")
    assert usage is not None
    assert (usage.cost_nano, usage.route_name, usage.status, usage.tenant_id) == (
        None,
        None,
        "error",
        "default",
    )
