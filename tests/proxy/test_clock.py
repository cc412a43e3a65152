from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import pytest

from portway_proxy.clock import NEVER, Clock


class Item:
    """Notes when it expired, and then does as it is told."""

    def __init__(self, deadline: float, then: Callable[[], None] = lambda: None) -> None:
        self.deadline = deadline
        self.expired: list[float] = []
        self.then = then

    def expire(self) -> None:
        self.expired.append(asyncio.get_running_loop().time())
        self.deadline = NEVER
        self.then()


def ticking() -> Clock:
    clock = Clock(asyncio.get_running_loop())
    clock.start()
    return clock


@pytest.mark.looptime
@pytest.mark.parametrize("late", [0.0, 0.3, 0.999])
async def test_a_deadline_passes_within_two_seconds_and_never_early(late: float) -> None:
    clock = ticking()
    await asyncio.sleep(late)  # How old `now` is when the deadlines are set from it.
    start = asyncio.get_running_loop().time()
    items = [Item(clock.now + after) for after in (0.5, 1.0, 3.5, NEVER)]
    for item in items:
        clock.watch(item)
    await asyncio.sleep(10)
    clock.stop()
    for item, after in zip(items[:3], (0.5, 1.0, 3.5), strict=True):
        (expired,) = (time - start for time in item.expired)
        assert after <= expired <= after + 2
    assert items[3].expired == []


@pytest.mark.looptime
async def test_a_deadline_that_moves_does_not_pass() -> None:
    clock = ticking()
    item = Item(clock.now + 2)
    clock.watch(item)
    for _ in range(9):
        await asyncio.sleep(0.7)
        item.deadline = clock.now + 2
    assert item.expired == []
    await asyncio.sleep(5)
    assert len(item.expired) == 1
    clock.stop()


@pytest.mark.looptime
async def test_what_is_not_watched_does_not_expire() -> None:
    clock = ticking()
    item = Item(clock.now + 1)
    clock.watch(item)
    clock.unwatch(item)
    clock.unwatch(item)
    await asyncio.sleep(5)
    assert item.expired == []
    clock.stop()


@pytest.mark.looptime
async def test_a_deadline_that_stays_passes_at_every_tick() -> None:
    clock = ticking()
    item = Item(0)
    item.then = lambda: setattr(item, "deadline", 0)
    clock.watch(item)
    await asyncio.sleep(3.5)
    clock.stop()
    assert len(item.expired) == 3


@pytest.mark.looptime
async def test_a_clock_that_was_stopped_stands_still() -> None:
    clock = ticking()
    item = Item(clock.now + 2)
    clock.watch(item)
    clock.stop()
    clock.stop()
    now = clock.now
    await asyncio.sleep(5)
    assert (clock.now, item.expired) == (now, [])


@pytest.mark.looptime
async def test_the_time_is_the_loops_a_second_coarse() -> None:
    clock = ticking()
    start = clock.now
    await asyncio.sleep(2.9)
    assert clock.now - start == pytest.approx(2)
    assert abs(clock.wall - time.time()) < 3600
    clock.stop()


@pytest.mark.looptime
async def test_what_another_one_moves_or_ends_in_the_same_tick_does_not_expire() -> None:
    clock = ticking()
    pair = [Item(clock.now + 1), Item(clock.now + 1)]
    for item, other in (pair, pair[::-1]):
        item.then = lambda other=other: setattr(other, "deadline", NEVER)  # type: ignore[misc]
        clock.watch(item)
    await asyncio.sleep(3)
    assert sum(len(item.expired) for item in pair) == 1
    pair = [Item(clock.now + 1), Item(clock.now + 1)]
    for item, other in (pair, pair[::-1]):
        item.then = lambda other=other: clock.unwatch(other)  # type: ignore[misc]
        clock.watch(item)
    await asyncio.sleep(3)
    assert sum(len(item.expired) for item in pair) == 1
    clock.stop()


@pytest.mark.looptime
async def test_one_that_fails_costs_nobody_else_a_deadline(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    clock = ticking()
    items = [Item(clock.now + 1, fail if number % 2 else lambda: None) for number in range(20)]
    for item in items:
        clock.watch(item)
    with caplog.at_level(logging.ERROR):
        await asyncio.sleep(2.5)
    clock.stop()
    assert [len(item.expired) for item in items] == [1] * 20
    assert len(caplog.records) == 10
    assert all(record.exc_info for record in caplog.records)
