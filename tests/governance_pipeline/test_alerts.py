"""Alerts: said once, to everybody who asked, whoever else is saying it."""

from __future__ import annotations

import json
import multiprocessing
from datetime import UTC, datetime
from pathlib import Path

import apprise
import pytest
from pytest_httpserver import HTTPServer

from governance_pipeline import alerts
from governance_pipeline.alerts import Alert, Sink, load_sinks, make_alert, raise_alerts, read_alerts
from governance_pipeline.errors import BadInput
from llmscope.clock import VirtualClock

SAMPLE = Path(__file__).resolve().parents[2] / "fixtures" / "alerts" / "alerts.yaml"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def an_alert(number: int = 1) -> Alert:
    return make_alert(
        "cost_anomaly",
        about=[f"episode-{number}", "feature:search"],
        subject="feature:search",
        time="2026-11-21T11:00:00.000000+00:00",
        message="Search costs nine times as much as usual.",
        data={"ratio": 9.0},
    )


def test_an_alert_is_a_cloudevent_of_version_1(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "alerts.jsonl"
    raise_alerts([an_alert()], log, clock=VirtualClock(NOON))
    [line] = log.read_text().splitlines()
    event = json.loads(line)
    assert event["specversion"] == "1.0"
    assert event["type"] == "llm_governance.cost_anomaly"
    assert event["source"] == "/llm-governance/pipeline"
    assert event["subject"] == "feature:search"
    assert event["time"] == "2026-11-21T11:00:00.000000+00:00"
    assert event["recordedtime"] == "2026-11-21T12:00:00.000000+00:00"
    assert event["datacontenttype"] == "application/json"
    assert event["data"] == {"message": "Search costs nine times as much as usual.", "ratio": 9.0}
    assert len(event["id"]) == 32


def test_the_same_episode_is_told_once(tmp_path: Path) -> None:
    log = tmp_path / "alerts.jsonl"
    assert len(raise_alerts([an_alert(), an_alert(), an_alert(2)], log).written) == 2
    assert raise_alerts([an_alert(2), an_alert()], log).written == ()
    assert len(read_alerts(log)) == 2


def test_an_alert_of_a_rotated_log_is_not_told_again(tmp_path: Path) -> None:
    log = tmp_path / "alerts.jsonl"
    raise_alerts([an_alert()], log)
    log.rename(tmp_path / "alerts.jsonl.1")
    assert raise_alerts([an_alert()], log).written == ()


def test_a_torn_line_in_the_log_hides_nothing(tmp_path: Path) -> None:
    log = tmp_path / "alerts.jsonl"
    raise_alerts([an_alert()], log)
    with log.open("ab") as file:
        file.write(b'{"id": "torn')
    assert len(raise_alerts([an_alert(), an_alert(2)], log).written) == 1
    assert len(read_alerts(log)) == 2


def _raise_many(log: Path, start: multiprocessing.synchronize.Barrier) -> None:
    start.wait()
    raise_alerts([an_alert(number) for number in range(50)], log)


def _raise_in_processes(log: Path) -> list[str]:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    processes = [context.Process(target=_raise_many, args=(log, start)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return [json.loads(line)["id"] for line in log.read_text().splitlines()]


def test_processes_that_raise_the_same_alerts_at_once_write_each_once(tmp_path: Path) -> None:
    ids = _raise_in_processes(tmp_path / "alerts.jsonl")
    assert len(ids) == len(set(ids)) == 50


def test_twin_without_looking_at_the_log_first_alerts_are_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "read_alerts", lambda path: [])
    ids = _raise_in_processes(tmp_path / "alerts.jsonl")
    assert len(ids) > len(set(ids))


def test_a_sink_that_fails_is_tried_again_and_keeps_nobody_waiting(
    tmp_path: Path, httpserver: HTTPServer
) -> None:
    log = tmp_path / "alerts.jsonl"
    httpserver.expect_request("/broken").respond_with_data("no", status=500)
    httpserver.expect_request("/well").respond_with_data("ok")
    base = httpserver.url_for("").replace("http://", "json://").rstrip("/")
    sinks = [Sink(name="broken", url=f"{base}/broken"), Sink(name="well", url=f"{base}/well")]
    first = raise_alerts([an_alert()], log, sinks=sinks)
    assert [sink for _, sink in first.delivered] == ["well"]
    assert [sink for _, sink in first.failed] == ["broken"]

    httpserver.clear()
    httpserver.expect_request("/broken").respond_with_data("better now")
    httpserver.expect_request("/well").respond_with_data("ok")
    second = raise_alerts([], log, sinks=sinks)
    assert [sink for _, sink in second.delivered] == ["broken"]
    assert second.failed == ()
    [(request, _)] = httpserver.log
    assert json.loads(request.data)["message"] == "Search costs nine times as much as usual."
    assert raise_alerts([], log, sinks=sinks) == alerts.Raised()


def test_twin_that_takes_a_failed_delivery_for_done_never_tries_again(tmp_path: Path) -> None:
    log = tmp_path / "alerts.jsonl"
    sinks = [Sink(name="pager", url="json://127.0.0.1:9/")]
    raise_alerts([an_alert()], log, sinks=sinks, notify=lambda sink, alert: True)
    assert raise_alerts([], log, sinks=sinks, notify=lambda sink, alert: True).delivered == ()
    assert raise_alerts([], log, sinks=sinks, notify=lambda sink, alert: False).failed == ()


def test_a_sink_that_is_down_costs_three_attempts_a_call(tmp_path: Path) -> None:
    attempts = []

    def refuse(sink: Sink, alert: Alert) -> bool:
        attempts.append(alert.id)
        return False

    sinks = [Sink(name="pager", url="json://127.0.0.1:9/")]
    raised = raise_alerts([an_alert(n) for n in range(20)], tmp_path / "a.jsonl", sinks=sinks, notify=refuse)
    assert len(attempts) == 3
    assert len(raised.failed) == 20


def test_a_new_sink_is_not_flooded_with_the_past(tmp_path: Path) -> None:
    log, clock = tmp_path / "alerts.jsonl", VirtualClock(NOON)
    raise_alerts([an_alert(1)], log, clock=clock)
    clock.advance(25 * 3600)
    raise_alerts([an_alert(2)], log, clock=clock)
    sinks = [Sink(name="new", url="json://127.0.0.1:9/")]
    raised = raise_alerts([], log, sinks=sinks, clock=clock, notify=lambda sink, alert: True)
    assert raised.delivered == ((an_alert(2).id, "new"),)


def test_a_sink_hears_only_of_the_kinds_it_asked_for(tmp_path: Path) -> None:
    sinks = [Sink(name="budget", url="json://127.0.0.1:9/", kinds=("budget_alert",))]
    raised = raise_alerts([an_alert()], tmp_path / "a.jsonl", sinks=sinks, notify=lambda sink, alert: True)
    assert raised.delivered == ()


def test_the_sample_brings_each_sink_what_it_asked_for(tmp_path: Path, httpserver: HTTPServer) -> None:
    [desk, on_call] = load_sinks(
        SAMPLE, {"ON_CALL_ALERTS_URL": httpserver.url_for("/call").replace("http", "json")}
    )
    assert (desk.name, desk.url) == ("desk", "json://127.0.0.1:8099/alerts")
    assert apprise.Apprise().add(str(desk.url)), "an address that apprise knows"
    desk = desk.model_copy(update={"url": httpserver.url_for("/alerts").replace("http", "json")})
    for path in ("/alerts", "/call"):
        httpserver.expect_request(path, method="POST").respond_with_data("ok")
    failed = make_alert(
        "check_failed", about=["reconciliation"], subject="fct_requests/reconciliation",
        time="2026-11-21T11:00:00.000000+00:00", message="They differ.", data={},
    )  # fmt: skip
    raise_alerts([an_alert(), failed], tmp_path / "alerts.jsonl", sinks=[desk, on_call])
    told = [(request.path, json.loads(request.data)) for request, _ in httpserver.log]
    assert sorted((path, body["message"]) for path, body in told) == [
        ("/alerts", "Search costs nine times as much as usual."),
        ("/alerts", "They differ."),
        ("/call", "They differ."),
    ]
    assert all({"title", "message", "type"} <= body.keys() for _, body in told)
    with pytest.raises(BadInput, match="ON_CALL_ALERTS_URL is not set"):
        load_sinks(SAMPLE, {})


def test_an_address_may_come_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text("sinks: [{name: oncall, url_env: ONCALL}]\n")
    [sink] = load_sinks(path, {"ONCALL": "json://127.0.0.1:1/"})
    assert sink.url == "json://127.0.0.1:1/"
    with pytest.raises(BadInput, match=r"oncall.*ONCALL is not set"):
        load_sinks(path, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sinks: [{name: a}]", "exactly one of url and url_env"),
        ("sinks: [{name: a, url: x, url_env: Y}]", "exactly one of url and url_env"),
        ("sinks: [{name: a, url: x}, {name: a, url: y}]", "two sinks are named a"),
        ("sinks: [{name: a, url: x, kind: [check_failed]}]", "unknown key 'kind'. Did you mean 'kinds'"),
        (
            "sinks: [{name: a, url: x, kinds: [everything]}]",
            r"kinds\[0\]: found 'everything'. Write one of: cost_anomaly",
        ),
        ("sinks: [", "not valid YAML"),
        ("- 1", "an alerts file is a mapping with `sinks:`, found list"),
    ],
)
def test_a_mistake_in_alerts_yaml_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        load_sinks(path, {})
