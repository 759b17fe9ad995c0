"""A provider that does what a test tells it to, and reading back what was logged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from llmscope import Clock, ProviderBase, ProviderResponse, StreamItem


class ScriptedError(Exception):
    """An error with a category of its own."""

    def __init__(self, category: str, *, retryable: bool = False, retry_after: float | None = None) -> None:
        super().__init__(category)
        self.category = category
        self.retryable = retryable
        self.retry_after = retry_after


class ScriptedProvider(ProviderBase):
    """Each call takes the next step: an error is raised, a response returned, after `latency_ms`."""

    def __init__(
        self,
        steps: Iterable[ProviderResponse | BaseException],
        *,
        name: str = "scripted",
        clock: Clock | None = None,
        latency_ms: float = 0.0,
    ) -> None:
        self.steps = list(steps)
        self.name = name
        self.clock = clock
        self.latency_ms = latency_ms
        self.calls: list[tuple[str, str, int]] = []

    @property
    def provider_name(self) -> str:
        return self.name

    async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
        self.calls.append((prompt, model, max_output_tokens))
        step = self.steps[min(len(self.calls), len(self.steps)) - 1]
        if self.clock is not None:
            await self.clock.sleep(self.latency_ms / 1000)
        else:
            await asyncio.sleep(0)
        if isinstance(step, BaseException):
            raise step
        return step

    def is_retryable(self, error: Exception) -> bool:
        return isinstance(error, ScriptedError) and error.retryable

    def categorize_error(self, error: Exception) -> str:
        return error.category if isinstance(error, ScriptedError) else "unknown"

    def retry_after_seconds(self, error: Exception) -> float | None:
        return error.retry_after if isinstance(error, ScriptedError) else None


class StreamedProvider(ScriptedProvider):
    """Each stream takes the next script: items are given out, errors raised, seconds (as floats) slept on
    the clock, events waited for."""

    def __init__(
        self,
        *scripts: Iterable[StreamItem | BaseException | float | asyncio.Event],
        name: str = "scripted",
        clock: Clock | None = None,
    ) -> None:
        super().__init__([], name=name, clock=clock)
        self.scripts = [list(script) for script in scripts]
        self.closed = 0

    async def stream(self, prompt: str, model: str, max_output_tokens: int) -> AsyncIterator[StreamItem]:
        self.calls.append((prompt, model, max_output_tokens))
        try:
            for step in self.scripts[min(len(self.calls), len(self.scripts)) - 1]:
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, float):
                    assert self.clock is not None
                    await self.clock.sleep(step)
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    await asyncio.sleep(0)
                    yield step
        finally:
            self.closed += 1


def events(path: Path) -> list[dict[str, Any]]:
    """Every line of a log, decoded by the standard library."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]
