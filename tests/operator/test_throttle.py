"""`throttle.py`: turns over time."""

from __future__ import annotations

import asyncio

import pytest

from portway_operator.throttle import Throttle

pytestmark = pytest.mark.looptime(start=0)


async def times(throttle: Throttle, turns: int) -> list[float]:
    """Return when each of so many turns passed, asked for all at once."""
    loop = asyncio.get_running_loop()
    passed: list[float] = []

    async def one() -> None:
        await throttle.turn()
        passed.append(round(loop.time(), 3))

    await asyncio.gather(*(one() for _ in range(turns)))
    return passed


async def test_turns_are_as_far_apart_as_the_rate_says() -> None:
    assert await times(Throttle(10), 4) == [0.0, 0.1, 0.2, 0.3]


async def test_after_a_pause_a_burst_passes_at_once() -> None:
    throttle = Throttle(10, burst=3)
    assert await times(throttle, 5) == [0.0, 0.0, 0.0, 0.1, 0.2]
    await asyncio.sleep(10)
    assert await times(throttle, 4) == [10.2, 10.2, 10.2, 10.3]


async def test_a_long_pause_saves_nothing_up_beyond_the_burst() -> None:
    throttle = Throttle(10)
    await asyncio.sleep(100)
    assert await times(throttle, 2) == [100.0, 100.1]
