from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from eventually import eventually
from portway_proxy.l7.sockets import acknowledged, reset_when_closed


async def pair() -> tuple[asyncio.Transport, socket.socket]:
    """Return a transport and the other end of its connection."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
        other, _ = await loop.sock_accept(listener)
    other.setblocking(False)
    return transport, other


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_what_the_other_side_acknowledged_is_told(loop: type[asyncio.AbstractEventLoop]) -> None:
    async def run() -> None:
        transport, other = await pair()
        before = acknowledged(transport)
        transport.write(b"hello")
        assert await asyncio.get_running_loop().sock_recv(other, 10) == b"hello"
        await eventually(lambda: acknowledged(transport) == before + 5)
        transport.abort()
        other.close()
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_connection_that_is_to_be_reset_ends_by_a_reset(loop: type[asyncio.AbstractEventLoop]) -> None:
    async def run() -> None:
        transport, other = await pair()
        reset_when_closed(transport)
        transport.abort()
        with pytest.raises(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(other, 10)
        other.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


def test_a_closed_connection_acknowledges_nothing() -> None:
    async def run() -> None:
        transport, other = await pair()
        transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)
        assert acknowledged(transport) == 0
        reset_when_closed(transport)
        other.close()

    asyncio.run(run())
