"""The applications of the demo, and free ports for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from aiohttp import web

from portway_proxy.tasks import Tasks

__all__ = ["APPS", "App", "claim", "run_app", "start_app"]

_TRIED = 100
_SIDE = 120


class App(Protocol):
    """A running application."""

    async def close(self) -> None:
        """Stop listening and end what still runs."""


def claim(address: str, wanted: Iterable[int]) -> dict[int, socket.socket]:
    """Return a bound socket for each wanted port: on that port, or on the next free one that nobody wants.

    Raises `OSError` when none of a hundred is free. The sockets are the caller's.
    """
    claimed: dict[int, socket.socket] = {}
    taken = []
    with contextlib.ExitStack() as undo:
        wanted = sorted(set(wanted))
        for port in wanted:
            bound = _bind(address, port)
            if bound is None:
                taken.append(port)
            else:
                claimed[port] = undo.enter_context(bound)
        for port in taken:
            claimed[port] = undo.enter_context(_bind_next(address, port, set(wanted)))
        undo.pop_all()
    return claimed


def _bind(address: str, port: int) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        # Two sockets with SO_REUSEADDR may share a port until one of them listens.
        sock.listen()
    except OSError:
        sock.close()
        return None
    return sock


def _bind_next(address: str, port: int, avoid: set[int]) -> socket.socket:
    last = min(port + _TRIED, 65535)
    for other in range(port + 1, last + 1):
        if other not in avoid and (bound := _bind(address, other)) is not None:
            return bound
    raise OSError(f"None of the ports from {port} to {last} is free on {address}.")


async def start_app(kind: str, sock: socket.socket) -> App:
    """Start an application of `APPS` on a bound socket, which it owns from then on."""
    return await APPS[kind](sock)


async def run_app(kind: str, address: str, port: int) -> None:
    """Run one application until SIGINT or SIGTERM. Raises `OSError` when it cannot have the port."""
    sock = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    app = await start_app(kind, sock)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        await stop.wait()
    finally:
        await app.close()


class _HttpApp:
    """One answer for every path and method."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner

    @classmethod
    async def start(cls, sock: socket.socket, answer: Callable[[web.Request], web.Response]) -> _HttpApp:
        """Serve `answer` on `sock`."""

        async def handle(request: web.Request) -> web.Response:
            return answer(request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.SockSite(runner, sock).start()
        return cls(runner)

    async def close(self) -> None:
        """Stop listening and end what still runs."""
        await self._runner.cleanup()


class _EchoApp:
    """Sends back every byte, and ends when the client ends."""

    def __init__(self) -> None:
        self._tasks = Tasks()
        self._listener: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> _EchoApp:
        """Serve on `sock`."""
        self._listener = await asyncio.start_server(self._accept, sock=sock)
        return self

    async def close(self) -> None:
        """Stop listening and end what still runs."""
        if self._listener is not None:
            self._listener.close()
        await self._tasks.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.spawn(self._echo(reader, writer), "echo")

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            try:
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            finally:
                writer.close()
            await writer.wait_closed()


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


async def _hello(sock: socket.socket) -> App:
    port = _port(sock)
    return await _HttpApp.start(sock, lambda _: web.Response(text=f"sent by {port}\n"))


async def _message(sock: socket.socket) -> App:
    port = _port(sock)

    def answer(request: web.Request) -> web.Response:
        said = {"message": "Hello from behind Portway.", "path": request.path, "sent_by": port}
        return web.Response(text=f"{json.dumps(said)}\n", content_type="application/json")

    return await _HttpApp.start(sock, answer)


async def _images(sock: socket.socket) -> App:
    image = _png()
    return await _HttpApp.start(sock, lambda _: web.Response(body=image, content_type="image/png"))


async def _echo(sock: socket.socket) -> App:
    return await _EchoApp().start(sock)


APPS: Mapping[str, Callable[[socket.socket], Awaitable[App]]] = {
    "hello": _hello,
    "images": _images,
    "message": _message,
    "echo": _echo,
}
"""The kinds of applications."""


def _png() -> bytes:
    """Return a small picture: a door in a wall, in the colours of the evening."""
    rows = b"".join(b"\0" + bytes(_pixels(y)) for y in range(_SIDE))
    head = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def _pixels(y: int) -> list[int]:
    row = []
    for x in range(_SIDE):
        inside = 40 <= x < 80 and y >= 40 - int((400 - (x - 60) ** 2) ** 0.5)
        row += [250, 200 - y // 2, 90] if inside else [40 + y // 3, 50 + y // 4, 90 + x // 3]
    return row
