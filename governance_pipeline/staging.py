"""Staging: the logs as read become requests and decisions, one row each, in one vocabulary.

Each build brings its table up to date in one transaction: the requests that new lines tell of are staged
again from all their lines, the others stand. The same raw rows give the same rows, in whatever pieces they
came. What does not belong here: joining the two (`facts`).
"""

from __future__ import annotations

import duckdb

from governance_pipeline.derivations import (
    Derivation,
    definition_of,
    derivation_of,
    forget_derivation,
    record_derivation,
)
from governance_pipeline.sql_files import load_sql
from governance_pipeline.warehouse import transaction


def build_stg_requests(con: duckdb.DuckDBPyConnection, *, afresh: bool = False) -> int:
    """Bring `staging.stg_requests` up to date with `raw.telemetry`; returns its number of rows.

    Args:
        con: the warehouse, in no transaction.
        afresh: build the whole table even where it could be brought up to date.
    """
    return _build(con, "telemetry", "stg_requests", afresh)


def build_stg_decisions(con: duckdb.DuckDBPyConnection, *, afresh: bool = False) -> int:
    """Bring `staging.stg_decisions` up to date with `raw.policy_decisions`; returns its number of rows."""
    return _build(con, "decisions", "stg_decisions", afresh)


def _build(con: duckdb.DuckDBPyConnection, log: str, table: str, afresh: bool) -> int:
    definition = definition_of([f"staging/{table}"])
    before = derivation_of(con, table)
    with transaction(con):
        if afresh or before is None or before.definition != definition:
            load_sql(f"staging/{log}_all").execute(con)
            load_sql(f"staging/{table}").execute(con)
            load_sql(f"staging/{table}_replace").execute(con)
            forget_derivation(con, "fct_requests")
            record_derivation(con, table, Derivation(definition, None))
        else:
            _stage_new_lines(con, log, table)
        load_sql("staging/note_staged_files").execute(con, log=log)
    [(rows,)] = con.table(f"staging.{table}").count("*").fetchall()
    return int(rows)


def _stage_new_lines(con: duckdb.DuckDBPyConnection, log: str, table: str) -> None:
    files = load_sql("staging/unstaged_files").execute(con, log=log).fetchall()
    if not files:
        return
    load_sql("staging/lines_to_stage").execute(con)
    for file_id, from_offset, _ in files:
        load_sql(f"staging/{log}_new_lines").execute(con, file_id=file_id, from_offset=from_offset)
    new_lines = _noted_lines(con)
    load_sql(f"staging/{log}_older_lines").execute(con)
    renamed = [file_id for file_id, _, is_renamed in files if is_renamed]
    if renamed or _noted_lines(con) > new_lines:
        load_sql(f"staging/{table}_remove").execute(con, file_ids=renamed)
    load_sql("staging/note_changes").execute(con)
    load_sql(f"staging/{log}_some").execute(con)
    load_sql(f"staging/{table}").execute(con)
    load_sql(f"staging/{table}_append").execute(con)


def _noted_lines(con: duckdb.DuckDBPyConnection) -> int:
    [(count,)] = load_sql("staging/count_lines").execute(con).fetchall()
    return int(count)
