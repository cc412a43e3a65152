"""Pods: real servers on addresses of their own, in a network namespace of the tests'."""

from __future__ import annotations

import asyncio
import contextlib

from network import Network as PodNetwork
from network import NoNetwork as NoPodNetwork

__all__ = ["NoPodNetwork", "Pod", "PodNetwork"]


class Pod:
    """A small HTTP server that answers every request with its name."""

    def __init__(self, network: PodNetwork, number: int, name: str, port: int = 8080) -> None:
        self.name = name
        self.address = network.address(number)
        self.port = port
        self.served = 0
        self._socket = network.listen(self.address, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Begin to answer."""
        self._server = await asyncio.start_server(self._serve, sock=self._socket)

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = self.name.encode()
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.served += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        self._writers.discard(writer)
        writer.close()
