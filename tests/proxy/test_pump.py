from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from typing import Final

import pytest

from portway_proxy.l4.bulk import Bulk
from portway_proxy.l4.pipes import Pipes
from portway_proxy.l4.pump import Need, Pump
from portway_proxy.l4.splicer import Splicer
from tcp import PATIENCE, no_descriptor_left, pair

MEBIBYTE: Final = 1 << 20


class Line:
    """A pump between two peers."""

    def __init__(self, pipes: Pipes) -> None:
        self.left, self.source = pair()
        self.right, self.sink = pair()
        self.bulk = Bulk()
        self.pump = Pump(pipes, self.bulk, self.source, self.sink)

    def close(self) -> None:
        self.pump.close()
        self.bulk.close()
        for sock in (self.left.sock, self.source, self.sink, self.right.sock):
            sock.close()

    async def carry(self, size: int) -> bytes:
        """Return what arrives on the right until it is that much, with the pump run again and again."""
        received = bytearray()
        async with asyncio.timeout(PATIENCE):
            while len(received) < size:
                self.pump.run()
                with contextlib.suppress(BlockingIOError):
                    received += self.right.sock.recv(7000)
                await asyncio.sleep(0)
        return bytes(received)

    async def stall(self) -> int:
        """Send until both connections are full, and return how many bytes that took."""
        sent = 0
        while self.pump.need is not Need.SINK:
            sent += await self.left.fill()
            self.pump.run()
        return sent


@pytest.fixture
async def line(splicer: Splicer) -> AsyncIterator[Line]:
    line = Line(splicer.pipes)
    yield line
    line.close()


async def test_a_pump_with_nothing_to_move_waits_for_the_source_and_gives_its_pipe_back(
    splicer: Splicer, line: Line
) -> None:
    assert line.pump.run() is Need.SOURCE
    pipe = splicer.pipes.take()
    assert pipe is not None
    assert splicer.pipes.open == 1
    splicer.pipes.give(pipe)


async def test_bytes_and_their_count_pass(line: Line) -> None:
    await line.left.send(b"hello")
    assert line.pump.run() is Need.SOURCE
    assert await line.right.exactly(5) == b"hello"
    assert line.pump.moved == 5


async def test_the_end_comes_after_the_bytes(line: Line) -> None:
    await line.left.send(b"bye")
    line.left.finish()
    await line.left.delivered()
    assert line.pump.run() is Need.SOURCE
    assert line.pump.run() is Need.NOTHING
    assert await line.right.exactly(3) == b"bye"


async def test_a_full_sink_is_waited_for_with_the_pipe_held(splicer: Splicer, line: Line) -> None:
    await line.stall()
    assert line.pump.run() is Need.SINK
    other = splicer.pipes.take()
    assert other is not None
    assert splicer.pipes.open == 2
    splicer.pipes.give(other)


async def test_a_pipe_with_bytes_left_never_serves_another(splicer: Splicer, line: Line) -> None:
    await line.stall()
    line.pump.close()
    assert splicer.pipes.open == 0


async def test_what_was_stalled_arrives_whole(line: Line) -> None:
    line.sink.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    data = random.Random(1).randbytes(300_000)
    await line.left.send(data)
    assert await line.carry(len(data)) == data


async def test_one_turn_is_bounded() -> None:
    line = Line(pipes := Pipes(most_large=0))
    line.source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MEBIBYTE)
    line.sink.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * MEBIBYTE)
    await line.left.fill()
    line.pump.run()
    # Four fills of a pipe whose 16 slots hold a network buffer of 32 KiB each.
    first = line.pump.moved
    assert 0 < first <= 2 * MEBIBYTE
    assert line.pump.need is Need.SOURCE
    line.pump.run()
    assert line.pump.moved > first
    line.close()
    pipes.close()


async def test_a_head_goes_first_however_large(line: Line) -> None:
    line.sink.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    head = random.Random(2).randbytes(200_000)
    line.pump.put(head)
    assert line.pump.need is Need.SINK
    await line.left.send(b"tail")
    assert await line.carry(len(head) + 4) == head + b"tail"
    assert line.pump.moved == len(head) + 4


async def test_without_a_descriptor_for_a_pipe_bytes_pass_all_the_same(splicer: Splicer, line: Line) -> None:
    data = random.Random(3).randbytes(200_000)
    await line.left.send(data)
    with no_descriptor_left():
        assert await line.carry(len(data)) == data
    assert splicer.pipes.open == 0
    line.left.finish()
    await line.left.delivered()
    with no_descriptor_left():
        assert line.pump.run() is Need.NOTHING


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "aside"])
async def test_an_urgent_byte_does_not_stop_what_follows(line: Line, *, inline: bool) -> None:
    line.source.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, inline)
    await line.left.send(b"before")
    line.left.sock.send(b"!", socket.MSG_OOB)
    await line.left.send(b"after")
    await line.left.delivered()
    expected = b"before!after" if inline else b"beforeafter"
    assert await line.carry(len(expected)) == expected


async def test_a_reset_source_is_told_from_a_reset_sink(line: Line) -> None:
    line.left.reset()
    with pytest.raises(ConnectionResetError):
        line.pump.run()
    assert not line.pump.sink_failed


async def test_a_reset_sink_is_told_from_a_reset_source(line: Line) -> None:
    await line.left.send(b"x")
    await line.left.delivered()
    line.right.reset()
    with pytest.raises(ConnectionError):
        line.pump.run()
    assert line.pump.sink_failed
