"""Answers that several processes share, kept in Redis (extra `redis`).

A value holds the text of an answer: that is what a cache is for. The prompt is in it nowhere, only in the
key's hash. Whoever may write to the server may put answers into callers' mouths: it belongs to those who
use it.

What does not belong here: what a key is (`keys`), who buys (`exact`).
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import TYPE_CHECKING

import msgspec

from llmscope.errors import ConfigurationError
from llmscope.gateway.cache.sparse_warning import WARNING_INTERVAL_SECONDS, SparseWarning
from llmscope.gateway.stages import CachedAnswer

if TYPE_CHECKING:
    from redis.asyncio import Redis

_log = logging.getLogger(__name__)

_FIRST_BACKOFF_SECONDS = 1.0
# Waits of a connection beyond `max_connections` for a free one, as a multiple of the socket's timeout.
_WAITS_FOR_A_CONNECTION = 4


class RedisTier:
    """Answers in one Redis, from all processes that use the same `key_prefix`.

    When the server cannot be reached, answers late or answers nonsense, the tier is empty: it says so in
    the process's log once per interval and leaves the server alone for 1 s, then 2, 4, … s, at most
    `longest_backoff_seconds`; one call at a time tries again. A server that is down thus costs one call in
    a while its timeout, and the others nothing.

    Args:
        url: `redis://…`, `rediss://…` or `unix://…`, with what it needs of a password. It is never logged.
        key_prefix: what keys begin with; behind it stands the hash.
        timeout_seconds: the longest wait for a connection, and for an answer.
        max_connections: at most so many at once from each event loop; further callers wait for one.

    Raises:
        ConfigurationError: the extra `redis` is not installed, or the URL is none.
    """

    def __init__(
        self,
        url: str,
        *,
        key_prefix: str = "llmscope:answer:",
        timeout_seconds: float = 0.1,
        max_connections: int = 50,
        longest_backoff_seconds: float = 30.0,
        warning_interval_seconds: float = WARNING_INTERVAL_SECONDS,
    ) -> None:
        try:
            from redis.asyncio.connection import parse_url  # noqa: PLC0415  the extra is loaded by who uses it
        except ImportError as exc:
            raise ConfigurationError(
                "a shared cache needs the extra `redis`: pip install 'llm-governance[redis]'"
            ) from exc
        try:
            parse_url(url)
        except ValueError as exc:
            # The message does not quote the URL: there may be a password in it.
            raise ConfigurationError(
                "the URL of a shared cache begins redis://, rediss:// or unix://"
            ) from exc
        self._url = url
        self._key_prefix = key_prefix
        self._timeout_seconds = timeout_seconds
        self._max_connections = max_connections
        self._longest_backoff_seconds = longest_backoff_seconds
        # A connection belongs to the event loop that opened it.
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = (
            weakref.WeakKeyDictionary()
        )
        self._warning = SparseWarning(_log, warning_interval_seconds)
        self._backoff_seconds = 0.0
        self._left_alone_until_seconds = float("-inf")
        self._failures = 0

    @property
    def failures(self) -> int:
        """How often the server was asked in vain."""
        return self._failures

    async def get(self, key: str, now_seconds: float) -> tuple[CachedAnswer, float] | None:
        """The answer under `key` and for how many more seconds it is good, or None."""
        if not self._may_ask(now_seconds):
            return None
        from redis.exceptions import RedisError  # noqa: PLC0415

        backoff_seconds = self._backoff_seconds
        try:
            async with self._client().pipeline(transaction=False) as pipeline:
                pipeline.get(self._key_prefix + key)
                pipeline.pttl(self._key_prefix + key)
                value, good_for_ms = await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(now_seconds, backoff_seconds, error)
            return None
        self._worked()
        # A key without an end (-1) was not written by us; one that ended in between (-2) is gone.
        if value is None or good_for_ms <= 0:
            return None
        try:
            return msgspec.json.decode(value, type=CachedAnswer), good_for_ms / 1000
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # Somebody else's value. The server is well: the answer is bought and takes its place.
            self._failures += 1
            self._warning.say(
                now_seconds, "the shared cache holds a value under one of its keys that is no answer"
            )
            return None

    async def put(self, key: str, answer: CachedAnswer, ttl_seconds: float, now_seconds: float) -> None:
        """Keep `answer` for `ttl_seconds` of the server's clock."""
        try:
            value = msgspec.json.encode(answer)
        except UnicodeEncodeError:
            # Half of a surrogate pair: no JSON text. It stays in this process's memory alone.
            return
        if not self._may_ask(now_seconds):
            return
        from redis.exceptions import RedisError  # noqa: PLC0415

        backoff_seconds = self._backoff_seconds
        try:
            await self._client().set(self._key_prefix + key, value, px=max(1, int(ttl_seconds * 1000)))
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(now_seconds, backoff_seconds, error)
            return
        self._worked()

    async def aclose(self) -> None:
        """Close this event loop's connections."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _may_ask(self, now_seconds: float) -> bool:
        if now_seconds < self._left_alone_until_seconds:
            return False
        if self._backoff_seconds:
            # This call tries; the others leave the server alone until it has.
            self._left_alone_until_seconds = now_seconds + self._backoff_seconds
        return True

    def _worked(self) -> None:
        self._backoff_seconds = 0.0
        self._left_alone_until_seconds = float("-inf")

    def _failed(self, now_seconds: float, backoff_seconds: float, error: Exception) -> None:
        self._failures += 1
        # Of many calls that found it away at once, the first lengthens the wait.
        if self._backoff_seconds == backoff_seconds:
            self._backoff_seconds = min(
                self._longest_backoff_seconds, backoff_seconds * 2 or _FIRST_BACKOFF_SECONDS
            )
            self._left_alone_until_seconds = now_seconds + self._backoff_seconds
        # Its kind only: a message may quote what was sent.
        self._warning.say(
            now_seconds, "the shared cache is away (%s): it counts as empty", type(error).__name__
        )

    def _client(self) -> Redis:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415
            from redis.asyncio.retry import Retry  # noqa: PLC0415
            from redis.backoff import NoBackoff  # noqa: PLC0415

            pool = BlockingConnectionPool.from_url(
                self._url,
                max_connections=self._max_connections,
                timeout=self._timeout_seconds * _WAITS_FOR_A_CONNECTION,
                socket_timeout=self._timeout_seconds,
                socket_connect_timeout=self._timeout_seconds,
                # The library would try again three times by itself.
                retry=Retry(NoBackoff(), 0),
            )
            client = self._clients[loop] = Redis.from_pool(pool)
        return client
