"""Both ends of HTTP/2 without sockets: our connection, and what its streams were told."""

from __future__ import annotations

from collections.abc import Callable

from portway_proxy.http2 import frames
from portway_proxy.http2.codes import PREFACE, Code
from portway_proxy.http2.connection import Connection
from portway_proxy.http2.stream import Stream
from portway_proxy.http2.terms import Terms
from portway_proxy.http2.unpacking import Block, Field, Unpacker

__all__ = ["GET", "End", "Told", "frames_in", "greeted", "headers"]

GET: list[Field] = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"web.example")]


class Told(Stream):
    """A stream that remembers what it was told; it credits bodies at once unless it is `slow`."""

    __slots__ = ("body", "drained", "ended", "heads", "reset_with", "slow", "trailers")

    def __init__(self, connection: Connection, number: int) -> None:
        super().__init__(connection, number)
        self.heads: list[list[Field]] = []
        self.trailers: list[Field] = []
        self.body = b""
        self.ended = False
        self.slow = False
        self.drained = 0
        self.reset_with: Code | None = None

    def on_head(self, block: Block, *, end: bool) -> None:
        self.heads.append(block.fields)
        status = dict(block.fields).get(b":status", b"200")
        self.headed = not status.startswith(b"1")
        self.ended = end
        length = dict(block.fields).get(b"content-length")
        if length is not None:
            self.missing = int(length)

    def on_data(self, data: bytes) -> None:
        self.body += data
        if not self.slow:
            self.credit(len(data))

    def on_end(self, trailers: Block | None) -> None:
        self.ended = True
        self.trailers = [] if trailers is None else trailers.fields

    def on_reset(self, code: Code) -> None:
        self.reset_with = code

    def on_drained(self) -> None:
        self.drained += 1


class End:
    """Our connection, with all streams that it ever had by their numbers."""

    def __init__(
        self, terms: Terms | None = None, *, server: bool = True, now: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.told: dict[int, Told] = {}
        self.wakes = 0
        self.connection = Connection(terms or Terms(), self._wake, now, self.accept if server else None)
        self.connection.begin()

    def _wake(self) -> None:
        self.wakes += 1

    def accept(self, number: int) -> Told:
        self.told[number] = Told(self.connection, number)
        return self.told[number]

    def out(self) -> bytes:
        """Take what is to be sent."""
        data = b"".join(self.connection.out)
        self.connection.out.clear()
        return data

    def hear(self, *data: bytes) -> list[tuple[int, int, int, bytes]]:
        """Receive, and return the frames that are sent for it: kind, flags, stream, payload."""
        self.connection.receive(b"".join(data))
        return frames_in(self.out())


def frames_in(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Take bytes apart into kind, flags, stream and payload."""
    data = data.removeprefix(PREFACE)
    found = []
    while data:
        size = int.from_bytes(data[:3])
        found.append((data[3], data[4], int.from_bytes(data[5:9]), data[9 : 9 + size]))
        data = data[9 + size :]
    return found


def greeted(terms: Terms | None = None, now: Callable[[], float] = lambda: 0.0) -> End:
    """Return a server whose client has said hello."""
    end = End(terms, now=now)
    end.hear(PREFACE, frames.settings({}))
    return end


def headers(data: bytes) -> list[Field]:
    """Take a block apart that needs no table."""
    return Unpacker(1 << 20).unpack(data).fields
