"""One refresh, step by step, without Dagster: from ingest to publishing.

Each step is a function of an open warehouse and the settings; the assets wrap the same functions one by one,
`refresh` runs them all (a rebuild, a benchmark). Every step may be run again at any time.

What does not belong here: how a step does its work (`ingest`, `staging`, `facts`, …), and when it is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from governance_pipeline.alerts import read_alerts
from governance_pipeline.anomalies import build_cost_anomalies, watches_from_policy
from governance_pipeline.archive import segments_to_take
from governance_pipeline.checks import CHECKS, CheckOutcome
from governance_pipeline.economics import load_economics
from governance_pipeline.facts import build_fct_requests, log_time
from governance_pipeline.ingest import IngestReport, ingest
from governance_pipeline.publish import Publication, publish
from governance_pipeline.questions import QUESTIONS, question_named, read_question
from governance_pipeline.questions import build_question as build_question_table
from governance_pipeline.settings import Settings
from governance_pipeline.sql_files import load_sql
from governance_pipeline.staging import build_stg_decisions, build_stg_requests
from llmscope.timestamps import format_instant
from policy_runtime import load_policy

# What is published beside the questions and the facts, by published name.
PUBLISHED_TABLES = {"cost_anomalies": "marts.cost_anomalies", "budget_alerts": "ops.budget_alerts"}


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a whole refresh came to.

    Attributes:
        ingested: what was taken from the logs.
        outcomes: every check by name.
        publication: what was published; None when a blocking check failed or nothing was to be published.
    """

    ingested: IngestReport
    outcomes: dict[str, CheckOutcome]
    publication: Publication | None

    @property
    def failed_blocking(self) -> list[str]:
        """What the blocking checks that failed have to say."""
        return [
            f"{check.name}: {self.outcomes[check.name].summary}"
            for check in CHECKS
            if check.blocking and not self.outcomes[check.name].passed
        ]


def refresh(con: duckdb.DuckDBPyConnection, settings: Settings, *, publishing: bool = True) -> Refreshed:
    """Run every step in order; publish unless a blocking check failed.

    Args:
        con: the warehouse.
        settings: where the logs and the configuration are.
        publishing: whether to publish at all.
    """
    ingested = ingest_logs(con, settings)
    stage_requests(con, settings)
    stage_decisions(con, settings)
    build_facts(con, settings)
    build_anomalies(con, settings)
    for name in QUESTIONS:
        build_question(con, settings, name)
    refreshed = Refreshed(ingested, {check.name: check.run(con, settings) for check in CHECKS}, None)
    if refreshed.failed_blocking or not publishing:
        return refreshed
    return Refreshed(ingested, refreshed.outcomes, publish_answers(con, settings))


def ingest_logs(con: duckdb.DuckDBPyConnection, settings: Settings) -> IngestReport:
    """Take what is new in both logs, and what only the archive holds of them."""
    with segments_to_take(con, settings) as archived:
        return ingest(
            con,
            telemetry=[*settings.logs["telemetry"], *archived["telemetry"]],
            decisions=[*settings.logs["decisions"], *archived["decisions"]],
        )


def ingest_numbers(report: IngestReport, log: str) -> dict[str, Any]:
    """What an ingest took from one log, for the record."""
    files = [file for file in report.files if file.log == log]
    numbers: dict[str, Any] = {
        "new_rows": sum(file.rows for file in files),
        "new_rejects": sum(file.rejects for file in files),
        "new_bytes": sum(file.end - file.start for file in files),
        "pending_bytes": sum(file.pending_bytes for file in files),
        "files": len(files),
    }
    problems = [f"{file.path}: {file.problem}" for file in files if file.problem is not None]
    if problems:
        numbers["problems"] = "; ".join(problems)
    return numbers


def stage_requests(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Build `staging.stg_requests`, and note from which offsets."""
    del settings
    build_stg_requests(con)
    load_sql("publish/note_staged_sources").execute(con, log="telemetry")


def stage_decisions(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Build `staging.stg_decisions`, and note from which offsets."""
    del settings
    build_stg_decisions(con)
    load_sql("publish/note_staged_sources").execute(con, log="decisions")


def build_facts(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Build `marts.fct_requests`, and note from which offsets."""
    build_fct_requests(con, load_economics(settings.economics_path))
    load_sql("publish/note_fact_sources").execute(con)


def build_anomalies(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Build `marts.cost_anomalies` as the policy in force watches for them."""
    watches = watches_from_policy(load_policy(settings.policy_path).policy)
    build_cost_anomalies(con, watches, log_time(con))


def build_question(con: duckdb.DuckDBPyConnection, settings: Settings, name: str) -> None:
    """Build `marts.<question>`."""
    build_question_table(con, name, load_economics(settings.economics_path))


def question_in_words(name: str) -> str:
    """A question as a person asks it, and how its SQL answers."""
    return f"**{question_named(name).words}**\n\n{load_sql(f'questions/{name}').purpose}"


def answer_in_words(con: duckdb.DuckDBPyConnection, name: str) -> str:
    """The answer that stands in the warehouse, in one sentence."""
    return question_named(name).answer_sentence(read_question(con, name))


def publish_answers(con: duckdb.DuckDBPyConnection, settings: Settings) -> Publication:
    """Publish what the marts now hold, and bring `ops.alerts` up to date with the alert log."""
    record_alerts(con, settings)
    load_sql("publish/budget_alerts").execute(con)
    [(as_of,)] = load_sql("publish/as_of").execute(con).fetchall()
    return publish(
        con,
        settings.answers_path,
        questions=list(QUESTIONS),
        tables=PUBLISHED_TABLES,
        as_of=None if as_of is None else format_instant(as_of),
        sources=_fact_sources(con),
        config_hashes=config_hashes(settings),
    )


def record_alerts(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Bring `ops.alerts` up to date with alerts.jsonl, which is the truth."""
    load_sql("alerts/table").execute(con)
    insert = load_sql("alerts/insert")
    for alert in read_alerts(settings.alerts_path):
        insert.execute(
            con,
            id=alert.id,
            type=alert.type,
            subject=alert.subject,
            time=alert.time,
            recordedtime=alert.recordedtime or None,
            message=str(alert.data.get("message", "")),
        )


def config_hash(settings: Settings, question: str) -> str:
    """What the answer to a question depends on besides the logs: economics.yaml and the SQL."""
    parts = [load_economics(settings.economics_path).hash]
    parts += [load_sql(name).text for name in ("marts/fct_requests", f"questions/{question}")]
    return _hash_of(parts)


def config_hashes(settings: Settings) -> dict[str, str]:
    """The hashes that a publication records: of the configuration files and of each question."""
    hashes = {
        "economics": load_economics(settings.economics_path).hash,
        "policy": load_policy(settings.policy_path).hash,
    }
    return {**hashes, **{name: config_hash(settings, name) for name in QUESTIONS}}


def _hash_of(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _fact_sources(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    result = load_sql("publish/fact_sources").execute(con)
    columns = [column[0] for column in result.description or ()]
    return [dict(zip(columns, row, strict=True)) for row in result.fetchall()]
