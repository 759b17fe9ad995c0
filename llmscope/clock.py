"""Time as a value that is handed in.

`Clock` is the protocol that every `clock=` argument takes. `SystemClock` is the machine's;
`VirtualClock` stands still until every coroutine that could run is waiting for it, then jumps to
the earliest waiter: hours of traffic replay in seconds, deterministically and with true overlap.
"""

from __future__ import annotations

import heapq
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import asyncio

# Turns of the event loop that other tasks get before virtual time moves. A task needs one turn to
# start, one for each future it awaits in between, and `asyncio.wait_for` on 3.11 adds two.
_TURNS_BEFORE_TIME_MOVES = 8


@runtime_checkable
class Clock(Protocol):
    """What the runtime needs to know of time."""

    def now(self) -> datetime:
        """The current instant, timezone-aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary origin, never stepping back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def now_us(self) -> int:
        """`now` in microseconds since 1970, at a fifth of the price."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # noqa: PLC0415  the event loop's library is loaded by who runs one

        await asyncio.sleep(seconds)


class VirtualClock:
    """A clock that only its sleepers (and `advance`) move.

    Args:
        start: the first instant; a naive one is taken as UTC.

    All sleepers of one instance must run on one event loop.
    """

    def __init__(self, start: datetime) -> None:
        self._start = start if start.tzinfo else start.replace(tzinfo=UTC)
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._sequence = 0
        self._pumping = False
        self._sequence_at_last_turn = 0

    def now(self) -> datetime:
        return (self._start + timedelta(seconds=self._elapsed)).astimezone(UTC)

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Move time forward and wake whoever was waiting for an instant that has passed."""
        self._elapsed += max(0.0, seconds)
        self._wake_due()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # noqa: PLC0415  the event loop's library is loaded by who runs one

        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._sequence += 1
        heapq.heappush(self._sleepers, (self._elapsed + max(0.0, seconds), self._sequence, waiter))
        if not self._pumping:
            self._pumping = True
            loop.call_soon(self._pump, loop, 0)
        await waiter

    def _pump(self, loop: asyncio.AbstractEventLoop, quiet_turns: int) -> None:
        if self._sequence != self._sequence_at_last_turn:
            self._sequence_at_last_turn = self._sequence
            quiet_turns = 0
        if quiet_turns < _TURNS_BEFORE_TIME_MOVES:
            loop.call_soon(self._pump, loop, quiet_turns + 1)
            return
        while self._sleepers and self._sleepers[0][2].cancelled():
            heapq.heappop(self._sleepers)
        if not self._sleepers:
            self._pumping = False
            return
        self._elapsed = max(self._elapsed, self._sleepers[0][0])
        self._wake_due()
        loop.call_soon(self._pump, loop, 0)

    def _wake_due(self) -> None:
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            _, _, waiter = heapq.heappop(self._sleepers)
            if not waiter.done():
                waiter.set_result(None)
