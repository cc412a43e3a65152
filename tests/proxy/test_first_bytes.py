from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from eventually import eventually
from portway_proxy.errors import ClientGone, ProxyError, RequestTimeout
from portway_proxy.l4.first_bytes import FirstBytes


def line(data: bytes) -> str | None:
    head, end, _ = data.partition(b"\n")
    return head.decode() if end else None


class Look:
    """A look for a first line, and the two ends of its connection."""

    def __init__(self, theirs: socket.socket, ours: socket.socket, patience: float) -> None:
        self.theirs = theirs
        self.ours = ours
        self.outcomes: list[str | ProxyError] = []
        self.judged = 0
        self.first = FirstBytes(asyncio.get_running_loop(), ours, patience, self._judge, self.outcomes.append)

    def _judge(self, data: bytes) -> str | None:
        self.judged += 1
        return line(data)

    def has_seen(self, size: int) -> bool:
        return self.first.seen == size

    async def outcome(self) -> str | ProxyError:
        await eventually(lambda: self.outcomes, what="the look is over")
        [outcome] = self.outcomes
        return outcome


@asynccontextmanager
async def looking(patience: float = 20.0) -> AsyncIterator[Look]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as theirs:
        ours, _ = server.accept()
        with ours:
            ours.setblocking(False)
            theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield Look(theirs, ours, patience)


async def test_what_came_already_is_judged_at_once_and_stays_in_the_socket() -> None:
    async with looking() as look:
        look.theirs.sendall(b"hello\nworld")
        look.first.start()
        assert await look.outcome() == "hello"
        assert look.ours.recv(100) == b"hello\nworld"


@pytest.mark.parametrize("size", range(1, 6))
async def test_what_comes_in_parts_is_judged_when_more_came_and_not_in_between(size: int) -> None:
    async with looking() as look:
        look.first.start()
        for end in range(size, 6, size):
            look.theirs.sendall(b"hello\n"[end - size : end])
            await eventually(partial(look.has_seen, end), what="it is seen")
            before = look.judged
            for _ in range(50):
                await asyncio.sleep(0)
            assert look.judged == before, "it is asked about the same bytes again and again"
        look.theirs.sendall(b"hello\n"[look.first.seen :])
        assert await look.outcome() == "hello"
        assert look.ours.recv(100) == b"hello\n"
        look.theirs.sendall(b"x")
        assert await asyncio.get_running_loop().sock_recv(look.ours, 10) == b"x", "one byte wakes its reader again"


async def test_a_client_that_ends_its_half_too_early_is_gone_and_what_it_sent_is_left() -> None:
    async with looking() as look:
        look.first.start()
        look.theirs.sendall(b"hel")
        look.theirs.shutdown(socket.SHUT_WR)
        assert isinstance(await look.outcome(), ClientGone)
        assert look.ours.recv(100) == b"hel"


async def test_a_client_that_resets_is_gone() -> None:
    async with looking() as look:
        look.first.start()
        look.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        look.theirs.close()
        assert isinstance(await look.outcome(), ClientGone)


async def test_a_silent_client_is_waited_for_as_long_as_was_said() -> None:
    async with looking(0.05) as look:
        look.first.start()
        assert isinstance(await look.outcome(), RequestTimeout)
        assert look.first.seen == 0


async def test_nothing_is_told_after_a_cancel_and_the_reader_is_gone() -> None:
    async with looking(0.01) as look:
        look.first.start()
        look.first.cancel()
        look.first.cancel()
        look.theirs.sendall(b"hello\n")
        assert await asyncio.get_running_loop().sock_recv(look.ours, 100) == b"hello\n"
        assert look.outcomes == []
