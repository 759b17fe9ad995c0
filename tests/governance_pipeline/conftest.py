"""Warehouses and logs for the tests of the pipeline. Log lines are JSON written by hand here, never by
the project's own writers, so that a reader is not checked against its own writer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from governance_pipeline.warehouse import connect
from tests.settlement_table import TTL_SECONDS, Transition

DECIDED_AT = datetime(2026, 3, 24, 10, 0, tzinfo=UTC)


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty warehouse on disk, laid out."""
    with connect(tmp_path / "governance.duckdb") as con:
        yield con


@dataclass(frozen=True)
class SettlementLogs:
    """The logs of one row of the settlement table, and the instant at which to look at them."""

    telemetry: Path
    decisions: Path
    request_id: str
    as_of: datetime


@pytest.fixture
def settlement_logs(tmp_path: Path) -> Callable[[Transition], SettlementLogs]:
    """Writes the decision and the bills of one row of `tests.settlement_table` as log files."""

    def write(row: Transition) -> SettlementLogs:
        request_id = f"request-{row.name}"
        telemetry = [
            {
                "schema_version": "0.1.0",
                "request_id": request_id,
                "tenant_id": "acme",
                "route": "/answer-routed",
                "provider_selected": "openai",
                "model_selected": "gpt-4o-mini",
                "tokens_in": 100,
                "tokens_out": 50,
                "estimated_cost_usd": None if bill.cost_nano is None else bill.cost_nano / 1e9,
                "cost_source": bill.cost_source,
                "latency_ms": 120.5,
                "status": bill.status,
                "timestamp": _written(bill.at_seconds),
                "audit_tags": {"budget_namespace": "team-a", "feature_id": "chat"},
            }
            for bill in row.bills
        ]
        decisions = []
        if row.decision is not None:
            decision: dict[str, Any] = {
                "schema_version": "0.1.0",
                "timestamp": _written(0),
                "request_id": request_id,
                "tenant_id": "acme",
                "budget_namespace": "team-a",
                "charged_namespace": "team-a",
                "route_name": "/answer-routed",
                "decision": row.decision.decision,
                "state": row.decision.state,
            }
            if row.decision.decision != "deny":
                decision["reservation_expires_at"] = _written(TTL_SECONDS)
            if row.decision.reserved_nano is not None:
                decision["reserved_cost_usd"] = row.decision.reserved_nano / 1e9
            decisions.append(decision)
        as_of = DECIDED_AT + timedelta(seconds=row.look_at_seconds)
        return SettlementLogs(
            write_lines(tmp_path / "telemetry.jsonl", telemetry),
            write_lines(tmp_path / "policy_decisions.jsonl", decisions),
            request_id,
            as_of,
        )

    return write


def write_lines(path: Path, events: list[dict[str, Any]]) -> Path:
    """A JSON Lines file of `events`."""
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return path


def _written(seconds: float) -> str:
    return (DECIDED_AT + timedelta(seconds=seconds)).isoformat(timespec="microseconds")
