"""Draws by request id are even, independent, and the same everywhere."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llmscope.gateway.routing.request_draw import fraction_of, fractions_of

IDS = [f"request-{number}" for number in range(20_000)]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5])
def test_a_share_of_the_ids_falls_below_it(share: float) -> None:
    """Within four standard deviations; consecutive ids are as good as random ones."""
    below = sum(fraction_of(request_id, "x") < share for request_id in IDS)
    assert abs(below - share * 20_000) < 4 * (20_000 * share * (1 - share)) ** 0.5


def test_draws_with_another_salt_and_the_second_draw_are_independent() -> None:
    for pairs in (
        [(fraction_of(request_id, "x"), fraction_of(request_id, "y")) for request_id in IDS],
        [fractions_of(request_id, "x") for request_id in IDS],
    ):
        both = sum(one < 0.1 and other < 0.1 for one, other in pairs)
        assert abs(both - 200) < 4 * 200**0.5


def test_another_process_draws_the_same() -> None:
    program = (
        "from llmscope.gateway.routing.request_draw import fraction_of\n"
        "print([fraction_of(f'request-{n}', 'x') for n in range(50)])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == str([fraction_of(request_id, "x") for request_id in IDS[:50]])


def test_any_text_can_be_an_id() -> None:
    for odd in ("", "\x00", "\ud800", "é" * 10_000):
        assert 0 <= fraction_of(odd, "x") < 1
