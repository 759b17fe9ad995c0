"""Gates whose surroundings fail: stopped lock holders, full disks, missing permissions, stepping clocks,
forks and crowds. What was committed is added up from the logs alone (`gate_evidence`)."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmscope.clock import VirtualClock
from llmscope.errors import LogLockTimeout
from llmscope.event_log import LogWriter
from tests.end_to_end.gate_evidence import ROOT, Evidence, collect
from tests.end_to_end.gate_faulty import ASK, RESERVED_NANO, gate_in, policy
from tests.policy_runtime.log_lines import START

RESERVED = Decimal(RESERVED_NANO).scaleb(-9)


def start(fault: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.end_to_end.gate_faulty", fault, str(folder), *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err[-3000:]
    told: dict[str, Any] = json.loads(out.splitlines()[-1])
    return told | {"stderr": err}


def whole(folder: Path) -> Evidence:
    """The logs, in which nothing is torn, half written or doubled."""
    evidence = collect(folder)
    assert evidence.torn == []
    assert evidence.doubled() == []
    for name in ("t.jsonl", "d.jsonl"):
        assert not (folder / name).is_file() or (folder / name).read_bytes()[-1:] in (b"", b"\n")
    return evidence


def test_a_stopped_holder_of_the_lock_delays_nobody_past_the_timeout(tmp_path: Path) -> None:
    told = finish(start("stopped_holder", tmp_path, "admission"))
    first, *later = told["waits"]
    assert 1.0 <= first < 4
    assert max(later) < 1.0  # after one timeout the lock is only tried
    assert told["states"] == [["degraded", "lock"]] * 3
    assert (told["after"], told["holder"]) == ("fresh", 0)
    assert len(whole(tmp_path).decisions) == 5


def test_a_stopped_writer_of_a_bill_delays_no_decision(tmp_path: Path) -> None:
    told = finish(start("stopped_holder", tmp_path, "telemetry"))
    assert max(told["waits"]) < 1.0
    assert told["states"] == [["fresh", None]] * 3
    assert (told["after"], told["holder"]) == ("fresh", 0)
    evidence = whole(tmp_path)
    assert (len(evidence.decisions), len(evidence.bills)) == (6, 3)


def test_a_decision_without_the_lock_is_not_swallowed_by_a_torn_line(tmp_path: Path) -> None:
    told = finish(start("torn_tail_under_a_stopped_lock", tmp_path))
    evidence = collect(tmp_path)
    assert told["state"] == "degraded"
    assert told["told"] in evidence.decided
    assert len(evidence.torn) == 1


def test_a_bill_that_must_not_be_lost_is_written_past_a_lock_that_stays_taken(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"torn')
    with path.open("rb") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        writer = LogWriter(path)
        offset = writer.append(b'{"bill":1}', timeout_seconds=0.01, unlocked_after_timeout=True)
        with pytest.raises(LogLockTimeout):
            writer.append(b"2", timeout_seconds=0.01)
        writer.close()
    assert path.read_bytes() == b'{"torn\n{"bill":1}\n'
    assert path.read_bytes()[offset:] == b'{"bill":1}\n'


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_a_file_that_may_not_grow_leaves_no_half_line_and_on_error_decides(
    tmp_path: Path, on_error: str
) -> None:
    told = finish(start("too_large", tmp_path, on_error))
    check_full(tmp_path, told, on_error)


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_a_full_disk_leaves_no_half_line_and_on_error_decides(tmp_path: Path, on_error: str) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root; the size limit on files is tested beside this")
    try:
        told = finish(start("disk_full", tmp_path, on_error))
        check_full(tmp_path, told, on_error)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def check_full(folder: Path, told: dict[str, Any], on_error: str) -> None:
    evidence = whole(folder)
    assert told["first"] == "allowed"
    assert 1 <= len(evidence.decisions) < 50
    if on_error == "allow":
        assert told["then"] == "allowed"
        assert (
            told["last"] == "answer: True"
        )  # what was paid for is returned though nothing could be recorded
        assert "allowed without a record" in told["stderr"]
    else:
        assert "unavailable" in told["then"]
        assert "cap" in told["then"]
        assert told["last"] == "no call"
        assert told["allowed"] == len(evidence.decisions)


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_a_log_that_can_be_neither_read_nor_written_follows_on_error(tmp_path: Path, on_error: str) -> None:
    told = finish(start("no_log", tmp_path, on_error))
    assert told["outcome"].startswith("allowed" if on_error == "allow" else "denied")
    assert "cannot" in told["stderr"] or "cannot" in told["outcome"]


def test_a_lock_file_that_cannot_be_opened_makes_decisions_degraded_not_impossible(tmp_path: Path) -> None:
    told = finish(start("no_lock", tmp_path, "allow"))
    assert told["reason"] == "lock"
    assert "the admission lock cannot be taken" in told["stderr"]
    assert len(whole(tmp_path).decisions) == 1


def test_a_bill_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    told = finish(start("no_telemetry", tmp_path))
    assert told["outcome"] == "settled" or "cannot append to the log" in told["outcome"]
    assert str(told["reason"]).startswith("read")


def test_a_clock_two_hours_ahead_and_back_keeps_stamps_in_order_and_the_budget(tmp_path: Path) -> None:
    clock = VirtualClock(START)
    gates = [gate_in(tmp_path, clock=clock, policy=policy(1000)) for _ in range(2)]
    steps = [0, 60, 7200, 1, -7200, 1, -2, 0.5, -4.9, 30, -3600, 10]
    for number, step in enumerate(steps):
        clock._elapsed += step
        with gates[number % 2].admit(**ASK, max_output_tokens=60) as admission:
            if number % 3 == 0:
                admission.settle(cost_usd=RESERVED_NANO / 1e9)
    stamps, states = [], []
    for decision in whole(tmp_path).decisions:
        stamps.append(datetime.fromisoformat(decision["timestamp"]))
        states.append(decision["state"])
    backward = [number for number in range(1, len(stamps)) if stamps[number] < stamps[number - 1]]
    # Only where the clock is more than five seconds behind the last stamp: after 2 h, 2 + 4.9 s less, 1 h.
    assert backward == [4, 8, 10]
    assert [number for number, state in enumerate(states) if state == "degraded"] == backward
    now = START + timedelta(seconds=sum(steps))
    fresh = gate_in(tmp_path, clock=VirtualClock(now), policy=policy(1000))
    (said,) = fresh.live_windows()
    (running,) = gates[0].live_windows()
    for gate in (*gates, fresh):
        gate.close()
    assert said == running
    assert said.spent == pytest.approx(4 * float(RESERVED))


@pytest.mark.parametrize("how", ["os.fork", "multiprocessing"])
def test_forked_children_of_a_live_gate_share_its_budget_and_none_hangs(tmp_path: Path, how: str) -> None:
    told = finish(start("forks", tmp_path, how))
    assert set(told["statuses"]) == {0}
    assert not told["alive"]
    evidence = whole(tmp_path)
    admitted = [decision for decision in evidence.decisions if decision["decision"] != "deny"]
    assert len(admitted) == 60
    assert evidence.highest_commitment() == 60 * RESERVED


def test_16_threads_and_50_tasks_of_four_processes_are_linearizable(tmp_path: Path) -> None:
    crowds = [start("crowd", tmp_path, "16", "50" if number % 2 else "0") for number in range(4)]
    told = [finish(crowd) for crowd in crowds]
    evidence = whole(tmp_path)
    assert evidence.highest_commitment() <= 40 * RESERVED
    assert evidence.highest_commitment() > 38 * RESERVED
    assert all(decision["state"] == "fresh" for decision in evidence.decisions)
    assert max(crowd["slowest_turn_seconds"] for crowd in told) < 10  # the loop went on


def test_twin_without_the_lock_a_crowd_passes_the_limit(tmp_path: Path) -> None:
    code = (
        "import sys, time; from llmscope.event_log import AdmissionLock; from policy_runtime.decision_log import "
        "DecisionLog; AdmissionLock.try_acquire = lambda self: True; AdmissionLock.release = lambda self: None\n"
        "append = DecisionLog.append\n"
        "def late(self, record, *, locked):\n"
        # Long enough that the first to start has not used up the budget before the others have begun.
        "    time.sleep(0.02 if record.decision == 'allow' else 0); append(self, record, locked=locked)\n"
        "DecisionLog.append = late\n"
        "from tests.end_to_end.gate_faulty import main; main()"
    )
    crowds = [
        subprocess.Popen(
            [sys.executable, "-c", code, "crowd", str(tmp_path), "16", "0"], cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    for crowd in crowds:
        finish(crowd)
    assert collect(tmp_path).highest_commitment() > 40 * RESERVED
