"""Building `marts.fct_requests`, from which every question is answered.

What does not belong here: staging (`ingest`), and the questions themselves (`questions`).
"""

from __future__ import annotations

from datetime import datetime

import duckdb

from governance_pipeline.economics import Economics, bind_economics
from governance_pipeline.sql_files import load_sql


def log_time(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """The logs' own now: the latest instant that either log tells of, None while both are empty.

    States depend on it and never on the clock, so that the same logs give the same facts.
    """
    row = load_sql("marts/as_of").execute(con).fetchall()[0]
    instant: datetime | None = row[0]
    return instant


def build_fct_requests(
    con: duckdb.DuckDBPyConnection, economics: Economics, as_of: datetime | None = None
) -> datetime | None:
    """Replace `marts.fct_requests` by the join of `staging.stg_decisions` and `staging.stg_requests`.

    Args:
        economics: what requests earn; its hash is kept in `ops.mart_configuration`.
        as_of: the instant at which reservations are looked at; `log_time` when None.

    Returns:
        The instant used.
    """
    as_of = log_time(con) if as_of is None else as_of
    bind_economics(con, economics)
    load_sql("marts/fct_requests").execute(con, as_of=as_of)
    record_configuration(con, "fct_requests", as_of=as_of, economics_hash=economics.hash)
    return as_of


def record_configuration(
    con: duckdb.DuckDBPyConnection,
    mart: str,
    *,
    as_of: datetime | None = None,
    since: datetime | None = None,
    threshold_usd: float | None = None,
    economics_hash: str,
) -> None:
    """Keep in `ops.mart_configuration` what a mart was built with, besides the logs."""
    load_sql("marts/mart_configuration").execute(
        con,
        mart=mart,
        as_of=as_of,
        since=since,
        threshold_usd=threshold_usd,
        economics_hash=economics_hash,
    )
