"""Exact answers: bought once, within bounds, by tenant."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from llmscope.errors import ConfigurationError
from llmscope.gateway.cache import single_flight
from llmscope.gateway.cache.exact import ExactCache
from llmscope.gateway.cache.keys import answer_key
from llmscope.gateway.cache.single_flight import SingleFlight
from llmscope.gateway.stages import CachedAnswer, CacheOutcome
from tests.llmscope.gateway.cache.purchases import ANSWER, QUESTION, Shop, asking


async def test_a_second_call_is_not_bought() -> None:
    cache, shop = ExactCache(), Shop()
    first = await cache.answer(QUESTION, shop.buy, 0.0)
    second = await cache.answer(QUESTION, shop.buy, 1.0)
    assert (first.is_hit, first.confidence) == (False, None)
    assert (second.is_hit, second.confidence, second.answer) == (True, 1.0, ANSWER)
    assert first.strategy == second.strategy == "exact"
    assert first.key_fingerprint == second.key_fingerprint == answer_key(QUESTION)
    assert second.key_algorithm == "sha256"
    assert shop.purchases == 1


async def test_an_answer_is_too_old_after_its_time_to_the_second() -> None:
    cache, shop = ExactCache(ttl_seconds=60), Shop()
    await cache.answer(QUESTION, shop.buy, 1000.0)
    assert (await cache.answer(QUESTION, shop.buy, 1059.999)).is_hit
    assert not (await cache.answer(QUESTION, shop.buy, 1060.0)).is_hit
    assert (await cache.answer(QUESTION, shop.buy, 1119.0)).is_hit
    assert shop.purchases == 2


async def test_a_tenant_is_not_given_what_another_bought_unless_told_so() -> None:
    other = replace(QUESTION, tenant_id="globex")
    apart, shop = ExactCache(), Shop()
    await apart.answer(QUESTION, shop.buy, 0.0)
    assert not (await apart.answer(other, shop.buy, 0.0)).is_hit
    together, shop = ExactCache(share_between_tenants=True), Shop()
    await together.answer(QUESTION, shop.buy, 0.0)
    assert (await together.answer(other, shop.buy, 0.0)).is_hit


async def test_parameters_keep_answers_apart() -> None:
    """Seed 002's semantic look-up and both upper tiers left them out."""
    cache, shop = ExactCache(), Shop()
    await cache.answer(QUESTION, shop.buy, 0.0)
    warmer = replace(QUESTION, parameters=(("max_output_tokens", 500), ("temperature", 1.0)))
    assert not (await cache.answer(warmer, shop.buy, 0.0)).is_hit


async def test_the_least_recently_used_answer_leaves_first() -> None:
    cache, shop = ExactCache(max_entries=2), Shop()
    for prompt in ("a", "b", "a", "c"):
        await cache.answer(asking(prompt), shop.buy, 0.0)
    assert shop.purchases == 3
    assert cache.stats().entries == 2
    assert (await cache.answer(asking("a"), shop.buy, 0.0)).is_hit
    assert not (await cache.answer(asking("b"), shop.buy, 0.0)).is_hit


async def test_memory_is_bounded_in_bytes() -> None:
    cache = ExactCache(max_bytes=100_000)
    for number in range(50):
        shop = Shop(replace(ANSWER, text="x" * 10_000))
        await cache.answer(asking(str(number)), shop.buy, 0.0)
        assert cache.stats().bytes <= 100_000
    assert cache.stats().entries == 9
    too_large = Shop(replace(ANSWER, text="x" * 100_001))
    await cache.answer(asking("large"), too_large.buy, 0.0)
    assert cache.stats().entries == 9, "an answer that cannot be kept drives nothing out"
    cache.clear()
    assert (cache.stats().entries, cache.stats().bytes) == (0, 0)


async def test_an_answer_bought_again_takes_the_place_of_the_old_one() -> None:
    cache = ExactCache(ttl_seconds=1)
    await cache.answer(QUESTION, Shop().buy, 0.0)
    size = cache.stats().bytes
    await cache.answer(QUESTION, Shop().buy, 5.0)
    assert (cache.stats().entries, cache.stats().bytes) == (1, size)


async def crowd(cache: ExactCache, shop: Shop, callers: int = 100) -> list[CacheOutcome | BaseException]:
    return await asyncio.gather(
        *(cache.answer(QUESTION, shop.buy, 0.0) for _ in range(callers)), return_exceptions=True
    )


async def test_a_hundred_callers_at_once_make_one_purchase() -> None:
    cache, shop = ExactCache(), Shop()
    outcomes = await crowd(cache, shop)
    assert shop.purchases == 1
    assert sum(isinstance(outcome, CacheOutcome) and outcome.is_hit for outcome in outcomes) == 99
    assert cache.stats().saved_nano == 99 * 2_400


async def test_without_the_single_flight_each_of_them_buys(monkeypatch: pytest.MonkeyPatch) -> None:
    async def each_by_itself(self: object, key: object, work, is_shared) -> object:  # type: ignore[no-untyped-def]
        return await work(), True

    monkeypatch.setattr(SingleFlight, "run", each_by_itself)
    cache, shop = ExactCache(), Shop()
    await crowd(cache, shop)
    assert shop.purchases == 100


async def test_when_the_buyer_fails_the_next_buys_and_nobody_else_fails() -> None:
    cache, shop = ExactCache(), Shop(failures=1)
    outcomes = await crowd(cache, shop)
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert [str(error) for error in failed] == ["purchase 1 failed"]
    assert shop.purchases == 2
    assert cache.stats().hits == 98


async def test_a_failure_is_not_kept() -> None:
    cache, shop = ExactCache(), Shop(failures=1)
    with pytest.raises(ConnectionError):
        await cache.answer(QUESTION, shop.buy, 0.0)
    assert not (await cache.answer(QUESTION, shop.buy, 0.0)).is_hit
    assert (await cache.answer(QUESTION, shop.buy, 0.0)).is_hit


async def test_a_key_that_cannot_be_bought_keeps_nobody_waiting_for_more_than_three_others() -> None:
    cache, shop = ExactCache(), Shop(failures=1_000)
    outcomes = await crowd(cache, shop, callers=20)
    assert all(isinstance(outcome, ConnectionError) for outcome in outcomes)
    assert shop.purchases == 20
    # Three bought alone, one after the other; the other seventeen bought together.
    assert shop.others_buying == [0, 0, 0, *range(17)]


async def test_when_the_buyer_is_cancelled_the_next_buys_and_nobody_else_is_cancelled() -> None:
    cache, shop = ExactCache(), Shop()
    shop.opened.clear()
    leader = asyncio.create_task(cache.answer(QUESTION, shop.buy, 0.0))
    await asyncio.sleep(0)
    others = [asyncio.create_task(cache.answer(QUESTION, shop.buy, 0.0)) for _ in range(20)]
    await asyncio.sleep(0)
    leader.cancel()
    shop.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await leader
    outcomes = await asyncio.gather(*others)
    assert sum(outcome.is_hit for outcome in outcomes) == 19
    assert shop.purchases == 2


class SlowTier:
    """A shared tier that is told an answer and does not return."""

    failures = 0

    def __init__(self) -> None:
        self.put_begun = asyncio.Event()

    async def get(self, key: str, now_seconds: float) -> None:
        return None

    async def put(self, key: str, answer: CachedAnswer, ttl_seconds: float, now_seconds: float) -> None:
        self.put_begun.set()
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        pass


async def test_an_answer_that_was_bought_is_not_bought_again_when_its_buyer_leaves_then() -> None:
    tier, shop = SlowTier(), Shop()
    cache = ExactCache(shared=tier)
    buyer = asyncio.create_task(cache.answer(QUESTION, shop.buy, 0.0))
    waiters = [asyncio.create_task(cache.answer(QUESTION, shop.buy, 0.0)) for _ in range(3)]
    await tier.put_begun.wait()
    buyer.cancel()
    assert all(outcome.is_hit for outcome in await asyncio.gather(*waiters))
    assert shop.purchases == 1


async def cancel_a_waiter() -> tuple[int, list[object]]:
    cache, shop = ExactCache(), Shop()
    shop.opened.clear()
    tasks = [asyncio.create_task(cache.answer(QUESTION, shop.buy, 0.0)) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[3].cancel()
    await asyncio.sleep(0)
    shop.opened.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return shop.purchases, [result for number, result in enumerate(results) if number != 3]


async def test_a_waiter_that_is_cancelled_cancels_neither_the_buyer_nor_the_other_waiters() -> None:
    purchases, others = await cancel_a_waiter()
    assert purchases == 1
    assert all(isinstance(outcome, CacheOutcome) for outcome in others)


async def test_without_the_shield_a_cancelled_waiter_takes_the_others_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(single_flight.asyncio, "shield", lambda future: future)
    _, others = await cancel_a_waiter()
    assert sum(isinstance(outcome, asyncio.CancelledError) for outcome in others) == 3


async def test_an_answer_that_is_nobody_elses_is_neither_kept_nor_handed_on() -> None:
    cut = Shop(replace(ANSWER, finish_reason="length", is_cacheable=False))
    cache = ExactCache()
    outcomes = await crowd(cache, cut, callers=10)
    assert cut.purchases == 10
    assert not any(isinstance(outcome, CacheOutcome) and outcome.is_hit for outcome in outcomes)
    assert cache.stats().entries == 0


async def test_nothing_is_left_of_a_purchase_that_is_over() -> None:
    cache = ExactCache()
    await crowd(cache, Shop(failures=2), callers=10)
    assert cache._purchases._under_way == {}


async def test_savings_can_be_asked_for() -> None:
    cache = ExactCache()
    priced, unpriced = Shop(), Shop(replace(ANSWER, cost_nano=None))
    for _ in range(4):
        await cache.answer(asking("priced"), priced.buy, 0.0)
    for _ in range(3):
        await cache.answer(asking("unpriced"), unpriced.buy, 0.0)
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.entries) == (5, 2, 2)
    assert (stats.saved_nano, stats.unknown_savings) == (3 * 2_400, 2)


def test_threads_with_their_own_event_loops_share_one_memory() -> None:
    cache = ExactCache(max_entries=40)
    purchases: list[int] = []

    async def calls() -> None:
        shop = Shop()
        for number in range(300):
            await cache.answer(asking(str(number % 60)), shop.buy, 0.0)
        purchases.append(shop.purchases)

    threads = [threading.Thread(target=asyncio.run, args=(calls(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = cache.stats()
    assert stats.hits + stats.misses == 1_200
    assert stats.misses == sum(purchases)
    assert stats.entries == 40
    entry_bytes = {kept.size_bytes for kept in cache._memory._kept.values()}
    assert stats.bytes == 40 * entry_bytes.pop()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ttl_seconds": 0}, "above 0"),
        ({"ttl_seconds": float("nan")}, "above 0"),
        ({"max_entries": 0}, "at least 1 entry"),
        ({"max_bytes": 0}, "at least 1 entry"),
    ],
)
def test_a_bound_that_cannot_be_meant_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ExactCache(**arguments)  # type: ignore[arg-type]
