"""Personal data: what follows from it, in and out."""

from __future__ import annotations

import asyncio
import logging
import os

import pytest

from llmscope.errors import ConfigurationError
from llmscope.gateway.guards.pii import PiiGuard
from llmscope.gateway.stages import GuardVerdict

TEXT = "Write to bob@example.com or call +1 415 555 2671; card 4111 1111 1111 1111."


async def test_redaction_really_redacts() -> None:
    """Seed 002's guard had a `redact` that its pipeline never called: the text went on as it was."""
    verdict = await PiiGuard().check(TEXT, "in")
    assert verdict == GuardVerdict(
        "redact", "Write to [EMAIL] or call [PHONE]; card [CARD].", ("card", "email", "phone"), has_pii=True
    )


async def test_a_text_without_any_goes_on_as_it_is() -> None:
    verdict = await PiiGuard().check("The answer is 42.", "out")
    assert verdict == GuardVerdict("pass", "The answer is 42.", (), has_pii=False)


async def test_warning_notes_and_changes_nothing() -> None:
    verdict = await PiiGuard(action_in="warn").check(TEXT, "in")
    assert (verdict.action, verdict.text, verdict.has_pii) == ("warn", TEXT, True)
    assert verdict.classes == ("card", "email", "phone")


async def test_each_kind_has_its_own_action_and_the_gravest_is_the_verdicts() -> None:
    guard = PiiGuard(action_in={"email": "redact", "phone": "warn", "card": "block"})
    verdict = await guard.check(TEXT, "in")
    assert verdict.action == "block"
    assert verdict.text == "Write to [EMAIL] or call +1 415 555 2671; card [CARD].", (
        "what is blocked is never in the text, whoever uses it"
    )
    verdict = await guard.check("ask bob@example.com, ssn 123-45-6789", "in")
    assert (verdict.action, verdict.classes) == ("redact", ("email",)), "a kind without an action passes"


async def test_each_direction_has_its_own_action() -> None:
    guard = PiiGuard(action_in="block", action_out="pass")
    assert (await guard.check(TEXT, "in")).action == "block"
    assert (await guard.check(TEXT, "out")) == GuardVerdict("pass", TEXT)
    assert guard.stream() is None


async def test_only_the_kinds_asked_for_are_looked_for() -> None:
    verdict = await PiiGuard(kinds=("email",)).check(TEXT, "in")
    assert verdict.text == TEXT.replace("bob@example.com", "[EMAIL]")


def test_a_stream_is_blocked_from_the_finding_on() -> None:
    stream = PiiGuard(action_out={"email": "redact", "card": "block"}).stream()
    assert stream is not None
    out = [
        stream.feed(piece)
        for piece in ("mail bob@exa", "mple.com, card 4111 11", "11 1111 1111, and", " more")
    ]
    out.append(stream.finish())
    assert "".join(out) == "mail [EMAIL], card "
    assert stream.verdict == GuardVerdict("block", "mail [EMAIL], card ", ("card", "email"), has_pii=True)
    assert stream.feed("still more") == ""


def test_a_stream_that_only_warns_lets_everything_through() -> None:
    stream = PiiGuard(action_out="warn").stream()
    assert stream is not None
    assert stream.feed(TEXT) + stream.finish() == TEXT
    assert (stream.verdict.action, stream.verdict.has_pii) == ("warn", True)


def test_a_stream_of_a_hundred_findings_is_redacted_in_one_piece_and_by_letters() -> None:
    text = "; ".join(f"user{number}@example.com {number}" for number in range(100))
    expected = "; ".join(f"[EMAIL] {number}" for number in range(100))
    for size in (1, 7, len(text)):
        stream = PiiGuard().stream()
        assert stream is not None
        out = [stream.feed(text[at : at + size]) for at in range(0, len(text), size)]
        assert "".join(out) + stream.finish() == expected


@pytest.mark.parametrize(
    "text",
    [
        # Nearly, but not: one digit wrong, one too few, a number that was never given out.
        "4111 1111 1111 1112", "4111 1111 1111 111", "DE89 3704 0044 0532 0130 01", "000-12-3456", "666-12-3456",
        "912-34-5678", "123-00-4567", "123-45-0000",
        # Digits that are something else.
        "2026-11-21 07:03:28.123456", "05.11.2024 08:30", "1732171408123", "1,234,567.89", "3.14159265358979",
        "550e8400-e29b-41d4-a716-446655440000", "978-3-16-148410-0", "192.168.100.200:8080", "order 1234567890",
        "id_4111111111111111", "0x4111111111111111", "0.4111111111111111", "1 234 567 890", "+100663296px",
        # Signs that are something else.
        "icon@2x.png", "react@18.2.0", "@jane", "a@b", "git@example.com:org/repo.git", "user@localhost",
    ],
)  # fmt: skip
async def test_what_only_looks_like_it_goes_on(text: str) -> None:
    assert (await PiiGuard().check(text, "in")).text == text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("4111111111111111", "[CARD]"),
        ("(4111-1111-1111-1111)", "([CARD])"),
        ("3782 822463 10005 exp 12/27", "[CARD] exp 12/27"),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "[CARD]"),
        ("4111111111111111,5555555555554444/378282246310005", "[CARD],[CARD]/[CARD]"),
        ("GB29 NWBK 6016 1331 9268 19 PLEASE", "[IBAN] PLEASE"),
        ("de89370400440532013000", "[IBAN]"),
        ("123-45-6789", "[SSN]"),
        ("her social is 123 45 6789", "her social is [SSN]"),
        ("Bob.O'Hara+x@Mail.Example.CO.UK.", "[EMAIL]."),
        ("<müller@straße.de>", "<[EMAIL]>"),
        ("+49 (0)30 1234567", "[PHONE]"),
        ("(415) 555-2671 and 415.555.2671", "[PHONE] and [PHONE]"),
        ("06 12 34 56 78", "[PHONE]"),
        ("tel. 4155552671", "tel. [PHONE]"),
        ("tel (4155552671) or (+49 30 1234567)", "tel ([PHONE]) or ([PHONE])"),
        ("call me at 612 34 56 78", "call me at [PHONE]"),
    ],
)
async def test_ways_to_write_it(text: str, redacted: str) -> None:
    assert (await PiiGuard().check(text, "in")).text == redacted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kinds": ("email", "fax")}, "'fax'; there are: email, phone, ssn, iban, card"),
        ({"action_in": "delete"}, "unknown action_in 'delete'; there are: pass, warn, redact, block"),
        ({"action_out": {"email": "mask"}}, "unknown action_out 'mask'"),
        ({"action_in": {"name": "block"}}, "'name'; there are"),
    ],
)
def test_a_word_that_is_none_is_refused_when_it_is_built(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PiiGuard(**arguments)  # type: ignore[arg-type]


MEGABYTE = 1_000_000 if os.environ.get("GOVERNANCE_SLOW") else 100_000
POISON = [
    "a" * MEGABYTE,
    "a@" * (MEGABYTE // 2),
    "@" * MEGABYTE,
    "@" + "a." * (MEGABYTE // 2),
    "a.a@a.a-" * (MEGABYTE // 8),
    "1" * MEGABYTE,
    "1 " * (MEGABYTE // 2),
    "4111 " * (MEGABYTE // 5),
    "(" * MEGABYTE,
    "(1" * (MEGABYTE // 2),
    "+" * MEGABYTE,
    "1-(" * (MEGABYTE // 3),
    "+1 " * (MEGABYTE // 3),
    "DE89 " * (MEGABYTE // 5),
    "tel " * (MEGABYTE // 4) + "1234567",
    " " * MEGABYTE,
]


@pytest.mark.parametrize("text", POISON, ids=lambda text: text[:8])
@pytest.mark.slow
def test_a_megabyte_made_to_be_slow_is_looked_at_in_time_and_streams_alike(text: str) -> None:
    """No bound on time is asserted: an expression that backtracks would not come back at all. What is
    asserted is that a stream cut anywhere says the same."""
    guard = PiiGuard()
    whole = asyncio.run(guard.check(text, "out")).text
    stream = guard.stream()
    assert stream is not None
    third = len(text) // 3
    out = [stream.feed(text[:third]), stream.feed(text[third:]), stream.finish()]
    assert "".join(out) == whole


async def test_nothing_of_a_text_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await PiiGuard(action_in="block").check(TEXT, "in")
    assert caplog.records == []
