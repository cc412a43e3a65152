"""One request of HTTP/2 on a connection of its own: how endpoints that speak nothing else are asked how they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portway_proxy.http2.codes import Code
from portway_proxy.http2.connection import Connection
from portway_proxy.http2.packing import pack
from portway_proxy.http2.semantics import read_response
from portway_proxy.http2.stream import Stream
from portway_proxy.http2.terms import Terms

if TYPE_CHECKING:
    import asyncio

    from portway_proxy.http2.unpacking import Block

__all__ = ["status_of"]

_READ: Final = 65536


class _Answer(Stream):
    """The stream of the request; `status` is the answer's, 0 before, `over` says that there will be none."""

    __slots__ = ("over", "status")

    def __init__(self, connection: Connection, number: int) -> None:
        super().__init__(connection, number)
        self.status = 0
        self.over = False

    def on_head(self, block: Block, *, end: bool) -> None:
        self.status, _, _ = read_response(block.fields)
        self.headed = self.status >= 200
        self.over = end

    def on_data(self, data: bytes) -> None:
        self.credit(len(data))

    def on_end(self, trailers: Block | None) -> None:  # noqa: ARG002 - a stream's signature
        self.over = True

    def on_reset(self, code: Code) -> None:  # noqa: ARG002 - a stream's signature
        self.over = True


async def status_of(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, authority: str, *, secure: bool
) -> int:
    """Return the status that an endpoint answers to a GET; 0 when it breaks off."""
    streams = Connection(Terms(), lambda: None, lambda: 0.0)
    streams.begin()
    stream = _Answer(streams, 1)
    streams.open(lambda _: stream)
    fields = ((":method", "GET"), (":scheme", "https" if secure else "http"), (":path", path))
    more = ((":authority", authority), ("user-agent", "portway-check"))
    stream.send_head(pack((name.encode(), value.encode()) for name, value in (*fields, *more)), end=True)
    while True:
        writer.write(b"".join(streams.out))
        streams.out.clear()
        if stream.headed or stream.over or streams.fault is not None:
            return stream.status if stream.headed else 0
        data = await reader.read(_READ)
        if not data:
            return 0
        streams.receive(data)
