"""What the warehouse costs: taking a million lines, taking a thousand more, a whole refresh, the five questions.

`BENCH_LINES` sets another number of lines than a million (`BENCH_LINES=100000 make bench ONLY=ingest`).
"""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import duckdb

from benchmarks import traffic
from benchmarks.figures import Figure, benchmark, seconds
from governance_pipeline import pipeline, warehouse
from governance_pipeline.ingest import ingest
from governance_pipeline.questions import QUESTIONS, select_question
from governance_pipeline.settings import Settings
from tests.peak_memory import PEAK_MB_SOURCE

LINES = int(os.environ.get("BENCH_LINES", "1000000"))
NEW_LINES = 1_000
ROUNDS = 3

# The same aggregates as the five questions take, each as one would write it for this one file.
BY_HAND = (
    """SELECT tenant_id, feature_id, sum(cost_usd), avg(cost_usd), count(*), count(cost_usd), sum(revenue_usd),
        sum(margin_usd), sum(cost_usd) FILTER (WHERE NOT is_success)
    FROM facts WHERE has_telemetry GROUP BY ALL ORDER BY 3 DESC""",
    """SELECT experiment_id, avg(tokens_in), avg(tokens_out), avg(cost_usd), var_samp(cost_usd), count(*),
        count(cost_usd), count(*) FILTER (WHERE is_success)
    FROM facts WHERE has_telemetry AND experiment_id IS NOT NULL GROUP BY ALL ORDER BY 4 DESC""",
    """WITH first_choice AS (
        SELECT route_name, quantile_cont(latency_ms, 0.95) AS p95
        FROM facts WHERE has_telemetry AND NOT is_fallback GROUP BY ALL
    )
    SELECT route_name, is_fallback, quantile_cont(latency_ms, 0.95), avg(latency_ms), count(*),
        quantile_cont(winning_attempt_ms, 0.95), avg(latency_ms - winning_attempt_ms),
        count(*) FILTER (WHERE winning_attempt_ms <= p95 AND latency_ms > p95)
    FROM facts JOIN first_choice USING (route_name)
    WHERE has_telemetry AND latency_ms IS NOT NULL GROUP BY ALL ORDER BY 3 DESC""",
    """SELECT charged_namespace, count(*) FILTER (WHERE decision = 'allow'),
        count(*) FILTER (WHERE decision = 'downgrade'), count(*) FILTER (WHERE decision = 'deny'), count(*),
        max((window_cost_usd + window_reserved_usd) / window_limit_usd), mode(policy_id),
        sum(requested_estimated_cost_usd) FILTER (WHERE decision = 'deny'),
        sum(requested_estimated_cost_usd - estimated_cost_usd) FILTER (WHERE decision = 'downgrade'),
        count(*) FILTER (WHERE is_shadow_deny)
    FROM facts WHERE decided_at IS NOT NULL GROUP BY ALL ORDER BY 3 DESC""",
    """SELECT route_name, feature_id, avg(cost_usd), max(cost_usd), count(*), count(cost_usd), avg(revenue_usd),
        avg(margin_usd), sum(margin_usd)
    FROM facts WHERE has_telemetry GROUP BY GROUPING SETS ((route_name), (route_name, feature_id)) ORDER BY 3""",
)


@benchmark("ingest")
def ingesting() -> Iterator[Figure]:
    """Telemetry with malformed lines in it, validated and quarantined, against DuckDB's bare reading of sound
    lines."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sound, log = folder / "sound.jsonl", folder / "telemetry.jsonl"
        telemetry = traffic.telemetry_lines(0, LINES * 100 // 95)
        size = traffic.write(sound, telemetry)
        quarantined = _write_with_malformed(sound, log)
        print(f"# {size / 1e6:.0f} MB, {quarantined} malformed lines", file=sys.stderr)
        value, floor = float("inf"), float("inf")
        for _ in range(ROUNDS):
            floor = min(floor, seconds(lambda: _read_json(folder, sound)))
            value = min(value, seconds(lambda: _first_ingest(folder, log, quarantined)))
        yield Figure("ingest", value, "s", floor, 2.0)


@benchmark("ingest_memory")
def ingest_memory() -> Iterator[Figure]:
    """The memory that an ingest takes with DuckDB held to 192 MB, against the size of a file that is larger;
    then against what a quarter of that file takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, quarter = folder / "telemetry.jsonl", folder / "quarter.jsonl"
        traffic.write(log, traffic.telemetry_lines(0, 2 * LINES))
        traffic.write(quarter, traffic.telemetry_lines(0, LINES // 2))
        peak, of_quarter = _peak_megabytes(folder, log), _peak_megabytes(folder, quarter)
        yield Figure("ingest_memory", peak, "MB", log.stat().st_size / 1e6, 1.0)
        yield Figure("ingest_memory_growth", peak, "MB", of_quarter, 1.1)


@benchmark("ingest_increment")
def ingest_increment() -> Iterator[Figure]:
    """A thousand new lines in a warehouse that holds a million, against a first ingest of a thousand."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "telemetry.jsonl"
        traffic.write(log, traffic.telemetry_lines(0, LINES))
        few = folder / "few.jsonl"
        value, floor = float("inf"), float("inf")
        with warehouse.connect(folder / "full.duckdb") as con:
            ingest(con, telemetry=[log], decisions=[])
            con.execute("CHECKPOINT")
            for first, last in pairwise(LINES + NEW_LINES * n for n in range(6)):
                traffic.write(log, traffic.telemetry_lines(first, last), append=True)
                value = min(value, seconds(lambda: ingest(con, telemetry=[log], decisions=[])))
                traffic.write(few, traffic.telemetry_lines(first, last))
                with warehouse.connect(folder / f"empty-{first}.duckdb") as empty:
                    floor = min(floor, seconds(lambda: ingest(empty, telemetry=[few], decisions=[])))
        yield Figure("ingest_increment", value, "s", floor, 2.0)


@benchmark("refresh")
def refresh() -> Iterator[Figure]:
    """Ingest to published answers after a thousand new lines: on a million requests, against a tenth of them.
    Opening and closing the warehouse is part of it; the second figure has every check in it too, of which
    reconciliation holds all rows against the logs each time."""
    with tempfile.TemporaryDirectory() as name:
        homes = {count: _folded_home(Path(name, str(count)), count) for count in (LINES // 10, LINES)}
        number = 0
        for figure, checks in (("refresh", ()), ("refresh_with_checks", pipeline.CHECKS)):
            best = dict.fromkeys(homes, float("inf"))
            with patch.object(pipeline, "CHECKS", checks):
                for _ in range(ROUNDS + 2):
                    for count, settings in homes.items():
                        first = count + number * NEW_LINES // 2
                        _append(settings, first, first + NEW_LINES // 2)
                        best[count] = min(best[count], seconds(functools.partial(_refresh, settings)))
                    number += 1
            yield Figure(figure, best[LINES], "s", best[LINES // 10], 2.0)


@benchmark("questions")
def questions() -> Iterator[Figure]:
    """All five questions on a million requests, against the same aggregates written by hand for Parquet."""
    with tempfile.TemporaryDirectory() as name:
        settings = _folded_home(Path(name), LINES)
        facts = settings.answers_path / "current" / "fct_requests" / "*" / "data.parquet"
        with warehouse.connect(settings.warehouse_path) as con, duckdb.connect() as plain:
            plain.execute("SET TimeZone = 'UTC'")
            plain.execute(f"CREATE VIEW facts AS FROM read_parquet('{facts}')")

            def ask() -> None:
                for question in QUESTIONS:
                    select_question(con, question)

            def by_hand() -> None:
                for statement in BY_HAND:
                    plain.execute(statement).fetchall()

            value, floor = float("inf"), float("inf")
            for _ in range(ROUNDS + 2):
                floor = min(floor, seconds(by_hand))
                value = min(value, seconds(ask))
        yield Figure("questions", value, "s", floor, 2.0)


def _write_with_malformed(sound: Path, log: Path) -> int:
    """A copy of a log in which one line in two thousand, at random places, is none; how many those are."""
    draw = random.Random(1)
    planted = 0
    with sound.open("rb") as lines, log.open("wb") as copy:
        for number, line in enumerate(lines):
            copy.write(line)
            if draw.random() < 1 / 2000:
                copy.write(traffic.MALFORMED[number % len(traffic.MALFORMED)] + b"\n")
                planted += 1
    return planted


def _first_ingest(folder: Path, log: Path, quarantined: int) -> None:
    path = folder / "ingested.duckdb"
    _remove(path)
    with warehouse.connect(path) as con:
        report = ingest(con, telemetry=[log], decisions=[])
    if report.new_rejects != quarantined:
        raise AssertionError(f"{report.new_rejects} lines were quarantined, {quarantined} are malformed")


def _read_json(folder: Path, log: Path) -> None:
    """DuckDB's own reading into a table of the same columns, which it is told."""
    path = folder / "floor.duckdb"
    _remove(path)
    with warehouse.connect(warehouse.IN_MEMORY) as con:
        columns = {
            name: kind
            for name, kind, *_ in con.execute("DESCRIBE raw.telemetry").fetchall()
            if name not in ("file_id", "line_offset")
        }
    with duckdb.connect(str(path)) as con:
        con.execute(
            "CREATE TABLE lines AS FROM read_json($path, format='newline_delimited', columns=$columns)",
            {"path": str(log), "columns": columns},
        )


_MEASURE_PEAK = (
    PEAK_MB_SOURCE
    + """
import sys
from governance_pipeline import warehouse
from governance_pipeline.ingest import ingest
with warehouse.connect(sys.argv[1], memory_mb=192) as con:
    ingest(con, telemetry=[sys.argv[2]], decisions=[])
print(peak_mb())
"""
)


def _peak_megabytes(folder: Path, log: Path) -> float:
    path = folder / f"{log.stem}.duckdb"
    arguments = [sys.executable, "-c", _MEASURE_PEAK, str(path), str(log)]
    return float(subprocess.check_output(arguments, text=True))


def _folded_home(home: Path, requests: int) -> Settings:
    """A home with logs of so many requests, folded and published."""
    settings = Settings.in_home(home)
    settings.telemetry_path.parent.mkdir(parents=True)
    traffic.write(settings.telemetry_path, traffic.telemetry_lines(0, requests))
    traffic.write(settings.decisions_path, traffic.decision_lines(0, requests))
    _refresh(settings)
    return settings


def _append(settings: Settings, first: int, last: int) -> None:
    traffic.write(settings.telemetry_path, traffic.telemetry_lines(first, last), append=True)
    traffic.write(settings.decisions_path, traffic.decision_lines(first, last), append=True)


def _refresh(settings: Settings) -> None:
    with warehouse.connect(settings.warehouse_path) as con:
        refreshed = pipeline.refresh(con, settings)
    if refreshed.failed_blocking:
        raise AssertionError(refreshed.failed_blocking)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(path.name + ".wal").unlink(missing_ok=True)
