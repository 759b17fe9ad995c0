"""Logs that are rotated, truncated or deleted under running gates: nothing is lost but what that itself
destroys, no limit is passed, and a gate that starts afterwards knows the whole window.

The twins that fail without each safeguard stand in `tests/policy_runtime/test_generations.py`, where
what is missed between two looks is no matter of chance. Bounded here; with GOVERNANCE_SLOW=1 over ten times the rounds.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from llmscope.clock import VirtualClock
from tests.end_to_end.gate_evidence import Evidence, collect, storm
from tests.end_to_end.gate_storm import LIMIT_USD, gate_in

ROUNDS = 200 if os.environ.get("GOVERNANCE_SLOW") == "1" else 20


def prove(folder: Path, *, by_time: bool = False) -> Evidence:
    evidence = collect(folder)
    assert len(evidence.told) > 10 * ROUNDS
    assert evidence.lost() == []
    assert evidence.doubled() == []
    assert evidence.torn == []
    committed = evidence.highest_commitment(by_time=True)
    if not by_time:
        # Between a rename and the next line a decision may know more bills than its position says, never fewer.
        committed = min(committed, evidence.highest_commitment())
    assert Decimal(0) < committed <= Decimal(str(LIMIT_USD))
    assert any(decision["decision"] == "deny" for decision in evidence.decisions)
    return evidence


def standing(folder: Path, evidence: Evidence) -> tuple[Decimal, Decimal]:
    """(spent + reserved as a gate that starts now says, the same added up from the lines)."""
    last = max(datetime.fromisoformat(decision["timestamp"]) for decision in evidence.decisions)
    gate = gate_in(folder, clock=VirtualClock(last.astimezone(UTC) + timedelta(seconds=0.001)))
    (window,) = gate.live_windows()
    gate.close()
    spent = sum(Decimal(lines[0]["estimated_cost_usd"]) for lines in evidence.billed.values())
    return Decimal(str(window.spent)), spent


@pytest.mark.parametrize("how", ["rename", "gzip", "copy_truncate"])
def test_rotation_loses_nothing_and_a_starting_gate_knows_the_whole_window(tmp_path: Path, how: str) -> None:
    summary = storm(tmp_path, disturbance=how, rounds=ROUNDS, workers=3, seed=7)
    assert summary["rotated"] > ROUNDS / 2
    evidence = prove(tmp_path, by_time=how != "rename")
    said, added = standing(tmp_path, evidence)
    assert said == added


def test_deletion_destroys_what_it_deletes_and_running_gates_still_hold_the_limit(tmp_path: Path) -> None:
    summary = storm(tmp_path, disturbance="delete", rounds=ROUNDS, workers=3, seed=8)
    assert summary["rotated"] > ROUNDS / 2
    evidence = prove(tmp_path)
    said, added = standing(tmp_path, evidence)
    assert said < added
