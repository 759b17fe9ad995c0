"""What the tests of llmscope share: registries restored, a log of one's own, providers by script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmscope.gateway import telemetry
from tests.registries import restored_registries


@pytest.fixture(autouse=True)
def _restored_registries() -> Iterator[None]:
    with restored_registries():
        yield


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A telemetry log that the gateway is patched to write to."""
    path = tmp_path / "logs" / "telemetry.jsonl"
    monkeypatch.setattr(telemetry, "TELEMETRY_PATH", path)
    return path
