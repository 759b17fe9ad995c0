"""No lock of a thread or a process is waited for on an event loop: the loop ticks on while one is taken.

Somebody holds what the gate needs until the loop has ticked often enough, or gives up after a while; how
often it had ticked by then is the claim.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmscope.event_log import AdmissionLock
from policy_runtime import PolicyRuntime
from policy_runtime.deciding import Decider
from tests.policy_runtime.log_lines import read_lines

ASK: dict[str, Any] = {"route_name": "/answer-routed", "model_tier": "expensive", "tokens_in": 1000}
LOCK_TIMEOUT_SECONDS = 0.02
TICKS = 60
GIVES_UP_SECONDS = 1.0


def policy_text(limit_usd: float) -> str:
    return (
        f"lock_timeout_seconds: {LOCK_TIMEOUT_SECONDS}\nnamespaces:\n  default:\n    rules:\n      - id: cap\n"
        f"        primitive: budget_threshold\n        period: daily\n        limit_usd: {limit_usd}\n"
        "        action: deny\n"
    )


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[PolicyRuntime]:
    path = tmp_path / "policy.yaml"
    path.write_text(policy_text(1.0))
    gate = PolicyRuntime(path, telemetry_path=tmp_path / "t.jsonl", decisions_path=tmp_path / "d.jsonl")
    yield gate
    gate.close()


async def ticks_while_held(lock: Any, work: Callable[[], Awaitable[None]]) -> int:
    """How often the loop ticks while a thread holds `lock` and `work` needs it."""
    ticks = 0
    held, enough = threading.Event(), threading.Event()
    at_release: list[int] = []

    def hold() -> None:
        with lock:
            held.set()
            enough.wait(GIVES_UP_SECONDS)
            at_release.append(ticks)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()

    async def tick() -> None:
        nonlocal ticks
        while ticks < TICKS:
            await asyncio.sleep(0.001)
            ticks += 1
        enough.set()

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await work()
    await ticker
    holder.join()
    return at_release[0]


class HeldLock:
    """The admission lock as another process holds it."""

    def __init__(self, path: Path) -> None:
        self._lock = AdmissionLock(path)

    def __enter__(self) -> None:
        assert self._lock.acquire(5)

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self._lock.close()


def enter(gate: PolicyRuntime) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        async with gate.admit(**ASK):
            pass

    return work


async def test_a_loop_ticks_on_while_a_thread_has_the_gate_longer_than_the_lock_timeout(
    gate: PolicyRuntime, tmp_path: Path
) -> None:
    gate.live_windows()  # it has read the logs: a start is waited for, however long it takes
    assert await ticks_while_held(gate._decider._log.mutex, enter(gate)) == TICKS
    (decision,) = [line for line in read_lines(tmp_path / "d.jsonl") if "event" not in line]
    assert decision["state_reason"] == "lock"


async def test_twin_a_decision_that_waits_for_the_thread_stops_the_loop(
    gate: PolicyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def waiting(self: Decider, ask: Any) -> Any:
        return self.decide(ask)

    monkeypatch.setattr(Decider, "decide_async", waiting)
    assert await ticks_while_held(gate._decider._log.mutex, enter(gate)) < TICKS


@pytest.fixture
def slept_on_loop(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the thread that runs the loop slept, each time."""
    slept: list[float] = []
    loop_thread = threading.current_thread()
    sleep = time.sleep

    def watched(seconds: float) -> None:
        if threading.current_thread() is loop_thread:
            slept.append(seconds)
        sleep(seconds)

    monkeypatch.setattr("time.sleep", watched)
    return slept


async def test_a_refused_policy_file_is_recorded_off_the_loop(
    gate: PolicyRuntime, tmp_path: Path, slept_on_loop: list[float]
) -> None:
    await enter(gate)()
    (tmp_path / "policy.yaml").write_text(policy_text(-1.0))
    gate._in_force._looked_at = -10.0
    assert await ticks_while_held(HeldLock(tmp_path / "d.jsonl.lock"), enter(gate)) == TICKS
    assert not slept_on_loop
    events = [line["event"] for line in read_lines(tmp_path / "d.jsonl") if "event" in line]
    assert events == ["policy_loaded", "policy_refused"]


async def test_an_extension_on_a_loop_is_written_at_once_though_the_lock_is_taken(
    gate: PolicyRuntime, tmp_path: Path, slept_on_loop: list[float]
) -> None:
    async with gate.admit(**ASK) as admission:
        with HeldLock(tmp_path / "d.jsonl.lock"):
            slept_on_loop.clear()
            admission.extend(1800)
    assert not slept_on_loop
    extended = [line for line in read_lines(tmp_path / "d.jsonl") if "event" in line][-1]
    assert (extended["event"], extended["request_id"]) == ("reservation_extended", admission.request_id)


async def test_twin_an_extension_off_the_loop_waits_its_turn(
    gate: PolicyRuntime, tmp_path: Path, slept_on_loop: list[float]
) -> None:
    with gate.admit(**ASK) as admission, HeldLock(tmp_path / "d.jsonl.lock"):
        slept_on_loop.clear()
        admission.extend(1800)
    assert slept_on_loop
