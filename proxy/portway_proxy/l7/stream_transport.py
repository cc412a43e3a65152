"""A stream of HTTP/2 after CONNECT, as the transport that a tunnel knows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from portway_proxy.http2.codes import Code

if TYPE_CHECKING:
    from portway_proxy.http2.stream import Stream

__all__ = ["StreamTransport"]


class StreamTransport(asyncio.Transport):
    """Bytes both ways, each direction with an end of its own; `most` may wait before the other side is paused."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stream: Stream, most: int) -> None:
        super().__init__()
        self._loop = loop
        self._stream = stream
        self._most = most
        self._protocol: asyncio.Protocol | None = None
        self._reading = True
        self._full = False
        self._closing = False
        self._held = bytearray()
        self._ended = False

    # --- the stream's side

    def take(self, data: bytes) -> None:
        """Hand on what the client sent."""
        if self._reading and self._protocol is not None:
            self._protocol.data_received(data)
            self._stream.credit(len(data))
        else:
            self._held += data

    def take_end(self) -> None:
        """Hand on that the client will send nothing more."""
        self._ended = True
        if not self._held and self._protocol is not None:
            self._protocol.eof_received()

    def drained(self) -> None:
        """Note that everything has left."""
        if self._full and self._protocol is not None:
            self._full = False
            self._protocol.resume_writing()

    def lose(self, error: Exception | None) -> None:
        """Tell that the stream is over, once."""
        protocol, self._protocol = self._protocol, None
        self._closing = True
        if protocol is not None:
            self._loop.call_soon(protocol.connection_lost, error)

    # --- the tunnel's side

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401, ARG002 - asyncio's signature
        """Return `default`: a stream has no socket."""
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand on what comes to `protocol` from now on."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return whom what comes is handed on to."""
        return self._protocol or asyncio.Protocol()

    def is_closing(self) -> bool:
        """Return whether the end has begun."""
        return self._closing

    def can_write_eof(self) -> bool:
        """Return True: each direction ends by itself."""
        return True

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait."""
        return self._stream.queued

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send something to the client."""
        if self._stream.sent or self._stream.ending or not data:
            return
        self._stream.send(bytes(data), end=False)
        if self._stream.queued > self._most and not self._full and self._protocol is not None:
            self._full = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        """Send the client the end of its direction."""
        if not self._stream.sent and not self._stream.ending:
            self._stream.send_end(b"")

    def pause_reading(self) -> None:
        """Hand on nothing: the client may send as much as its window, and then waits."""
        self._reading = False

    def resume_reading(self) -> None:
        """Hand on again, first what came meanwhile."""
        self._reading = True
        if self._held and self._protocol is not None:
            data = bytes(self._held)
            self._held.clear()
            self.take(data)
            if self._ended and self._protocol is not None:
                self._protocol.eof_received()

    def close(self) -> None:
        """End both directions once what was written has left."""
        if not self._closing:
            self._stream.two_way = False
            if self._stream.sent:
                self._stream.reset(Code.NO_ERROR)
            else:
                self.write_eof()
            self.lose(None)

    def abort(self) -> None:
        """Break the stream off."""
        if not self._closing:
            self._stream.reset(Code.CANCEL)
            self.lose(None)
