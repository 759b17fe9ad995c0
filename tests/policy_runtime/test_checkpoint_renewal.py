"""When checkpoints are written, by whom, and what that keeps waiting: nobody."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llmscope.event_log import AdmissionLock
from policy_runtime import PolicyRuntime, breaks, checkpoint, live_state
from policy_runtime.breaks import Breaks
from policy_runtime.ledger import Ledger
from policy_runtime.live_state import LiveState
from policy_runtime.recent_ids import RecentIds
from tests.policy_runtime.starting import checkpoint_of, start, start_without, wait_for_checkpoints
from tests.policy_runtime.traffic import (
    POLICY,
    SLOW,
    Traffic,
    readings,
    spent,
    write_bills,
)


def test_of_two_processes_one_writes_and_the_other_leaves_it_to_it(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    write_bills(traffic.telemetry, 0, 20)
    other = AdmissionLock(f"{checkpoint_of(traffic)}.lock")
    assert other.try_acquire()
    assert not checkpoint_of(traffic).exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_state, "CHECKPOINT_EVERY_BYTES", 0)
        start(traffic)
        assert not checkpoint_of(traffic).exists()
        other.release()
        start(traffic)
    assert checkpoint_of(traffic).exists()
    other.close()


def test_a_running_gate_renews_the_checkpoint_each_time_it_has_read_so_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_state, "CHECKPOINT_EVERY_BYTES", 20_000)
    traffic = Traffic(tmp_path, random.Random(1))
    running = traffic.state()
    running.current()
    write_bills(traffic.telemetry, 0, 10)
    running.current()
    assert not checkpoint_of(traffic).exists()
    for first in (100, 200):
        before = checkpoint_of(traffic).stat().st_ino if first > 100 else 0
        write_bills(traffic.telemetry, first, 90)
        running.current()
        deadline = time.monotonic() + 20
        while not checkpoint_of(traffic).exists() or checkpoint_of(traffic).stat().st_ino == before:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    fresh, now_us = start(traffic)
    assert (spent(fresh, now_us), fresh.folded_bytes) == (190_000_000, 0)


def test_of_gates_that_read_the_same_most_find_the_checkpoint_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal that finds little to read since the last one writes nothing."""
    monkeypatch.setattr(live_state, "CHECKPOINT_EVERY_BYTES", 20_000)
    traffic = Traffic(tmp_path, random.Random(1))
    write_bills(traffic.telemetry, 0, 90)
    traffic.state()._renew_checkpoint()
    written = checkpoint_of(traffic).stat().st_ino
    write_bills(traffic.telemetry, 100, 5)
    traffic.state()._renew_checkpoint()
    assert checkpoint_of(traffic).stat().st_ino == written


def test_a_process_that_can_start_no_thread_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of an interpreter, where the last bills are still settled."""
    monkeypatch.setattr(live_state, "CHECKPOINT_EVERY_BYTES", 1000)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    traffic = Traffic(tmp_path, random.Random(1))
    running = traffic.state()
    running.current()
    write_bills(traffic.telemetry, 0, 50)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    ledger, now_us, degraded = running.current()
    assert (spent(ledger, now_us), degraded) == (50_000_000, None)


def test_a_start_that_read_little_leaves_no_checkpoint(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    write_bills(traffic.telemetry, 0, 50)
    start(traffic)
    assert not checkpoint_of(traffic).exists()


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_gate_that_reads_a_long_window_keeps_no_other_process_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The start is over before the admission lock is taken."""
    free: list[bool] = []
    begin = LiveState._start

    def looked_at(self: LiveState, now_us: int) -> Ledger:
        other = AdmissionLock(f"{tmp_path / 'd.jsonl'}.lock")
        free.append(other.try_acquire())
        other.release()
        other.close()
        return begin(self, now_us)

    monkeypatch.setattr(LiveState, "_start", looked_at)
    gate = PolicyRuntime(POLICY, telemetry_path=tmp_path / "t.jsonl", decisions_path=tmp_path / "d.jsonl")
    admission = gate.admit(route_name="/answer-routed", model_tier="cheap", tokens_in=10)
    if way == "sync":
        admission.__enter__()
    else:
        await admission.__aenter__()
    gate.close()
    assert free == [True]


_WRITES_CHECKPOINTS = """
import sys
from pathlib import Path
from llmscope.clock import VirtualClock
from policy_runtime import live_state
from tests.policy_runtime.log_lines import START
from tests.policy_runtime.traffic import POLICY

folder = Path(sys.argv[1])
live_state.CHECKPOINT_EVERY_BYTES = 0
state = live_state.LiveState((folder / "t.jsonl",), folder / "d.jsonl", VirtualClock(START), POLICY)
print("ready", flush=True)
while True:
    state._renew_checkpoint()
"""


def test_a_kill_while_checkpoints_are_written_leaves_one_that_fits_or_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    rng = random.Random(7)
    for number in range(25 if SLOW else 4):
        write_bills(traffic.telemetry, 10 * number, 10)
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITES_CHECKPOINTS, str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        while not checkpoint_of(traffic).exists():
            time.sleep(0.001)
        time.sleep(rng.random() / 50)
        writer.kill()
        writer.communicate()
        ledger, now_us = start(traffic)
        assert spent(ledger, now_us) == 10 * (number + 1) * 1_000_000
        without, _ = start_without(traffic)
        assert readings(ledger, now_us) == readings(without, now_us)
    assert not caplog.records


_STARTS_AND_ENDS = """
import sys, time
from pathlib import Path
from llmscope.clock import VirtualClock
from policy_runtime import checkpoint, live_state
from tests.policy_runtime.log_lines import START
from tests.policy_runtime.traffic import POLICY

folder, ends_how = Path(sys.argv[1]), sys.argv[2]
live_state.CHECKPOINT_EVERY_BYTES = 0
if ends_how == "does not wait":
    begin = live_state._in_background
    live_state._in_background = lambda work, daemon: begin(work, daemon=True)
save = checkpoint.save
checkpoint.save = lambda *args: (time.sleep(0.3), save(*args))
live_state.LiveState((folder / "t.jsonl",), folder / "d.jsonl", VirtualClock(START), POLICY).current()
"""


@pytest.mark.parametrize("ends_how", ["waits", "does not wait"])
def test_a_process_that_ends_after_its_first_look_leaves_a_checkpoint(tmp_path: Path, ends_how: str) -> None:
    """As commands do; the twin shows that it must wait for that."""
    traffic = Traffic(tmp_path, random.Random(1))
    write_bills(traffic.telemetry, 0, 90)
    subprocess.run([sys.executable, "-c", _STARTS_AND_ENDS, str(tmp_path), ends_how], check=True, timeout=60)
    assert checkpoint_of(traffic).exists() == (ends_how == "waits")


def test_what_a_checkpoint_holds_is_what_was_folded_when_it_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate folds on while it is written: a bill that only the ids held would be lost to the next start."""
    monkeypatch.setattr(live_state, "CHECKPOINT_EVERY_BYTES", 0)
    begun, goes_on = threading.Event(), threading.Event()
    save = checkpoint.save

    def late(path: Path, snapshot: checkpoint.Snapshot) -> bool:
        begun.set()
        assert goes_on.wait(20)
        return save(path, snapshot)

    monkeypatch.setattr(checkpoint, "save", late)
    traffic = Traffic(tmp_path, random.Random(1))
    write_bills(traffic.telemetry, 0, 50)
    running = traffic.state()
    running.current()
    assert begun.wait(20)
    monkeypatch.setattr(live_state, "CHECKPOINT_EVERY_BYTES", 1 << 30)
    write_bills(traffic.telemetry, 60, 7)
    ledger, now_us, _ = running.current()
    assert spent(ledger, now_us) == 57_000_000
    goes_on.set()
    wait_for_checkpoints()
    fresh, now_us = start(traffic)
    assert 0 < fresh.folded_bytes < traffic.telemetry.stat().st_size / 5  # from the checkpoint on
    assert spent(fresh, now_us) == 57_000_000


def test_twin_ids_taken_when_it_is_written_lose_bills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecentIds, "copy", lambda self: self)
    with pytest.raises(AssertionError):
        test_what_a_checkpoint_holds_is_what_was_folded_when_it_was_begun(tmp_path, monkeypatch)


def test_breaks_are_taken_while_the_program_runs_and_not_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(breaks.time, "sleep", slept.append)
    monkeypatch.setattr(breaks, "_WORK_SECONDS", 0.0)
    Breaks().take()
    assert len(slept) == 1
    monkeypatch.setattr(breaks, "_WORK_SECONDS", 60.0)
    Breaks().take()
    assert len(slept) == 1
    monkeypatch.setattr(breaks, "_WORK_SECONDS", 0.0)
    monkeypatch.setattr(threading.main_thread(), "is_alive", lambda: False)
    Breaks().take()
    assert len(slept) == 1
