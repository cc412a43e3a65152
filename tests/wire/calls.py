"""Endpoints that speak HTTP/2, by the library `h2`: each call is served by a script."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from portway_proxy.tasks import Tasks

__all__ = ["Answer", "Callee", "Caller", "Calls"]

PATIENCE = 30.0  # Of endpoints, after that of tests.

Fields = Sequence[tuple[bytes, bytes]]
Answer = Callable[["Caller"], Awaitable[None]]
"""What an endpoint does with a call."""


class Caller:
    """One call, as the endpoint has it."""

    def __init__(self, connection: Callee, number: int, fields: Fields) -> None:
        self.connection = connection
        self.number = number
        self.fields = list(fields)
        self.body = b""
        self.held = 0
        self.trailers: Fields = ()
        self.ended = False
        self.reset: int | None = None
        self.takes = connection.endpoint.takes
        self._changed = asyncio.Event()

    def get(self, name: bytes) -> bytes | None:
        return dict(self.fields).get(name)

    def changed(self) -> None:
        self._changed.set()

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not claim():
                self._changed.clear()
                await self._changed.wait()

    async def whole(self) -> bytes:
        """Return the request's body."""
        await self.until(lambda: self.ended)
        return self.body

    def head(self, status: int = 200, *fields: tuple[str, str], end: bool = False) -> None:
        self.connection.h2.send_headers(self.number, [(":status", str(status)), *fields], end_stream=end)
        self.connection.flush()

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """Send a part of the body, as far and as soon as the other side takes it."""
        h2 = self.connection.h2
        while data:
            await self.until(lambda: h2.local_flow_control_window(self.number) > 0 or self.reset is not None)
            if self.reset is not None:
                return
            size = min(len(data), h2.local_flow_control_window(self.number), h2.max_outbound_frame_size)
            part, data = data[:size], data[size:]
            h2.send_data(self.number, part, end_stream=end and not data)
            self.connection.flush()

    def finish(self, *trailers: tuple[str, str]) -> None:
        if trailers:
            self.connection.h2.send_headers(self.number, list(trailers), end_stream=True)
        else:
            self.connection.h2.end_stream(self.number)
        self.connection.flush()

    def refuse(self, code: ErrorCodes = ErrorCodes.REFUSED_STREAM) -> None:
        self.connection.h2.reset_stream(self.number, code)
        self.connection.flush()

    def take(self) -> None:
        """Let the other side send as much more as it has sent."""
        self.takes = True
        held, self.held = self.held, 0
        if held and not self.ended:
            self.connection.h2.acknowledge_received_data(held, self.number)
            self.connection.flush()


class Callee(asyncio.Protocol):
    """One connection."""

    def __init__(self, endpoint: Calls) -> None:
        self.endpoint = endpoint
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.calls: dict[int, Caller] = {}
        self.lost = False
        self.goodbye: ConnectionTerminated | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.endpoint.connections.append(self)
        if self.endpoint.most:
            self.h2.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = self.endpoint.most
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.lost = True
        for call in self.calls.values():
            call.reset = call.reset if call.ended else -1
            call.changed()

    def flush(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.h2.data_to_send())

    def goaway(self, last: int) -> None:
        """Say which call is the last; those until then go on."""
        self.transport.write(GoAwayFrame(last_stream_id=last).serialize())

    def data_received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except ProtocolError as error:
            self.endpoint.faults.append(error)
            return
        for event in events:
            if isinstance(event, RequestReceived):
                call = Caller(self, event.stream_id, event.headers)
                self.calls[event.stream_id] = call
                self.endpoint.calls.append(call)
                self.endpoint.begin(call)
            elif isinstance(event, ConnectionTerminated):
                self.goodbye = event
            else:
                self._tell(event)
        for call in self.calls.values():
            call.changed()
        self.flush()

    def _tell(self, event: object) -> None:
        call = self.calls.get(getattr(event, "stream_id", 0) or 0)
        if call is None:
            return
        if isinstance(event, DataReceived):
            call.body += event.data
            call.held += event.flow_controlled_length
            if call.takes:
                held, call.held = call.held, 0
                self.h2.acknowledge_received_data(held, call.number)
        elif isinstance(event, TrailersReceived):
            call.trailers = event.headers
        elif isinstance(event, StreamEnded):
            call.ended = True
        elif isinstance(event, StreamReset):
            call.reset = int(event.error_code)


class Calls:
    """The endpoint. `most` is how many streams a connection may have at once; 0 leaves it open.

    Unless it `takes` them as they come, bodies of requests have to be taken.
    """

    def __init__(self, answer: Answer, most: int = 0) -> None:
        self.answer = answer
        self.most = most
        self.takes = True
        self.connections: list[Callee] = []
        self.calls: list[Caller] = []
        self.faults: list[BaseException] = []
        self.port = 0
        self._tasks = Tasks()
        self._server: asyncio.Server | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Callee(self), "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        await self._tasks.close()
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            connection.transport.abort()

    def begin(self, call: Caller) -> None:
        self._tasks.spawn(self._run(call), "answer")

    async def _run(self, call: Caller) -> None:
        try:
            await self.answer(call)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.faults.append(error)
            raise
