"""TCP as tests see it: connected pairs of sockets, and ends that send, read, finish and reset when told."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from eventually import eventually

__all__ = ["PATIENCE", "End", "connect", "descriptors", "no_descriptor_left", "pair"]

PATIENCE: Final = 20.0
"""Seconds until a test gives up; nothing is expected to take long."""

_RESETTING: Final = struct.pack("ii", 1, 0)


class End:
    """A peer's end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._loop.sock_sendall(self.sock, data)

    async def receive(self, most: int = 65536) -> bytes:
        """Return what has come, at most that much; nothing at the end of it all."""
        async with asyncio.timeout(PATIENCE):
            return await self._loop.sock_recv(self.sock, most)

    async def exactly(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        parts = []
        while size:
            parts.append(part := await self.receive(min(size, 1 << 20)))
            assert part, f"the connection ended {size} bytes early"
            size -= len(part)
        return b"".join(parts)

    async def rest(self) -> bytes:
        """Return all that comes until the other side ends."""
        parts = []
        while part := await self.receive(1 << 20):
            parts.append(part)
        return b"".join(parts)

    async def fill(self) -> int:
        """Send zeros until the other side takes no more, and return how many went."""
        size = 0
        spare = 20
        while spare:
            try:
                size += self.sock.send(bytes(65536))
                spare = 20
            except BlockingIOError:
                spare -= 1
                await asyncio.sleep(0.005)
        return size

    async def delivered(self) -> None:
        """Return when the kernel of the other side has all that was sent."""
        await eventually(self._delivered, PATIENCE)

    def _delivered(self) -> bool:
        return not any(fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))

    def finish(self) -> None:
        """Send nothing any more."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection off, with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETTING)
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


def pair() -> tuple[End, socket.socket]:
    """Return both ends of a new connection: a peer's, and the one that a relay would get."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        outer = socket.create_connection(listening.getsockname())
        inner, _ = listening.accept()
    inner.settimeout(0)
    for sock in (outer, inner):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return End(outer), inner


async def connect(port: int) -> End:
    """Return a client's end of a new connection to a port of this host; raises OSError when it is refused."""
    sock = socket.socket()
    sock.settimeout(0)
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return End(sock)


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Let this process open nothing more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open("/dev/null", os.O_RDONLY)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
