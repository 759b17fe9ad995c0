"""Answers shared through Redis: against a server on loopback, a silent one, and none."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from fakeredis import TcpFakeServer

from llmscope.errors import ConfigurationError
from llmscope.gateway.cache.exact import ExactCache
from llmscope.gateway.cache.keys import answer_key
from llmscope.gateway.cache.redis_tier import RedisTier
from llmscope.gateway.stages import CacheOutcome
from tests.llmscope.gateway.cache.purchases import ANSWER, QUESTION, Shop, asking

GENEROUS_SECONDS = 10.0


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture(params=["fakeredis", "redis-server"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A Redis on loopback: one written in Python, and the real one where the machine has it."""
    if request.param == "fakeredis":
        server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()
        server.server_close()
        thread.join()
        return
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server on PATH")
    port = free_port()
    process = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(port=port) as client:
            for _ in range(200):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def tier_at(url: str, **settings: float) -> RedisTier:
    return RedisTier(url, timeout_seconds=settings.pop("timeout_seconds", GENEROUS_SECONDS), **settings)  # type: ignore[arg-type]


async def test_what_one_process_bought_another_finds(url: str) -> None:
    first, second = ExactCache(shared=tier_at(url)), ExactCache(shared=tier_at(url))
    shop = Shop()
    try:
        bought = await first.answer(QUESTION, shop.buy, 0.0)
        found = await second.answer(QUESTION, shop.buy, 1_000_000.0)
        again = await second.answer(QUESTION, shop.buy, 1_000_000.0)
    finally:
        await first.aclose()
        await second.aclose()
    assert (bought.is_hit, found.is_hit, again.is_hit) == (False, True, True)
    assert found.answer == ANSWER
    assert (found.strategy, found.confidence) == ("exact", 1.0)
    assert shop.purchases == 1
    stats = second.stats()
    assert (stats.hits, stats.shared_hits, stats.misses) == (2, 1, 0), "the second time from its own memory"


async def test_the_server_is_told_the_hash_and_the_answer_and_never_the_prompt(url: str) -> None:
    cache = ExactCache(shared=tier_at(url), ttl_seconds=60)
    try:
        await cache.answer(asking("a secret question"), Shop().buy, 0.0)
    finally:
        await cache.aclose()
    with redis.Redis.from_url(url) as client:
        (key,) = client.keys()
        assert key.decode() == f"llmscope:answer:{answer_key(asking('a secret question'))}"
        value = client.get(key)
        assert b"Paris." in value
        assert b"secret" not in key + value
        assert 55_000 < client.pttl(key) <= 60_000


async def test_an_answer_grows_no_older_by_moving_up_into_memory(url: str) -> None:
    """Found with ten seconds to live, it is good for ten more in memory, not for another hour."""
    tier = tier_at(url)
    cache = ExactCache(shared=tier, ttl_seconds=3_600)
    try:
        await tier.put(answer_key(QUESTION), ANSWER, 10, 0.0)
        assert (await cache.answer(QUESTION, Shop().buy, 500.0)).is_hit
        with redis.Redis.from_url(url) as client:
            client.flushall()
        assert (await cache.answer(QUESTION, Shop().buy, 509.0)).is_hit
        assert not (await cache.answer(QUESTION, Shop().buy, 510.0)).is_hit
    finally:
        await cache.aclose()


async def test_an_answer_of_the_server_that_is_too_old_is_bought_again(url: str) -> None:
    cache = ExactCache(shared=tier_at(url))
    tier = tier_at(url)
    try:
        await tier.put(answer_key(QUESTION), ANSWER, 0.001, 0.0)
        with redis.Redis.from_url(url) as client:
            while client.exists(f"llmscope:answer:{answer_key(QUESTION)}"):
                pass
        assert not (await cache.answer(QUESTION, Shop().buy, 0.0)).is_hit
    finally:
        await cache.aclose()
        await tier.aclose()


@pytest.mark.parametrize(
    "value", [b"", b"\xff", b"{}", b'"Paris."', b'{"text": 1}', b"null", b"\x80\x04pickle"]
)
async def test_a_value_that_is_no_answer_is_bought_again_and_replaced(
    url: str, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    tier = tier_at(url)
    cache = ExactCache(shared=tier)
    with redis.Redis.from_url(url) as client:
        client.set(f"llmscope:answer:{answer_key(QUESTION)}", value, ex=100)
    try:
        assert not (await cache.answer(QUESTION, Shop().buy, 0.0)).is_hit
        assert cache.stats().failures == 1
        found = await tier.get(answer_key(QUESTION), 0.0)
        assert found is not None
        assert found[0] == ANSWER
    finally:
        await cache.aclose()
    assert "no answer" in caplog.text


async def test_text_that_is_no_utf_8_stays_in_memory(url: str) -> None:
    cache = ExactCache(shared=tier_at(url))
    try:
        await cache.answer(QUESTION, Shop(replace(ANSWER, text="half a pair: \ud800")).buy, 0.0)
        assert (await cache.answer(QUESTION, Shop().buy, 0.0)).answer.text == "half a pair: \ud800"
    finally:
        await cache.aclose()
    with redis.Redis.from_url(url) as client:
        assert client.keys() == []
    assert cache.stats().failures == 0


async def test_many_calls_at_once_share_few_connections(url: str) -> None:
    """The library's own pool raises at the 101st."""
    cache = ExactCache(shared=tier_at(url, max_connections=10))
    shop = Shop()
    try:
        await asyncio.gather(*(cache.answer(asking(str(n)), shop.buy, 0.0) for n in range(150)))
    finally:
        await cache.aclose()
    assert shop.purchases == 150
    assert cache.stats().failures == 0


async def test_each_event_loop_has_its_own_connections(url: str) -> None:
    tier = tier_at(url)

    async def round_trip(key: str) -> bool:
        await tier.put(key, ANSWER, 60, 0.0)
        found = await tier.get(key, 0.0)
        await tier.aclose()
        return found is not None

    assert await round_trip("here")
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(round_trip("there"))))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert results == [True]
    assert tier.failures == 0


async def test_without_a_server_the_cache_is_empty_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    cache = ExactCache(shared=RedisTier(f"redis://:hunter2@127.0.0.1:{free_port()}/0"))
    shop = Shop()
    with caplog.at_level(logging.WARNING):
        for number in range(50):
            outcome = await cache.answer(asking(f"secret {number}"), shop.buy, float(number))
            assert (outcome.is_hit, outcome.answer) == (False, ANSWER)
        assert (await cache.answer(asking("secret 7"), shop.buy, 50.0)).is_hit, "its own memory still works"
        await cache.aclose()
    assert shop.purchases == 50
    # Asked at second 0, and then after 1, 2, 4, 8, 16 more: 1, 3, 7, 15, 31.
    assert cache.stats().failures == 6
    assert [record.getMessage() for record in caplog.records] == [
        "the shared cache is away (ConnectionError): it counts as empty"
    ]
    assert "secret" not in caplog.text
    assert "hunter2" not in caplog.text


async def test_many_calls_that_find_it_away_at_once_do_not_lengthen_the_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tier = RedisTier(f"redis://127.0.0.1:{free_port()}/0")
    await asyncio.gather(*(tier.get(str(number), 0.0) for number in range(20)))
    assert tier.failures == 20
    assert tier._backoff_seconds == 1.0
    assert await tier.get("k", 0.999) is None
    assert tier.failures == 20, "left alone"
    await asyncio.gather(*(tier.get(str(number), 1.0) for number in range(20)))
    assert tier.failures == 21, "one call tries, the others leave it alone"
    assert tier._backoff_seconds == 2.0
    await tier.aclose()


async def test_a_server_that_comes_back_is_used_again() -> None:
    port = free_port()
    tier = RedisTier(f"redis://127.0.0.1:{port}/0", timeout_seconds=GENEROUS_SECONDS)
    assert await tier.get("key", 0.0) is None
    server = TcpFakeServer(("127.0.0.1", port), server_type="redis")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        await tier.put("key", ANSWER, 60, 0.5)
        await tier.put("key", ANSWER, 60, 1.0)
        assert await tier.get("key", 1.0) is not None
        assert (tier.failures, tier._backoff_seconds) == (1, 0.0)
    finally:
        await tier.aclose()
        server.shutdown()
        server.server_close()
        thread.join()


async def test_a_silent_server_costs_one_timeout_and_not_one_for_each_call() -> None:
    connections: list[asyncio.StreamWriter] = []

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.read()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cache = ExactCache(shared=RedisTier(f"redis://127.0.0.1:{port}/0", timeout_seconds=0.02))
    shop = Shop()
    outcomes: list[CacheOutcome] = [
        await cache.answer(asking(str(number)), shop.buy, 0.0) for number in range(100)
    ]
    await cache.aclose()
    for writer in connections:
        writer.close()
    server.close()
    await server.wait_closed()
    assert not any(outcome.is_hit for outcome in outcomes)
    assert (shop.purchases, cache.stats().failures, len(connections)) == (100, 1, 1)


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://127.0.0.1", "redis://:hunter2@host:port/0"])
def test_a_url_that_is_none_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match="rediss://") as caught:
        RedisTier(url)
    assert "hunter2" not in str(caught.value)


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"llm-governance\[redis\]"):
        RedisTier("redis://127.0.0.1")


def test_caches_load_neither_redis_nor_numpy() -> None:
    program = (
        "import sys, llmscope.gateway.cache.exact, llmscope.gateway.cache.semantic, "
        "llmscope.gateway.cache.redis_tier\n"
        "print([name for name in ('redis', 'numpy', 'openai', 'opentelemetry.sdk') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
