"""The replay itself: real gate, real gateway, real logs; only providers and time are simulated."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from governance_pipeline.demo import replay as replay_module
from governance_pipeline.demo import schedule
from governance_pipeline.demo.configuration import economics_text, policy_text
from governance_pipeline.demo.folder import DemoFiles, fresh_folder
from governance_pipeline.demo.replay import ReplayCounts, replay
from governance_pipeline.demo.schedule import PlannedRequest, plan_requests
from governance_pipeline.demo.story import DEFAULT_STORY, BudgetLimit, Outage, Story, without_plants
from governance_pipeline.demo.trace import HOUR_US, every_nth, load_trace, shift_hours
from llmscope.clock import VirtualClock
from policy_runtime import load_policy

ROWS = every_nth(load_trace(), 27)
NOW = datetime(2026, 11, 21, 4, 20, tzinfo=UTC)
QUIET = without_plants(DEFAULT_STORY)
STORY = replace(DEFAULT_STORY, downgrade=BudgetLimit("batch", 0.2), deny=BudgetLimit("trial", 0.15))


def _replay(home: Path, story: Story, now: datetime = NOW) -> tuple[ReplayCounts, DemoFiles]:
    files = fresh_folder(home)
    files.policy.write_text(policy_text(story), encoding="utf-8")
    counts = replay(
        story,
        plan_requests(story, ROWS),
        files,
        own_hour_begins_us=ROWS[0].arrival_us,
        shift_us=shift_hours(ROWS, now) * HOUR_US,
        progress=lambda done, total: None,
    )
    return counts, files


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _without_date(value: Any, origin: datetime) -> Any:
    """A log line with every instant told from `origin`, and without fingerprints, which hash dates."""
    if isinstance(value, dict):
        return {key: _without_date(inner, origin) for key, inner in value.items() if key != "fingerprint"}
    if isinstance(value, list):
        return [_without_date(inner, origin) for inner in value]
    if isinstance(value, str) and value.endswith("+00:00"):
        return (datetime.fromisoformat(value) - origin).total_seconds()
    return value


def _same_whatever_the_hour(tmp_path: Path) -> bool:
    told = []
    for name, now in (("a", NOW), ("b", datetime(2027, 1, 3, 23, 59, 59, tzinfo=UTC))):
        counts, files = _replay(tmp_path / name, STORY, now)
        told.append(
            [
                [_without_date(line, counts.first_arrival) for line in _lines(path)]
                for path in (files.telemetry, files.decisions)
            ]
        )
    return told[0] == told[1]


def test_the_same_story_writes_the_same_logs_whatever_the_hour(tmp_path: Path) -> None:
    assert _same_whatever_the_hour(tmp_path)


def test_twin_with_unseeded_draws_the_logs_would_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_draws", lambda name: tuple(random.random() for _ in range(8)))
    assert not _same_whatever_the_hour(tmp_path)


def test_every_request_has_one_decision_and_a_bill_unless_denied(tmp_path: Path) -> None:
    counts, files = _replay(tmp_path / "demo", STORY)
    planned = {request.request_id for request in plan_requests(STORY, ROWS)}
    decisions = [line for line in _lines(files.decisions) if line.get("event", "decision") == "decision"]
    bills = _lines(files.telemetry)
    denied = {line["request_id"] for line in decisions if line["decision"] == "deny"}
    assert Counter(line["request_id"] for line in decisions) == Counter(planned)
    assert Counter(line["request_id"] for line in bills) == Counter(planned - denied)
    failed = [line for line in bills if line["status"] == "error"]
    assert (counts.denied, counts.failed, counts.total) == (len(denied), len(failed), len(planned))
    assert counts.first_denied in denied
    assert failed


def _most_at_once(files: DemoFiles) -> int:
    steps = []
    for line in _lines(files.telemetry):
        ended = datetime.fromisoformat(line["timestamp"])
        # A latency is written to the microsecond, so a start may seem that much too early.
        started = ended - timedelta(milliseconds=line["latency_ms"]) + timedelta(microseconds=2)
        steps += [(ended, -1), (started, 1)]
    running = most = 0
    for _, step in sorted(steps):
        running += step
        most = max(most, running)
    return most


def test_overlapping_requests_overlap(tmp_path: Path) -> None:
    _, files = _replay(tmp_path / "demo", QUIET)
    assert _most_at_once(files) > 3


def test_twin_one_call_after_the_other_would_not_overlap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def make_one_by_one(
        gate: Any, clock: VirtualClock, requests: list[PlannedRequest], progress: Callable[[int, int], None]
    ) -> dict[str, str]:
        return {request.request_id: await replay_module._call(gate, request) for request in requests}

    monkeypatch.setattr(replay_module, "_make_all", make_one_by_one)
    _, files = _replay(tmp_path / "demo", QUIET)
    assert _most_at_once(files) == 1


def test_with_nothing_planted_the_bills_carry_the_traces_tokens_and_all_is_allowed(tmp_path: Path) -> None:
    _, files = _replay(tmp_path / "demo", QUIET)
    rows = {(row.feature_id, row.number): row for row in ROWS}
    for line in _lines(files.telemetry):
        if line["status"] == "success":
            row = rows[line["feature_id"], int(line["request_id"].split("-")[3])]
            assert (line["tokens_in"], line["tokens_out"]) == (row.context_tokens, row.generated_tokens)
    decisions = [line for line in _lines(files.decisions) if line.get("event", "decision") == "decision"]
    assert {line["decision"] for line in decisions} == {"allow"}


def test_during_the_outage_the_primary_hangs_and_the_standby_answers(tmp_path: Path) -> None:
    story = replace(QUIET, outage=Outage("/code-complete", start_minute=20, minutes=10))
    _, files = _replay(tmp_path / "demo", story)
    begins = datetime.fromisoformat("2026-11-21T03:35:46.680590+00:00")
    assert (ROWS[0].arrival_us // 1000, ROWS[0].feature_id) == (1700158546680, "chat")
    hung = 0
    for line in _lines(files.telemetry):
        started = datetime.fromisoformat(line["timestamp"]) - timedelta(milliseconds=line["latency_ms"])
        inside = line["route"] == "/code-complete" and begins <= started < begins + timedelta(minutes=10)
        waited_long = len(line["attempts"]) == 2 and line["attempts"][0]["latency_ms"] > 1_000
        assert inside or not waited_long
        assert not inside or line["status"] == "error" or line["fallback_triggered"]
        hung += waited_long
    assert hung > 20


def test_the_storys_files_load_and_its_limits_stand_where_it_plants_them(tmp_path: Path) -> None:
    files = fresh_folder(tmp_path / "demo")
    files.policy.write_text(policy_text(STORY), encoding="utf-8")
    files.economics.write_text(economics_text(STORY), encoding="utf-8")
    policy = load_policy(files.policy).policy
    budgets = {
        (name, rule.action, rule.limit_usd)
        for name, namespace in policy.namespaces.items()
        for rule in namespace.rules
        if rule.primitive == "budget_threshold"
    }
    assert budgets == {("batch", "downgrade", 0.2), ("trial", "deny", 0.15)}
