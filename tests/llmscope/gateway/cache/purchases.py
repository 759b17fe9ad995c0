"""What the tests of the caches share: queries, answers, and a shop that counts what is bought."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from llmscope.gateway.stages import CachedAnswer, CacheQuery

QUESTION = CacheQuery(
    model="gpt-4o-mini",
    prompt="What is the capital of France?",
    parameters=(("max_output_tokens", 500), ("temperature", 0.0)),
    tenant_id="acme",
)
ANSWER = CachedAnswer(
    text="Paris.",
    provider="openai",
    model="gpt-4o-mini",
    tokens_in=8,
    tokens_out=2,
    finish_reason="stop",
    cost_nano=2_400,
)


def asking(prompt: str, **changes: object) -> CacheQuery:
    return replace(QUESTION, prompt=prompt, **changes)  # type: ignore[arg-type]


class Shop:
    """Sells `answer`, after a turn of the event loop, and counts.

    Attributes:
        failures: so many purchases fail before one succeeds.
        opened: while it is clear, buyers wait.
        others_buying: how many were buying when each purchase began.
    """

    def __init__(self, answer: CachedAnswer = ANSWER, *, failures: int = 0) -> None:
        self.answer = answer
        self.failures = failures
        self.purchases = 0
        self.opened = asyncio.Event()
        self.opened.set()
        self.others_buying: list[int] = []
        self._buying = 0

    async def buy(self) -> CachedAnswer:
        self.purchases += 1
        number = self.purchases
        self.others_buying.append(self._buying)
        self._buying += 1
        try:
            await self.opened.wait()
            await asyncio.sleep(0)
        finally:
            self._buying -= 1
        if number <= self.failures:
            raise ConnectionError(f"purchase {number} failed")
        return self.answer
