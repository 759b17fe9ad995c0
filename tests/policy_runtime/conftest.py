"""Fixtures of the gate's tests."""

from __future__ import annotations

import pytest

from policy_runtime import generations


@pytest.fixture
def small_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bisection down to a few lines, so that small logs are bisected as large ones are."""
    monkeypatch.setattr(generations, "_BISECT_UNTIL_BYTES", 600)
    monkeypatch.setattr(generations, "_PROBE_BYTES", 500)
