"""Precision and recall of the guards on labelled texts: what `make bench ONLY=guards` prints, held to floors.

The generated texts are made by `benchmarks.guard_texts`, which shares nothing with the guards; the hard ones
and the injections are hand-written, and the held-out ones were written last and never tuned to. The floors lie a little below what was measured on 2026-11-21."""

from __future__ import annotations

import pytest

from benchmarks.guard_texts import GENERATED, Label, check_digit, generated_lines, iban_check_digits, unmarked
from benchmarks.guards import injection_texts, judge_injections, judge_pii, labelled
from llmscope.gateway.guards import checksums
from llmscope.gateway.guards.pii import ALL_KINDS

# Kind: labels at least, precision, recall.
FLOORS = {
    "pii.jsonl": {
        "email": (150, 0.99, 0.99),
        "phone": (150, 0.97, 0.99),
        "ssn": (30, 0.99, 0.99),
        "iban": (25, 0.99, 0.99),
        "card": (50, 0.99, 0.99),
    },
    "pii_hard.jsonl": {
        "email": (15, 0.95, 0.95),
        "phone": (25, 0.85, 0.95),
        "ssn": (4, 0.99, 0.99),
        "iban": (8, 0.99, 0.99),
        "card": (12, 0.99, 0.99),
    },
    "pii_held_out.jsonl": {
        "email": (8, 0.95, 0.95),
        "phone": (20, 0.85, 0.85),
        "ssn": (2, 0.99, 0.99),
        "iban": (5, 0.99, 0.99),
        "card": (5, 0.99, 0.99),
    },
}


@pytest.mark.parametrize("fixture", FLOORS)
def test_precision_and_recall_of_each_kind_stay_above_their_floors(fixture: str) -> None:
    scores = judge_pii(labelled(fixture))
    for kind, (labels, precision, recall) in FLOORS[fixture].items():
        score = scores[kind]  # type: ignore[index]
        assert score.found + len(score.missed) >= labels
        assert score.precision >= precision, (kind, score.wrong)
        assert score.recall >= recall, (kind, score.missed)


def test_without_the_checksums_near_misses_are_taken_for_cards_and_accounts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("llmscope.gateway.guards.numbers.is_card_number", lambda digits: True)
    monkeypatch.setattr("llmscope.gateway.guards.addresses.is_iban", lambda characters: True)
    scores = judge_pii(labelled("pii.jsonl"))
    assert scores["card"].precision < 0.5
    assert scores["iban"].precision < 0.9


def test_injections_are_found_and_ordinary_prompts_are_left_alone() -> None:
    texts = injection_texts()
    assert (sum(attack for _, attack in texts), sum(not attack for _, attack in texts)) == (65, 93)
    score = judge_injections(texts)
    assert score.precision >= 0.94, score.wrong
    assert score.recall >= 0.78, score.missed


def test_injections_that_no_pattern_was_written_for_are_found_more_often_than_not() -> None:
    """Held out: the patterns were not changed after a look at these."""
    texts = injection_texts("injection_held_out.jsonl")
    assert (sum(attack for _, attack in texts), sum(not attack for _, attack in texts)) == (35, 45)
    score = judge_injections(texts)
    assert score.precision >= 0.95, score.wrong
    assert score.recall >= 0.55, score.missed


def test_the_judge_sees_what_is_missed_and_what_is_wrong() -> None:
    text, labels = unmarked("⟦email:a@b.de⟧ and ⟦phone:12 34⟧, not c@d.de")
    assert (text, labels) == ("a@b.de and 12 34, not c@d.de", [Label("email", 0, 6), Label("phone", 11, 16)])
    scores = judge_pii([(text, labels)])
    assert (scores["email"].precision, scores["email"].recall, scores["email"].wrong) == (
        0.5,
        1.0,
        ["c@d.de"],
    )
    assert (scores["phone"].precision, scores["phone"].recall, scores["phone"].missed) == (
        1.0,
        0.0,
        ["12 34"],
    )
    half = judge_pii([("a@b.de.com", [Label("email", 0, 10), Label("card", 0, 6)])])
    assert (half["email"].found, half["card"].missed) == (1, ["a@b.de"]), "of another kind is not found"


def test_the_texts_are_the_same_for_the_same_seed_and_their_labels_are_right() -> None:
    assert GENERATED.read_text(encoding="utf-8") == generated_lines()
    assert check_digit("411111111111111") == "1"
    assert iban_check_digits("GB", "NWBK60161331926819") == "29"
    for text, labels in labelled("pii.jsonl"):
        for label in labels:
            characters = "".join(filter(str.isalnum, text[label.begin : label.end]))
            if label.kind == "card":
                assert checksums.passes_luhn(characters)
            if label.kind == "iban":
                assert checksums.is_iban(characters)
    kinds = {label.kind for _, labels in labelled("pii.jsonl") for label in labels}
    assert kinds == set(ALL_KINDS)
