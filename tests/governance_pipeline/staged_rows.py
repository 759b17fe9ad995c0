"""Hand-made staging tables in an in-memory warehouse, for tests that state rows in and rows out.

The columns are those of the staging layer; a row gives what matters to its test and gets plain defaults
for the rest. What does not belong here: log lines (those go through the real ingest).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb

from governance_pipeline.warehouse import IN_MEMORY, connect

REQUEST_COLUMNS = {
    "request_id": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "tenant_id": "VARCHAR",
    "caller_id": "VARCHAR",
    "use_case": "VARCHAR",
    "feature_id": "VARCHAR",
    "experiment_id": "VARCHAR",
    "budget_namespace": "VARCHAR",
    "route_name": "VARCHAR",
    "provider": "VARCHAR",
    "model": "VARCHAR",
    "model_tier": "VARCHAR",
    "tokens_in": "BIGINT",
    "tokens_out": "BIGINT",
    "cache_read_tokens": "BIGINT",
    "cache_write_tokens": "BIGINT",
    "cost_usd": "DECIMAL(18,9)",
    "latency_ms": "DOUBLE",
    "status": "VARCHAR",
    "is_success": "BOOLEAN",
    "finish_reason": "VARCHAR",
    "error_type": "VARCHAR",
    "is_fallback": "BOOLEAN",
    "fallback_reason": "VARCHAR",
    "retry_count": "BIGINT",
    "attempt_count": "BIGINT",
    "answer_count": "BIGINT",
    "winning_attempt_ms": "DOUBLE",
    "price_version": "VARCHAR",
    "cost_source": "VARCHAR",
    "file_id": "BIGINT",
    "line_offset": "BIGINT",
    "duplicate_count": "BIGINT",
}
DECISION_COLUMNS = {
    "request_id": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "tenant_id": "VARCHAR",
    "caller_id": "VARCHAR",
    "use_case": "VARCHAR",
    "feature_id": "VARCHAR",
    "experiment_id": "VARCHAR",
    "budget_namespace": "VARCHAR",
    "charged_namespace": "VARCHAR",
    "route_name": "VARCHAR",
    "model": "VARCHAR",
    "requested_model_tier": "VARCHAR",
    "effective_model_tier": "VARCHAR",
    "decision": "VARCHAR",
    "reason": "VARCHAR",
    "policy_id": "VARCHAR",
    "primitive": "VARCHAR",
    "mode": "VARCHAR",
    "state": "VARCHAR",
    "state_reason": "VARCHAR",
    "estimated_cost_usd": "DECIMAL(18,9)",
    "requested_estimated_cost_usd": "DECIMAL(18,9)",
    "reserved_cost_usd": "DECIMAL(18,9)",
    "estimated_tokens_in": "BIGINT",
    "reserved_tokens": "BIGINT",
    "reservation_expires_at": "TIMESTAMPTZ",
    "latency_ms": "DOUBLE",
    "window_cost_usd": "DECIMAL(18,9)",
    "window_reserved_usd": "DECIMAL(18,9)",
    "window_limit_usd": "DECIMAL(18,9)",
    "window_start": "TIMESTAMPTZ",
    "policy_hash": "VARCHAR",
    "price_version": "VARCHAR",
    "rules": "STRUCT(policy_id VARCHAR, primitive VARCHAR, mode VARCHAR, outcome VARCHAR)[]",
    "file_id": "BIGINT",
    "line_offset": "BIGINT",
}
START = datetime(2026, 3, 24, 10, tzinfo=UTC)
_REQUEST_DEFAULTS = {
    "tenant_id": "default",
    "status": "success",
    "is_success": True,
    "is_fallback": False,
    "duplicate_count": 0,
    "file_id": 1,
}
_DECISION_DEFAULTS = {"decision": "allow", "state": "fresh", "file_id": 2}


@contextmanager
def staged(
    requests: Iterable[Mapping[str, Any]] = (), decisions: Iterable[Mapping[str, Any]] = ()
) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory warehouse whose staging tables hold these rows.

    A row without `request_id` is numbered; one without `timestamp` (or with `at_seconds`) is dated from
    `START`; a row with `repeat: n` stands n times, one second apart.
    """
    with connect(IN_MEMORY) as con:
        _fill(con, "stg_requests", REQUEST_COLUMNS, _REQUEST_DEFAULTS, requests)
        _fill(con, "stg_decisions", DECISION_COLUMNS, _DECISION_DEFAULTS, decisions)
        yield con


def _fill(
    con: duckdb.DuckDBPyConnection,
    table: str,
    columns: Mapping[str, str],
    defaults: Mapping[str, Any],
    rows: Iterable[Mapping[str, Any]],
) -> None:
    declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    con.execute(f"CREATE OR REPLACE TABLE staging.{table} ({declared})")
    values = []
    for row in rows:
        given = dict(row)
        at_seconds = given.pop("at_seconds", 0)
        for repetition in range(given.pop("repeat", 1)):
            number = len(values)
            full = {
                "request_id": f"{table}-{number}",
                "timestamp": START + timedelta(seconds=at_seconds + repetition),
                "line_offset": number,
                **defaults,
                **given,
            }
            unknown = full.keys() - columns.keys()
            assert not unknown, f"no such column in {table}: {unknown}"
            values.append([_value(full.get(name), kind) for name, kind in columns.items()])
    if values:
        marks = ", ".join(f"?::{kind}" for kind in columns.values())
        con.executemany(f"INSERT INTO staging.{table} VALUES ({marks})", values)


def _value(value: Any, kind: str) -> Any:
    if kind.startswith("DECIMAL") and value is not None:
        return Decimal(str(value))
    return value
