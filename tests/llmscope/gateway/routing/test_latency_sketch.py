"""Quantiles within one per cent, and merging loses nothing."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscope.gateway.routing.latency_sketch import RELATIVE_ERROR, LatencySketch


def sketch_of(latencies: list[float]) -> LatencySketch:
    sketch = LatencySketch()
    for latency in latencies:
        sketch.add(latency)
    return sketch


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(min_value=0.01, max_value=1e7), min_size=1, max_size=200), st.data())
def test_every_rank_is_within_one_per_cent_of_the_sorted_latencies(
    latencies: list[float], data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, len(latencies)))
    exact = sorted(latencies)[rank - 1]
    assert sketch_of(latencies).value_at_rank(rank) == pytest.approx(exact, rel=RELATIVE_ERROR * (1 + 1e-9))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(min_value=0.01, max_value=1e7), min_size=1),
    st.lists(st.floats(min_value=0.01, max_value=1e7), min_size=1),
)
def test_merged_sketches_say_what_one_over_all_latencies_says(one: list[float], other: list[float]) -> None:
    merged, whole = sketch_of(one), sketch_of(one + other)
    merged.merge(sketch_of(other))
    assert merged.count == whole.count
    assert [merged.value_at_rank(rank) for rank in range(1, merged.count + 1)] == [
        whole.value_at_rank(rank) for rank in range(1, whole.count + 1)
    ]


def test_the_mean_of_two_p95_is_no_p95_but_the_merged_one_is() -> None:
    """What merging is for: the twin that averages errs by far."""
    quick, slow = [10.0] * 990 + [11.0] * 10, [1000.0] * 100
    one, other = sketch_of(quick), sketch_of(slow)
    averaged = (one.value_at_rank(950) + other.value_at_rank(95)) / 2
    one.merge(other)
    exact = sorted(quick + slow)[math.ceil(0.95 * 1100) - 1]
    assert one.value_at_rank(math.ceil(0.95 * 1100)) == pytest.approx(exact, rel=0.01)
    assert averaged != pytest.approx(exact, rel=0.4)


def test_a_hundred_thousand_latencies_take_no_more_buckets_than_the_range_has() -> None:
    draw = random.Random(1)
    sketch = sketch_of([10 ** draw.uniform(-9, 15) for _ in range(100_000)])
    assert sketch.count == 100_000
    assert len(sketch._counts) <= 1268


@pytest.mark.parametrize(("odd", "counts_as"), [(0.0, 1e-3), (-5.0, 1e-3), (math.nan, 1e-3), (math.inf, 1e8)])
def test_what_is_no_latency_counts_as_the_nearest_one(odd: float, counts_as: float) -> None:
    assert sketch_of([odd]).value_at_rank(1) == pytest.approx(counts_as, rel=0.011)


@pytest.mark.parametrize("rank", [0, 3])
def test_a_rank_that_nothing_has_is_refused(rank: int) -> None:
    with pytest.raises(IndexError, match="of 2 latencies"):
        sketch_of([1.0, 2.0]).value_at_rank(rank)
