"""A real proxy with real little endpoints, for tests that are not of one loop with it: they draw, and they block."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Snapshot
from portway_proxy.supervisor import Supervisor
from wire.drawn_requests import Asked

__all__ = ["Answer", "Asking", "asking", "hang_up_on"]

_T = TypeVar("_T")

PATIENCE = 20.0
_VERDICT = re.compile(rb"[A-Z]+ /verdict/([0-9]{3})")
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: chunked\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """A response: the fields in their order, and the body."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def get(self, name: str) -> str:
        """Return the value of a field (lower-case), which comes once; empty when it does not."""
        values = [value for found, value in self.fields if found.lower() == name]
        assert len(values) <= 1, values
        return values[0] if values else ""


class Asking:
    """A proxy of one worker, and endpoints at `ports` that answer with the head that they got."""

    def __init__(self, settings: ProxySettings) -> None:
        self.settings = settings
        self.ports: list[int] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._supervisor = Supervisor(settings)
        self._servers: list[asyncio.Server] = []
        self._contexts = {False: _context("http/1.1"), True: _context("h2")}

    def start(self, endpoints: int) -> None:
        self._thread.start()
        self._await(self._start(endpoints))

    def close(self) -> None:
        self._await(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def apply(self, snapshot: Snapshot) -> None:
        """Serve a snapshot."""
        self._await(self._supervisor.apply(snapshot))

    def ask(self, request: Asked) -> Answer:
        """Send a request on a connection of its own, and return the response."""
        secure = request.name is not None
        port = self._supervisor.https_port if secure else self._supervisor.http_port
        assert port is not None
        exchange = _exchange_http2 if request.http2 else _exchange
        with socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(request.client, 0)) as sock:
            if not secure:
                return exchange(sock, request)
            context = self._contexts[request.http2]
            with context.wrap_socket(sock, server_hostname=request.name, suppress_ragged_eofs=True) as secured:
                return exchange(secured, request)

    def _await(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _start(self, endpoints: int) -> None:
        for _ in range(endpoints):
            server = await asyncio.start_server(_endpoint, "127.0.0.1", 0)
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])
        await self._supervisor.start()

    async def _close(self) -> None:
        await self._supervisor.close()
        for server in self._servers:
            server.close()
        # What the proxy's end leaves behind: each connection's own task, which ends with it.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, timeout=PATIENCE) if others else None


@contextmanager
def asking(settings: ProxySettings, endpoints: int) -> Iterator[Asking]:
    """Run a proxy and its endpoints in a thread."""
    proxy = Asking(settings)
    proxy.start(endpoints)
    try:
        yield proxy
    finally:
        proxy.close()


async def _endpoint(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request of a connection with its own head; `/verdict/401` is answered with that status."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await _drop_body(reader, head)
            found = _VERDICT.match(head)
            status = found[1] if found else b"200"
            body = b"" if head.startswith(b"HEAD ") else head
            writer.write(b"HTTP/1.1 %b Said\r\nContent-Length: %d\r\n\r\n%b" % (status, len(head), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()


async def _drop_body(reader: asyncio.StreamReader, head: bytes) -> None:
    if (found := _LENGTH.search(head)) is not None:
        await reader.readexactly(int(found[1]))
    elif _CHUNKED.search(head):
        while int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await reader.readuntil(b"\r\n")
        await reader.readuntil(b"\r\n")


def _context(protocol: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


def _exchange_http2(sock: socket.socket, request: Asked) -> Answer:
    h2 = H2Connection(H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False))
    h2.initiate_connection()
    h2.send_headers(1, request.pairs, end_stream=not request.body)
    if request.body:
        h2.send_data(1, request.payload, end_stream=True)
    fields: list[tuple[str, str]] = []
    body, ended = b"", False
    while not ended:
        sock.sendall(h2.data_to_send())
        data = sock.recv(65536)
        assert data, "the connection ended before the response"
        for event in h2.receive_data(data):
            ended = ended or isinstance(event, StreamEnded | StreamReset)
            if isinstance(event, ResponseReceived):
                fields = [(_text(name), _text(value)) for name, value in event.headers or ()]
            elif isinstance(event, DataReceived):
                body += event.data or b""
    return Answer(int(fields[0][1]), tuple(fields[1:]), body)


def _text(octets: bytes | str) -> str:
    return octets if isinstance(octets, str) else octets.decode("latin-1")


def _exchange(sock: socket.socket, request: Asked) -> Answer:
    sock.sendall(request.data)
    came = bytearray()
    try:
        while part := sock.recv(65536):
            came += part
    except ConnectionError:
        pass  # An answer that does not read the body may be followed by a reset.
    head, _, body = bytes(came).partition(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    fields = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
    answer = Answer(int(start.split(" ")[1]), fields, body)
    length = answer.get("content-length")
    assert not length or request.method == "HEAD" or int(length) == len(body), (came, length)
    return answer


def hang_up_on(endpoint: socket.socket) -> None:
    """Take a connection that begins a handshake of TLS, and end it."""
    sock, _ = endpoint.accept()
    with sock:
        assert sock.recv(1) == b"\x16"
