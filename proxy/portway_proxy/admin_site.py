"""A port for an admin server's pages, with bounds on what a stranger may take of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from aiohttp import web

__all__ = ["AdminSite"]

_SHUTDOWN: Final = 1.0  # Seconds for an answer that is under way when the server closes.
# Seconds for a head to come, and between requests: the scrapes of Prometheus are often 30 apart.
_PATIENCE: Final = 35.0
# Of one address: a browser takes six, a stranger must leave some to the kubelet.
_CONNECTIONS: Final = 64
_HEAD_LINE: Final = 16 << 10  # A URL to be explained is in the query of ours.
_FIELD: Final = 8 << 10
_FIELDS: Final = 64
_BACKLOG: Final = 128


class AdminSite:
    """The server of `app`, on one port; `connections` is the most that one address may have open."""

    def __init__(self, app: web.Application, connections: int = _CONNECTIONS, patience: float = _PATIENCE) -> None:
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_SHUTDOWN,
            keepalive_timeout=patience,
            max_line_size=_HEAD_LINE,
            max_field_size=_FIELD,
            max_headers=_FIELDS,
        )
        self._most = connections
        self._open: Counter[str] = Counter()
        self._server: asyncio.Server | None = None

    async def start(self, address: str, port: int) -> int:
        """Open `port` (0: one that is free) and return its number. Raises `OSError` and `OverflowError`."""
        await self._runner.setup()
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._connection, address, port, backlog=_BACKLOG)
        except (OSError, OverflowError):
            await self._runner.cleanup()
            raise
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Close the server; harmless when it never started."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _connection(self) -> _Connection:
        server = self._runner.server
        assert server is not None  # noqa: S101 - it is there from `setup` to `cleanup`
        return _Connection(server(), self._open, self._most)


class _Connection(asyncio.Protocol):
    """One connection, handed on to aiohttp unless its address has too many."""

    def __init__(self, inner: asyncio.Protocol, opened: Counter[str], most: int) -> None:
        self._inner = inner
        self._opened = opened
        self._most = most
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        name = transport.get_extra_info("peername")
        peer = str(name[0]) if name else "?"
        if self._opened[peer] >= self._most and isinstance(transport, asyncio.Transport):
            transport.abort()
            return
        self._opened[peer] += 1
        self._peer = peer
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._peer:
            return
        self._opened[self._peer] -= 1
        if not self._opened[self._peer]:
            del self._opened[self._peer]
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._peer:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._peer else None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
