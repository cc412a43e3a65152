"""A client of HTTP/2 on a real socket: the library `h2`, told what to say and when to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from portway_proxy.http2.codes import Kind
from portway_proxy.settings import Limits, Timeouts
from wire.peers import PATIENCE, Script, echoing
from wire.site import Net, Site, everything_to, waits
from wire.site import limits as usual_limits

__all__ = ["Answer", "Http2Peer", "connect", "pair", "request_fields"]

Fields = list[tuple[bytes, bytes]]


@dataclass
class Answer:
    """What came on one stream."""

    fields: Fields = field(default_factory=list)
    interim: list[Fields] = field(default_factory=list)
    trailers: Fields = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.fields)[b":status"])

    def get(self, name: bytes) -> bytes | None:
        return dict(self.fields).get(name)

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


def request_fields(
    path: str = "/", *fields: tuple[str, str], method: str = "GET", host: str = "shop.example"
) -> Fields:
    pseudo = [(":method", method), (":scheme", "http"), (":authority", host), (":path", path)]
    return [(name.encode(), value.encode()) for name, value in (*pseudo, *fields)]


class Http2Peer(asyncio.Protocol):
    """One connection. Bodies are credited as they come unless it is `slow`."""

    def __init__(self, *, window: int = 65535) -> None:
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._window = window
        self.answers: dict[int, Answer] = {}
        self.goodbyes: list[tuple[int, int]] = []
        self.slow = False
        self.closed = False
        self.received = 0
        self._held = b""
        self._heard = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: self._window})
        self.flush()

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self._held += data
        while len(self._held) >= 9 and len(self._held) >= (size := 9 + int.from_bytes(self._held[:3])):
            frame, self._held = self._held[:size], self._held[size:]
            if frame[3] == Kind.GOAWAY:
                # The library would hear nothing more, though a server that leaves still serves.
                self.goodbyes.append((int.from_bytes(frame[9:13]), int.from_bytes(frame[13:17])))
                continue
            for event in self.h2.receive_data(frame):
                self._take(event)
        self.flush()
        self._heard.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.closed = True
        self._heard.set()

    def _take(self, event: Event) -> None:
        number = getattr(event, "stream_id", None)
        if number is None:
            return
        answer = self.answers.setdefault(number, Answer())
        match event:
            case InformationalResponseReceived():
                answer.interim.append(_plain(event.headers))
            case ResponseReceived():
                answer.fields = _plain(event.headers)
            case TrailersReceived():
                answer.trailers = _plain(event.headers)
            case DataReceived():
                answer.body += event.data
                if not self.slow:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, number)
            case StreamEnded():
                answer.ended = True
            case StreamReset():
                answer.reset = int(event.error_code)

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.transport.write(data)

    def raw(self, data: bytes) -> None:
        """Send bytes that the library would never send."""
        self.flush()
        self.transport.write(data)

    def ask(self, fields: Sequence[tuple[bytes, bytes]], *, end: bool = True) -> int:
        """Send the head of a request; return its stream."""
        number = self.h2.get_next_available_stream_id()
        self.answers[number] = Answer()
        self.h2.send_headers(number, fields, end_stream=end)
        self.flush()
        return number

    async def send(self, number: int, body: bytes, *, end: bool = True, trailers: Fields | None = None) -> None:
        """Send a body as far as windows allow, waiting for them."""
        async with asyncio.timeout(PATIENCE):
            while body:
                room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(body))
                if room:
                    self.h2.send_data(number, body[:room], end_stream=end and room == len(body) and not trailers)
                    body = body[room:]
                    self.flush()
                else:
                    await self._listen()
        if trailers:
            self.h2.send_headers(number, trailers, end_stream=True)
            self.flush()

    async def answer(self, number: int) -> Answer:
        """Return what came on a stream once it is over."""
        await self.until(lambda: self.answers[number].over)
        return self.answers[number]

    async def get(self, path: str = "/", *fields: tuple[str, str], host: str = "shop.example") -> Answer:
        return await self.answer(self.ask(request_fields(path, *fields, host=host)))

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not claim():
                await self._listen()

    async def end(self) -> None:
        """Wait for the end of the connection."""
        await self.until(lambda: self.closed)

    async def _listen(self) -> None:
        self._heard.clear()
        if self.closed:
            raise ConnectionResetError("the connection is closed")
        await self._heard.wait()


def _plain(fields: Sequence[tuple[bytes, bytes]] | None) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in fields or ()]


async def connect(net: Net, site: Site, window: int = 65535) -> Http2Peer:
    """Connect a client that knows what is spoken; `window` is that of each of its streams."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        _, client = await loop.create_connection(lambda: Http2Peer(window=window), "127.0.0.1", site.port)
    net.stack.callback(client.transport.abort)
    await client.until(lambda: client.h2.local_settings.initial_window_size == window)
    return client


async def pair(
    net: Net,
    script: Script = echoing,
    *,
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    window: int = 65535,
) -> tuple[Site, Http2Peer]:
    """Return a site that sends everything to an endpoint that runs `script`, and a client of that site."""
    endpoint = await net.endpoint(script)
    site = await net.site(everything_to(endpoint.port), limits or usual_limits(), timeouts or waits())
    return site, await connect(net, site, window)
