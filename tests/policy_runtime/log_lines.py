"""Log lines written by hand, so that no test reads back what our own writers made."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.settlement_table import TTL_SECONDS, Transition

START = datetime(2026, 3, 24, 10, 0, 0, tzinfo=UTC)


def stamp(seconds: float) -> str:
    """The instant `seconds` after START, as it stands in a log."""
    return (START + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def original_line(
    seconds: float, cost_usd: float | None, request_id: str = "r", **changes: Any
) -> dict[str, Any]:
    """A success line as the original llmscope emits it: attribution only in `audit_tags`."""
    line: dict[str, Any] = {
        "schema_version": "0.1.0",
        "request_id": request_id,
        "tenant_id": "acme",
        "route": "/answer-routed",
        "provider_selected": "openai",
        "model_selected": "gpt-4o",
        "model_tier": "expensive",
        "tokens_in": 100,
        "tokens_out": 50,
        "tokens_total": 150,
        "estimated_cost_usd": cost_usd,
        "cost_source": "estimated_local_snapshot",
        "latency_ms": 812.5,
        "status": "success",
        "cache_hit": False,
        "eval_hooks": [],
        "audit_tags": {},
        "timestamp": stamp(seconds),
        "provider": "openai",
        "model": "gpt-4o",
        "schema_valid": True,
        "selected_model": "gpt-4o",
    }
    line.update(changes)
    return line


def decision_line(
    seconds: float, reserved_usd: float | None, request_id: str = "r", **changes: Any
) -> dict[str, Any]:
    """A decision line."""
    line: dict[str, Any] = {
        "schema_version": "0.1.0",
        "timestamp": stamp(seconds),
        "request_id": request_id,
        "tenant_id": "acme",
        "charged_namespace": "default",
        "route_name": "/answer-routed",
        "decision": "allow",
        "state": "fresh",
    }
    if reserved_usd is not None:
        line["reserved_cost_usd"] = reserved_usd
        line["reservation_expires_at"] = stamp(seconds + TTL_SECONDS)
    line.update(changes)
    return line


def lines_of(row: Transition, request_id: str = "r") -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The (decision, telemetry) lines of a row of the settlement table."""
    decisions = []
    if row.decision is not None:
        reserved = row.decision.reserved_nano
        decision = decision_line(
            0,
            None if reserved is None else reserved / 1e9,
            request_id,
            decision=row.decision.decision,
            state=row.decision.state,
        )
        if row.decision.decision != "deny":
            decision["reservation_expires_at"] = stamp(TTL_SECONDS)
        decisions.append(decision)
    bills = [
        original_line(
            bill.at_seconds,
            None if bill.cost_nano is None else bill.cost_nano / 1e9,
            request_id,
            status=bill.status,
            cost_source=bill.cost_source,
        )
        for bill in row.bills
    ]
    return decisions, bills


def encode(line: dict[str, Any]) -> bytes:
    """One line without its newline."""
    return json.dumps(line).encode()


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    """Write a log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(encode(line) + b"\n" for line in lines))
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a log, failing on any line that does not parse."""
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
