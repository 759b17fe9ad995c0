"""Scoring a sample of real traffic by what its telemetry says, as soon as it is published.

No prompt and no answer is in any log, so a scorer sees a row of `fct_requests`: tokens, cost, latency,
status, finish reason and whose it was. Which requests are sampled is a matter of their ids alone. What does
not belong here: when to look (`assets.evaluation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from governance_pipeline import warehouse
from governance_pipeline.alerts import Alert, make_alert
from governance_pipeline.evaluation.results import EvaluationLine, append_results, read_results
from governance_pipeline.evaluation.scorers import score_request
from governance_pipeline.evaluation.suites import Production
from governance_pipeline.publish import fact_files, reading
from governance_pipeline.sql_files import load_sql
from llmscope.timestamps import format_instant, from_micros, parse_micros

PRODUCTION_SCORE = "production_score"
# Bills that arrive late are dated before what was scored last; ids that were scored already are known.
_LOOK_BACK = timedelta(hours=24)
_HASH_DIGITS = 32


def score_production(production: Production, answers_path: Path, results_path: Path) -> list[EvaluationLine]:
    """Score what was published since the last look; the scores are in the log when this returns.

    Raises:
        BadInput: a scorer cannot be used.
        EventLogError: the log could not be written.
    """
    scored = [line for line in read_results(results_path) if line.event == PRODUCTION_SCORE]
    done = {(line.request_id, line.scorer) for line in scored}
    latest = max((_instant(line.timestamp) for line in scored), default=None)
    since = None if latest is None else latest - _LOOK_BACK
    lines = []
    for request in sampled_requests(answers_path, production.sample_share, since):
        for scorer in production.scorers:
            if (request["request_id"], scorer.name) in done:
                continue
            score = score_request(scorer, request)
            if score is not None:
                lines.append(
                    EvaluationLine(
                        event=PRODUCTION_SCORE,
                        timestamp=format_instant(request["timestamp"]),
                        scorer=scorer.name,
                        score=score,
                        request_id=request["request_id"],
                        route_name=request["route_name"],
                        provider=request["provider"],
                        model=request["model"],
                    )
                )
    if lines:
        append_results(results_path, lines)
    return lines


def sampled_requests(answers_path: Path, share: float, since: datetime | None) -> list[dict[str, Any]]:
    """The published facts of a share of all requests, oldest first, as dictionaries by column."""
    with reading(answers_path) as published:
        if published is None:
            return []
        folder, _ = published
        with warehouse.connect(warehouse.IN_MEMORY) as con:
            con.read_parquet(fact_files(folder), hive_partitioning=False).create_view("published_facts")
            load_sql("publish/facts_view").execute(con)
            rows = load_sql("reports/production_sample").execute(
                con, since=since, highest_hash=_highest_hash(share)
            )
            return _as_dictionaries(rows)


def low_scores(production: Production, lines: Sequence[EvaluationLine]) -> list[Alert]:
    """An alert for each scorer whose latest `minimum_sample` scores have a mean below `alert_below`; one a
    day and scorer."""
    alerts = []
    for scorer in production.scorers:
        scored = [line for line in lines if line.event == PRODUCTION_SCORE and line.scorer == scorer.name]
        latest = sorted(scored, key=lambda line: line.timestamp)[-production.minimum_sample :]
        if len(latest) < production.minimum_sample:
            continue
        mean = sum(line.score or 0.0 for line in latest) / len(latest)
        if mean < production.alert_below:
            time = latest[-1].timestamp
            alerts.append(
                make_alert(
                    "evaluation_low",
                    about=[scorer.name, time[:10]],
                    subject=scorer.name,
                    time=time,
                    message=f"The latest {len(latest)} sampled requests score {mean:.2f} by {scorer.name}, "
                    f"below {production.alert_below:g}.",
                    data={"scorer": scorer.name, "mean_score": mean, "sample": len(latest)},
                )
            )
    return alerts


def _highest_hash(share: float) -> str:
    """The MD5 in hexadecimal below which `share` of all hashes lie."""
    highest = round(share * 16**_HASH_DIGITS)
    return "g" if highest >= 16**_HASH_DIGITS else f"{highest:0{_HASH_DIGITS}x}"


def _as_dictionaries(rows: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [column[0] for column in rows.description or ()]
    return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def _instant(timestamp: str) -> datetime:
    return from_micros(parse_micros(timestamp))
