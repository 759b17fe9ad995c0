"""Building `marts.fct_requests`, from which every question is answered.

What does not belong here: staging (`ingest`), and the questions themselves (`questions`).
"""

from __future__ import annotations

from datetime import datetime

import duckdb

from governance_pipeline.derivations import (
    Derivation,
    definition_of,
    derivation_of,
    forget_derivation,
    record_derivation,
)
from governance_pipeline.economics import Economics, bind_economics
from governance_pipeline.sql_files import load_sql
from governance_pipeline.warehouse import transaction
from policy_runtime import PolicyFileError
from policy_runtime.policy_file import parse_policy


def log_time(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """The logs' own now: the latest instant that either log tells of, None while both are empty.

    States depend on it and never on the clock, so that the same logs give the same facts.
    """
    row = load_sql("marts/as_of").execute(con).fetchall()[0]
    instant: datetime | None = row[0]
    return instant


def build_fct_requests(
    con: duckdb.DuckDBPyConnection,
    economics: Economics,
    as_of: datetime | None = None,
    *,
    afresh: bool = False,
) -> datetime | None:
    """Bring `marts.fct_requests`, the join of decisions and telemetry, up to date with staging.

    Joined again are the requests whose staging changed and the reservations that ran out. Everything is when
    the economics, the statement, staging itself or the policies that decide on expiries are others, and when
    `as_of` went back: then reservations may be open that were over.

    Args:
        con: the warehouse, in no transaction.
        economics: what requests earn; its hash is kept in `ops.mart_configuration`.
        as_of: the instant at which reservations are looked at; `log_time` when None.
        afresh: build the whole table even where it could be brought up to date.

    Returns:
        The instant used.
    """
    as_of = log_time(con) if as_of is None else as_of
    lifetimes = _policy_lifetimes(con)
    definition = definition_of(["marts/fct_requests"], [economics.hash, repr(lifetimes)])
    before = derivation_of(con, "fct_requests")
    with transaction(con):
        bind_economics(con, economics)
        load_sql("marts/fact_clock").execute(con, as_of=as_of)
        load_sql("marts/policy_lifetimes").execute(
            con,
            hashes=[policy_hash for policy_hash, _, _ in lifetimes],
            instants=[loaded_at for _, loaded_at, _ in lifetimes],
            seconds=[seconds for _, _, seconds in lifetimes],
        )
        if afresh or before is None or before.definition != definition or _went_back(as_of, before.as_of):
            load_sql("marts/facts_all").execute(con)
            load_sql("marts/fct_requests").execute(con)
            load_sql("marts/facts_replace").execute(con)
            forget_derivation(con, "cost_anomalies")
        else:
            load_sql("marts/facts_to_join").execute(con, before=before.as_of)
            load_sql("marts/facts_some").execute(con)
            load_sql("marts/fct_requests").execute(con)
            load_sql("marts/facts_update").execute(con)
        record_derivation(con, "fct_requests", Derivation(definition, as_of))
        record_configuration(con, "fct_requests", as_of=as_of, economics_hash=economics.hash)
    return as_of


def _policy_lifetimes(con: duckdb.DuckDBPyConnection) -> list[tuple[str | None, datetime, float]]:
    """Hash, instant of loading and lifetime of reservations in seconds of the policies that decisions without
    an expiry may have been made by; a policy that this version cannot read is left out."""
    lifetimes = []
    for policy_hash, loaded_at, text in load_sql("marts/policies_loaded").execute(con).fetchall():
        try:
            policy = parse_policy(text, "a policy in the decision log").policy
        except PolicyFileError:
            continue
        lifetimes.append((policy_hash, loaded_at, policy.reservation_ttl_seconds))
    return lifetimes


def _went_back(now: datetime | None, then: datetime | None) -> bool:
    """Whether the logs' own now lies before what it was: a later bill may have replaced the latest line."""
    return then is not None and (now is None or now < then)


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
