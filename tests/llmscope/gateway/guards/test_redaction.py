"""What comes out of a stream does not depend on how it was cut into pieces."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmscope.gateway.guards import numbers
from llmscope.gateway.guards.pii import ALL_KINDS, PiiGuard

# Characters and pieces of which personal data, and what is nearly that, are made.
FRAGMENTS = st.one_of(
    st.sampled_from(
        [
            "a", "bob", "@", "@x.de", ".com", ".", "..", "-", "_", "'", "%", " ", "  ", "\n", ",", ":", "/", "(", ")", "+",
            "\u00a0", "\u2013", "0", "1", "12", "123", "415", "555", "2671", "4111", "1111", "3782", "822463", "10005",
            "(0)", "+49 ", "030", "00", "tel: ", "call me at ", "ssn ", "DE89", "37040044", "0532", "0130", "GB29 NWBK",
            "6016 1331 9268 19", "é", "😀", "bob@example.com", "4111 1111 1111 1111", "123-45-6789", "+1 415 555 2671",
            "DE89 3704 0044 0532 0130 00", "2026-11-21", "a" * 70, "1" * 25, "(((", "x@" ,
        ]
    ),
    st.text("ab1 @.-+(0", max_size=4),
)  # fmt: skip
TEXTS = st.lists(FRAGMENTS, max_size=14).map("".join)


def whole(guard: PiiGuard, text: str) -> str:
    return asyncio.run(guard.check(text, "out")).text


def in_pieces(guard: PiiGuard, text: str, cuts: list[int]) -> str:
    stream = guard.stream()
    assert stream is not None
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    out = [stream.feed(text[begin:end]) for begin, end in itertools.pairwise(edges)]
    out.append(stream.finish())
    assert stream.verdict.text == "".join(out)
    return "".join(out)


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 120), max_size=12))
@example("bob@example.com", [3, 4, 12])
@example("4111 1111 1111 1111", [1, 2, 3, 10])
@example("415-555-2671,5", [13])
@example("+49 151 23456789 2024", [16])
def test_for_any_text_and_any_pieces_the_stream_says_what_the_whole_says(text: str, cuts: list[int]) -> None:
    guard = PiiGuard()
    assert in_pieces(guard, text, cuts) == whole(guard, text)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.sets(st.sampled_from(ALL_KINDS), min_size=1))
def test_letter_by_letter_too_and_for_any_kinds(text: str, kinds: set[str]) -> None:
    guard = PiiGuard(kinds=tuple(kinds))  # type: ignore[arg-type]
    assert in_pieces(guard, text, list(range(len(text)))) == whole(guard, text)


def test_a_stream_that_holds_nothing_back_lets_a_card_through(monkeypatch: pytest.MonkeyPatch) -> None:
    text, cuts = "card 4111 1111 1111 1111.", [9]
    assert in_pieces(PiiGuard(kinds=("card",)), text, cuts) == "card [CARD]."
    monkeypatch.setattr(numbers.NumberFinder, "open_from", lambda self, text, begin: len(text))
    assert in_pieces(PiiGuard(kinds=("card",)), text, cuts) == text


def test_what_stands_in_the_place_of_a_finding_is_none() -> None:
    text = "tel: 415-555-2671, ssn 123-45-6789, a@b.de,4111111111111111,DE89370400440532013000"
    once = whole(PiiGuard(), text)
    assert once == "tel: [PHONE], ssn [SSN], [EMAIL],[CARD],[IBAN]"
    assert whole(PiiGuard(), once) == once


def held_back(pieces: list[str]) -> int:
    """How many characters a stream keeps after these pieces."""
    stream = PiiGuard().stream()
    assert stream is not None
    given_out = sum(len(stream.feed(piece)) for piece in pieces)
    return sum(map(len, pieces)) - given_out


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("The answer is yes. ", 0),
        ("The answer is yes", 3),
        ("In the year 2026 ", 5),
        ("Write to bob@exam", 8),
        ("Call +1 415 5", 8),
        ("word " * 1000, 0),
        # Longer than anything that is looked for: only as much as a match could be is held.
        ("a" * 5000, 64),
        ("1" * 5000, 64),
        ("1 " * 2500, 88),
        ("bob@" + "a." * 2000, 64),
    ],
)
def test_only_what_may_yet_be_part_of_a_match_is_held_back(text: str, held: int) -> None:
    assert held_back([text]) == held
    assert held_back([text[number : number + 7] for number in range(0, len(text), 7)]) == held
