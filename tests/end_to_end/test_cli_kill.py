"""`kill -9` of a materialisation at any instant: the next one goes through and finds every line once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from governance_pipeline import warehouse
from tests.governance_pipeline.refresh_logs import decision_line, settings_in, telemetry_line

REQUESTS = 20_000


@pytest.mark.timeout(180)
@pytest.mark.parametrize("after_seconds", [0.3, 0.8, 1.6])
def test_a_killed_materialisation_leaves_nothing_that_stops_the_next(
    tmp_path: Path, after_seconds: float
) -> None:
    settings = settings_in(tmp_path / "home")
    settings.telemetry_path.parent.mkdir(parents=True)
    settings.telemetry_path.write_bytes(b"".join(telemetry_line(n, n + 0.5) for n in range(REQUESTS)))
    settings.decisions_path.write_bytes(b"".join(decision_line(n, float(n)) for n in range(REQUESTS)))
    environment = {**os.environ, "GOVERNANCE_HOME": str(settings.home)}
    command = [sys.executable, "-m", "governance_pipeline", "materialize"]
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        wal = settings.warehouse_path.with_name(settings.warehouse_path.name + ".wal")
        deadline = time.monotonic() + 60
        while not (settings.warehouse_path.exists() or wal.exists()) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(after_seconds)  # anywhere between the first byte of the warehouse and the end
        os.killpg(process.pid, signal.SIGKILL)
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert again.returncode == 0, again.stderr
    with warehouse.connect(settings.warehouse_path) as con:
        assert con.table("raw.telemetry").count("*").fetchall() == [(REQUESTS,)]
        assert con.table("raw.policy_decisions").count("*").fetchall() == [(REQUESTS,)]
