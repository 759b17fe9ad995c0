"""One `dagster dev` for both claims: lines appended to a log become a run, answers and an alert, with nobody's
help; and everything at once on one warehouse (runs of the sensor, a run asked for in the UI, a second
materialisation, `governance ask`, readers in a loop, a growing log) fails nobody and keeps no reader waiting.

A bounded version runs always; GOVERNANCE_SLOW=1 keeps the crowd up for a minute, with a third materialisation.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from dagster import DagsterInstance

from governance_pipeline import warehouse
from governance_pipeline.alerts import read_alerts
from governance_pipeline.answers import ask
from governance_pipeline.dagster_home import open_instance
from governance_pipeline.publish import current_manifest
from governance_pipeline.settings import Settings
from tests.end_to_end.dagster_services import dagster_dev, wait_until
from tests.end_to_end.webhook import Webhook, webhook
from tests.governance_pipeline.refresh_logs import (
    append,
    append_cost_spike,
    instant,
    settings_in,
    telemetry_line,
    write_cost_history,
)

SLOW = bool(os.environ.get("GOVERNANCE_SLOW"))
# At least; and until the UI's run and the command's have been under way together.
SECONDS = 60 if SLOW else 1
GOVERNANCE = Path(sys.executable).with_name("governance")
LAUNCH = """mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}"""
QUESTION = "cost_by_tenant_and_feature"
HISTORY_HOURS = 8


class Daemon:
    """A home with eight quiet hours of logs, and the services around it."""

    def __init__(self, settings: Settings, output: Path, address: str, sink: Webhook) -> None:
        self.settings = settings
        self.address = address
        self.sink = sink
        self._output = output

    def launch(self, job: str) -> str:
        """Ask for a run as the UI does; its id."""
        asked = {"query": LAUNCH, "variables": {"params": {"mode": "default", "runConfigData": {}, "selector": {
            "repositoryLocationName": "governance", "repositoryName": "__repository__", "jobName": job,
        }}}}  # fmt: skip
        request = urllib.request.Request(
            f"{self.address}/graphql", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            launched = json.load(answer)["data"]["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def said(self) -> str:
        """All that the services have said so far."""
        return self._output.read_text(errors="replace")

    def said_lately(self) -> str:
        return self.said()[-8000:]

    def recorded_alerts(self) -> set[str]:
        """The kinds of alerts in `ops.alerts`."""
        with warehouse.connect(self.settings.warehouse_path) as con:
            tables = con.execute("FROM duckdb_tables() WHERE schema_name = 'ops' AND table_name = 'alerts'")
            if not tables.fetchall():
                return set()
            return {kind for (kind,) in con.execute("SELECT type FROM ops.alerts").fetchall()}

    def published_rows(self) -> int:
        manifest = current_manifest(self.settings.answers_path)
        return 0 if manifest is None else sum(day.rows for day in manifest.days.values())


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """`dagster dev`, from the logs of a quiet morning to their first answers."""
    folder = tmp_path_factory.mktemp("daemon")
    settings = settings_in(folder / "home")
    write_cost_history(settings, HISTORY_HOURS)
    with webhook() as sink, pytest.MonkeyPatch.context() as environment:
        sinks = folder / "alerts.yaml"
        sinks.write_text(f"sinks: [{{name: desk, url: '{sink.url}'}}]\n")
        environment.setenv("ALERT_SINKS_PATH", str(sinks))
        with dagster_dev(settings, folder / "dagster.log") as address:
            running = Daemon(settings, folder / "dagster.log", address, sink)
            wait_until(lambda: running.published_rows() == 96, 90, running.said_lately)
            yield running


@pytest.fixture(autouse=True)
def _nothing_is_complained_of(daemon: Daemon) -> Iterator[None]:
    """What the services say while a test runs; what they say when they are interrupted is their affair."""
    before = len(daemon.said())
    yield
    spoken = daemon.said()[before:]
    for word in ("Traceback", "Warning"):
        assert word not in spoken, spoken[max(0, spoken.index(word) - 1500) :][:6000]


@pytest.mark.timeout(240)
def test_lines_appended_under_dagster_dev_become_answers_and_one_alert_each(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    alerts_path = daemon.settings.alerts_path
    assert read_alerts(alerts_path) == []  # twin: without a spike the daemon says nothing
    appended = time.monotonic()
    crossing = budget_alert_line(HISTORY_HOURS * 3600 + 90)
    append(daemon.settings.decisions_path, crossing)
    append_cost_spike(daemon.settings, HISTORY_HOURS * 3600 + 60)
    wait_until(lambda: daemon.published_rows() == 136, 60, daemon.said_lately)
    answered = time.monotonic() - appended
    wait_until(lambda: len(daemon.sink.told) == 2, 30, daemon.said_lately)
    alerted = time.monotonic() - appended
    wait_until(lambda: len(daemon.recorded_alerts()) == 2, 60, daemon.said_lately)
    recorded = time.monotonic() - appended
    told = [json.loads(line) for line in alerts_path.read_text().splitlines()]
    assert {(alert["type"], alert["subject"]) for alert in told} == {
        ("llm_governance.cost_anomaly", "feature:search"),
        ("llm_governance.budget_alert", "namespace:team-1"),
    }
    assert sorted(daemon.sink.told) == sorted(alert["data"]["message"] for alert in told)
    assert daemon.recorded_alerts() == {alert["type"] for alert in told}
    with capsys.disabled():
        print(
            f"\n  line to published answer {answered:.1f} s, to webhook {alerted:.1f} s, to ops.alerts "
            f"{recorded:.1f} s under dagster dev"
        )


def budget_alert_line(seconds: float) -> bytes:
    """What the gate appends when spending has reached a fraction of a limit."""
    event = {
        "schema_version": "0.1.0", "event": "budget_alert", "timestamp": instant(seconds),
        "charged_namespace": "team-1", "policy_id": "cap", "primitive": "budget_threshold", "threshold": 0.8,
        "window_cost_usd": 0.8, "window_limit_usd": 1.0, "window_start": instant(0),
    }  # fmt: skip
    return json.dumps(event).encode() + b"\n"


class Crowd:
    """What several threads do until it is enough, and what went wrong."""

    def __init__(self) -> None:
        self.is_enough = threading.Event()
        self.complaints: list[str] = []
        self.rounds: dict[str, int] = {}
        self._lock = threading.Lock()

    def repeat(self, what: str, act: Callable[[], str]) -> None:
        while not self.is_enough.is_set():
            complaint = act()
            with self._lock:
                self.rounds[what] = self.rounds.get(what, 0) + 1
                if complaint:
                    self.complaints.append(f"{what}: {complaint}")


def spent_and_counted(settings: Settings) -> tuple[Decimal, int]:
    answer = ask(QUESTION, settings)
    at = {name: place for place, name in enumerate(answer.columns)}
    return (
        sum((row[at["total_cost_usd"]] for row in answer.rows), Decimal(0)),
        sum(row[at["request_count"]] for row in answer.rows),
    )


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


def ran_together(instance: DagsterInstance, run_id: str) -> bool:
    """Whether a run was under way while another one was."""
    spans = {
        record.dagster_run.run_id: (record.start_time, record.end_time or math.inf)
        for record in instance.get_run_records()
        if record.start_time is not None
    }
    if run_id not in spans:
        return False
    begun, ended = spans.pop(run_id)
    return any(begun < other_ended and other_begun < ended for other_begun, other_ended in spans.values())


def has_succeeded(instance: DagsterInstance, run_id: str) -> bool:
    """Whether a run has ended; it may not have failed."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert not run.is_failure_or_canceled
    return run.is_finished


@pytest.mark.timeout(300)
def test_ui_sensors_several_materialisations_and_readers_work_at_once(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = daemon.settings
    _, already = spent_and_counted(settings)
    lines, slowest, last = [0], [0.0], [already]

    def grow() -> str:
        append(settings.telemetry_path, telemetry_line(900_000 + lines[0], 40_000 + lines[0], 0.001))
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

    acts = {
        "materialize": lambda: command(settings, "materialize"),
        "ask": lambda: paused(lambda: command(settings, "ask", QUESTION)),
        "read": read,
        "grow": grow,
    }
    if SLOW:
        acts["third materialize"] = acts["materialize"]
    with open_instance(settings) as instance:
        crowd, least = Crowd(), time.monotonic() + SECONDS
        with ThreadPoolExecutor(len(acts)) as threads:
            try:
                for what, act in acts.items():
                    threads.submit(crowd.repeat, what, act).add_done_callback(lambda done: done.result())
                asked_for = [daemon.launch("refresh")]

                def have_met() -> bool:
                    """Whether a run asked for in the UI met another; one that met none is asked for again."""
                    if any(ran_together(instance, run_id) for run_id in asked_for):
                        return True
                    if has_succeeded(instance, asked_for[-1]):
                        asked_for.append(daemon.launch("refresh"))
                    return False

                wait_until(have_met, 120, daemon.said_lately)
                wait_until(lambda: time.monotonic() > least, SECONDS + 1, daemon.said_lately)
            finally:
                crowd.is_enough.set()
        assert crowd.complaints == []
        everything = already + lines[0]
        wait_until(lambda: spent_and_counted(settings)[1] == everything, 60, daemon.said_lately)
        wait_until(lambda: has_succeeded(instance, asked_for[-1]), 120, daemon.said_lately)
    assert set(crowd.rounds) == set(acts)
    written = [json.loads(line) for line in settings.telemetry_path.read_text().splitlines()]
    assert spent_and_counted(settings) == (
        sum((Decimal(str(line["estimated_cost_usd"])) for line in written), Decimal(0)),
        len(written),
    )
    with capsys.disabled():
        print(f"\n  {crowd.rounds}; slowest answer {slowest[0]:.2f} s")


@pytest.mark.timeout(240)
def test_a_check_that_fails_under_dagster_dev_is_told_and_readers_keep_the_last_sound_answers(
    daemon: Daemon,
) -> None:
    """The last test here: a bill is changed by hand in the warehouse, so nothing is published any more."""
    settings = daemon.settings
    before, heard = spent_and_counted(settings), len(daemon.sink.told)
    with warehouse.connect(settings.warehouse_path, wait_seconds=60) as con:
        con.execute("UPDATE staging.stg_requests SET cost_usd = 0.07 WHERE cost_usd = 0.02")
    append(settings.telemetry_path, telemetry_line(990_000, 90_000, 0.001))
    wait_until(lambda: len(daemon.sink.told) > heard, 90, daemon.said_lately)
    assert "reconciliation of fct_requests failed, nothing was published" in daemon.sink.told[-1]
    assert spent_and_counted(settings) == before
