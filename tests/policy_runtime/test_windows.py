"""Calendar windows across time zones and summer time, and when room returns in a rolling one."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from llmscope.timestamps import from_micros, to_micros
from policy_runtime.windows import CalendarWindow, RollingWindow, calendar_start


@pytest.mark.parametrize(
    ("zone", "period", "instant", "start"),
    [
        ("UTC", "daily", "2026-03-24T10:30:00", "2026-03-24T00:00:00"),
        ("UTC", "hourly", "2026-03-24T10:30:00", "2026-03-24T10:00:00"),
        ("UTC", "weekly", "2026-03-24T10:30:00", "2026-03-23T00:00:00"),
        ("UTC", "monthly", "2026-03-24T10:30:00", "2026-03-01T00:00:00"),
        # Berlin, UTC+1 in winter: the day begins at 23:00 UTC the day before.
        ("Europe/Berlin", "daily", "2026-01-15T23:30:00", "2026-01-15T23:00:00"),
        # Berlin sets its clocks forward on 29 March 2026 at 01:00 UTC: that day has 23 hours.
        ("Europe/Berlin", "daily", "2026-03-29T21:59:59", "2026-03-28T23:00:00"),
        ("Europe/Berlin", "daily", "2026-03-29T22:00:00", "2026-03-29T22:00:00"),
        # and back on 25 October at 01:00 UTC: 25 hours, and the hour from 02:00 comes twice.
        ("Europe/Berlin", "daily", "2026-10-25T22:59:59", "2026-10-24T22:00:00"),
        ("Europe/Berlin", "hourly", "2026-10-25T00:30:00", "2026-10-25T00:00:00"),
        ("Europe/Berlin", "hourly", "2026-10-25T01:30:00", "2026-10-25T01:00:00"),
        # Kathmandu is UTC+05:45.
        ("Asia/Kathmandu", "hourly", "2026-03-24T10:30:00", "2026-03-24T10:15:00"),
        # In Santiago the midnight of 6 September 2026 does not exist: the day begins at 01:00 = 04:00 UTC.
        ("America/Santiago", "daily", "2026-09-06T12:00:00", "2026-09-06T04:00:00"),
        ("Europe/Berlin", "weekly", "2026-03-29T21:59:59", "2026-03-22T23:00:00"),
        ("Europe/Berlin", "monthly", "2026-03-31T23:00:00", "2026-03-31T22:00:00"),
    ],
)
def test_a_calendar_window_begins_where_the_wall_clock_says(
    zone: str, period: str, instant: str, start: str
) -> None:
    at = datetime.fromisoformat(instant).replace(tzinfo=UTC)
    assert from_micros(calendar_start(at, period, ZoneInfo(zone))).isoformat() == f"{start}+00:00"


def test_a_calendar_window_empties_at_its_boundary() -> None:
    window = CalendarWindow("daily", ZoneInfo("Europe/Berlin"))
    evening = to_micros(datetime(2026, 3, 29, 21, 59, tzinfo=UTC))
    window.add(evening, 7)
    assert window.total_at(evening) == 7
    assert window.total_at(evening + 60_000_000) == 0


def test_spend_dated_ahead_counts_now_and_stays_for_its_own_day() -> None:
    window = CalendarWindow("daily", ZoneInfo("UTC"))
    today = to_micros(datetime(2026, 3, 24, 12, tzinfo=UTC))
    window.add(today + 24 * 3600 * 1_000_000, 5)
    assert window.total_at(today) == 5
    assert window.total_at(today + 24 * 3600 * 1_000_000) == 5


def test_room_returns_when_enough_has_left() -> None:
    window = RollingWindow(60_000_000)
    start = 1_774_346_400_000_000
    for second in range(10):
        window.add(start + second * 1_000_000, 10)
    now = start + 10_000_000
    assert window.seconds_until_at_most(now, 100) == 0
    # 30 must leave: the buckets of seconds 0, 1 and 2; that of second 2 leaves 63 s after the start.
    assert window.seconds_until_at_most(now, 70) == pytest.approx(53)
