from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import AsyncIterator
from typing import Final

import pytest

from eventually import eventually
from portway_proxy.l4.bulk import _PORTION, _WHILE, Bulk
from portway_proxy.l4.pump import Pump
from portway_proxy.l4.relay import DONE, Relay
from portway_proxy.l4.splicer import Splicer
from tcp import PATIENCE, End, pair

MEBIBYTE: Final = 1 << 20


class Looked:
    """A pump that `bulk` looks at when the test says so, and never by itself."""

    def __init__(self, splicer: Splicer) -> None:
        self.left, self.source = pair()
        self.right, sink = pair()
        self.bulk = Bulk()
        self.pump = Pump(splicer.pipes, self.bulk, self.source, sink)

    @property
    def portion(self) -> int:
        """How many bytes have to be there before the source counts as readable."""
        return self.source.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

    @property
    def readable(self) -> bool:
        """Whether the kernel reports bytes."""
        poll = select.poll()
        poll.register(self.source, select.POLLIN)
        return bool(poll.poll(0))

    async def move(self, size: int) -> None:
        """Have so many bytes pass."""
        sent = asyncio.get_running_loop().create_task(self.left.send(bytes(size)))
        before = self.pump.moved
        async with asyncio.timeout(PATIENCE):
            while self.pump.moved < before + size:
                self.pump.run()
                await asyncio.sleep(0)
                self.right.sock.settimeout(0)
                try:
                    self.right.sock.recv(MEBIBYTE)
                except BlockingIOError:
                    continue
        await sent

    async def flow(self) -> None:
        """Have so much pass in a while that the source counts as fast, and is asked for portions by now."""
        await self.move(8 * MEBIBYTE)
        for _ in range(_WHILE):
            self.bulk.look()
        await self.move(MEBIBYTE)


@pytest.fixture
async def looked(splicer: Splicer) -> AsyncIterator[Looked]:
    looked = Looked(splicer)
    yield looked
    looked.pump.close()
    looked.bulk.close()
    for sock in (looked.left.sock, looked.source, looked.pump.sink, looked.right.sock):
        sock.close()


async def test_a_fast_source_wakes_for_a_portion_and_no_less(looked: Looked) -> None:
    await looked.flow()
    assert looked.portion == _PORTION
    await looked.left.send(b"less")
    await looked.left.delivered()
    assert not looked.readable
    await looked.left.send(bytes(2 * _PORTION))
    await eventually(lambda: looked.readable, PATIENCE)


async def test_what_is_less_than_a_portion_is_reported_once_nothing_moved_between_two_looks(looked: Looked) -> None:
    await looked.flow()
    await looked.left.send(b"the last bytes")
    await looked.left.delivered()
    looked.bulk.look()
    assert not looked.readable
    looked.bulk.look()
    assert looked.portion == 1
    assert looked.readable


async def test_the_next_burst_of_a_fast_source_comes_in_portions_at_once(looked: Looked) -> None:
    await looked.flow()
    looked.bulk.look()
    looked.bulk.look()
    assert looked.portion == 1
    await looked.move(MEBIBYTE)
    assert looked.portion == _PORTION


async def test_a_source_that_has_sent_little_in_a_while_is_looked_at_no_more(looked: Looked) -> None:
    await looked.flow()
    for _ in range(_WHILE):
        looked.bulk.look()
    assert looked.portion == 1
    assert not looked.bulk._sources


async def test_the_end_of_a_fast_source_is_reported_at_once(looked: Looked) -> None:
    await looked.flow()
    looked.left.finish()
    await eventually(lambda: looked.readable, PATIENCE)
    assert looked.portion == _PORTION


async def test_a_source_that_sends_little_is_never_looked_at(looked: Looked) -> None:
    for _ in range(100):
        await looked.move(1000)
    assert not looked.bulk._sources


async def test_a_pump_that_ended_is_looked_at_no_more(looked: Looked) -> None:
    await looked.flow()
    looked.pump.close()
    assert not looked.bulk._sources


async def test_every_byte_behind_a_flood_arrives_while_its_source_stays_open(splicer: Splicer) -> None:
    client, inner_client = pair()
    upstream, inner_upstream = pair()
    ended: list[Relay] = []
    Relay(splicer, inner_client, inner_upstream, idle=3600.0, on_done=ended.append).start()
    for rest in (1, 1000, 65_536, _PORTION - 1, _PORTION + 1):
        size = 16 * MEBIBYTE + rest
        _, received = await asyncio.gather(client.send(bytes(size)), upstream.exactly(size))
        assert len(received) == size
    await eventually(lambda: not splicer.bulk._sources, PATIENCE)
    await _leave(client, upstream)
    await eventually(lambda: ended, PATIENCE)
    assert ended[0].reason == DONE


async def _leave(*ends: End) -> None:
    for end in ends:
        end.finish()
    for end in ends:
        assert await end.rest() == b""
        end.close()
