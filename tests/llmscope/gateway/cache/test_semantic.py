"""Answers to prompts that mean the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest

from llmscope.errors import ConfigurationError
from llmscope.gateway.cache.semantic import SemanticCache
from tests.llmscope.gateway.cache.purchases import ANSWER, QUESTION, Shop, asking

# What a sentence embedder makes of these, in two dimensions: a paraphrase is near, another country is not,
# although it has nearly the same letters.
MEANINGS = {
    QUESTION.prompt: (1.0, 0.0),
    "Which city is the capital of France?": (0.98, 0.2),
    "What is the capital of Germany?": (0.7, 0.7),
    "Somewhat near": (0.96, 0.28),
}


class Embedder:
    def __init__(self) -> None:
        self.prompts: list[str] = []

    def __call__(self, prompt: str) -> Sequence[float]:
        self.prompts.append(prompt)
        return MEANINGS[prompt]


async def test_a_paraphrase_is_answered_with_its_similarity() -> None:
    cache, shop = SemanticCache(Embedder()), Shop()
    bought = await cache.answer(QUESTION, shop.buy, 0.0)
    found = await cache.answer(asking("Which city is the capital of France?"), shop.buy, 1.0)
    assert (bought.is_hit, bought.strategy, bought.confidence) == (False, "semantic", None)
    assert (found.is_hit, found.strategy, found.answer) == (True, "semantic", ANSWER)
    assert found.confidence == pytest.approx(0.98 / (0.98**2 + 0.2**2) ** 0.5)
    assert found.key_fingerprint != bought.key_fingerprint, "the key is that of the call"
    assert shop.purchases == 1
    assert (cache.stats().semantic_hits, cache.stats().saved_nano) == (1, 2_400)


async def test_another_question_is_bought_however_alike_its_letters() -> None:
    cache, shop = SemanticCache(Embedder()), Shop()
    await cache.answer(QUESTION, shop.buy, 0.0)
    assert not (await cache.answer(asking("What is the capital of Germany?"), shop.buy, 0.0)).is_hit


async def test_the_exact_key_is_looked_up_first_and_needs_no_embedding() -> None:
    embedder = Embedder()
    cache, shop = SemanticCache(embedder), Shop()
    await cache.answer(QUESTION, shop.buy, 0.0)
    again = await cache.answer(QUESTION, shop.buy, 0.0)
    assert (again.strategy, again.confidence) == ("exact", 1.0)
    assert embedder.prompts == [QUESTION.prompt]


async def test_a_near_answer_does_not_become_an_exact_one() -> None:
    """Seed 002's tiers wrote a semantic hit back under the exact key; then its neighbours' neighbours hit."""
    cache, shop = SemanticCache(Embedder(), similarity_threshold=0.95), Shop()
    await cache.answer(QUESTION, shop.buy, 0.0)
    for _ in range(2):
        found = await cache.answer(asking("Somewhat near"), shop.buy, 0.0)
        assert (found.strategy, found.confidence) == ("semantic", pytest.approx(0.96))


@pytest.mark.parametrize(
    "changes",
    [{"model": "gpt-4o"}, {"tenant_id": "globex"}, {"parameters": (("temperature", 1.0),)}],
)
async def test_meaning_is_compared_within_one_model_parameters_and_tenant(changes: dict[str, object]) -> None:
    """Seed 002's look-up was filtered by the model only."""
    cache, shop = SemanticCache(Embedder()), Shop()
    await cache.answer(QUESTION, shop.buy, 0.0)
    other = asking("Which city is the capital of France?", **changes)
    assert not (await cache.answer(other, shop.buy, 0.0)).is_hit


async def test_tenants_share_meaning_when_told_to() -> None:
    cache, shop = SemanticCache(Embedder(), share_between_tenants=True), Shop()
    await cache.answer(QUESTION, shop.buy, 0.0)
    other = asking("Which city is the capital of France?", tenant_id="globex")
    assert (await cache.answer(other, shop.buy, 0.0)).is_hit


async def test_an_answer_that_is_too_old_or_gone_is_near_nothing() -> None:
    cache, shop = SemanticCache(Embedder(), ttl_seconds=60, max_entries=1), Shop()
    await cache.answer(QUESTION, shop.buy, 0.0)
    assert not (await cache.answer(asking("Somewhat near"), shop.buy, 60.0)).is_hit
    assert cache.stats().entries == 1
    assert len(cache._neighbours._group_of) == 1, "the vector left with its answer"
    cache.clear()
    assert cache._neighbours._group_of == {}


async def test_an_embedder_may_be_a_coroutine() -> None:
    async def embed(prompt: str) -> Sequence[float]:
        await asyncio.sleep(0)
        return MEANINGS[prompt]

    cache, shop = SemanticCache(embed), Shop()
    await cache.answer(QUESTION, shop.buy, 0.0)
    assert (await cache.answer(asking("Somewhat near"), shop.buy, 0.0)).is_hit


async def test_an_embedder_that_fails_leaves_an_exact_cache_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def embed(prompt: str) -> Sequence[float]:
        raise RuntimeError(f"cannot embed {prompt!r}")

    cache, shop = SemanticCache(embed), Shop()
    with caplog.at_level(logging.WARNING):
        for number in range(20):
            assert not (await cache.answer(asking(f"secret {number}"), shop.buy, float(number))).is_hit
        assert (await cache.answer(asking("secret 3"), shop.buy, 20.0)).is_hit
        await cache.answer(asking("secret 20"), shop.buy, 60.0)
    assert cache.stats().failures == 21
    assert [record.getMessage() for record in caplog.records] == [
        "the embedder of a semantic cache failed (RuntimeError): nothing is near",
        "the embedder of a semantic cache failed (RuntimeError): nothing is near (19 more since the last warning)",
    ]
    assert "secret" not in caplog.text


async def test_a_hundred_callers_at_once_embed_once_and_make_one_purchase() -> None:
    embedder = Embedder()

    async def embed(prompt: str) -> Sequence[float]:
        await asyncio.sleep(0)
        return embedder(prompt)

    cache, shop = SemanticCache(embed), Shop()
    await asyncio.gather(*(cache.answer(QUESTION, shop.buy, 0.0) for _ in range(100)))
    assert (len(embedder.prompts), shop.purchases, cache.stats().hits) == (1, 1, 99)
    near = asking("Somewhat near")
    outcomes = await asyncio.gather(*(cache.answer(near, shop.buy, 0.0) for _ in range(100)))
    assert {outcome.strategy for outcome in outcomes} == {"semantic"}
    assert (len(embedder.prompts), shop.purchases, cache.stats().semantic_hits) == (2, 1, 100)


async def test_an_answer_that_is_nobody_elses_is_near_nothing() -> None:
    cache, cut = SemanticCache(Embedder()), Shop(replace(ANSWER, is_cacheable=False))
    await cache.answer(QUESTION, cut.buy, 0.0)
    assert not (await cache.answer(asking("Somewhat near"), cut.buy, 0.0)).is_hit
    assert cache._neighbours._group_of == {}


async def test_vectors_count_towards_the_bytes_kept() -> None:
    plain, wide = SemanticCache(lambda prompt: (1.0, 0.0)), SemanticCache(lambda prompt: [1.0] * 1_000)
    for cache in (plain, wide):
        await cache.answer(QUESTION, Shop().buy, 0.0)
    assert wide.stats().bytes - plain.stats().bytes == 998 * 8


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, float("nan")])
def test_a_threshold_that_cannot_be_meant_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigurationError, match="similarity_threshold"):
        SemanticCache(Embedder(), similarity_threshold=threshold)
