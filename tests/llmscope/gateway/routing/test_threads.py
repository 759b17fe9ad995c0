"""Routers are asked and told from several threads at once: nothing is lost, nothing happens twice."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from llmscope.gateway.routing import CanaryRouter, FastestP95Router, SloBurnRouter
from llmscope.gateway.routing.canary_stage import StageEvidence
from tests.llmscope.gateway.routing.requests_and_targets import GPT_4O, HAIKU, MINI, answered, failed, request

THREADS, CALLS = 8, 1500


@pytest.fixture(autouse=True)
def _switching_often() -> Any:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001  handed to the test's own thread below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize(
    "router",
    [
        FastestP95Router([MINI, HAIKU]),
        SloBurnRouter([MINI, HAIKU]),
        CanaryRouter(MINI, HAIKU, stages=(0.5, 1.0)),
    ],
    ids=["fastest_p95", "slo_burn_aware", "canary"],
)
def test_no_observation_is_lost_while_others_choose(router: Any) -> None:
    def work(thread: int) -> None:
        for number in range(CALLS):
            now = number / 100
            router.choose(request(f"{thread}:{number}"), now)
            router.observe(answered(MINI, 100.0 + thread), now)

    in_threads(work)
    counted = {
        "FastestP95Router": lambda: router._latency[MINI].attempts(CALLS / 100),
        "SloBurnRouter": lambda: router._errors[MINI]._counts[60.0].calls,
        "CanaryRouter": lambda: router.status().primary_calls,
    }[type(router).__name__]()
    assert counted == THREADS * CALLS


def racing_faults(monkeypatch: pytest.MonkeyPatch, router: CanaryRouter) -> None:
    """Two threads report the fault that decides, each held at its verdict until the other has one too,
    or a while has passed."""
    meeting = threading.Barrier(2)
    judge = StageEvidence.observe_candidate

    def observe_and_meet(self: StageEvidence, is_fault: bool, now_seconds: float) -> str:
        verdict = judge(self, is_fault, now_seconds)
        if verdict == "roll_back":
            with contextlib.suppress(threading.BrokenBarrierError):
                meeting.wait(timeout=0.3)
        return verdict

    for _ in range(9):
        router.observe(failed(HAIKU), 1.0)
    monkeypatch.setattr(StageEvidence, "observe_candidate", observe_and_meet)
    threads = [threading.Thread(target=router.observe, args=(failed(HAIKU), 2.0)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_canary_is_rolled_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    router = CanaryRouter(MINI, HAIKU)
    racing_faults(monkeypatch, router)
    assert [one.reason for one in router.status().history] == ["auto_rollback"]


def test_without_the_lock_it_is_rolled_back_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin of the above."""
    router = CanaryRouter(MINI, HAIKU)
    monkeypatch.setattr(router, "_lock", contextlib.nullcontext())
    racing_faults(monkeypatch, router)
    assert [one.reason for one in router.status().history] == ["auto_rollback"] * 2


def test_routers_use_no_random_generator_and_change_no_list_of_the_callers() -> None:
    """The forerunner shared one generator and sorted the price list in place, both without a lock."""
    candidates = [GPT_4O, HAIKU, MINI]
    for router in (FastestP95Router(candidates), SloBurnRouter(candidates)):
        for number in range(100):
            router.choose(request(f"r{number}"), 0.0)
    assert candidates == [GPT_4O, HAIKU, MINI]


def test_importing_the_policies_loads_nothing_heavy() -> None:
    program = (
        "import sys, llmscope\n"
        "assert 'llmscope.gateway.routing' not in sys.modules\n"
        "import llmscope.gateway.routing\n"
        "heavy = {'numpy', 'pydantic', 'yaml', 'genai_prices', 'openai', 'anthropic', 'opentelemetry', 'random'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
