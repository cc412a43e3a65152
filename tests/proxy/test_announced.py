from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest

from eventually import eventually
from portway_proxy.announced import HeaderWait
from portway_proxy.clock import NEVER, Clock
from portway_proxy.errors import BadProxyHeader, ClientGone, ProxyError, RequestTimeout
from portway_proxy.proxy_protocol import LONGEST, Address, ProxyHeader, header_v1, header_v2

SOURCE, DESTINATION = Address("2001:db8::7", 4711), Address("2001:db8::1", 443)
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the two ends of a TCP connection: the peer's, and ours, which does not block."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ours, _ = listening.accept()
        ours.setblocking(False)
        with ours:
            yield peer, ours


class Waiting:
    """A wait on the running loop, whose clock does not tick, and what came of it."""

    def __init__(self, ours: socket.socket, patience: float = 5.0) -> None:
        loop = asyncio.get_running_loop()
        self.clock = Clock(loop)
        self.outcomes: list[ProxyHeader | ProxyError] = []
        self.wait = HeaderWait(loop, self.clock, ours, patience, self.outcomes.append)
        self.wait.start()

    async def outcome(self) -> ProxyHeader | ProxyError:
        await eventually(lambda: self.outcomes, what="the wait ends")
        assert len(self.outcomes) == 1
        assert self.wait.deadline == NEVER
        assert self.wait not in self.clock._watched
        return self.outcomes[0]


@pytest.mark.parametrize("header", [header_v1(SOURCE, DESTINATION), header_v2(SOURCE, DESTINATION)])
async def test_a_header_in_one_piece_leaves_what_follows_in_the_socket(
    ends: tuple[socket.socket, socket.socket], header: bytes
) -> None:
    peer, ours = ends
    peer.sendall(header + b"GET / HTTP/1.1\r\n")
    assert await Waiting(ours).outcome() == ProxyHeader(len(header), SOURCE, DESTINATION)
    assert ours.recv(100) == b"GET / HTTP/1.1\r\n"


@pytest.mark.parametrize("header", [header_v1(SOURCE, DESTINATION), header_v2(SOURCE, DESTINATION)])
async def test_a_header_split_anywhere_is_the_same(ends: tuple[socket.socket, socket.socket], header: bytes) -> None:
    for split in range(1, len(header)):
        peer, ours = ends
        waiting = Waiting(ours)
        peer.sendall(header[:split])
        await eventually(lambda waiting=waiting, split=split: len(waiting.wait._held) == split, what="it is read")  # type: ignore[misc] # mypy takes defaults of lambdas for arguments
        assert waiting.outcomes == []
        peer.sendall(header[split:] + b"rest")
        assert await waiting.outcome() == ProxyHeader(len(header), SOURCE, DESTINATION)
        assert ours.recv(100) == b"rest"


async def test_a_header_byte_by_byte_is_the_same(ends: tuple[socket.socket, socket.socket]) -> None:
    peer, ours = ends
    waiting = Waiting(ours)
    header = header_v2(SOURCE, DESTINATION)
    for place in range(len(header)):
        assert waiting.outcomes == []
        peer.sendall(header[place : place + 1])
        await eventually(lambda place=place: len(waiting.wait._held) == place + 1, what="it is read")  # type: ignore[misc] # mypy takes defaults of lambdas for arguments
    peer.sendall(b"rest")
    assert await waiting.outcome() == ProxyHeader(len(header), SOURCE, DESTINATION)
    await eventually(lambda: ours.recv(100, socket.MSG_PEEK) == b"rest", what="the rest comes")


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\0", header_v2(SOURCE, DESTINATION)[:12] + b"\x31"]
)
async def test_what_is_no_header_is_refused_at_once_and_stays_in_the_socket(
    ends: tuple[socket.socket, socket.socket], sent: bytes
) -> None:
    peer, ours = ends
    peer.sendall(sent)
    assert isinstance(await Waiting(ours).outcome(), BadProxyHeader)
    assert ours.recv(100) == sent


async def test_a_header_that_goes_on_and_on_is_refused(ends: tuple[socket.socket, socket.socket]) -> None:
    peer, ours = ends
    peer.sendall(b"PROXY UNKNOWN " + b"x" * LONGEST)
    assert isinstance(await Waiting(ours).outcome(), BadProxyHeader)


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 ", header_v2(SOURCE, DESTINATION)[:-1]])
async def test_a_peer_that_hangs_up_is_gone(ends: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    peer, ours = ends
    peer.sendall(sent)
    peer.shutdown(socket.SHUT_WR)
    assert isinstance(await Waiting(ours).outcome(), ClientGone)


async def test_a_peer_that_resets_the_connection_is_gone(ends: tuple[socket.socket, socket.socket]) -> None:
    peer, ours = ends
    waiting = Waiting(ours)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.close()
    assert isinstance(await waiting.outcome(), ClientGone)


async def test_a_header_that_does_not_come_in_time_is_given_up(ends: tuple[socket.socket, socket.socket]) -> None:
    peer, ours = ends
    waiting = Waiting(ours, patience=-1.0)
    peer.sendall(b"PROXY ")
    await eventually(lambda: waiting.wait._held, what="it is read")
    waiting.clock._tick()
    waiting.clock.stop()
    assert isinstance(await waiting.outcome(), RequestTimeout)


async def test_a_wait_that_is_cancelled_tells_nobody(ends: tuple[socket.socket, socket.socket]) -> None:
    peer, ours = ends
    waiting = Waiting(ours)
    waiting.wait.cancel()
    waiting.wait.cancel()
    peer.sendall(header_v1(SOURCE, DESTINATION))
    await asyncio.sleep(0)
    assert waiting.outcomes == []
    assert waiting.wait not in waiting.clock._watched
