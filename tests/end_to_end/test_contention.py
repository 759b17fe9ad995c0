"""Everything at once on one warehouse: `dagster dev` with its sensors, two `governance materialize`, a
`governance ask` and readers in a loop, while the logs grow. Nobody fails, nobody waits to read.

A bounded version runs always; GOVERNANCE_SLOW=1 keeps it up for a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from governance_pipeline.answers import ask
from governance_pipeline.materialize import materialize_all
from governance_pipeline.settings import Settings
from tests.end_to_end.dagster_services import dagster_dev, wait_until
from tests.governance_pipeline.refresh_logs import append, settings_in, telemetry_line, write_ordinary_logs

SECONDS = 60 if os.environ.get("GOVERNANCE_SLOW") else 6
GOVERNANCE = Path(sys.executable).with_name("governance")
QUESTION = "cost_by_tenant_and_feature"


def spent_and_counted(settings: Settings) -> tuple[Decimal, int]:
    answer = ask(QUESTION, settings)
    at = {name: place for place, name in enumerate(answer.columns)}
    return (
        sum((row[at["total_cost_usd"]] for row in answer.rows), Decimal(0)),
        sum(row[at["request_count"]] for row in answer.rows),
    )


class Crowd:
    """What several threads do until time is over, and what went wrong."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.complaints: list[str] = []
        self.rounds: dict[str, int] = {}
        self._lock = threading.Lock()

    def repeat(self, what: str, act: Callable[[], str]) -> None:
        while time.monotonic() < self.deadline:
            complaint = act()
            with self._lock:
                self.rounds[what] = self.rounds.get(what, 0) + 1
                if complaint:
                    self.complaints.append(f"{what}: {complaint}")


def command(settings: Settings, *words: str) -> str:
    """Run `governance`; what it says when it does not succeed."""
    done = subprocess.run(
        [str(GOVERNANCE), *words],
        env={**os.environ, "GOVERNANCE_HOME": str(settings.home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return (
        "" if done.returncode == 0 else f"exit {done.returncode}: {done.stdout[-500:]} {done.stderr[-2000:]}"
    )


def paused(act: Callable[[], str]) -> str:
    """Act, then leave the two cores to the others for a second."""
    complaint = act()
    time.sleep(1)
    return complaint


@pytest.mark.timeout(240)
def test_ui_sensors_two_materialisations_and_readers_work_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_in(tmp_path / "home")
    write_ordinary_logs(settings)
    assert materialize_all(settings, say=lambda sentence: None).succeeded
    _, already = spent_and_counted(settings)
    lines, slowest, last = [0], [0.0], [already]

    def grow() -> str:
        append(settings.telemetry_path, telemetry_line(10_000 + lines[0], 40_000 + lines[0], 0.001))
        lines[0] += 1
        time.sleep(0.05)
        return ""

    def read() -> str:
        began = time.monotonic()
        _, counted = spent_and_counted(settings)
        slowest[0] = max(slowest[0], time.monotonic() - began)
        back = f"{counted} requests after {last[0]}" if counted < last[0] else ""
        last[0] = counted
        time.sleep(0.1)
        return back

    output = tmp_path / "dagster.log"
    with dagster_dev(settings, output):
        crowd = Crowd(SECONDS)
        with ThreadPoolExecutor(5) as threads:
            for what, act in {
                "materialize": lambda: command(settings, "materialize"),
                "second materialize": lambda: command(settings, "materialize"),
                "ask": lambda: paused(lambda: command(settings, "ask", QUESTION)),
                "read": read,
                "grow": grow,
            }.items():
                threads.submit(crowd.repeat, what, act).add_done_callback(lambda done: done.result())
        assert crowd.complaints == []
        everything = already + lines[0]
        wait_until(
            lambda: spent_and_counted(settings)[1] == everything, 60, lambda: output.read_text()[-8000:]
        )
        spoken = output.read_text(errors="replace")  # before the interrupt that ends it, which it tells of
    assert "Traceback" not in spoken, spoken[spoken.index("Traceback") - 1500 :][:6000]
    assert set(crowd.rounds) == {"materialize", "second materialize", "ask", "read", "grow"}
    spent, _ = spent_and_counted(settings)
    ordinary = sum(1_000_000 + number % 5 for number in range(60) if number % 10 != 9)
    assert spent == Decimal(ordinary + 1_000_000 * lines[0]) / 10**9
    with capsys.disabled():
        print(f"\n  {crowd.rounds} in {SECONDS} s; slowest answer {slowest[0]:.2f} s")
