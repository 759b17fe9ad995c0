"""Around a call: settling, failing, extending, and what becomes of a reservation."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from llmscope import VirtualClock
from llmscope.errors import EventLogError
from policy_runtime import (
    AlreadySettled,
    NotEntered,
    PolicyDenied,
    UnknownRequest,
)
from tests.policy_runtime.gates import ASK, WORST_CASE_USD, budget, policy
from tests.policy_runtime.log_lines import read_lines


def test_settling_frees_what_was_not_needed(make_gate: Any, tmp_path: Path) -> None:
    gate = make_gate(policy(budget(0.018)))
    for _ in range(5):
        with gate.admit(**ASK) as admission:
            admission.settle(tokens_in=1000, tokens_out=0)
    window = gate.live_windows()[0]
    assert (window.spent, window.reserved) == (0.0125, 0.0)
    assert sum(line["estimated_cost_usd"] for line in read_lines(tmp_path / "t.jsonl")) == pytest.approx(
        0.0125
    )
    with pytest.raises(PolicyDenied), gate.admit(**ASK):
        pass


def test_settling_twice_or_nothing_or_too_early_raises(make_gate: Any) -> None:
    gate = make_gate(policy())
    with pytest.raises(NotEntered):
        _ = gate.admit(**ASK).request_id
    with gate.admit(**ASK) as admission:
        with pytest.raises(ValueError, match="needs cost_usd"):
            admission.settle(tokens_in=1)
        admission.settle(cost_usd=0.002)
        with pytest.raises(AlreadySettled):
            admission.settle(cost_usd=0.002)
    with pytest.raises(AlreadySettled):
        gate.settle(admission.request_id, cost_usd=0.002)
    with pytest.raises(UnknownRequest):
        gate.settle("never-heard-of", cost_usd=1.0)


def test_another_process_settles_with_the_attribution_of_the_decision(make_gate: Any, tmp_path: Path) -> None:
    with make_gate(policy(budget(1.0))).admit(**ASK, request_id="long-job"):
        pass
    other = make_gate(policy(budget(1.0)))
    other.settle("long-job", tokens_in=1000, tokens_out=100)
    (line,) = read_lines(tmp_path / "t.jsonl")
    assert (line["tenant_id"], line["audit_tags"]["feature_id"], line["route"]) == (
        "acme",
        "chat",
        "/answer-routed",
    )
    assert line["estimated_cost_usd"] == 0.0035
    window = other.live_windows()[0]
    assert (window.spent, window.reserved) == (0.0035, 0)


@pytest.mark.parametrize(
    ("error", "cost", "category"),
    [
        (TimeoutError("slow"), None, "timeout"),
        (ConnectionRefusedError("closed"), 0, "unknown"),
        (type("RateLimitError", (Exception,), {"status_code": 429})(), 0, "rate_limit"),
        (type("ServerError", (Exception,), {"status_code": 500})(), None, "transient_error"),
    ],
)
def test_a_failure_inside_the_block_is_billed_as_far_as_it_is_known(
    make_gate: Any, tmp_path: Path, error: Exception, cost: int | None, category: str
) -> None:
    gate = make_gate(policy(budget(1.0)))
    with pytest.raises(type(error)), gate.admit(**ASK):
        raise error
    (line,) = read_lines(tmp_path / "t.jsonl")
    assert (line["status"], line["estimated_cost_usd"], line["error_type"]) == ("error", cost, category)
    assert gate.live_windows()[0].reserved == (0 if cost == 0 else WORST_CASE_USD)


def test_an_unsettled_reservation_lapses_and_a_late_bill_settles_it(
    make_gate: Any, clock: VirtualClock
) -> None:
    gate = make_gate(policy(budget(1.0)))
    with gate.admit(**ASK, request_id="late"):
        pass
    clock.advance(901)
    window = gate.live_windows()[0]
    assert (window.spent, window.reserved, window.lapsed) == (0, 0, WORST_CASE_USD)
    gate.settle("late", cost_usd=0.004)
    window = gate.live_windows()[0]
    assert (window.spent, window.reserved, window.lapsed) == (0.004, 0, 0)


def test_an_extended_reservation_holds_in_every_process(make_gate: Any, clock: VirtualClock) -> None:
    gate, other = make_gate(policy(budget(1.0))), make_gate(policy(budget(1.0)))
    other.evaluate(**ASK)
    with gate.admit(**ASK) as admission:
        admission.extend(1800)
    clock.advance(1000)
    assert [g.live_windows()[0].reserved for g in (gate, other)] == [WORST_CASE_USD] * 2
    clock.advance(900)
    assert [g.live_windows()[0].reserved for g in (gate, other)] == [0, 0]


def test_an_extension_ends_one_longest_window_after_the_admission_and_says_so(
    make_gate: Any, clock: VirtualClock, tmp_path: Path
) -> None:
    gate = make_gate(policy(budget(1.0)))  # hourly
    began = clock.now()
    with gate.admit(**ASK) as admission:
        assert admission.extend(1800) == began + timedelta(seconds=1800)
        clock.advance(1800)
        assert admission.extend(3000) == began + timedelta(seconds=3600)
        clock.advance(1799)
        assert gate.live_windows()[0].reserved == WORST_CASE_USD
        assert gate.extend(admission.request_id, 900) == began + timedelta(seconds=3600)
        clock.advance(1)
        assert [window.reserved for window in gate.live_windows()] == [0]
        for extend in (admission.extend, lambda seconds: gate.extend(admission.request_id, seconds)):
            with pytest.raises(ValueError, match="3600 s ago"):
                extend(60)
    said = [line for line in read_lines(tmp_path / "d.jsonl") if line.get("event") == "reservation_extended"]
    latest = (began + timedelta(seconds=3600)).isoformat(timespec="microseconds")
    assert [line["reservation_expires_at"] for line in said][1:] == [latest] * 2


def test_nothing_is_extended_that_is_settled_or_unknown(make_gate: Any) -> None:
    gate = make_gate(policy(budget(1.0)))
    with gate.admit(**ASK) as admission:
        admission.settle(cost_usd=0.001)
        with pytest.raises(AlreadySettled):
            admission.extend(60)
    with pytest.raises(AlreadySettled):
        gate.extend(admission.request_id, 60)
    with pytest.raises(UnknownRequest):
        gate.extend("never-admitted", 60)
    with gate.admit(**ASK) as admission, pytest.raises(ValueError, match="longest window"):
        admission.extend(3601)


@pytest.mark.parametrize("settle_block", ["sync", "async"])
async def test_an_extension_that_cannot_be_written_is_no_extension_and_says_so(
    make_gate: Any, clock: VirtualClock, tmp_path: Path, settle_block: str
) -> None:
    """Nobody else would hold what its caller believes to be held."""
    gate = make_gate(policy(budget(1.0)))

    def lose_the_log() -> None:
        (tmp_path / "d.jsonl").rename(tmp_path / "elsewhere.jsonl")
        (tmp_path / "d.jsonl").mkdir()

    said = "is not extended and lapses as before.*Is a directory"
    if settle_block == "async":
        async with gate.admit(**ASK) as admission:
            lose_the_log()
            with pytest.raises(EventLogError, match=said):
                admission.extend(1800)
            (tmp_path / "d.jsonl").rmdir()
            (tmp_path / "elsewhere.jsonl").rename(tmp_path / "d.jsonl")
            assert admission.extend(1800) == clock.now() + timedelta(seconds=1800)
        return
    with gate.admit(**ASK) as admission:
        lose_the_log()
        for extend in (admission.extend, lambda seconds: gate.extend(admission.request_id, seconds)):
            with pytest.raises(EventLogError, match=said):
                extend(1800)
    (tmp_path / "d.jsonl").rmdir()
    (tmp_path / "elsewhere.jsonl").rename(tmp_path / "d.jsonl")
    clock.advance(901)
    assert [window.reserved for window in gate.live_windows()] == [0]


def test_an_admission_entered_again_is_another_call_with_a_bill_of_its_own(
    make_gate: Any, tmp_path: Path
) -> None:
    """Retrying around the block: the bill of the try that succeeded must not be refused."""
    gate = make_gate(policy(budget(1.0)))
    admission = gate.admit(**ASK)
    with pytest.raises(ConnectionRefusedError), admission:
        raise ConnectionRefusedError
    first = admission.request_id
    with admission:
        admission.settle(cost_usd=0.25)
    assert admission.request_id != first
    (window,) = gate.live_windows()
    assert (window.spent, window.reserved) == (0.25, 0.0)
