"""What the tests of llmscope share: registries restored, a log of one's own, providers by script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmscope.gateway import cost_model, policies, provider, telemetry
from llmscope.gateway.runtime import Runtime, use_runtime


@pytest.fixture(autouse=True)
def _restored_registries() -> Iterator[None]:
    registries = (provider._registry, policies._ROUTE_POLICIES)
    before = [dict(registry) for registry in registries]
    prices = list(cost_model._registered)
    use_runtime(Runtime())
    yield
    use_runtime(None)
    cost_model._registered[:] = prices
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A telemetry log that the gateway is patched to write to."""
    path = tmp_path / "logs" / "telemetry.jsonl"
    monkeypatch.setattr(telemetry, "TELEMETRY_PATH", path)
    return path
