"""Doing once what several ask for at the same time.

What does not belong here: what is done, and where its result is kept (`exact`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")

# A caller waits for this many leaders in turn; then it goes by itself. A key that cannot be bought (its
# answers are always cut short, its provider is down) thus costs nobody more than three waits.
_LEADERS_WAITED_FOR = 3


class SingleFlight(Generic[Result]):
    """Of the callers of one key that run at the same time on one event loop, one (the leader) works and the
    others wait for its result. Each event loop has its own leader.

    Nobody's failure or cancellation reaches anybody else: a leader that fails leaves the work to the next,
    a waiter that is cancelled leaves alone.
    """

    def __init__(self) -> None:
        # The result, or None if there is none to share.
        self._under_way: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Future[Result | None]] = {}
        self._lock = threading.Lock()

    async def run(
        self,
        key: str,
        work: Callable[[], Awaitable[Result]],
        is_shared: Callable[[Result], bool],
    ) -> tuple[Result, bool]:
        """The result of `work`, and whether this caller did it.

        Args:
            is_shared: whether the leader's result may be given to the others; if not, the next of them works.
        """
        loop = asyncio.get_running_loop()
        for _ in range(_LEADERS_WAITED_FOR):
            with self._lock:
                flight = self._under_way.get((loop, key))
                if flight is None:
                    own = self._under_way[loop, key] = loop.create_future()
            if flight is None:
                return await self._lead(loop, key, own, work, is_shared), True
            # A waiter's cancellation must not reach the future that the others wait for.
            result = await asyncio.shield(flight)
            if result is not None:
                return result, False
        return await work(), True

    async def _lead(
        self,
        loop: asyncio.AbstractEventLoop,
        key: str,
        own: asyncio.Future[Result | None],
        work: Callable[[], Awaitable[Result]],
        is_shared: Callable[[Result], bool],
    ) -> Result:
        shared: Result | None = None
        try:
            result = await work()
            if is_shared(result):
                shared = result
            return result
        finally:
            with self._lock:
                del self._under_way[loop, key]
            if not own.done():
                own.set_result(shared)
