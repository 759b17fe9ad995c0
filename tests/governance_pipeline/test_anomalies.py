"""Cost episodes: when they open and close, on what baseline, and that ordinary traffic has none."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from governance_pipeline import sql_files
from governance_pipeline.anomalies import DEFAULT_WATCH, Watch, build_cost_anomalies, watches_from_policy
from governance_pipeline.demo.trace import CODE, load_trace
from governance_pipeline.economics import NO_ECONOMICS
from governance_pipeline.facts import build_fct_requests
from policy_runtime.policy import Policy
from tests.governance_pipeline.staged_rows import staged

NOON = datetime(2026, 3, 24, 12, tzinfo=UTC)
MINUTE, HOUR, WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(weeks=1)
WATCH = Watch("watch", "f", threshold_multiplier=3.0, min_samples=20)
Events = list[tuple[datetime, float]]


def steady(begin: datetime, end: datetime, cost_usd: float, every_seconds: float = 10) -> Events:
    """One request of the same cost every few seconds, the end excluded."""
    count = math.ceil((end - begin).total_seconds() / every_seconds)
    return [(begin + timedelta(seconds=every_seconds * number), cost_usd) for number in range(count)]


def episodes_in(events: Events, *watches: Watch, **columns: Any) -> list[dict[str, Any]]:
    """The episodes in requests of feature `f`."""
    with staged() as con:
        table = pa.table(
            {
                "request_id": [str(number) for number in range(len(events))],
                "timestamp": pa.array([instant for instant, _ in events], pa.timestamp("us", "UTC")),
                "cost_usd": pa.array([Decimal(f"{cost:.9f}") for _, cost in events], pa.decimal128(18, 9)),
            }
        )
        con.register("handed_over", table)
        con.execute(
            "INSERT INTO staging.stg_requests BY NAME SELECT *, 'default' AS tenant_id, 'f' AS feature_id, "
            "TRUE AS is_success, 'success' AS status, FALSE AS is_fallback FROM handed_over"
        )
        as_of = build_fct_requests(con, NO_ECONOMICS)
        build_cost_anomalies(con, watches or [WATCH], as_of)
        cursor = con.execute("SELECT * FROM marts.cost_anomalies")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


HISTORY = steady(NOON - 8 * HOUR, NOON, 0.01)


def test_a_spike_opens_one_episode_with_its_numbers_and_closes_after_fifteen_minutes() -> None:
    """History 0.01 every 10 s; from 12:10:00 each costs 0.05 for ten minutes. After n dear requests the
    31 in the five minutes (both ends in) have the mean (0.31 + 0.04 n) / 31, above 0.03 from n = 16 on:
    12:12:30. The last window with 16 dear ones ends at 12:22:20."""
    spike = steady(NOON + 10 * MINUTE, NOON + 20 * MINUTE, 0.05)
    events = [
        *HISTORY,
        *steady(NOON, NOON + 10 * MINUTE, 0.01),
        *spike,
        *steady(NOON + 20 * MINUTE, NOON + 60 * MINUTE, 0.01),
    ]
    [episode] = episodes_in(events)
    assert episode["subject"] == "feature:f"
    assert episode["feature_id"] == "f"
    assert episode["policy_id"] == "watch"
    assert episode["window_start"] == NOON + timedelta(minutes=12, seconds=30)
    assert episode["window_end"] == NOON + timedelta(minutes=22, seconds=20)
    # From 12:07:30 to 12:22:20: 90 requests, 60 of them dear.
    assert episode["request_count"] == 90
    assert episode["avg_cost_usd"] == pytest.approx((60 * 0.05 + 30 * 0.01) / 90)
    assert episode["baseline_cost_usd"] == pytest.approx(0.01)
    assert episode["ratio"] == pytest.approx(episode["avg_cost_usd"] / 0.01)
    assert episode["source"] == "preceding_hours"
    assert len(episode["episode_id"]) == 16


def test_an_episode_is_open_while_its_fifteen_minutes_are_not_over() -> None:
    events = [*HISTORY, *steady(NOON, NOON + 10 * MINUTE, 0.05)]
    [episode] = episodes_in(events)
    assert episode["window_end"] is None
    [later] = episodes_in([*events, (NOON + 40 * MINUTE, 0.01)])
    assert later["episode_id"] == episode["episode_id"]
    assert later["window_end"] is not None


@pytest.mark.parametrize(("pause_minutes", "count"), [(8, 1), (40, 2)])
def test_two_spikes_are_one_episode_unless_fifteen_quiet_minutes_lie_between(
    pause_minutes: int, count: int
) -> None:
    second = NOON + 10 * MINUTE + pause_minutes * MINUTE
    events = [
        *HISTORY,
        *steady(NOON, NOON + 10 * MINUTE, 0.05),
        *steady(NOON + 10 * MINUTE, second, 0.01),
        *steady(second, second + 10 * MINUTE, 0.05),
    ]
    episodes = episodes_in(events)
    assert len(episodes) == count
    assert len({episode["episode_id"] for episode in episodes}) == count


@pytest.mark.parametrize(("samples", "count"), [(19, 0), (20, 1)])
def test_five_minutes_must_hold_the_samples(samples: int, count: int) -> None:
    quiet = NOON + 30 * MINUTE
    burst = [(quiet + timedelta(seconds=number), 0.2) for number in range(samples)]
    assert len(episodes_in([*HISTORY, *burst])) == count


@pytest.mark.parametrize(("hours", "count"), [(5, 0), (6, 1)])
def test_with_fewer_than_six_hours_of_history_there_is_no_verdict(hours: int, count: int) -> None:
    events = [*steady(NOON - hours * HOUR, NOON, 0.01), *steady(NOON, NOON + 10 * MINUTE, 0.05)]
    # Windows that begin before noon belong to the hour before, whose history is one hour shorter.
    assert len(episodes_in(events)) == count


def test_one_single_dear_request_is_no_anomaly() -> None:
    assert episodes_in([*HISTORY, *steady(NOON, NOON + HOUR, 0.01), (NOON + 30 * MINUTE, 0.6)]) == []


@pytest.mark.parametrize("cost_usd", [1, 100])
def test_one_request_however_dear_opens_no_episode_and_two_do(cost_usd: float) -> None:
    """Thirty-one requests in a window, 0.01 each: one of 1 USD makes their mean 0.04, above 0.03."""
    quiet = steady(NOON, NOON + HOUR, 0.01)
    single = (NOON + 30 * MINUTE, cost_usd)
    assert episodes_in([*HISTORY, *quiet, single]) == []
    assert len(episodes_in([*HISTORY, *quiet, single, (NOON + 31 * MINUTE, cost_usd)])) == 1


def test_three_times_the_baseline_is_not_above_three_times_the_baseline() -> None:
    events = steady(NOON - 8 * HOUR, NOON, 0.25)
    assert episodes_in([*events, *steady(NOON, NOON + HOUR, 0.75)]) == []
    assert len(episodes_in([*events, *steady(NOON, NOON + HOUR, 0.76)])) == 1


def season(weeks: int, end: datetime) -> Events:
    """Each day cheap, but for 12:00 to 13:00, when a batch costs ten times as much."""
    events: Events = []
    instant = end - weeks * WEEK
    while instant < end:
        events += steady(instant, instant + HOUR, 0.1 if instant.hour == 12 else 0.01, every_seconds=60)
        instant += HOUR
    return events


def test_what_happens_every_week_at_that_hour_is_no_anomaly() -> None:
    ordinary = [*season(5, NOON), *steady(NOON, NOON + HOUR, 0.1)]
    episodes = episodes_in(ordinary)
    # Before there are four such weeks nothing but the preceding hours can be asked, and they are cheap.
    assert all(episode["source"] == "preceding_hours" for episode in episodes)
    assert all(episode["window_start"] < NOON - WEEK + HOUR for episode in episodes)
    spike = [*season(5, NOON), *steady(NOON, NOON + HOUR, 0.4)]
    [episode] = [episode for episode in episodes_in(spike) if episode["window_start"] >= NOON]
    assert episode["source"] == "weekday_hour"
    assert episode["baseline_cost_usd"] == pytest.approx(0.1)


@pytest.mark.parametrize("weeks", [0, 5])
def test_a_new_normal_closes_its_episode_within_a_day(weeks: int) -> None:
    past = [(instant, 0.01) for instant, _ in season(weeks, NOON)] or HISTORY
    events = [*past, *steady(NOON, NOON + 48 * HOUR, 0.05, every_seconds=12)]
    [episode] = episodes_in(events)
    assert NOON + 5 * HOUR < episode["window_end"] < NOON + 24 * HOUR


def test_rules_are_watched_each_for_itself_and_alike_ones_once() -> None:
    rule = {"id": "a", "primitive": "cost_anomaly", "feature_id": "f", "threshold_multiplier": 4}
    policy = Policy.model_validate(
        {
            "namespaces": {
                "x": {"rules": [rule]},
                "y": {"rules": [rule, {**rule, "id": "b", "feature_id": "g"}]},
            }
        }
    )
    assert watches_from_policy(policy) == [Watch("a", "f", 4, 20, 24), Watch("b", "g", 4, 20, 24)]
    events = [*HISTORY, *steady(NOON, NOON + 10 * MINUTE, 0.05)]
    assert len(episodes_in(events, *watches_from_policy(policy))) == 1
    assert episodes_in(events, Watch("b", "g")) == []


def test_without_a_rule_every_feature_is_watched() -> None:
    assert watches_from_policy(None) == [DEFAULT_WATCH]
    assert watches_from_policy(Policy.model_validate({"namespaces": {"default": {"rules": []}}})) == [
        DEFAULT_WATCH
    ]
    [episode] = episodes_in([*HISTORY, *steady(NOON, NOON + 10 * MINUTE, 0.05)], DEFAULT_WATCH)
    assert episode["policy_id"] == "default"


def trace_hour() -> Events:
    """The production trace of code requests at gpt-4o's list price (2.50 and 10 USD per million)."""
    code = [row for row in load_trace() if row.feature_id == CODE]
    first_us = code[0].arrival_us
    return [
        (
            NOON + timedelta(microseconds=row.arrival_us - first_us),
            (2.5 * row.context_tokens + 10 * row.generated_tokens) / 1e6,
        )
        for row in code
    ]


def history_like(hour: Events) -> Events:
    """Eight earlier hours, each a sample of the hour's own costs at its own arrivals."""
    draw = random.Random(7)
    costs = [cost for _, cost in hour]
    return [(instant - ago * HOUR, draw.choice(costs)) for ago in range(1, 9) for instant, _ in hour]


def test_the_production_trace_holds_no_anomaly_and_a_planted_one_is_found() -> None:
    hour = trace_hour()
    history = history_like(hour)
    assert episodes_in([*history, *hour]) == []
    begin, end = NOON + 30 * MINUTE, NOON + 38 * MINUTE
    planted = [(instant, cost * 6 if begin <= instant < end else cost) for instant, cost in hour]
    [episode] = episodes_in([*history, *planted])
    assert begin <= episode["window_start"] < begin + 5 * MINUTE


def test_single_requests_of_the_trace_judged_one_by_one_would_raise_episodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twin: judged one by one, ordinary traffic is full of anomalies; the window is what prevents them."""
    hour = trace_hour()
    events = [*history_like(hour), *hour]
    real = sql_files.load_sql("marts/anomaly_moments")
    broken = sql_files.parse_sql(
        "marts/anomaly_moments",
        real.text.replace("INTERVAL 5 MINUTES PRECEDING", "INTERVAL 0 MINUTES PRECEDING"),
    )
    monkeypatch.setattr("governance_pipeline.anomalies.load_sql", lambda name: {
        "marts/anomaly_moments": broken}.get(name) or sql_files.load_sql(name))  # fmt: skip
    assert episodes_in(events, Watch("watch", "f", min_samples=1)) != []
