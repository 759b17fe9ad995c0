"""Staging: the logs as read become requests and decisions, one row each, in one vocabulary.

Each build replaces its whole table, in one statement, from `raw` alone: the same raw rows give the
same table. What does not belong here: joining the two (`sql/marts/fct_requests.sql`).
"""

from __future__ import annotations

import duckdb

from governance_pipeline.sql_files import load_sql


def build_stg_requests(con: duckdb.DuckDBPyConnection) -> int:
    """Build `staging.stg_requests` from `raw.telemetry`; returns its number of rows."""
    return _build(con, "stg_requests")


def build_stg_decisions(con: duckdb.DuckDBPyConnection) -> int:
    """Build `staging.stg_decisions` from `raw.policy_decisions`; returns its number of rows."""
    return _build(con, "stg_decisions")


def _build(con: duckdb.DuckDBPyConnection, table: str) -> int:
    rows = load_sql(f"staging/{table}").execute(con).fetchall()
    return int(rows[0][0])
