"""What an ingest takes of memory does not depend on the length of the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from governance_pipeline.settings import Settings
from policy_runtime.errors import SettingsError
from tests.peak_memory import PEAK_MB_SOURCE

# Enough lines for each thread's row group to be full.
LINES = 250_000
MEASURE = (
    PEAK_MB_SOURCE
    + """
import sys
from governance_pipeline import warehouse
from governance_pipeline.ingest import ingest, _run
if sys.argv[3] == "at once":
    whole_lines = _run.whole_lines
    _run.whole_lines = lambda *args, **more: whole_lines(*args, **more, block_bytes=1 << 28)
with warehouse.connect(sys.argv[1], memory_mb=192) as con:
    taken = ingest(con, telemetry=[sys.argv[2]], decisions=[]).new_rows
print(taken, peak_mb())
"""
)


def write(log: Path, lines: int) -> None:
    with log.open("w") as file:
        for number in range(lines):
            file.write(
                f'{{"timestamp":"2026-03-24T10:00:00.{number:06d}+00:00","request_id":"r{number:08d}",'
                f'"tenant_id":"t{number % 50}","estimated_cost_usd":0.00{number % 99991:05d}}}\n'
            )


def peak_mb(log: Path, lines: int, how: str) -> int:
    write(log, lines)
    database = log.with_name(f"{lines}-{how}.duckdb")
    arguments = [sys.executable, "-c", MEASURE, str(database), str(log), how]
    taken, peak = subprocess.check_output(arguments, text=True).split()
    assert int(taken) == lines
    return int(peak)


def test_three_times_the_file_takes_no_more_memory(tmp_path: Path) -> None:
    log = tmp_path / "telemetry.jsonl"
    allowed = peak_mb(log, LINES, "in blocks") + 30
    assert peak_mb(log, 3 * LINES, "in blocks") < allowed
    assert log.stat().st_size > 90e6
    assert peak_mb(log, 3 * LINES, "at once") > allowed, "the twin: the whole file in one block"


def test_how_much_memory_is_a_setting() -> None:
    assert Settings.from_environment({}).warehouse_memory_mb == 1024
    assert Settings.from_environment({"WAREHOUSE_MEMORY_MB": "256"}).warehouse_memory_mb == 256
    for wrong in ("63", "lots", "-1", "1e3"):
        with pytest.raises(SettingsError, match="WAREHOUSE_MEMORY_MB"):
            Settings.from_environment({"WAREHOUSE_MEMORY_MB": wrong})
