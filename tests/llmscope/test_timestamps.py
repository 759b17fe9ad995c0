"""Timestamps: one form written, every dialect read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope import timestamps
from llmscope.errors import MalformedLine
from llmscope.timestamps import (
    EARLIEST_US,
    LATEST_US,
    format_instant,
    format_micros,
    from_micros,
    parse_micros,
    to_micros,
)

NOON_US = 1_795_262_400_000_000  # 2026-11-21 12:00:00 UTC


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T12:00:00+00:00", "2026-11-21T12:00:00Z", "2026-11-21T12:00:00", "2026-11-21 12:00:00",
        "2026-11-21T12:00:00.000000+00:00Z", "2026-11-21T13:30:00+01:30", "2026-11-21T12:00:00.000000999Z",
        "2026-11-21T07:00:00.0-05:00",
    ],
)  # fmt: skip
def test_every_dialect_names_the_same_instant(text: str) -> None:
    assert parse_micros(text) == NOON_US


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "bad_timestamp"), ("yesterday", "bad_timestamp"), ("2026-11-21", "bad_timestamp"),
        ("2026-13-01T00:00:00Z", "bad_timestamp"), ("2026-02-30T00:00:00Z", "bad_timestamp"),
        ("2026-11-21T12:00:00 Z", "bad_timestamp"), ("1795262400", "bad_timestamp"),
        ("٢٠٢٦-11-21T12:00:00Z", "bad_timestamp"), ("1999-12-31T23:59:59Z", "absurd_timestamp"),
        ("2100-01-01T00:00:00Z", "absurd_timestamp"),
    ],
)  # fmt: skip
def test_anything_else_is_a_reject_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(MalformedLine) as refused:
        parse_micros(text)
    assert refused.value.reason == reason


def test_instants_are_written_in_utc_with_microseconds() -> None:
    there = datetime(2026, 11, 21, 13, tzinfo=timezone(timedelta(hours=1)))
    assert format_instant(there) == "2026-11-21T12:00:00.000000+00:00"
    assert to_micros(there) == NOON_US


@given(st.integers(min_value=EARLIEST_US, max_value=LATEST_US - 1))
def test_what_is_written_reads_back_the_same(micros: int) -> None:
    assert parse_micros(format_micros(micros)) == micros
    assert to_micros(from_micros(micros)) == micros
    assert from_micros(micros).tzinfo is UTC


@pytest.mark.parametrize(
    "bad",
    ["60.000000", "99.999999", "5 .000000", "+5.000000", "05.00000_", "0٣.000000", "05.00²000", "05,000000"],
)
def test_a_minute_that_is_known_lets_no_other_seconds_in(bad: str) -> None:
    """The second reading of a minute takes a shorter way."""
    known = parse_micros("2026-03-24T10:07:00.000000+00:00")
    assert parse_micros("2026-03-24T10:07:59.999999+00:00") == known + 59_999_999
    with pytest.raises(MalformedLine):
        parse_micros(f"2026-03-24T10:07:{bad}+00:00")


def test_known_minutes_are_bounded_and_right() -> None:
    begin = datetime(2026, 3, 24, tzinfo=UTC)
    for minute in range(10_000):
        at = begin + timedelta(minutes=minute, seconds=7, microseconds=5)
        for _ in range(2):
            expected = round((at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
            assert parse_micros(at.isoformat(timespec="microseconds")) == expected
    assert len(timestamps._MINUTES) <= timestamps._MOST_MINUTES
