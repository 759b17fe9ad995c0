"""Ids are remembered as far back as promised."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policy_runtime.recent_ids import RecentIds


@settings(max_examples=60, deadline=None)
@given(horizon=st.integers(1, 12), cuts=st.sets(st.integers(0, 80)))
def test_ids_are_remembered_through_any_number_of_checkpoints(horizon: int, cuts: set[int]) -> None:
    recent = RecentIds(horizon)
    for number in range(80):
        if number in cuts:
            stored = recent.digests()
            assert sum(map(len, stored)) <= 8 * 4 * (horizon + 1)
            recent = RecentIds(horizon)
            recent.restore(stored)
        assert f"r{number}" not in recent
        recent.add(f"r{number}")
        assert all(f"r{earlier}" in recent for earlier in range(max(0, number + 1 - horizon), number + 1))
