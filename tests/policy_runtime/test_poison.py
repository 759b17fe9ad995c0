"""Nothing in a log stops the gate: whatever a line says, it is folded or refused, and opens no budget."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscope.clock import VirtualClock
from llmscope.errors import MalformedLine
from llmscope.telemetry_line import read_usage
from llmscope.timestamps import to_micros
from policy_runtime import PolicyRuntime, folded_decisions
from policy_runtime.folded_decisions import fold_decision_line
from policy_runtime.ledger import Ledger
from policy_runtime.ledger_state import LedgerCopy
from tests.policy_runtime.log_lines import START, stamp
from tests.policy_runtime.test_properties import ONE_BUDGET, POLICY, meters_of

SLOW = os.environ.get("GOVERNANCE_SLOW") == "1"
POISON = [
    b'{"timestamp":"%s","request_id":"p","decision":"allow","reserved_cost_usd":-5}',
    b'{"timestamp":"%s","request_id":"p","decision":"allow","reserved_cost_usd":1' + b"0" * 400 + b"}",
    b'{"timestamp":"%s","request_id":"p","decision":"allow","reserved_tokens":-7' + b"0" * 400 + b"}",
    b'{"timestamp":"%s","event":"budget_alert","threshold":1' + b"0" * 400 + b"}",
    b'{"timestamp":"%s","event":"budget_alert","scope":{"a":1}}',
    b'{"timestamp":"%s","event":"reservation_extended","request_id":"r","reservation_expires_at":"soon"}',
    b'{"timestamp":"%s","request_id":"p","note":"\xff"}',
    b'{"timestamp":"%s","request_id":{"a":1}}',
    b'{"timestamp":"%s","tokens_in":1' + b"0" * 400 + b"}",
    b"[" * 100_000,
    b"{" + b'"a":{' * 100_000,
]


@pytest.mark.parametrize("poison", POISON, ids=range(len(POISON)))
def test_no_poisonous_line_stops_deciding_or_opens_a_budget(tmp_path: Path, poison: bytes) -> None:
    line = poison.replace(b"%s", stamp(0).encode()) + b"\n"
    for name in ("t.jsonl", "d.jsonl"):
        (tmp_path / name).write_bytes(line)
    clock = VirtualClock(START)
    gate = PolicyRuntime(
        ONE_BUDGET, telemetry_path=tmp_path / "t.jsonl", decisions_path=tmp_path / "d.jsonl", clock=clock
    )
    assert all(window.reserved >= 0 for window in gate.live_windows())
    for _ in range(2):
        with gate.admit(route_name="/answer-routed", model_tier="expensive", tokens_in=10) as admission:
            admission.settle(cost_usd=0.001)
        for name in ("t.jsonl", "d.jsonl"):
            with (tmp_path / name).open("ab") as log:
                log.write(line)
    gate.close()


ANY_LINE = st.dictionaries(
        st.sampled_from(
            ["event", "timestamp", "request_id", "decision", "reserved_cost_usd", "reserved_tokens", "scope",
             "threshold", "reservation_expires_at", "window_start", "policy_hash", "model", "tokens_in",
             "estimated_cost_usd", "status", "success", "audit_tags", "tokens"]
        ),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just(stamp(0)),
            st.sampled_from(["decision", "budget_alert", "reservation_extended", "policy_loaded", "allow"]),
            st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
        ),
    )  # fmt: skip


@settings(max_examples=2000 if SLOW else 200, deadline=None)
@given(ANY_LINE)
def test_any_line_is_folded_or_refused(line: dict[str, Any]) -> None:
    ledger = Ledger(POLICY)
    encoded = json.dumps({"timestamp": stamp(0), **line}).encode()
    for read in (lambda: fold_decision_line(ledger, encoded), lambda: read_usage(encoded, "line:x:0")):
        try:
            read()
        except MalformedLine:
            continue
    ledger.advance(to_micros(START))
    assert all(
        spent >= 0 and reserved >= 0 for spent, reserved, _ in meters_of(ledger, to_micros(START)).values()
    )


class _NothingIsPlain:
    def decode(self, line: bytes) -> None:
        raise msgspec.ValidationError


@settings(max_examples=2000 if SLOW else 200, deadline=None)
@given(ANY_LINE, st.booleans())
def test_a_decision_says_the_same_by_the_quick_way_and_by_the_other(
    line: dict[str, Any], decides: bool
) -> None:
    """Lines as gates write them are decoded more strictly; whatever that refuses is looked at again."""
    usual = (
        {"request_id": "r", "decision": "allow", "reserved_cost_usd": 0.25, "model": "m"} if decides else {}
    )
    encoded = json.dumps({"timestamp": stamp(0), **usual, **line}).encode()
    told: list[Any] = []
    for plain in (folded_decisions._PLAIN_DECISION, _NothingIsPlain()):
        ledger = Ledger(POLICY)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(folded_decisions, "_PLAIN_DECISION", plain)
            try:
                fold_decision_line(ledger, encoded)
            except MalformedLine as exc:
                told.append(exc.reason)
            else:
                told.append(LedgerCopy(ledger).state())
    assert told[0] == told[1]
