"""Timestamps on the wire: RFC 3339, UTC, microseconds, `+00:00`; and reading what others write.

Instants inside are integer microseconds since 1970, so that windows and orders are exact.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from llmscope.errors import MalformedLine

MICROS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Absurd is before 2000 or after 2100, never relative to now: a fold must not depend on its reader's clock.
EARLIEST_US = (datetime(2000, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
LATEST_US = (datetime(2100, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
# Narrower than either ISO 8601 or `fromisoformat`: exactly what Python and the staging SQL both read alike.
TIMESTAMP_PATTERN = (
    r"\d{4}-\d{2}-\d{2}[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|\+00:00Z|[+-]\d{2}:[0-5]\d)?"
)
_TIMESTAMP = re.compile(TIMESTAMP_PATTERN, re.ASCII)


def to_micros(instant: datetime) -> int:
    """An aware datetime as microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Microseconds since 1970 as an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=micros)


def format_instant(instant: datetime) -> str:
    """An aware datetime as it is written into an event."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def format_micros(micros: int) -> str:
    """Microseconds since 1970 as they are written into an event."""
    fraction = str(MICROS + micros % MICROS)[1:]  # at half the price of formatting six digits
    return f"{_format_second(micros // MICROS)}.{fraction}+00:00"


@lru_cache(maxsize=64)
def _format_second(second: int) -> str:
    """Date and time to the second; a busy writer asks for few different ones."""
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")


# Lines in a log follow each other: most share date, hour and minute with one read before, in the form that
# we write ourselves (`2026-03-24T10:00:00.000000+00:00`).
OUR_LENGTH = 32
_OUR_SHAPE = b"0000-00-00T00:00:00.000000+00:00"
_OFFSET_DIGITS = (27, 28, 30, 31)
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_MINUTE_US = 60 * MICROS
_MINUTES: dict[str, int] = {}
_MOST_MINUTES = 4096


def parse_micros(text: str) -> int:
    """Read a timestamp of any dialect: `…+00:00`, `…Z`, another offset, naive (= UTC), or the
    malformed `…+00:00Z` of the forerunner. More than six fractional digits are cut.

    Raises:
        MalformedLine: `bad_timestamp` when it cannot be read, `absurd_timestamp` before 2000 or from 2100 on.
    """
    is_ours = len(text) == OUR_LENGTH and text[19] == "." and text.endswith("+00:00")
    if is_ours:
        minute_us = _MINUTES.get(text[:17])
        if minute_us is not None:
            digits = text[17:19] + text[20:26]
            if digits.isdecimal() and digits.isascii() and digits < "60":
                return minute_us + int(digits)
    if _TIMESTAMP.fullmatch(text) is None:
        raise MalformedLine("bad_timestamp", repr(text[:64]))
    if text.endswith("+00:00Z"):
        text = text[:-1]
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise MalformedLine("bad_timestamp", repr(text[:64])) from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    micros = (instant - _EPOCH) // _MICROSECOND
    if not EARLIEST_US <= micros < LATEST_US:
        raise MalformedLine("absurd_timestamp", repr(text[:64]))
    if is_ours:
        if len(_MINUTES) >= _MOST_MINUTES:
            _MINUTES.clear()
        _MINUTES[text[:17]] = micros - micros % _MINUTE_US
    return micros


def parse_our_micros(texts: list[str]) -> list[int] | None:
    """`parse_micros` of each of many, at a third of the price; None unless all are in the form that we
    write ourselves, and none is absurd."""
    try:
        joined = "".join(texts).encode("ascii")
        if joined.translate(_DIGITS_TO_ZERO) != _OUR_SHAPE * len(texts):
            return None
        if any(joined[place::OUR_LENGTH].strip(b"0") for place in _OFFSET_DIGITS):
            return None
        instants = list(map(datetime.fromisoformat, texts))
    except ValueError:  # not ASCII, or no such date; a text of another length is no date either
        return None
    if not instants:
        return None
    in_order = sorted(texts)  # and so are their instants: all are of one shape, in UTC
    first, last = datetime.fromisoformat(in_order[0]), datetime.fromisoformat(in_order[-1])
    first_us = to_micros(first)
    if first_us < EARLIEST_US or to_micros(last) >= LATEST_US:
        return None
    if (last - first).days:
        return [to_micros(instant) for instant in instants]
    since_first = [instant - first for instant in instants]  # at half the price of a division each
    return [first_us + since.seconds * MICROS + since.microseconds for since in since_first]
