"""Answers to prompts that mean the same, by an embedder that the user supplies.

There is no embedder by default and there will be none: what is light enough to come along compares letters,
and letters say that the capitals of France and of Germany are nearly one question.

What does not belong here: comparing vectors (`similarity`), exact keys (`exact`).
"""

from __future__ import annotations

import inspect
import logging
from array import array
from collections.abc import Awaitable, Callable, Sequence

from llmscope.errors import ConfigurationError
from llmscope.gateway.cache.exact import (
    DEFAULT_MAX_BYTES,
    DEFAULT_MAX_ENTRIES,
    DEFAULT_TTL_SECONDS,
    Buy,
    ExactCache,
    SharedAnswers,
    semantic_hit,
)
from llmscope.gateway.cache.keys import neighbourhood_key
from llmscope.gateway.cache.similarity import Neighbours, unit_vector
from llmscope.gateway.cache.sparse_warning import SparseWarning
from llmscope.gateway.stages import CacheOutcome, CacheQuery

Embed = Callable[[str], "Sequence[float] | Awaitable[Sequence[float]]"]

# Seed 002's threshold.
DEFAULT_SIMILARITY_THRESHOLD = 0.95

_log = logging.getLogger(__name__)


class SemanticCache(ExactCache):
    """An exact cache which, where it has nothing, gives the answer to the nearest prompt of the same model,
    parameters and tenant, if that is near enough.

    Nearness is the cosine of the prompts' vectors. Vectors are kept in this process's memory only: a shared
    tier is asked for the exact key. An embedder that fails is as if nothing were near.

    Args:
        embed: makes a vector of a prompt, plainly or as a coroutine. A plain one runs on the event loop: one
            that takes long is better given as a coroutine.
        similarity_threshold: the least cosine, above 0 and at most 1.
        ttl_seconds, max_entries, max_bytes, share_between_tenants, shared: as `ExactCache`; the vectors
            count towards `max_bytes`.

    Raises:
        ConfigurationError: a threshold or a bound that cannot be meant.
    """

    strategy = "semantic"

    def __init__(
        self,
        embed: Embed,
        *,
        similarity_threshold: float = DEFAULT_SIMILARITY_THRESHOLD,
        ttl_seconds: float = DEFAULT_TTL_SECONDS,
        max_entries: int = DEFAULT_MAX_ENTRIES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        share_between_tenants: bool = False,
        shared: SharedAnswers | None = None,
    ) -> None:
        super().__init__(
            ttl_seconds=ttl_seconds,
            max_entries=max_entries,
            max_bytes=max_bytes,
            share_between_tenants=share_between_tenants,
            shared=shared,
        )
        if not 0 < similarity_threshold <= 1:
            raise ConfigurationError(
                f"similarity_threshold must be above 0 and at most 1, not {similarity_threshold}"
            )
        self._embed = embed
        self._threshold = similarity_threshold
        self._neighbours = Neighbours()
        self._warning = SparseWarning(_log)

    async def _acquire(self, query: CacheQuery, key: str, buy: Buy, now_seconds: float) -> CacheOutcome:
        vector = await self._vector(query.prompt, now_seconds)
        if vector is None:
            return await self._purchase(key, buy, now_seconds)
        group = neighbourhood_key(query, share_between_tenants=self._share_between_tenants)
        for similarity, near_key in self._neighbours.within(group, vector, self._threshold):
            kept = self._memory.get(near_key, now_seconds)
            if kept is not None:
                self._count_hit(kept.answer, is_semantic=True)
                return semantic_hit(key, kept.answer, similarity)
            self._neighbours.remove(near_key)
        outcome = await self._purchase(key, buy, now_seconds, beside_bytes=len(vector) * vector.itemsize)
        if outcome.answer.is_cacheable:
            self._neighbours.add(group, key, vector)
        return outcome

    async def _vector(self, prompt: str, now_seconds: float) -> array[float] | None:
        try:
            vector = self._embed(prompt)
            if inspect.isawaitable(vector):
                vector = await vector
            return unit_vector(vector)
        except Exception as error:  # noqa: BLE001  the user's code may raise anything; the call goes on without
            # Its message may quote the prompt: only its kind is said.
            self._warning.say(
                now_seconds,
                "the embedder of a semantic cache failed (%s): nothing is near",
                type(error).__name__,
            )
            with self._counts_lock:
                self._embedder_failures += 1
            return None

    def _forget(self, key: str) -> None:
        self._neighbours.remove(key)
