"""Virtual time: no real waiting, true overlap, the same order every time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from llmscope.clock import Clock, SystemClock, VirtualClock

START = datetime(2026, 11, 21, tzinfo=UTC)


async def test_hours_pass_in_no_time() -> None:
    clock = VirtualClock(START)
    began = time.monotonic()
    await clock.sleep(6 * 3600)
    assert clock.now() == START + timedelta(hours=6)
    assert clock.monotonic() == 6 * 3600
    assert time.monotonic() - began < 5


async def test_sleepers_overlap_and_wake_in_order() -> None:
    clock, woken = VirtualClock(START), []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    await asyncio.gather(sleeper("slow", 3), sleeper("fast", 1), sleeper("middle", 2), sleeper("too", 2))
    assert woken == [("fast", 1), ("middle", 2), ("too", 2), ("slow", 3)]


async def test_time_stands_still_while_somebody_can_still_run() -> None:
    clock = VirtualClock(START)

    async def chain() -> float:
        for _ in range(5):
            await asyncio.sleep(0)
        await clock.sleep(1)
        return clock.monotonic()

    early, late = await asyncio.gather(chain(), clock.sleep(10))
    assert (early, late) == (1, None)


async def test_a_cancelled_sleeper_does_not_hold_time_back() -> None:
    clock = VirtualClock(START)
    task = asyncio.create_task(clock.sleep(5))
    await asyncio.sleep(0)
    task.cancel()
    await clock.sleep(10)
    assert clock.monotonic() == 10


async def test_advancing_wakes_who_is_due() -> None:
    clock = VirtualClock(START.replace(tzinfo=None))
    waiting = asyncio.create_task(clock.sleep(5))
    await asyncio.sleep(0)
    clock.advance(6)
    await waiting
    assert clock.now() == START + timedelta(seconds=6)
    clock.advance(-3)
    assert clock.monotonic() == 6


@pytest.mark.parametrize("clock", [SystemClock(), VirtualClock(START)])
async def test_every_clock_keeps_the_protocol(clock: Clock) -> None:
    assert isinstance(clock, Clock)
    before, now = clock.monotonic(), clock.now()
    assert now.utcoffset() == timedelta(0)
    await clock.sleep(0.001)
    assert clock.monotonic() > before
    assert clock.now() >= now
