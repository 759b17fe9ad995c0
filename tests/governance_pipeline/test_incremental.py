"""A refresh costs what is new and comes to what a rebuild comes to: random events in random pieces give, in
staging, facts, anomalies, questions and published days, the very rows of one build from the start."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from governance_pipeline import publish
from governance_pipeline.anomalies import Watch, build_cost_anomalies
from governance_pipeline.economics import Economics, EconomicsFile
from governance_pipeline.facts import build_fct_requests, log_time
from governance_pipeline.ingest import ingest
from governance_pipeline.questions import QUESTIONS, build_question
from governance_pipeline.sql_files import load_sql
from governance_pipeline.staging import build_stg_decisions, build_stg_requests
from governance_pipeline.warehouse import IN_MEMORY, connect

START = datetime(2026, 3, 24, 10, 40, tzinfo=UTC)
ECONOMICS = Economics(
    EconomicsFile.model_validate(
        {
            "revenue": [
                {"revenue_per_request_usd": 0.02},
                {"tenant_id": "t1", "revenue_per_request_usd": 0.001},
            ]
        }
    ),
    "random",
)
WATCHES = [Watch("all", None, 2.0, 3, 12), Watch("one", "f1", 1.5, 2, 24)]
TABLES = (
    "staging.stg_requests", "staging.stg_decisions", "marts.fct_requests", "marts.cost_anomalies",
    *(f"marts.{name}" for name in QUESTIONS),
)  # fmt: skip
# Streams that are known to hold one; not every stream does.
EPISODES_IN = range(4)
SEEDS = range(40 if os.environ.get("GOVERNANCE_SLOW") else 4)


class Logs:
    """Two logs that grow by random events: late and doubled bills, unknown costs, lines without an id, denials,
    extensions, rotations, and now and then an hour in which everything is dear."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.telemetry = folder / "telemetry.jsonl"
        self.decisions = folder / "policy_decisions.jsonl"
        self.at = START
        self.written = 0
        self.rotated = 0

    def grow(self, events: int) -> None:
        """Append about so many lines."""
        for _ in range(events):
            self.at += timedelta(seconds=self.random.choice([0, 1, 20, 60, 120, 600]))
            self.random.choice([self._request, self._request, self._request, self._bill_again, self._odd])()
        if self.random.random() < 0.2:
            self._rotate()

    def _request(self) -> None:
        self.written += 1
        name = f"r{self.written}"
        kind = self.random.random()
        decision = "deny" if kind < 0.1 else "downgrade" if kind < 0.2 else "allow"
        if kind < 0.85:
            line: dict[str, Any] = {
                **self._who(name), "decision": decision, "mode": self.random.choice(["enforce", "shadow"]),
                "policy_id": "cap", "estimated_cost_usd": 0.01, "requested_estimated_cost_usd": 0.02,
                "window_cost_usd": self.random.random(), "window_limit_usd": 1.0,
            }  # fmt: skip
            if decision != "deny":
                line["reserved_cost_usd"] = 0.02
                if self.random.random() < 0.8:
                    line["reservation_expires_at"] = self._instant(600)
            self._append(self.decisions, line)
        if decision != "deny" and self.random.random() < 0.8:
            self._bill(name)

    def _bill(self, name: str) -> None:
        dear = self.at.hour % 4 == 0 and self.at.minute < 20
        cost = (
            None
            if self.random.random() < 0.15
            else round(self.random.uniform(0.5, 1.5) * (0.1 if dear else 0.01), 6)
        )
        line = {
            **self._who(name), "timestamp": self._instant(self.random.choice([0, 0, 1, -400, -7200])),
            "route": self.random.choice(["/a", "/b"]), "estimated_cost_usd": cost,
            "latency_ms": self.random.choice([None, 10, 200.5]), "tokens_in": self.random.randrange(9),
            "status": self.random.choice(["success", "success", "success", "error"]),
            "is_fallback": self.random.random() < 0.2, "experiment_id": self.random.choice([None, None, "e", "e-control"]),
        }  # fmt: skip
        if self.random.random() < 0.05:
            del line["request_id"]
        self._append(self.telemetry, line)

    def _bill_again(self) -> None:
        if self.written:
            self._bill(f"r{self.random.randint(max(1, self.written - 60), self.written)}")

    def _odd(self) -> None:
        name = f"r{self.random.randint(max(1, self.written - 5), self.written + 1)}"
        if self.random.random() < 0.5:
            later = {"reservation_expires_at": self._instant(1500)}
            self._append(self.decisions, {**self._who(name), "event": "reservation_extended", **later})
        else:
            self._append(self.telemetry, {"broken": "no timestamp"})

    def _rotate(self) -> None:
        self.rotated += 1
        for log in (self.telemetry, self.decisions):
            if log.exists():
                log.rename(log.with_name(f"{log.name}.{self.rotated}"))

    def _who(self, name: str) -> dict[str, Any]:
        return {
            "request_id": name, "timestamp": self._instant(0), "tenant_id": self.random.choice(["t1", "t2"]),
            "feature_id": self.random.choice(["f1", "f1", "f2", None]), "budget_namespace": "n",
        }  # fmt: skip

    def _instant(self, later_seconds: int) -> str:
        return (self.at + timedelta(seconds=later_seconds)).isoformat(timespec="microseconds")

    @staticmethod
    def _append(path: Path, line: dict[str, Any]) -> None:
        with path.open("a") as log:
            log.write(json.dumps(line) + "\n")


def fold(con: duckdb.DuckDBPyConnection, logs: Logs) -> None:
    ingest(con, telemetry=[logs.telemetry], decisions=[logs.decisions])
    build_stg_requests(con)
    build_stg_decisions(con)
    build_fct_requests(con, ECONOMICS)
    build_cost_anomalies(con, WATCHES, log_time(con))
    for name in QUESTIONS:
        build_question(con, name, ECONOMICS)


def publish_facts(con: duckdb.DuckDBPyConnection, answers: Path) -> publish.Publication:
    return publish.publish(
        con, answers, questions=list(QUESTIONS), tables={}, as_of=None, sources=[], config_hashes={}
    )


def contents(con: duckdb.DuckDBPyConnection) -> dict[str, Counter[tuple[Any, ...]]]:
    """The rows of every table, whatever their order; files by fingerprint, for their ids depend on when they
    were first seen."""
    names = dict(con.execute("SELECT file_id, fingerprint FROM raw.ingest_files").fetchall())
    found = {}
    for table in TABLES:
        relation = con.table(table)
        files = [number for number, column in enumerate(relation.columns) if column.endswith("file_id")]
        found[table] = Counter(
            tuple(
                names.get(value) if place in files else json.dumps(value, default=str)
                for place, value in enumerate(row)
            )
            for row in relation.fetchall()
        )
    return found


def differing(folder: Path, seed: int, pieces: int = 10) -> list[str]:
    """The tables that differ, at some piece, between a warehouse brought up to date and one built afresh."""
    logs = Logs(folder, seed)
    with connect(folder / "grown.duckdb") as grown:
        for _ in range(pieces):
            logs.grow(logs.random.choice([1, 3, 60, 150]))
            fold(grown, logs)
            with connect(IN_MEMORY) as fresh:
                fold(fresh, logs)
                one, other = contents(grown), contents(fresh)
                differ = [table for table in TABLES if one[table] != other[table]]
            published = publish_facts(grown, folder / "answers")
            days = grown.execute(
                "SELECT strftime(timestamp, '%Y-%m-%d') AS day, count(*), CAST(sum(hash(f)) AS VARCHAR) "
                "FROM marts.fct_requests AS f GROUP BY day"
            ).fetchall()
            if {day: (part.rows, part.digest) for day, part in published.manifest.days.items()} != {
                day: (rows, digest) for day, rows, digest in days
            }:
                differ.append("published days")
            if differ:
                return differ
        if seed in EPISODES_IN:
            assert one["marts.cost_anomalies"], "a stream without an episode shows nothing of them"
    return []


@pytest.mark.parametrize("seed", SEEDS)
def test_any_events_in_any_pieces_come_to_what_a_rebuild_comes_to(tmp_path: Path, seed: int) -> None:
    assert differing(tmp_path, seed) == []


def without(name: str) -> Callable[[str], Any]:
    """`load_sql` that finds nothing to do in one file."""
    from governance_pipeline.sql_files import parse_sql

    idle = parse_sql(name, "-- Nothing.\nSELECT 1")

    class Idle:
        def execute(self, con: duckdb.DuckDBPyConnection, **params: Any) -> duckdb.DuckDBPyConnection:
            return idle.execute(con)

    return lambda asked: Idle() if asked == name else load_sql(asked)


@pytest.mark.parametrize(
    ("module", "statement", "table"),
    [
        ("staging", "staging/telemetry_older_lines", "staging.stg_requests"),
        ("staging", "staging/note_changes", "marts.fct_requests"),
        ("anomalies", "marts/anomaly_hours", "marts.cost_anomalies"),
    ],
)
def test_twin_a_step_left_out_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, statement: str, table: str
) -> None:
    monkeypatch.setattr(f"governance_pipeline.{module}.load_sql", without(statement))
    found = set()
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        found |= set(differing_or_failing(folder, seed))
    assert table in found


def differing_or_failing(folder: Path, seed: int) -> list[str]:
    try:
        return differing(folder, seed)
    except AssertionError:
        return ["marts.cost_anomalies"]
