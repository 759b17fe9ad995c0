"""Asking: the five questions answered from what is published, or straight from log files.

Both ways run the same SQL. Without parameters the published answer is read as it stands; with `since` or
`threshold` it is asked again of the published facts. Nothing here opens the warehouse.

What does not belong here: the questions (`questions`), and writing what is published (`publish`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import duckdb

from governance_pipeline import warehouse
from governance_pipeline.alerts import Alert, make_alert
from governance_pipeline.economics import Economics, load_economics
from governance_pipeline.errors import BadInput, NothingPublished
from governance_pipeline.facts import build_fct_requests
from governance_pipeline.ingest import ingest
from governance_pipeline.publish import fact_files, question_file, reading, table_file
from governance_pipeline.questions import Question, question_named, select_question
from governance_pipeline.settings import Settings
from governance_pipeline.sql_files import load_sql
from governance_pipeline.staging import build_stg_decisions, build_stg_requests
from llmscope.errors import MalformedLine
from llmscope.log_names import Named
from llmscope.timestamps import format_instant, from_micros, parse_micros

if TYPE_CHECKING:
    import pandas

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

Since = str | timedelta | datetime | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question.

    Attributes:
        question: its name.
        columns: in order.
        rows: in the question's order; money is Decimal or float, unknown is None.
        sentence: the answer in one sentence.
        as_of: the logs' own now, None when they are empty.
        since: the instant the answer begins at, None for all time.
        origin: `published`, or `logs` when it was folded from log files.
        rejected_lines: lines of those log files that are not ours and count for nothing.
    """

    question: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    sentence: str
    as_of: datetime | None
    since: datetime | None
    origin: Literal["published", "logs"]
    rejected_lines: int = 0


def answer(
    question: str, since: Since = None, threshold: float | None = None, *, settings: Settings | None = None
) -> pandas.DataFrame:
    """The published answer to a question as a data frame (money as floats, unknown as missing).

    Args:
        question: one of the five names.
        since: only the last `"90m"`, `"24h"`, `"7d"` before the logs' latest event, or from an instant on.
        threshold: for `unsafe_routes`, the average cost in USD above which a row is unsafe.
        settings: where the answers are; by default the environment says.

    Raises:
        BadInput: there is no such question, or a parameter cannot be used.
        NothingPublished: no refresh has published anything yet.
    """
    import pandas  # noqa: PLC0415  (half a second that only notebooks need)

    found = ask_published(question, settings or Settings.from_environment(), since=since, threshold=threshold)
    frame = pandas.DataFrame.from_records(found.rows, columns=list(found.columns))
    for column in frame.columns:
        if column.endswith(("_usd", "_share", "_rate", "_pct", "_delta", "_ms", "_utilisation")) or (
            column.startswith("p_value")
        ):
            frame[column] = frame[column].astype("float64")
    return frame


def ask(question: str, settings: Settings, *, since: Since = None, threshold: float | None = None) -> Answer:
    """The published answer, and where nothing is published yet the answer of the default logs.

    Raises:
        BadInput: there is no such question, or a parameter cannot be used.
    """
    try:
        return ask_published(question, settings, since=since, threshold=threshold)
    except NothingPublished:
        return _ask_logs(
            question,
            settings.logs["telemetry"],
            settings.logs["decisions"],
            load_economics(settings.economics_path),
            since=since,
            threshold=threshold,
            complete=False,
        )


def ask_published(
    question: str, settings: Settings, *, since: Since = None, threshold: float | None = None
) -> Answer:
    """The answer from what is published.

    Raises:
        BadInput: there is no such question, or a parameter cannot be used.
        NothingPublished: no refresh has published anything yet.
    """
    asked = question_named(question)
    with reading(settings.answers_path) as published:
        if published is None:
            raise NothingPublished(
                f"nothing is published in {settings.answers_path} yet: run `governance materialize`"
            )
        folder, manifest = published
        as_of = None if manifest.as_of is None else from_micros(parse_micros(manifest.as_of))
        begins = since_instant(since, as_of)
        with warehouse.connect(warehouse.IN_MEMORY) as con:
            if begins is None and threshold is None:
                rows = _read_rows(con, str(question_file(folder, question)))
            else:
                facts = con.read_parquet(fact_files(folder), hive_partitioning=False)
                facts.create_view("published_facts")
                load_sql("publish/facts_view").execute(con)
                economics = load_economics(settings.economics_path)
                rows = select_question(con, question, economics, since=begins, threshold_usd=threshold)
    return _answer(asked, rows, as_of, begins, "published")


def ask_files(
    question: str,
    telemetry: Path | None,
    decisions: Path | None,
    economics_path: Path | None = None,
    *,
    since: Since = None,
    threshold: float | None = None,
) -> Answer:
    """The answer straight from log files, by the same ingest and SQL as the warehouse's.

    Args:
        question: one of the five names.
        telemetry, decisions: the files (gzip too), taken as they are: no rotated generations are looked for
            and an unterminated last line is a line. None or a missing file is empty.
        economics_path: revenue and experiment controls.
        since, threshold: as in `answer`.

    Raises:
        BadInput: there is no such question, or a parameter cannot be used.
    """
    return _ask_logs(
        question,
        [] if telemetry is None else [telemetry],
        [] if decisions is None else [decisions],
        load_economics(economics_path),
        since=since,
        threshold=threshold,
        complete=True,
    )


def since_instant(since: Since, as_of: datetime | None) -> datetime | None:
    """The instant that `since` means: durations count back from `as_of`, the logs' own now.

    Raises:
        BadInput: it is neither a duration nor an instant.
    """
    if since is None:
        return None
    if isinstance(since, str):
        since = _parse_since(since)
    if isinstance(since, timedelta):
        if since < timedelta(0):
            raise BadInput(f"since is {since}, which is negative")
        return None if as_of is None else as_of - since
    return since.replace(tzinfo=UTC) if since.tzinfo is None else since.astimezone(UTC)


def published_alerts(answers_path: Path) -> list[Alert]:
    """What of the published version deserves an alert: anomaly episodes and budget crossings."""
    with reading(answers_path) as published:
        if published is None:
            return []
        folder, _ = published
        with duckdb.connect() as con:
            con.execute("SET TimeZone = 'UTC'")
            episodes = _read_rows(con, str(table_file(folder, "cost_anomalies")))
            crossings = _read_rows(con, str(table_file(folder, "budget_alerts")))
    return [_anomaly_alert(row) for row in episodes] + [_budget_alert(row) for row in crossings]


def _parse_since(text: str) -> timedelta | datetime:
    match = _DURATION.fullmatch(text.strip().lower())
    if match is not None:
        try:
            return timedelta(seconds=float(match[1]) * _UNIT_SECONDS[match[2]])
        except OverflowError:
            raise BadInput(f"since is {text!r}, which is longer than there is time") from None
    for candidate in (text, f"{text}T00:00:00"):
        try:
            return from_micros(parse_micros(candidate))
        except MalformedLine:
            continue
    raise BadInput(f"since is {text!r}; write a duration (90m, 24h, 7d) or an instant (2026-11-21T09:00:00Z)")


def _ask_logs(
    question: str,
    telemetry: Sequence[Named],
    decisions: Sequence[Named],
    economics: Economics,
    *,
    since: Since,
    threshold: float | None,
    complete: bool,
) -> Answer:
    asked = question_named(question)
    with warehouse.connect(warehouse.IN_MEMORY) as con:
        taken = ingest(con, telemetry=telemetry, decisions=decisions, complete=complete)
        build_stg_requests(con)
        build_stg_decisions(con)
        as_of = build_fct_requests(con, economics)
        begins = since_instant(since, as_of)
        rows = select_question(con, question, economics, since=begins, threshold_usd=threshold)
    return replace(_answer(asked, rows, as_of, begins, "logs"), rejected_lines=taken.new_rejects)


def _answer(
    asked: Question,
    rows: list[dict[str, Any]],
    as_of: datetime | None,
    since: datetime | None,
    origin: Literal["published", "logs"],
) -> Answer:
    return Answer(
        question=asked.name,
        columns=asked.columns,
        rows=[tuple(row[column] for column in asked.columns) for row in rows],
        sentence=asked.answer_sentence(rows),
        as_of=as_of,
        since=since,
        origin=origin,
    )


def _read_rows(con: duckdb.DuckDBPyConnection, path: str) -> list[dict[str, Any]]:
    relation = con.read_parquet(path)
    columns = relation.columns
    return [dict(zip(columns, row, strict=True)) for row in relation.fetchall()]


def _anomaly_alert(row: dict[str, Any]) -> Alert:
    opened: datetime = row["window_start"]
    closed: datetime | None = row["window_end"]
    much = f"{row['ratio']:.1f} times as much as usual"
    when = (
        f"have cost {much} since {opened:%Y-%m-%d %H:%M} UTC"
        if closed is None
        else f"cost {much} from {opened:%Y-%m-%d %H:%M} to {closed:%H:%M} UTC"
    )
    return make_alert(
        "cost_anomaly",
        about=[row["episode_id"], row["subject"]],
        subject=row["subject"],
        time=format_instant(opened),
        message=f"Requests of {row['subject']} {when}: ${row['avg_cost_usd']:.6f} on average against "
        f"${row['baseline_cost_usd']:.6f} ({row['source']}).",
        data={
            "episode_id": row["episode_id"],
            "policy_id": row["policy_id"],
            "feature_id": row["feature_id"],
            "window_start": format_instant(opened),
            "window_end": None if closed is None else format_instant(closed),
            "request_count": row["request_count"],
            "avg_cost_usd": row["avg_cost_usd"],
            "baseline_cost_usd": row["baseline_cost_usd"],
            "ratio": row["ratio"],
            "source": row["source"],
        },
    )


def _budget_alert(row: dict[str, Any]) -> Alert:
    at: datetime = row["timestamp"]
    namespace, threshold = row["budget_namespace"], row["threshold"]
    share = "a fraction" if threshold is None else f"{threshold:.0%}"
    where = f", scope {row['scope']}" if row["scope"] else ""
    spent, limit = row["window_cost_usd"], row["window_limit_usd"]
    numbers = "" if spent is None or limit is None else f" (${spent:.6f} of ${limit:.6f})"
    return make_alert(
        "budget_alert",
        about=[namespace, row["policy_id"], row["scope"], threshold, format_instant(at)],
        subject=f"namespace:{namespace}",
        time=format_instant(at),
        message=f"Budget namespace {namespace} has spent {share} of the limit of rule "
        f"{row['policy_id']}{where}{numbers}.",
        data={
            "policy_id": row["policy_id"],
            "budget_namespace": namespace,
            "threshold": threshold,
            "scope": row["scope"],
            "window_cost_usd": spent,
            "window_limit_usd": limit,
            "window_start": row["window_start"],
        },
    )
