"""The measurement of the token estimate: that it measures, and that what docs/estimates.md says still holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.estimate_tokens import errors_of, reserved_on, samples
from llmscope import estimate_tokens

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "estimates.md").read_text(encoding="utf-8")


def documented(kind: str) -> list[float]:
    """The shares of one row of the page's first table: all together, 5 %, median, 95 %."""
    (row,) = re.findall(rf"^\| {re.escape(kind)} \|.*$", PAGE, re.MULTILINE)
    return [float(share) / 100 for share in re.findall(r"([+-]\d+)%", row)]


def test_an_exact_count_has_no_error_and_a_doubled_one_half() -> None:
    texts = ["one two three", "four five"]
    assert errors_of(texts, estimate_tokens).total == 0
    halved = errors_of(texts, lambda text: 2 * estimate_tokens(text))
    assert (halved.total, halved.low, halved.high) == (-0.5, -0.5, -0.5)


def test_the_documented_errors_are_the_measured_ones() -> None:
    """Within 4 points: the samples are this repository's own files, which change."""
    bpe_openai = pytest.importorskip("bpe_openai")
    ranks = bpe_openai.get_encoding("o200k_base")
    for kind, pieces in samples().items():
        found = errors_of(pieces, lambda text: len(ranks.encode(text)))
        measured = [found.total, found.low, found.median, found.high]
        assert measured == pytest.approx(documented(kind), abs=0.04), kind


def test_the_worst_case_is_never_exceeded_and_the_expected_one_is_as_documented() -> None:
    for service in ("code", "conv"):
        worst, expected = (reserved_on(service, way) for way in ("worst_case", "expected"))
        assert (worst.exceeded_share, worst.overshoot_share) == (0, 0)
        (row,) = re.findall(rf"^\| {service} \| `expected` \|.*$", PAGE, re.MULTILINE)
        assert f"{expected.exceeded_share:.0%} of requests | {expected.overshoot_share:.1%} of spend" in row


def test_without_a_real_tokenizer_the_script_says_so() -> None:
    blocked = (
        "import sys, runpy; sys.modules['bpe_openai'] = None; "
        "runpy.run_path('benchmarks/estimate_tokens.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert "bpe_openai is not installed" in done.stdout
    assert "| code | `worst_case` |" in done.stdout
