"""The nearest of many vectors, found without comparing all of them."""

from __future__ import annotations

import math
import random
from array import array

import pytest

from llmscope.gateway.cache import similarity
from llmscope.gateway.cache.similarity import Neighbours, unit_vector

DIMENSIONS = 384


def drawn(draw: random.Random, dimensions: int = DIMENSIONS) -> array[float]:
    return unit_vector(draw.gauss(0, 1) for _ in range(dimensions))


def at_cosine(draw: random.Random, vector: array[float], cosine: float) -> array[float]:
    """A vector at exactly this cosine from `vector`, in a random direction."""
    other = drawn(draw, len(vector))
    along = sum(a * b for a, b in zip(vector, other, strict=True))
    across = unit_vector(b - along * a for a, b in zip(vector, other, strict=True))
    sine = math.sqrt(1 - cosine**2)
    return array("d", [cosine * a + sine * b for a, b in zip(vector, across, strict=True)])


def test_the_cosine_is_that_of_the_vectors_whatever_their_length() -> None:
    near = Neighbours()
    near.add("g", "same", unit_vector([30, 40]))
    near.add("g", "right angle", unit_vector([-4, 3]))
    near.add("g", "opposite", unit_vector([-3, -4]))
    assert near.within("g", unit_vector([3, 4]), 0.5) == [(pytest.approx(1.0), "same")]
    found = {key: cosine for cosine, key in near.within("g", unit_vector([3, 4]), -1.0)}
    assert found == {"same": pytest.approx(1), "right angle": pytest.approx(0), "opposite": pytest.approx(-1)}


def test_the_nearest_comes_first_and_the_threshold_is_kept() -> None:
    draw = random.Random(1)
    near, asked = Neighbours(), drawn(draw)
    for cosine in (0.9, 0.99, 0.951, 0.949, 0.5):
        near.add("g", str(cosine), at_cosine(draw, asked, cosine))
    assert [key for _, key in near.within("g", asked, 0.95)] == ["0.99", "0.951"]


def test_groups_and_lengths_are_searched_apart() -> None:
    near = Neighbours()
    near.add("g", "here", unit_vector([1, 0]))
    near.add("h", "there", unit_vector([1, 0]))
    near.add("g", "longer", unit_vector([1, 0, 0]))
    assert [key for _, key in near.within("g", unit_vector([1, 0]), 0.9)] == ["here"]
    assert near.within("elsewhere", unit_vector([1, 0]), 0.9) == []


def test_what_is_removed_is_not_found_and_leaves_nothing_behind() -> None:
    near = Neighbours()
    near.add("g", "key", unit_vector([1, 0]))
    near.add("h", "key", unit_vector([0, 1]))
    assert near.within("g", unit_vector([1, 0]), 0.9) == [], "a key has one vector"
    near.remove("key")
    near.remove("never there")
    assert (near._groups, near._group_of) == ({}, {})


@pytest.mark.parametrize("threshold", [0.8, 0.9, 0.95, 0.99])
def test_sketches_pass_over_nothing_that_reaches_the_threshold(threshold: float) -> None:
    """Vectors at exactly the threshold, the hardest to keep; expected misses: 1 in 30,000."""
    draw = random.Random(7)
    near, asked = Neighbours(), drawn(draw)
    for number in range(300):
        near.add("g", str(number), at_cosine(draw, asked, threshold + 1e-9))
    assert len(near.within("g", asked, threshold)) == 300


def test_sketches_that_leave_no_margin_do_pass_over_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "_DEVIATIONS", 0)
    draw = random.Random(7)
    near, asked = Neighbours(), drawn(draw)
    for number in range(200):
        near.add("g", str(number), at_cosine(draw, asked, 0.95 + 1e-9))
    assert len(near.within("g", asked, 0.95)) < 180


def test_sketches_spare_the_comparison_with_nearly_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all vectors share a direction, as those of many embedders do (cosines around 0.7)."""
    compared = 0
    original = similarity.mul

    def counting(a: float, b: float) -> float:
        nonlocal compared
        compared += 1
        return original(a, b)

    draw = random.Random(3)
    common = drawn(draw)
    near = Neighbours()
    for number in range(500):
        near.add("g", str(number), at_cosine(draw, common, math.sqrt(0.7)))
    monkeypatch.setattr(similarity, "mul", counting)
    asked = at_cosine(draw, common, math.sqrt(0.7))
    assert near.within("g", asked, 0.95) == []
    assert compared <= 0.01 * 500 * DIMENSIONS


@pytest.mark.parametrize("numbers", [[], [0.0, 0.0], [1.0, math.nan], [1.0, math.inf]])
def test_a_vector_without_a_direction_is_refused(numbers: list[float]) -> None:
    with pytest.raises(ValueError, match="no direction"):
        unit_vector(numbers)
