"""Gates that are killed at any instant: nothing they answered is lost, nothing doubled, no limit passed.

Bounded here; with GOVERNANCE_SLOW=1 over 220 rounds.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from llmscope.clock import VirtualClock
from tests.end_to_end.gate_evidence import collect, storm
from tests.end_to_end.gate_storm import LIMIT_USD, TTL_SECONDS, gate_in

ROUNDS = 220 if os.environ.get("GOVERNANCE_SLOW") == "1" else 50


def test_killed_gates_lose_double_and_tear_nothing_and_pass_no_limit(tmp_path: Path) -> None:
    summary = storm(tmp_path, disturbance="kill", rounds=ROUNDS, seed=4)
    evidence = collect(tmp_path)
    assert summary["died_writing"] > 0
    assert len(evidence.told) > 10 * ROUNDS
    assert evidence.lost() == []
    assert evidence.doubled() == []
    # At most one torn line for each writer that died in the middle of one, and only its own beginning.
    assert 0 < len(evidence.torn) <= summary["died_writing"]
    assert all(line.count(b'"schema_version"') <= 1 for line in evidence.torn)
    assert Decimal(0) < evidence.highest_commitment() <= Decimal(str(LIMIT_USD))
    assert any(decision["decision"] == "deny" for decision in evidence.decisions)
    assert all(decision["state"] == "fresh" for decision in evidence.decisions)


def test_reservations_of_the_killed_lapse_after_their_time(tmp_path: Path) -> None:
    storm(tmp_path, disturbance="kill", rounds=12, seed=5)
    evidence = collect(tmp_path)
    last = max(datetime.fromisoformat(decision["timestamp"]) for decision in evidence.decisions)
    abandoned = sum(
        Decimal(decision["reserved_cost_usd"])
        for decision in evidence.decisions
        if decision["decision"] != "deny" and decision["request_id"] not in evidence.billed
    )
    assert abandoned > 0
    gate = gate_in(tmp_path, clock=VirtualClock(last.astimezone(UTC) + timedelta(seconds=TTL_SECONDS)))
    (window,) = gate.live_windows()
    gate.close()
    assert window.reserved == 0
    assert Decimal(str(window.lapsed)) == abandoned


@pytest.mark.parametrize("broken", ["torn_tail", "whole_write"])
def test_twins_that_do_not_end_torn_lines_or_write_in_pieces_lose_answers(
    tmp_path: Path, broken: str
) -> None:
    storm(tmp_path, disturbance="kill", rounds=25, seed=4, broken=broken)
    assert collect(tmp_path).lost() != []
