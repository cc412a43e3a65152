"""What a stream is sent next: bounded, the newest, and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from portway_operator.subscription import PING, Subscription
from portway_proxy.stream import Position

pytestmark = pytest.mark.looptime


class Source:
    """What is published, as words."""

    def __init__(self, *opening: bytes) -> None:
        self.words = opening
        self.number = 0

    def opening(self, position: Position | None, *, wide: bool) -> Sequence[bytes] | None:  # noqa: ARG002 - the protocol's
        return self.words or None

    def snapshot(self) -> bytes:
        return b"snapshot %d" % self.number

    def ping(self) -> bytes:
        return b"ping"


def now() -> float:
    return asyncio.get_running_loop().time()


async def greeted(source: Source | None = None) -> Subscription:
    subscription = Subscription("proxy-0", None, source or Source(b"hello"))
    assert await subscription.next() == (b"hello",)
    return subscription


async def test_the_first_is_the_opening_whatever_was_pushed_before_it() -> None:
    subscription = Subscription("proxy-0", None, Source(b"hello", b"snapshot"))
    subscription.push(b"delta")
    subscription.resync()
    assert await subscription.next() == (b"hello", b"snapshot")
    assert (await subscription.next(), now()) == ((b"ping",), PING)


async def test_before_the_first_snapshot_there_are_pings_alone() -> None:
    source = Source()
    subscription = Subscription("proxy-0", None, source)
    assert await subscription.next() == (b"ping",)
    source.words = (b"hello",)
    subscription.resync()
    assert await subscription.next() == (b"hello",)


async def test_deltas_are_sent_in_order_and_at_once() -> None:
    subscription = await greeted()
    for line in (b"a", b"b"):
        assert not subscription.push(line)
    assert list(await subscription.next() or ()) == [b"a", b"b"]
    assert now() == 0


async def test_pings_come_every_ten_seconds() -> None:
    subscription = await greeted()
    for number in (1, 2, 3):
        assert await subscription.next() == (b"ping",)
        assert now() == pytest.approx(number * PING)


async def test_pings_come_between_deltas_too() -> None:
    subscription = await greeted()
    pings = 0
    while now() < 35:
        subscription.push(b"delta")
        pings += await subscription.next() == (b"ping",)
        await asyncio.sleep(0.5)
    assert pings == 3


async def test_a_snapshot_is_the_newest_when_its_turn_comes() -> None:
    source = Source(b"hello")
    subscription = await greeted(source)
    subscription.push(b"older")
    subscription.resync()
    subscription.push(b"held by the snapshot")
    source.number = 7
    assert await subscription.next() == (b"snapshot 7",)
    subscription.push(b"newer")
    assert list(await subscription.next() or ()) == [b"newer"]


@pytest.mark.parametrize(("count", "size"), [(257, 1), (5, 1 << 20)])
async def test_too_many_deltas_become_one_snapshot(count: int, size: int) -> None:
    source = Source(b"hello")
    subscription = await greeted(source)
    overflowed = [subscription.push(b"x" * size) for _ in range(count)]
    assert overflowed == [False] * (count - 1) + [True]
    # Nothing is kept for it from now on, however long it sleeps.
    assert not any(subscription.push(b"x" * size) for _ in range(1000))
    source.number = 9
    assert await subscription.next() == (b"snapshot 9",)
    assert await subscription.next() == (b"ping",)


async def test_after_a_refusal_the_next_attempt_waits_longer_each_time() -> None:
    subscription = await greeted()
    waits = []
    for _ in range(9):
        began = now()
        subscription.refused()
        while await subscription.next() == (b"ping",):
            pass
        waits.append(round(now() - began, 3))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    subscription.applied()
    began = now()
    subscription.refused()
    assert await subscription.next() == (b"snapshot 0",)
    assert now() - began == pytest.approx(1)


async def test_pings_go_on_while_a_refused_snapshot_waits() -> None:
    subscription = await greeted()
    for _ in range(6):
        subscription.refused()
    assert await subscription.next() == (b"ping",)
    assert now() == pytest.approx(PING)


async def test_deltas_do_not_cut_the_wait_after_a_refusal_short_but_a_new_snapshot_does() -> None:
    subscription = await greeted()
    subscription.refused()
    assert not subscription.push(b"delta")
    assert await subscription.next() == (b"snapshot 0",)
    assert now() == pytest.approx(1)
    subscription.refused()
    subscription.resync()
    assert await subscription.next() == (b"snapshot 0",)
    assert now() == pytest.approx(1)


async def test_a_closed_subscription_is_over_at_once() -> None:
    subscription = await greeted()
    waiting = asyncio.get_running_loop().create_task(subscription.next())
    await asyncio.sleep(1)
    subscription.close()
    assert await waiting is None
    assert now() == pytest.approx(1)
    assert await subscription.next() is None


async def test_a_wide_delta_is_sent_as_a_snapshot_to_a_proxy_that_takes_none() -> None:
    subscription = Subscription("old", None, Source(b"hello"), wide=False)
    assert await subscription.next() == (b"hello",)
    subscription.push(b"narrow")
    assert list(await subscription.next() or ()) == [b"narrow"]
    assert not subscription.push(b"wide", wide=True)
    subscription.push(b"held by the snapshot")
    assert await subscription.next() == (b"snapshot 0",)
    subscription = await greeted()
    subscription.push(b"wide", wide=True)
    assert list(await subscription.next() or ()) == [b"wide"]


async def test_a_wide_delta_cuts_the_wait_after_a_refusal_short() -> None:
    subscription = await greeted()
    subscription.refused()
    subscription.push(b"wide", wide=True)
    assert await subscription.next() == (b"snapshot 0",)
    assert now() == 0
