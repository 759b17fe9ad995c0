"""The daemon itself: lines appended to a log become a run, answers and an alert, with nobody's help."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from governance_pipeline.alerts import read_alerts
from governance_pipeline.publish import current_manifest
from governance_pipeline.settings import Settings
from tests.end_to_end.dagster_services import dagster_dev, wait_until
from tests.governance_pipeline.refresh_logs import append_cost_spike, settings_in, write_cost_history


def published_rows(settings: Settings) -> int:
    manifest = current_manifest(settings.answers_path)
    return 0 if manifest is None else sum(day.rows for day in manifest.days.values())


@pytest.mark.timeout(180)
def test_lines_appended_under_dagster_dev_become_answers_and_one_alert(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_in(tmp_path / "home")
    output = tmp_path / "dagster.log"

    def said() -> str:
        return output.read_text(errors="replace")[-8000:]

    end = write_cost_history(settings)
    with dagster_dev(settings, output):
        wait_until(lambda: published_rows(settings) == 96, 90, said)
        assert read_alerts(settings.alerts_path) == []  # twin: without a spike the daemon says nothing

        appended = time.monotonic()
        append_cost_spike(settings, end + 60)
        wait_until(lambda: published_rows(settings) == 136, 60, said)
        answered = time.monotonic() - appended
        wait_until(lambda: len(read_alerts(settings.alerts_path)) == 1, 30, said)
        alerted = time.monotonic() - appended
        spoken = output.read_text(errors="replace")  # before the interrupt that ends it, which it may tell of
    [line] = settings.alerts_path.read_text().splitlines()
    alert = json.loads(line)
    assert alert["type"] == "llm_governance.cost_anomaly"
    assert alert["subject"] == "feature:search"
    assert "Traceback" not in spoken, spoken
    assert "Warning" not in spoken, spoken
    with capsys.disabled():
        print(f"\n  line to published answer {answered:.1f} s, to alert {alerted:.1f} s under dagster dev")
