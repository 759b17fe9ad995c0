"""Ingest processes killed at random instants: in the end every line has become one row, one reject or a blank."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from governance_pipeline.ingest import ingest
from governance_pipeline.warehouse import connect
from tests.peak_memory import PEAK_MB_SOURCE

ROUNDS = 100 if os.environ.get("GOVERNANCE_SLOW") else 12

INGEST = """
import sys
from governance_pipeline.ingest import ingest
from governance_pipeline.warehouse import connect
print("ready", flush=True)
with connect(sys.argv[1], wait_seconds=60) as con:
    ingest(con, telemetry=[sys.argv[2]], decisions=[])
"""

# Breaks the claim on purpose: rows commit, and only then, in another transaction, how far they reach.
OFFSET_COMMITTED_APART = """
import time
from governance_pipeline.ingest import _ledger
save = _ledger.Ledger.save
def save_apart(self, con):
    con.commit()
    print("between", flush=True)
    time.sleep(60)
    con.begin()
    return save(self, con)
_ledger.Ledger.save = save_apart
"""


def append(log: Path, first: int, count: int) -> None:
    """`count` lines, of which some are rejects and some are blank."""
    with log.open("ab") as file:
        for number in range(first, first + count):
            event = {"request_id": f"r{number}", "timestamp": "2026-03-24T10:00:00Z", "pad": "x" * 300}
            if number % 50 == 7:
                file.write(b"{torn\n")
            elif number % 50 == 9:
                file.write(b"\n")
            else:
                file.write(json.dumps(event).encode() + b"\n")


def ingest_and_die(program: str, warehouse: Path, log: Path, after_seconds: float) -> None:
    """Run an ingest in a process of its own and kill it `after_seconds` after it began."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(warehouse), str(log)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        process.wait(after_seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.communicate()


def rounds_of_killing(
    program: str, tmp_path: Path, rounds: int, lines_per_round: int
) -> tuple[int, int, int, int]:
    """Lines written, and the rows, rejects and blanks that came of them after one ingest that was left alone."""
    log, warehouse = tmp_path / "telemetry.jsonl", tmp_path / "governance.duckdb"
    luck = random.Random(7)
    for number in range(rounds):
        append(log, number * lines_per_round, lines_per_round)
        ingest_and_die(program, warehouse, log, luck.uniform(0, 0.25))
    with connect(warehouse, wait_seconds=60) as con:
        ingest(con, telemetry=[log], decisions=[])
        rows = con.execute("SELECT count(*) FROM raw.telemetry").fetchall()[0][0]
        distinct = con.execute("SELECT count(DISTINCT line_offset) FROM raw.telemetry").fetchall()[0][0]
        rejects = con.execute("SELECT count(*) FROM raw.rejected_lines").fetchall()[0][0]
        blanks = con.execute("SELECT sum(blank_count) FROM raw.ingest_files").fetchall()[0][0]
        counted = con.execute("SELECT sum(row_count), sum(reject_count) FROM raw.ingest_files").fetchall()[0]
    if program == INGEST:
        assert distinct == rows
        assert counted == (rows, rejects)
    return rounds * lines_per_round, rows, rejects, int(blanks)


def test_kills_at_random_instants_lose_and_double_nothing(tmp_path: Path) -> None:
    written, rows, rejects, blanks = rounds_of_killing(INGEST, tmp_path, ROUNDS, 1000)
    assert rows + rejects + blanks == written
    assert rejects == blanks == written // 50


def test_an_offset_committed_apart_from_its_rows_would_double_them(tmp_path: Path) -> None:
    """The twin: the same kill, between the two commits."""
    log, warehouse = tmp_path / "telemetry.jsonl", tmp_path / "governance.duckdb"
    append(log, 0, 1000)
    program = OFFSET_COMMITTED_APART + INGEST
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(warehouse), str(log)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n", "between\n"]
    process.kill()
    process.communicate()
    with connect(warehouse, wait_seconds=60) as con:
        ingest(con, telemetry=[log], decisions=[])
        assert con.execute("SELECT count(*) FROM raw.telemetry").fetchall()[0][0] > 1000


def test_two_processes_ingesting_at_once_take_every_byte_once(tmp_path: Path) -> None:
    log, warehouse = tmp_path / "telemetry.jsonl", tmp_path / "governance.duckdb"
    append(log, 0, 5000)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", INGEST, str(warehouse), str(log)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    deadline = time.monotonic() + 60
    for process in processes:
        _, errors = process.communicate(timeout=max(1, deadline - time.monotonic()))
        assert process.returncode == 0, errors
    with connect(warehouse) as con:
        assert con.execute("SELECT count(*), count(DISTINCT line_offset) FROM raw.telemetry").fetchall() == [
            (4800, 4800)
        ]


def test_memory_stays_bounded_while_a_file_larger_than_it_is_taken(tmp_path: Path) -> None:
    """96 MB of lines under a ceiling of 400 MB above what the imports take: blocks, never the file."""
    log = tmp_path / "telemetry.jsonl"
    append(log, 0, 1000)
    piece = log.read_bytes()
    with log.open("ab") as file:
        for _ in range(96 * 1_000_000 // len(piece)):
            file.write(piece)
        file.write(b"x" * (64 << 20) + b"\n")
    program = (
        PEAK_MB_SOURCE
        + INGEST.replace('print("ready", flush=True)', "before = peak_mb()").replace(
            "as con:\n", "as con:\n    con.execute(\"SET memory_limit = '200MB'\")\n"
        )
        + "print(peak_mb() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "w.duckdb"), str(log)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 400
