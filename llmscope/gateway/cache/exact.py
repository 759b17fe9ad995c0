"""Answers under their exact key, bought once however many ask at a time.

What does not belong here: what a key is (`keys`), where answers are kept (`memory`, `redis_tier`), prompts
that are merely alike (`semantic`).
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from llmscope.errors import ConfigurationError
from llmscope.gateway.cache.keys import KEY_ALGORITHM, answer_key
from llmscope.gateway.cache.memory import AnswerMemory
from llmscope.gateway.cache.single_flight import SingleFlight
from llmscope.gateway.stages import CachedAnswer, CacheOutcome, CacheQuery

Buy = Callable[[], Awaitable[CachedAnswer]]

DEFAULT_TTL_SECONDS = 3600.0
DEFAULT_MAX_ENTRIES = 10_000
DEFAULT_MAX_BYTES = 64 * 1024 * 1024


class SharedAnswers(Protocol):
    """A place that several processes keep answers in. It never raises: when it fails it is empty."""

    async def get(self, key: str, now_seconds: float) -> tuple[CachedAnswer, float] | None:
        """The answer under `key` and for how many more seconds it is good."""

    async def put(self, key: str, answer: CachedAnswer, ttl_seconds: float, now_seconds: float) -> None:
        """Keep `answer` for `ttl_seconds`."""

    async def aclose(self) -> None:
        """Close its connections."""

    @property
    def failures(self) -> int:
        """How often it failed."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache has done since it was made, and what it holds.

    Attributes:
        hits: calls answered without buying, those included that waited for another's purchase.
        semantic_hits, shared_hits: those of them found by meaning, and in the shared tier.
        misses: purchases asked for, failed ones included.
        entries, bytes: what is kept in this process's memory.
        saved_nano: the sum, over the hits, of what the answer had cost, nano-USD.
        unknown_savings: hits whose answer's cost is not known; they add nothing to `saved_nano`.
        failures: times that the embedder or the shared tier failed and the call went on without it.
    """

    hits: int
    semantic_hits: int
    shared_hits: int
    misses: int
    entries: int
    bytes: int
    saved_nano: int
    unknown_savings: int
    failures: int


class ExactCache:
    """Keeps answers under the hash of model, prompt, parameters and tenant.

    May be used from several threads and event loops; callers on one loop share a purchase, each loop makes
    its own.

    Args:
        ttl_seconds: how long an answer is good, from the beginning of the call that bought it.
        max_entries, max_bytes: what is kept in memory; the least recently used leaves first.
        share_between_tenants: whether one tenant may be given an answer that another bought.
        shared: a tier behind the memory, for several processes (`RedisTier`).

    Raises:
        ConfigurationError: a bound below its least.
    """

    # What a purchase is recorded under: the cache that would have had the answer.
    strategy = "exact"

    def __init__(
        self,
        *,
        ttl_seconds: float = DEFAULT_TTL_SECONDS,
        max_entries: int = DEFAULT_MAX_ENTRIES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        share_between_tenants: bool = False,
        shared: SharedAnswers | None = None,
    ) -> None:
        if not ttl_seconds > 0:
            raise ConfigurationError(f"ttl_seconds of a cache must be above 0, not {ttl_seconds}")
        if max_entries < 1 or max_bytes < 1:
            raise ConfigurationError(
                f"a cache holds at least 1 entry and 1 byte, not {max_entries} and {max_bytes}; "
                "leave the cache out of the route to turn it off"
            )
        self._ttl_seconds = ttl_seconds
        self._share_between_tenants = share_between_tenants
        self._shared = shared
        self._memory = AnswerMemory(max_entries, max_bytes, self._forget)
        self._purchases: SingleFlight[CacheOutcome] = SingleFlight()
        self._counts_lock = threading.Lock()
        self._hits = self._semantic_hits = self._shared_hits = self._misses = 0
        self._saved_nano = self._unknown_savings = 0
        self._embedder_failures = 0

    async def answer(self, query: CacheQuery, buy: Buy, now_seconds: float) -> CacheOutcome:
        """The answer to `query`: kept, or bought with `buy`.

        Raises:
            Exception: whatever `buy` raises, to the caller that bought.
        """
        key = answer_key(query, share_between_tenants=self._share_between_tenants)
        kept = self._memory.get(key, now_seconds)
        if kept is not None:
            self._count_hit(kept.answer)
            return _hit(key, kept.answer)
        outcome, is_own = await self._purchases.run(
            key, lambda: self._find_or_buy(query, key, buy, now_seconds), _may_be_shared
        )
        if is_own:
            return outcome
        self._count_hit(outcome.answer, is_semantic=outcome.is_hit and outcome.strategy == "semantic")
        if outcome.is_hit:
            return outcome
        return _hit(key, outcome.answer)

    def stats(self) -> CacheStats:
        """What it has done and holds, at this moment."""
        entries, size_bytes = self._memory.size()
        with self._counts_lock:
            return CacheStats(
                hits=self._hits,
                semantic_hits=self._semantic_hits,
                shared_hits=self._shared_hits,
                misses=self._misses,
                entries=entries,
                bytes=size_bytes,
                saved_nano=self._saved_nano,
                unknown_savings=self._unknown_savings,
                failures=self._embedder_failures + (self._shared.failures if self._shared else 0),
            )

    def clear(self) -> None:
        """Forget what this process's memory keeps; the shared tier keeps its own until it is too old."""
        self._memory.clear()

    async def aclose(self) -> None:
        """Close the shared tier's connections, if there is one."""
        if self._shared is not None:
            await self._shared.aclose()

    async def _find_or_buy(self, query: CacheQuery, key: str, buy: Buy, now_seconds: float) -> CacheOutcome:
        # Whoever led before may have kept the answer and failed then, and other threads buy too.
        kept = self._memory.get(key, now_seconds)
        if kept is not None:
            self._count_hit(kept.answer)
            return _hit(key, kept.answer)
        if self._shared is not None:
            found = await self._shared.get(key, now_seconds)
            if found is not None:
                answer, good_for_seconds = found
                self._memory.put(key, answer, now_seconds + min(good_for_seconds, self._ttl_seconds))
                self._count_hit(answer, is_shared=True)
                return _hit(key, answer)
        return await self._acquire(query, key, buy, now_seconds)

    async def _acquire(self, query: CacheQuery, key: str, buy: Buy, now_seconds: float) -> CacheOutcome:
        """What follows when no tier has the key."""
        del query
        return await self._purchase(key, buy, now_seconds)

    async def _purchase(
        self, key: str, buy: Buy, now_seconds: float, *, beside_bytes: int = 0
    ) -> CacheOutcome:
        with self._counts_lock:
            self._misses += 1
        answer = await buy()
        if answer.is_cacheable:
            self._memory.put(key, answer, now_seconds + self._ttl_seconds, beside_bytes=beside_bytes)
            if self._shared is not None:
                await self._shared.put(key, answer, self._ttl_seconds, now_seconds)
        return CacheOutcome(answer, False, self.strategy, key, KEY_ALGORITHM, None)

    def _forget(self, key: str) -> None:
        """An answer has left the memory."""

    def _count_hit(self, answer: CachedAnswer, *, is_semantic: bool = False, is_shared: bool = False) -> None:
        with self._counts_lock:
            self._hits += 1
            self._semantic_hits += is_semantic
            self._shared_hits += is_shared
            if answer.cost_nano is None:
                self._unknown_savings += 1
            else:
                self._saved_nano += answer.cost_nano


def _hit(key: str, answer: CachedAnswer) -> CacheOutcome:
    return CacheOutcome(answer, True, "exact", key, KEY_ALGORITHM, 1.0)


def _may_be_shared(outcome: CacheOutcome) -> bool:
    return outcome.is_hit or outcome.answer.is_cacheable


def semantic_hit(key: str, answer: CachedAnswer, similarity: float) -> CacheOutcome:
    """An answer found by meaning under `key`, the key that was asked for."""
    return replace(_hit(key, answer), strategy="semantic", confidence=similarity)
