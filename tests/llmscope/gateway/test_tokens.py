"""The token estimate: near enough on real text, never failing on any."""

from __future__ import annotations

import inspect
import json
from base64 import b64encode
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope import estimate_tokens
from llmscope.gateway import tokens


def test_any_text_has_at_least_one_token() -> None:
    assert estimate_tokens("") == 1
    assert estimate_tokens("one") == 1


@given(st.text(max_size=300), st.text(max_size=300))
def test_more_text_is_never_fewer_tokens_by_much(text: str, more: str) -> None:
    assert estimate_tokens(text) >= 1
    # Joining may merge the two pieces at the seam into one.
    assert estimate_tokens(f"{text}\n{more}") >= estimate_tokens(text) - 1


def test_text_without_blanks_is_not_one_token() -> None:
    assert estimate_tokens("x" * 1000) > 100
    assert 60 <= estimate_tokens("人工智能正在改变世界" * 10) <= 100


@pytest.mark.parametrize(
    ("text", "count"),
    [
        # counted with the o200k ranks of bpe-openai 0.1.4
        ("The quick brown fox jumps over the lazy dog.", 10),
        (json.dumps({"tenant_id": "acme", "tokens_in": 100, "cost_usd": 0.0015}), 26),
        ("def add(left: int, right: int) -> int:\n    return left + right\n", 19),
    ],
)
def test_short_texts_are_near_the_count_of_a_real_tokeniser(text: str, count: int) -> None:
    assert estimate_tokens(text) == pytest.approx(count, rel=0.25)


def test_random_letters_cost_what_they_cost() -> None:
    """They are not words: a weight for letters in words would find a fifth of the tokens."""
    # counted with the o200k ranks of bpe-openai 0.1.4
    letters = "".join(Random(3).choices("abcdefghijklmnopqrstuvwxyz", k=1000))
    assert estimate_tokens(letters) == pytest.approx(507, rel=0.1)
    base64 = b64encode(Random(3).randbytes(1200)).decode()
    assert estimate_tokens(base64) == pytest.approx(1077, rel=0.1)
    assert tokens._from_pairs(letters.encode()) < 507 / 4  # what the look at characters per token is for


def test_a_long_text_is_the_sum_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However dear its bytes are, no sum is cut off at what the checksum can hold."""
    once, often = (estimate_tokens("1," * pairs) for pairs in (400, 16_000))
    assert often == pytest.approx(40 * once, rel=0.01)
    monkeypatch.setattr(tokens, "_SUMMED_AT_ONCE", 32_768)
    assert tokens._from_pairs(b"1," * 16_000) < often / 2


def test_the_stated_errors_are_the_measured_ones() -> None:
    bpe_openai = pytest.importorskip("bpe_openai")
    ranks = bpe_openai.get_encoding("o200k_base")
    import argparse
    import asyncio.base_events

    for module in (argparse, asyncio.base_events):
        source = inspect.getsource(module)
        assert estimate_tokens(source) == pytest.approx(len(ranks.encode(source)), rel=0.1)
