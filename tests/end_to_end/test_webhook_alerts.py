"""Alerts over the wire: a materialisation brings each to a webhook once, though another sink keeps failing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from governance_pipeline import alerts
from governance_pipeline.alerts import read_alerts
from governance_pipeline.materialize import materialize_all
from governance_pipeline.settings import Settings
from tests.end_to_end.webhook import Webhook, webhook
from tests.governance_pipeline.refresh_logs import (
    append,
    append_cost_spike,
    decision_line,
    telemetry_line,
    write_cost_history,
)


def settings_with(home: Path, **sinks: str) -> Settings:
    home.mkdir(parents=True)
    path = home / "alerts.yaml"
    lines = [f"  - {{name: {name}, url: '{url}'}}\n" for name, url in sinks.items()]
    path.write_text("sinks:\n" + "".join(lines))
    return Settings.in_home(home, sinks_path=path)


def materialize(settings: Settings) -> None:
    assert materialize_all(settings, say=lambda sentence: None).succeeded


@pytest.mark.timeout(60)
def test_a_webhook_hears_each_alert_once_while_another_sink_fails_and_is_tried_again(tmp_path: Path) -> None:
    with webhook() as well, webhook() as broken:
        broken.status = 503
        settings = settings_with(tmp_path / "home", broken=broken.url, well=well.url)
        end = write_cost_history(settings)
        append_cost_spike(settings, end + 60)
        materialize(settings)
        [first] = read_alerts(settings.alerts_path)
        assert well.told == [first.data["message"]]
        assert broken.told == [first.data["message"]]

        # Later lines change the open episode, not its alert; the sink that failed is tried again.
        append(settings.telemetry_path, telemetry_line(200_000, end + 150, 0.02, feature_id="search"))
        materialize(settings)
        assert len(read_alerts(settings.alerts_path)) == 1
        assert len(well.told) == 1
        assert len(broken.told) == 2

        # The episode ends, an hour later there is another: that is another alert.
        quiet = [
            telemetry_line(300_000 + n, end + 1800 + n * 60, 0.001, feature_id="search") for n in range(90)
        ]
        append(settings.telemetry_path, *quiet)
        append(
            settings.telemetry_path,
            *(
                telemetry_line(400_000 + n, end + 7500 + n * 2, 0.02, feature_id="search", request_id=f"s{n}")
                for n in range(40)
            ),
        )
        append(settings.decisions_path, decision_line(500_000, end + 7600))
        broken.status = 200
        materialize(settings)
        told = [alert.data["message"] for alert in read_alerts(settings.alerts_path)]
        assert len(told) == 2
        assert Counter(well.told) == Counter(told)
        assert broken.told[2:] == told
        materialize(settings)
        assert len(well.told) == 2
        assert len(broken.told) == 4


def raise_one(tmp_path: Path, *servers: Webhook) -> alerts.Raised:
    alert = alerts.make_alert(
        "cost_anomaly", about=["e"], subject="feature:chat", time="2026-11-21T11:00:00.000000+00:00",
        message="Chat costs nine times as much as usual.", data={},
    )  # fmt: skip
    sinks = [alerts.Sink(name=f"sink-{number}", url=server.url) for number, server in enumerate(servers)]
    return alerts.raise_alerts([alert], tmp_path / "alerts.jsonl", sinks=sinks)


def test_a_webhook_that_hangs_keeps_no_other_waiting(tmp_path: Path) -> None:
    """The first sink answers only once the second has been told: one after the other, it never would."""
    with webhook() as hanging, webhook() as well:
        hanging.answers_after = well.heard
        raised = raise_one(tmp_path, hanging, well)
        assert raised.failed == ()
        assert [sink for _, sink in raised.delivered] == ["sink-0", "sink-1"]


def test_twin_that_tells_one_sink_after_the_other_waits_for_the_one_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "_MOST_SINKS_AT_ONCE", 1)
    with webhook() as hanging, webhook() as well:
        hanging.answers_after = well.heard
        raised = raise_one(tmp_path, hanging, well)
        assert [sink for _, sink in raised.failed] == ["sink-0"]
        assert [sink for _, sink in raised.delivered] == ["sink-1"]


@pytest.mark.timeout(60)
def test_twin_that_forgets_what_was_delivered_tells_the_webhook_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = alerts._read_log
    monkeypatch.setattr(
        alerts, "_read_log", lambda path, of: [] if of is alerts._Delivery else real(path, of)
    )
    with webhook() as well:
        settings = settings_with(tmp_path / "home", well=well.url)
        append_cost_spike(settings, write_cost_history(settings) + 60)
        materialize(settings)
        materialize(settings)
        assert len(well.told) == 2
