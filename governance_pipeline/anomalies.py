"""Watching for cost anomalies: which features, how closely, and building `marts.cost_anomalies`.

What an episode is stands in `sql/marts/cost_anomalies.sql` and docs/semantics.md. What does not belong
here: telling anybody about an episode (`alerts`), and the gate's annotation of single requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from governance_pipeline.derivations import Derivation, definition_of, derivation_of, record_derivation
from governance_pipeline.sql_files import load_sql
from governance_pipeline.warehouse import transaction
from policy_runtime.policy import CostAnomaly, Policy


@dataclass(frozen=True, slots=True)
class Watch:
    """One feature watched, as a `cost_anomaly` rule says.

    Attributes:
        policy_id: the rule's id.
        feature_id: the feature, None for every feature.
        threshold_multiplier: an episode's mean cost is above this many times the baseline.
        min_samples: requests that five minutes must hold before they are judged.
        baseline_window_hours: how far back the recent baseline looks.
    """

    policy_id: str
    feature_id: str | None
    threshold_multiplier: float = 3.0
    min_samples: int = 20
    baseline_window_hours: float = 24


_STATEMENTS = (
    "marts/anomaly_hours",
    "marts/anomaly_moments",
    "marts/anomaly_episodes",
    "marts/cost_anomalies",
)
DEFAULT_WATCH = Watch("default", None)


def watches_from_policy(policy: Policy | None) -> list[Watch]:
    """The anomaly watches of a policy: its `cost_anomaly` rules, those that stand alike in several
    namespaces once; the default watch over every feature when it has none."""
    watches: dict[tuple[str, str | None], Watch] = {}
    for namespace in policy.namespaces.values() if policy is not None else ():
        for rule in namespace.rules:
            if isinstance(rule, CostAnomaly):
                watch = Watch(
                    rule.id,
                    rule.feature_id,
                    rule.threshold_multiplier,
                    rule.min_samples,
                    rule.baseline_window_hours,
                )
                watches.setdefault((watch.policy_id, watch.feature_id), watch)
    return list(watches.values()) or [DEFAULT_WATCH]


def build_cost_anomalies(
    con: duckdb.DuckDBPyConnection,
    watches: Sequence[Watch],
    as_of: datetime | None,
    *,
    afresh: bool = False,
) -> None:
    """Bring `marts.cost_anomalies`, the episodes in `marts.fct_requests`, up to date.

    Judged again is what is dated at the earliest fact that changed or later; everything, when the facts were
    built from the start or other features are watched.

    Args:
        con: the warehouse, in no transaction.
        watches: see `watches_from_policy`.
        as_of: the logs' own now (`facts.log_time`); None when both logs are empty.
        afresh: judge everything again even where that is not needed.
    """
    definition = definition_of(_STATEMENTS, [repr(list(watches))])
    before = derivation_of(con, "cost_anomalies")
    with transaction(con):
        _bind_watches(con, watches)
        since = _changed_since(con)
        if afresh or before is None or before.definition != definition:
            load_sql("marts/cost_anomalies_table").execute(con)
            openings = _judge(con, None)
        elif since is not None:
            openings = _judge(con, since)
        else:
            load_sql("marts/anomaly_episodes").execute(con)
            openings = []
        counted_from = min(openings, default=None)
        load_sql("marts/cost_anomalies").execute(con, as_of=as_of, counted_from=counted_from)
        load_sql("marts/changes_seen").execute(con, consumer="anomalies")
        record_derivation(con, "cost_anomalies", Derivation(definition, as_of))


def _bind_watches(con: duckdb.DuckDBPyConnection, watches: Sequence[Watch]) -> None:
    load_sql("marts/anomaly_watches").execute(con)
    insert = load_sql("marts/anomaly_insert_watch")
    for watch in watches:
        insert.execute(
            con,
            policy_id=watch.policy_id,
            feature_id=watch.feature_id,
            threshold_multiplier=watch.threshold_multiplier,
            min_samples=watch.min_samples,
            baseline_window_hours=watch.baseline_window_hours,
        )


def _judge(con: duckdb.DuckDBPyConnection, since: datetime | None) -> list[datetime]:
    """Judge what is dated from `since` on; returns when the first episodes opened that reached or now reach
    beyond it, and so are to be counted again."""
    openings = []
    load_sql("marts/anomaly_episodes").execute(con)
    openings += load_sql("marts/anomaly_episodes_from").execute(con, since=since).fetchall()
    load_sql("marts/anomaly_hours").execute(con, since=since)
    load_sql("marts/anomaly_moments").execute(con, since=since)
    load_sql("marts/anomaly_episodes").execute(con)
    openings += load_sql("marts/anomaly_episodes_from").execute(con, since=since).fetchall()
    return [opening for (opening,) in openings if opening is not None]


def _changed_since(con: duckdb.DuckDBPyConnection) -> datetime | None:
    [(since,)] = load_sql("marts/changed_since").execute(con, consumer="anomalies").fetchall()
    instant: datetime | None = since
    return instant
