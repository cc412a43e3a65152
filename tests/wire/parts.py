"""Real parts for wire tests: endpoints to proxy to, snapshots that name them, and clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from portway_proxy.settings import ProxySettings, Timeouts
from portway_proxy.snapshot import (
    Certificate,
    Endpoint,
    Host,
    Listener,
    Origin,
    PathMatch,
    Protocol,
    Route,
    Snapshot,
    Upstream,
)
from portway_proxy.supervisor import Supervisor

ORIGIN = Origin("Ingress", "shop", "web", "spec.rules[0]")
WEB = "shop/web:80"
ECHO = "shop/echo:7"


def settings(workers: int = 2, **timeouts: float) -> ProxySettings:
    """Return settings for a quiet proxy on ports of the system's choice."""
    return ProxySettings(
        http_port=0, https_port=0, admin_port=0, workers=workers, access_log=False, timeouts=Timeouts(**timeouts)
    )


def free_port() -> int:
    """Return a port that nobody has; it stays free for a moment at least."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def snapshot(
    web_port: int,
    *,
    echo_port: int = 0,
    ports: Iterable[int] = (),
    certificates: Iterable[Certificate] = (),
    default_certificate: str = "",
) -> Snapshot:
    """Return a snapshot that sends every request to `web_port` and each of `ports` to `echo_port`, all on 127.0.0.1."""
    return Snapshot(
        hosts=(Host("", (Route("/", PathMatch.PREFIX, WEB, ORIGIN),)),),
        upstreams=(
            Upstream(ECHO, protocol=Protocol.OPAQUE, endpoints=(Endpoint("127.0.0.1", echo_port),)),
            Upstream(WEB, endpoints=(Endpoint("127.0.0.1", web_port),)),
        ),
        listeners=tuple(Listener(port, ECHO, ORIGIN) for port in sorted(ports)),
        certificates=tuple(sorted(certificates, key=lambda certificate: certificate.name)),
        default_certificate=default_certificate,
    )


class Web:
    """An HTTP endpoint: `/slow` answers once `release` is set, everything else at once, with the endpoint's name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.slow = 0
        self.release = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/slow":
            self.slow += 1
            await self.release.wait()
        return web.Response(text=f"sent by {self.name}")


@asynccontextmanager
async def serve_web(name: str = "web") -> AsyncIterator[Web]:
    """Run an HTTP endpoint."""
    endpoint = Web(name)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", endpoint.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint.port = runner.addresses[0][1]
    try:
        yield endpoint
    finally:
        endpoint.release.set()
        await runner.cleanup()


@asynccontextmanager
async def running(chosen: ProxySettings) -> AsyncIterator[Supervisor]:
    """Run a proxy: a supervisor in this process, and its workers."""
    supervisor = Supervisor(chosen)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.close()


@asynccontextmanager
async def serve_echo() -> AsyncIterator[int]:
    """Run a TCP endpoint that sends back what it gets, and yield its port."""
    writers: set[asyncio.StreamWriter] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


class Client:
    """A raw client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, port: int) -> Client:
        """Connect to a port of 127.0.0.1; who asks for it closes it."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, path: str = "/", host: str = "shop.example") -> None:
        """Send a GET."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    async def take(self) -> tuple[int, str, str]:
        """Return status, head and body of the next response (with a Content-Length)."""
        async with asyncio.timeout(15):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            body = await self.reader.readexactly(int(fields["content-length"]))
        return int(head.split(" ", 2)[1]), head, body.decode()

    async def get(self, path: str = "/") -> str:
        """Return the body of a response that has status 200."""
        self.send(path)
        status, head, body = await self.take()
        assert status == 200, head
        return body

    async def ended(self) -> bool:
        """Return whether the other side ends the connection without another byte."""
        async with asyncio.timeout(15):
            return await self.reader.read(1) == b""

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Client]:
    """Connect to a port of 127.0.0.1."""
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield client
    finally:
        await client.close()


async def fetch(port: int, path: str = "/") -> str:
    """Return the body for `path` over a connection of its own."""
    async with connect(port) as client:
        return await client.get(path)


async def until_answered(port: int) -> None:
    """Wait until a new connection to `port` is answered with 200."""
    async with asyncio.timeout(10):
        while True:
            async with connect(port) as client:
                client.send()
                if (await client.take())[0] == 200:
                    return
            await asyncio.sleep(0.01)


async def echoes(port: int, data: bytes = b"hello") -> bool:
    """Return whether a connection to `port` gets back what it sends."""
    async with connect(port) as client, asyncio.timeout(15):
        client.writer.write(data)
        client.writer.write_eof()
        return await client.reader.read() == data


async def refused(port: int) -> bool:
    """Return whether nobody listens on the port."""
    try:
        async with connect(port):
            return False
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False


async def until_refused(port: int) -> None:
    """Wait until nobody listens on the port."""
    async with asyncio.timeout(10):
        while not await refused(port):  # noqa: ASYNC110 - another process closes it
            await asyncio.sleep(0.01)


async def opened(port: int) -> None:
    """Wait until somebody listens on the port."""
    async with asyncio.timeout(30):
        while await refused(port):  # noqa: ASYNC110 - another process opens it
            await asyncio.sleep(0.001)


def port_of(supervisor: Supervisor) -> int:
    """Return the HTTP port of a running proxy."""
    assert supervisor.http_port is not None
    return supervisor.http_port


def pids(supervisor: Supervisor) -> list[int]:
    """Return the process ids of the workers that serve."""
    return [worker.pid for worker in supervisor._serving.values()]


def open_fds() -> int:
    """Return how many descriptors this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def admin(supervisor: Supervisor, path: str) -> tuple[int, str]:
    """Return status and text of a page of the admin server."""
    url = f"http://127.0.0.1:{supervisor.admin_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def metrics(supervisor: Supervisor) -> dict[tuple[str, ...], float]:
    """Return the metrics: name and label values, in the order of the label names, to value."""
    _, text = await admin(supervisor, "/metrics")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def on_every_worker(supervisor: Supervisor, expected: str) -> None:
    """Fetch often enough for every worker to have had its share of connections."""
    assert {await fetch(port_of(supervisor)) for _ in range(20)} == {expected}
