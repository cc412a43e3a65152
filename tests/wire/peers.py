"""Raw peers for wire tests: endpoints that do as a script says, clients that send any bytes, and what both saw."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from portway_proxy.tasks import Tasks

__all__ = [
    "OK",
    "Client",
    "Endpoint",
    "Message",
    "Peer",
    "Script",
    "TlsClient",
    "Truncated",
    "answering",
    "echoing",
    "reply",
]

PATIENCE = 10.0  # Seconds until a test gives up; nothing is expected to take long.
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: closing sends RST.
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): (.*)")


class Truncated(Exception):
    """The other side ended within a message; `args` are how it ended and what of the message came."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or response as it arrived; names of `fields` are lower-case."""

    start: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.start.split(b" ", 2)[1])

    @property
    def target(self) -> bytes:
        return self.start.split(b" ")[1]

    @property
    def closes(self) -> bool:
        return self.get(b"connection") == b"close"

    def all(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.fields if found == name]

    def get(self, name: bytes) -> bytes | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name!r} is repeated: {values}"
        return values[0] if values else None


class Peer(asyncio.Protocol):
    """One end of a TCP connection: `received` is all that came, `how` is how the other side ended, if it did.

    `how` becomes `eof`, and `reset` when a RST came. While `counting`, bytes are counted in `size` and dropped; with a
    `sink`, it gets them. While `sipping`, the peer holds after each read.
    """

    patience = PATIENCE

    def __init__(self) -> None:
        self.received = bytearray()
        self.size = 0
        self.how = ""
        self.lost = False
        self.counting = False
        self.sink: Callable[[bytes], None] | None = None
        self.sipping = False
        self.trailers: list[bytes] = []
        self._position = 0
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.size += len(data)
        if self.sink is not None:
            self.sink(data)
        elif not self.counting:
            self.received += data
        if self.sipping:
            self.hold()
        self._changed.set()

    def eof_received(self) -> bool:
        self.how = self.how or "eof"
        self._changed.set()
        return self.transport.can_write_eof()  # TLS ends both directions at once.

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if isinstance(exc, ConnectionError):
            self.how = "reset"
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- sending

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def flush(self) -> None:
        """Wait until the other side takes more."""
        async with asyncio.timeout(self.patience):
            await self._writable.wait()

    def half_close(self) -> None:
        self.transport.write_eof()

    def close(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        """End the connection with a RST."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    # --- reading

    def hold(self) -> None:
        """Read nothing more until `go_on`."""
        self.transport.pause_reading()

    def go_on(self) -> None:
        self.transport.resume_reading()

    @property
    def unread(self) -> bytes:
        """What came and was not yet asked for."""
        return bytes(self.received[self._position :])

    async def wait(self, claim: Callable[[], bool]) -> None:
        """Wait until `claim` is true; raises `Truncated` when the other side ends first."""
        async with asyncio.timeout(self.patience):
            while not claim():
                if self.how or self.lost:
                    raise Truncated(self.how, self.unread)
                self._changed.clear()
                await self._changed.wait()

    async def until(self, mark: bytes) -> bytes:
        """Return what comes up to `mark`, with it."""
        await self.wait(lambda: self.received.find(mark, self._position) >= 0)
        return self._take(self.received.find(mark, self._position) + len(mark) - self._position)

    async def exactly(self, size: int) -> bytes:
        await self.wait(lambda: len(self.received) - self._position >= size)
        return self._take(size)

    async def end(self) -> str:
        """Wait for the other side's end and return how it ended."""
        async with asyncio.timeout(self.patience):
            while not (self.how or self.lost):
                self._changed.clear()
                await self._changed.wait()
        return self.how

    async def rest(self) -> bytes:
        """Return all that comes until the other side ends well; raises `Truncated` for a reset."""
        if await self.end() == "reset":
            raise Truncated(self.how, self.unread)
        return self._take(len(self.received) - self._position)

    async def head(self) -> Message:
        """Return the next head, which must be written as RFC 9112 wants it."""
        start, *lines = (await self.until(b"\r\n\r\n"))[:-4].split(b"\r\n")
        found = [_FIELD.fullmatch(line) for line in lines]
        assert all(found), f"malformed lines: {lines}"
        return Message(start, tuple((field[1].lower(), field[2]) for field in found if field is not None))

    async def chunks(self) -> list[bytes]:
        """Return the chunks of a body, the last one of no bytes left out; what stands behind it is in `trailers`."""
        chunks: list[bytes] = []
        while size := int(await self.until(b"\r\n"), 16):
            chunks.append(await self.exactly(size))
            assert await self.exactly(2) == b"\r\n"
        self.trailers = []
        while line := (await self.until(b"\r\n"))[:-2]:
            self.trailers.append(line)
        return chunks

    async def request(self) -> Message:
        """Return the next request, its body included."""
        head = await self.head()
        return Message(head.start, head.fields, await self._body(head, b""))

    async def response(self, method: bytes = b"GET") -> Message:
        """Return the next response to a request with `method`, its body included; 1xx are responses of their own."""
        head = await self.head()
        assert head.start.startswith(b"HTTP/1.1 "), head.start
        if head.status < 200 or head.status in (204, 304) or method == b"HEAD":
            return head
        if head.get(b"content-length") is None and head.get(b"transfer-encoding") is None:
            assert head.closes, "only the end of the connection can end this body"
            return Message(head.start, head.fields, await self.rest())
        return Message(head.start, head.fields, await self._body(head, b""))

    async def _body(self, head: Message, default: bytes) -> bytes:
        length = head.get(b"content-length")
        if head.get(b"transfer-encoding") is not None:
            assert head.get(b"transfer-encoding") == b"chunked"
            assert length is None
            return b"".join(await self.chunks())
        return default if length is None else await self.exactly(int(length))

    def _take(self, size: int) -> bytes:
        taken = bytes(self.received[self._position : self._position + size])
        self._position += size
        return taken


class Client(Peer):
    """A client that sends what it is told."""

    async def get(self, target: str = "/", host: str = "shop.example", *fields: str) -> Message:
        """Send a GET and return its response."""
        lines = "".join(f"{field}\r\n" for field in fields)
        self.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode())
        return await self.response()


class TlsClient(Client):
    """A client over TLS, where the end of one half is the end of both."""


Script = Callable[[Peer], Awaitable[None]]
"""What an endpoint does with a connection; when it returns, the connection stays open."""


class Endpoint:
    """An endpoint: each connection is served by `script` and kept in `peers`, in the order of arrival."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.peers: list[Peer] = []
        self.faults: list[BaseException] = []
        self.port = 0
        self._tasks = Tasks()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None, sock: socket.socket | None = None) -> None:
        """Listen on a port of 127.0.0.1, or on a socket that listens already."""
        loop = asyncio.get_running_loop()
        sock = sock or socket.create_server(("127.0.0.1", port))
        self._server = await loop.create_server(self._accept, sock=sock, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        await self._tasks.close()
        self.refuse()
        for peer in self.peers:
            peer.transport.abort()

    def refuse(self) -> None:
        """Accept nothing more; connections go on."""
        if self._server is not None:
            self._server.close()

    @property
    def received(self) -> list[bytes]:
        """All bytes of each connection."""
        return [bytes(peer.received) for peer in self.peers]

    @property
    def open(self) -> int:
        """How many connections the other side has not ended."""
        return sum(not peer.how and not peer.lost for peer in self.peers)

    def _accept(self) -> Peer:
        return _Accepted(self)

    def begin(self, peer: Peer) -> None:
        self.peers.append(peer)
        self._tasks.spawn(self._run(peer), "script")

    async def _run(self, peer: Peer) -> None:
        try:
            await self.script(peer)
        except Truncated:
            pass  # The other side ended between two requests or within one; tests look at `received`.
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self.faults.append(error)
            raise


class _Accepted(Peer):
    patience = 10 * PATIENCE  # A test gives up before its endpoints do.

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self._endpoint = endpoint

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._endpoint.begin(self)


def reply(body: bytes = b"ok", status: bytes = b"200 OK", *fields: bytes) -> bytes:
    """Return a response with a Content-Length."""
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), lines, body)


OK = reply()


def answering(*responses: bytes) -> Script:
    """Return a script that answers each request of a connection with the next of `responses`, the last one forever."""

    async def script(peer: Peer) -> None:
        for response in responses:
            await peer.request()
            peer.send(response)
        while True:
            await peer.request()
            peer.send(responses[-1])

    return script


async def echoing(peer: Peer) -> None:
    """Answer each request with its own target and body."""
    while True:
        request = await peer.request()
        head = request.start.startswith(b"HEAD ")
        body = request.target + request.body
        peer.send(reply(body)[: -len(body)] if head else reply(body))
