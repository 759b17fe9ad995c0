"""Fixtures of the gate's tests."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from llmscope import VirtualClock
from policy_runtime import PolicyRuntime, generations
from tests.policy_runtime.log_lines import START


@pytest.fixture
def small_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bisection down to a few lines, so that small logs are bisected as large ones are."""
    monkeypatch.setattr(generations, "_BISECT_UNTIL_BYTES", 600)
    monkeypatch.setattr(generations, "_PROBE_BYTES", 500)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START + timedelta(seconds=60))


@pytest.fixture
def make_gate(tmp_path: Path, clock: VirtualClock) -> Any:
    gates: list[PolicyRuntime] = []

    def make(source: Any, **more: Any) -> PolicyRuntime:
        gate = PolicyRuntime(
            source,
            telemetry_path=tmp_path / "t.jsonl",
            decisions_path=tmp_path / "d.jsonl",
            clock=clock,
            **more,
        )
        gates.append(gate)
        return gate

    yield make
    for gate in gates:
        gate.close()
