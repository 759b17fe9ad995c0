"""Hand-made staging tables in an in-memory warehouse, for tests that state rows in and rows out.

The columns are those that staging makes of no lines at all; a row gives what matters to its test and gets
plain defaults for the rest. What does not belong here: log lines (those go through the real ingest).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb

from governance_pipeline.staging import build_stg_decisions, build_stg_requests
from governance_pipeline.warehouse import IN_MEMORY, connect

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
        build_stg_requests(con)
        build_stg_decisions(con)
        _fill(con, "stg_requests", _REQUEST_DEFAULTS, requests)
        _fill(con, "stg_decisions", _DECISION_DEFAULTS, decisions)
        yield con


def _fill(
    con: duckdb.DuckDBPyConnection,
    table: str,
    defaults: Mapping[str, Any],
    rows: Iterable[Mapping[str, Any]],
) -> None:
    columns = dict(
        zip(con.table(f"staging.{table}").columns, con.table(f"staging.{table}").types, strict=True)
    )
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


def _value(value: Any, kind: Any) -> Any:
    if str(kind).startswith("DECIMAL") and value is not None:
        return Decimal(str(value))
    return value
