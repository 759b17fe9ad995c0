"""What the gate's tests ask and by which rules: one priced request, budgets around its worst case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmscope import LLMRequestContext
from tests.policy_runtime.log_lines import read_lines

CONTEXT = LLMRequestContext(tenant_id="acme", feature_id="chat")
# gpt-4o: 2.50 and 10 USD per million tokens; 1,000 in and at most 500 out reserve 0.0025 + 0.005 USD.
ASK: dict[str, Any] = {
    "context": CONTEXT,
    "route_name": "/answer-routed",
    "model_tier": "expensive",
    "tokens_in": 1000,
}
WORST_CASE_USD = 0.0075


def budget(limit_usd: float, action: str = "deny", **more: Any) -> dict[str, Any]:
    return {
        "id": f"{action}-cap",
        "primitive": "budget_threshold",
        "period": "hourly",
        "limit_usd": limit_usd,
        "action": action,
        **more,
    }


def policy(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"namespaces": {"default": {"rules": list(rules)}}, **more}


def decisions_of(tmp_path: Path) -> list[dict[str, Any]]:
    return [line for line in read_lines(tmp_path / "d.jsonl") if "event" not in line]
