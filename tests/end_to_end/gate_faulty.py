"""Gates under a fault of their surroundings, each in a process of its own; run as a script by
`test_gate_faults.py`: `python -m tests.end_to_end.gate_faulty FAULT FOLDER [ON_ERROR]`. Prints JSON."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmscope import SimulatedProvider, register_provider
from llmscope.clock import VirtualClock
from llmscope.errors import EventLogError
from llmscope.event_log import AdmissionLock, LogWriter
from policy_runtime import PolicyDenied, PolicyRuntime
from policy_runtime.errors import GateUnavailable

ASK: dict[str, Any] = {"route_name": "/answer-routed", "model_tier": "expensive", "tokens_in": 100}
RESERVED_NANO = 100 * 2_500 + 60 * 10_000


def policy(limit_requests: int, on_error: str = "allow", **more: Any) -> dict[str, Any]:
    """A budget that exactly `limit_requests` reservations fit."""
    cap = {
        "id": "cap", "primitive": "budget_threshold", "period": "daily", "action": "deny",
        "limit_usd": limit_requests * RESERVED_NANO / 1e9, "on_error": on_error,
    }  # fmt: skip
    return {"namespaces": {"default": {"rules": [cap]}}, **more}


def gate_in(folder: Path, **options: Any) -> PolicyRuntime:
    return PolicyRuntime(
        options.pop("policy", None) or policy(1000),
        telemetry_path=folder / "t.jsonl",
        decisions_path=folder / "d.jsonl",
        **options,
    )


def admit(gate: PolicyRuntime) -> Any:
    return gate.admit(**ASK, max_output_tokens=60).__enter__()


def stopped_holder(folder: Path, which: str) -> dict[str, Any]:
    """A process stops itself while it holds a lock; others go on, and later it goes on."""
    settings = policy(1000, lock_timeout_seconds=1.0)
    gate = gate_in(folder, policy=settings)
    admit(gate).settle(cost_usd=1e-6)
    gate.close()
    holder = os.fork()
    if holder == 0:
        if which == "admission":
            lock = AdmissionLock(folder / "d.jsonl.lock")
            lock.acquire(5)
            os.kill(os.getpid(), signal.SIGSTOP)
            lock.release()
        else:
            write = LogWriter._write

            def stop_first(self: Any, fd: int, line: bytes) -> int:
                os.kill(os.getpid(), signal.SIGSTOP)
                return write(self, fd, line)

            mine = admit(gate)
            LogWriter._write = stop_first  # type: ignore[method-assign]
            mine.settle(cost_usd=1e-6)
        gate.close()
        os._exit(0)
    os.waitid(os.P_PID, holder, os.WSTOPPED)
    waits, states = [], []
    for _ in range(3):
        began = time.monotonic()
        admission = admit(gate)
        waits.append(time.monotonic() - began)
        states.append((admission.decision.state, admission.decision.state_reason))
        if which == "admission":
            admission.settle(cost_usd=1e-6)
    os.kill(holder, signal.SIGCONT)
    status = os.waitstatus_to_exitcode(os.waitpid(holder, 0)[1])
    after = admit(gate)
    after.settle(cost_usd=1e-6)
    return {"waits": waits, "states": states, "after": after.decision.state, "holder": status}


def torn_tail_under_a_stopped_lock(folder: Path) -> dict[str, Any]:
    """The line of who decides without the lock is not swallowed by what a dead writer left."""
    gate = gate_in(folder, policy=policy(1000, lock_timeout_seconds=0.1))
    admit(gate)
    with (folder / "d.jsonl").open("ab") as log:
        log.write(b'{"schema_version":"0.1.0","torn')
    lock = AdmissionLock(folder / "d.jsonl.lock")
    assert lock.acquire(1)
    told = admit(gate)
    lock.release()
    return {"told": told.request_id, "state": told.decision.state}


def too_large(folder: Path, on_error: str) -> dict[str, Any]:
    """No file of this process may grow past a size: what a full disk looks like."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    return fill(folder, on_error, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)))


def disk_full(folder: Path, on_error: str) -> dict[str, Any]:
    """A tmpfs of a few pages."""
    return fill(folder, on_error, lambda: None)


def fill(folder: Path, on_error: str, narrow: Callable[[], None]) -> dict[str, Any]:
    """Admit until the log is full, and on; then a call through the gateway, whose answer is paid for."""
    narrow()
    gate = gate_in(folder, policy=policy(10**6, on_error))
    outcomes: list[str] = []
    for _ in range(200):
        try:
            admit(gate)
            outcomes.append("allowed")
        except GateUnavailable as exc:
            outcomes.append(f"unavailable: {exc}")
        if len(outcomes) > 150:
            break
    clock = VirtualClock(datetime(2026, 3, 24, tzinfo=UTC))
    register_provider("openai", SimulatedProvider(1, clock, 1.0, 2.0, 0.0))
    try:
        answer = asyncio.run(gate.call_llm("what is a budget", "cheap", "/answer-routed"))
        outcomes.append(f"answer: {bool(answer.text)}")
    except GateUnavailable:
        outcomes.append("no call")
    return {
        "first": outcomes[0],
        "then": outcomes[-2],
        "last": outcomes[-1],
        "allowed": outcomes.count("allowed"),
    }


def no_log(folder: Path, on_error: str) -> dict[str, Any]:
    """A folder stands where the decision log should: it can be neither read nor written."""
    (folder / "d.jsonl").mkdir()
    gate = gate_in(folder, policy=policy(1000, on_error))
    try:
        admission = admit(gate)
    except GateUnavailable as exc:
        return {"outcome": f"unavailable: {exc}"}
    except PolicyDenied as exc:
        return {"outcome": f"denied: {exc}"}
    admission.settle(cost_usd=1e-6)
    return {"outcome": "allowed", "reason": admission.decision.state_reason}


def no_lock(folder: Path, on_error: str) -> dict[str, Any]:
    """The lock file cannot be opened: decided without it, and said so."""
    (folder / "d.jsonl.lock").mkdir()
    gate = gate_in(folder, policy=policy(1000, on_error, lock_timeout_seconds=0.05))
    return {"outcome": "allowed", "reason": admit(gate).decision.state_reason}


def no_telemetry(folder: Path) -> dict[str, Any]:
    """A bill that cannot be written is an error that says so, and the reservation stands."""
    gate = gate_in(folder)
    (folder / "t.jsonl").mkdir()
    admission = admit(gate)
    try:
        admission.settle(cost_usd=1e-6)
        outcome = "settled"
    except EventLogError as exc:
        outcome = str(exc)
    return {"outcome": outcome, "reason": admission.decision.state_reason}


def forks(folder: Path, how: str) -> dict[str, Any]:
    """Children forked from a process with a live gate, while a thread of it is deciding."""
    gate = gate_in(folder, policy=policy(60))
    admit(gate)
    stop = threading.Event()
    decided = [0]

    def keep_deciding() -> None:
        while not stop.is_set():
            gate.evaluate(**ASK, max_output_tokens=60)
            try:
                admit(gate)
            except PolicyDenied:
                decided[0] += 1

    thread = threading.Thread(target=keep_deciding)
    thread.start()

    def child() -> None:
        for _ in range(20):
            try:
                admit(gate)
            except PolicyDenied:
                continue

    statuses = []
    if how == "os.fork":
        children = []
        for _ in range(12):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                child()
                os._exit(0)
            children.append(pid)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    else:
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=child) for _ in range(8)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(20)
            statuses.append(-1 if process.exitcode is None else process.exitcode)
            process.kill()
    stop.set()
    thread.join(20)
    return {"statuses": statuses, "alive": thread.is_alive()}


def crowd(folder: Path, threads: int, tasks: int) -> dict[str, Any]:
    """Threads and coroutines of one process, all deciding at once with a settlement here and there."""
    gate = gate_in(folder, policy=policy(40))
    slowest = [0.0]

    def settle_now_and_then(admission: Any, number: int) -> None:
        if number % 3 == 0:
            admission.settle(cost_usd=RESERVED_NANO / 2e9)

    def in_thread(number: int) -> None:
        for turn in range(12):
            try:
                settle_now_and_then(admit(gate), number + turn)
            except PolicyDenied:
                continue

    async def in_task(number: int) -> None:
        for turn in range(4):
            try:
                async with gate.admit(**ASK, max_output_tokens=60) as admission:
                    settle_now_and_then(admission, number + turn)
            except PolicyDenied:
                await asyncio.sleep(0)

    async def heartbeat(done: asyncio.Event) -> None:
        while not done.is_set():
            began = time.monotonic()
            await asyncio.sleep(0.001)
            slowest[0] = max(slowest[0], time.monotonic() - began)

    async def all_tasks() -> None:
        done = asyncio.Event()
        beat = asyncio.create_task(heartbeat(done))
        await asyncio.gather(*(in_task(number) for number in range(tasks)))
        done.set()
        await beat

    running = [threading.Thread(target=in_thread, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    if tasks:
        asyncio.run(all_tasks())
    for thread in running:
        thread.join()
    return {"slowest_turn_seconds": slowest[0]}


FAULTS: dict[str, Callable[..., dict[str, Any]]] = {
    "stopped_holder": stopped_holder,
    "torn_tail_under_a_stopped_lock": torn_tail_under_a_stopped_lock,
    "too_large": too_large,
    "disk_full": disk_full,
    "no_log": no_log,
    "no_lock": no_lock,
    "no_telemetry": no_telemetry,
    "forks": forks,
    "crowd": lambda folder, threads, tasks: crowd(folder, int(threads), int(tasks)),
}


def main() -> None:
    fault, folder, *arguments = sys.argv[1:]
    print(json.dumps(FAULTS[fault](Path(folder), *arguments)))


if __name__ == "__main__":
    main()
