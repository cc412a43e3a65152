"""A TCP connection that can be cut: what lies between an operator and its API server."""

from __future__ import annotations

import asyncio
import contextlib
import socket

__all__ = ["Wire"]


class Wire:
    """Forwards connections from a port of its own (or a socket that listens) to another, until it is cut."""

    def __init__(self, port: int, host: str = "127.0.0.1", listening: socket.socket | None = None) -> None:
        self._target = host, port
        self._listening = listening
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def mend(self) -> None:
        """Forward, on the same port as before."""
        listening = self._listening or socket.create_server(("127.0.0.1", self.port))
        self._server = await asyncio.start_server(self._join, sock=listening)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = {writer}
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(*self._target)
            ends.add(back)
            self._writers |= ends
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        for end in ends:
            end.transport.abort()
        self._writers -= ends


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.transport.abort()
