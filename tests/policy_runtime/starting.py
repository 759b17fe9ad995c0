"""Starting gates with and without a checkpoint."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from policy_runtime import checkpoint, live_state
from policy_runtime.ledger import Ledger
from policy_runtime.live_state import LiveState
from policy_runtime.policy import Policy
from tests.policy_runtime.traffic import (
    POLICY,
    Traffic,
)


def write_checkpoint(traffic: Traffic) -> bool:
    """What a running gate does in the background, done now; whether the files held still for it."""
    saved: list[bool] = []
    save = checkpoint.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_state, "CHECKPOINT_EVERY_BYTES", 0)
        patch.setattr(checkpoint, "save", lambda *args: saved.append(save(*args)))
        traffic.state()._renew_checkpoint()
    return saved == [True]


def checkpoint_of(traffic: Traffic) -> Path:
    return checkpoint.checkpoint_path(traffic.decisions)


def start(traffic: Traffic, policy: Policy = POLICY) -> tuple[Ledger, int]:
    """A gate started now; the ledger also tells how many bytes it has read."""
    state = LiveState((traffic.telemetry,), traffic.decisions, traffic.clock, policy)
    ledger, now_us, degraded = state.current()
    assert degraded is None
    state.forget()
    wait_for_checkpoints()
    return ledger, now_us


def wait_for_checkpoints() -> None:
    """Until those that this process is writing in the background are written."""
    for thread in threading.enumerate():
        if thread.name == "governance-checkpoint":
            thread.join()


def start_without(traffic: Traffic) -> tuple[Ledger, int]:
    path, aside = checkpoint_of(traffic), traffic.folder / "aside"
    path.rename(aside)
    try:
        return start(traffic)
    finally:
        aside.rename(path)
