"""A client's connection that speaks HTTP/2: many streams, each of them the client of one exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from portway_proxy.clock import NEVER
from portway_proxy.errors import ProxyError
from portway_proxy.http2.codes import USUAL_WINDOW, Code, ConnectionFault, StreamFault
from portway_proxy.http2.connection import Connection
from portway_proxy.http2.semantics import read_request
from portway_proxy.http2.terms import Terms
from portway_proxy.l7 import flow
from portway_proxy.l7.asking import AskingStream
from portway_proxy.l7.guest import Guest
from portway_proxy.l7.recall import Beginning
from portway_proxy.l7.request import RequestHead
from portway_proxy.l7.sockets import acknowledged, reset_when_closed
from portway_proxy.l7.unfolded import Known, unfold

if TYPE_CHECKING:
    from portway_proxy.http2.unpacking import Block
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.http import Http
    from portway_proxy.l7.response import ResponseHead
    from portway_proxy.settings import Limits

__all__ = ["PRIOR_KNOWLEDGE", "Http2Client", "take_over"]

PRIOR_KNOWLEDGE = b"PRI * HTTP/2.0\r\n\r\n"
"""What a client that knows that we speak HTTP/2 begins with, as far as a parser of HTTP/1 sees it."""

_LINGER = 5.0  # Seconds that a client may go on sending what nobody reads; nginx's lingering_timeout.
_UNTAKEN = 1 << 20  # Bytes that wait for a client that is to ask for no more; bodies alone are a fifth of it at most.
_FRAMES = 256  # To be sent at once, as soon as there are so many: a client may ask 10,000 times in one read.
_FAREWELL = 1.0  # Seconds for a client to hear that it is to open no more streams.


class Http2Client(Guest):
    """The protocol of such a connection.

    What its streams send in one turn of the loop leaves in one piece. `deadline` is watched from beginning to end.
    """

    __slots__ = (
        "_acknowledged",
        "_closed",
        "_flushing",
        "_frames",
        "_leaving",
        "_owed_by",
        "_settle_by",
        "connection",
        "deadline",
    )

    def __init__(self, http: Http, *, tls: bool) -> None:
        super().__init__(http, tls=tls, told=None)
        self.deadline = NEVER
        self.connection = Connection(_terms(http.limits), self._wake, lambda: http.clock.now, self._accept)
        self._acknowledged = -1
        self._closed = False
        self._flushing = False
        self._frames = 0
        self._leaving = False
        self._owed_by = NEVER
        self._settle_by = NEVER

    @property
    def exchanges(self) -> Sequence[Exchange]:
        """What is under way."""
        streams = cast("list[AskingStream]", list(self.connection.streams.values()))
        return [stream.exchange for stream in streams if stream.exchange is not None]

    @property
    def gone(self) -> bool:
        """Whether the connection is closing, though nobody was told yet."""
        return self._transport.is_closing()

    @property
    def unsent(self) -> int:
        """How many bytes wait for this client, and for the endpoints of its requests; those of tunnels do not count."""
        waiting = self._transport.get_write_buffer_size()
        waiting += sum(stream.queued for stream in self.connection.streams.values())
        for exchange in self.exchanges:
            if exchange.connection is not None and exchange.tunnel is None:
                waiting += exchange.connection.unsent
        return waiting

    def _accept(self, number: int) -> AskingStream:
        """Return a new stream; raises `StreamFault` while its client does not take what it asked for before.

        A head waits for no window, and ends its stream where no body follows: no other limit counts such answers.
        """
        if len(self.connection.out) > _FRAMES:
            self._send()
        if self.connection.paused and self._transport.get_write_buffer_size() > _UNTAKEN:
            raise StreamFault(Code.REFUSED_STREAM, "the client does not take what it asked for")
        return AskingStream(self, number)

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, with a client that was identified already."""
        self._transport = cast("asyncio.Transport", transport)
        http = self.http
        http.worker.clients.add(self)
        http.clock.watch(self)
        self._transport.set_write_buffer_limits(high=http.limits.buffer)
        self._settle_by = self.deadline = http.clock.now + http.timeouts.head
        self.connection.begin()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        self.http.counters.received += len(data)
        if self._closed:
            return
        connection = self.connection
        connection.receive(data)
        now = self.http.clock.now
        if not connection.owed:
            self._owed_by = NEVER
        elif self._owed_by == NEVER or connection.frames != self._frames:
            self._owed_by = now + self.http.timeouts.head
        self._frames = connection.frames
        if not connection.paused:
            self._look_again()

    def _look_again(self) -> None:
        if self._leaving or self.connection.fault is not None:
            return
        settle_by = NEVER if self.connection.settled else self._settle_by
        self.deadline = min(self.http.clock.now + self.http.timeouts.keep_alive, self._owed_by, settle_by)

    def eof_received(self) -> bool:
        """End everything: hardly any client ends one half alone, and all end this one when they give up."""
        self.connection.drop_streams(Code.CANCEL)
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """End what is under way."""
        http = self.http
        http.clock.unwatch(self)
        http.counters.active -= 1
        http.worker.clients.discard(self)
        self.leave()
        self.connection.drop_streams(Code.CANCEL)
        self.connection.let_go()

    def pause_writing(self) -> None:
        """Send no bodies, and take no requests: who does not read answers gets no more of them."""
        self.connection.paused = True
        self._transport.pause_reading()
        self._acknowledged = -1
        self.deadline = self.http.clock.now + self.http.timeouts.send / 2

    def resume_writing(self) -> None:
        """Send what waits."""
        self.connection.paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._look_again()
        self.connection.pump()

    def _wake(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.http.loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send what has gathered, and as much of the bodies as the transport takes."""
        connection = self.connection
        if self._closed:
            connection.out.clear()  # Our side has ended, and nothing may be written behind that.
        while connection.out and not self._transport.is_closing():
            self._send()
            if connection.more and not connection.paused:
                connection.pump()
        self._flushing = False
        if not self._closed:
            self._end_in_time()

    def _end_in_time(self) -> None:
        """Close, or have the client ask for nothing more, when it is time for that."""
        connection = self.connection
        if connection.fault is not None:
            self.http.counters.faults[connection.fault.code.name.lower()] += 1
            self._close()
        elif self._leaving:
            if connection.refuses_more and not connection.streams:
                self._close()
        elif self.http.letting_go:
            self.drain()

    def _send(self) -> None:
        out = self.connection.out
        data = b"".join(out) if len(out) > 1 else out[0]
        out.clear()
        self.http.counters.sent += len(data)
        self._transport.write(data)

    def expire(self) -> None:
        """Act on a client that is too slow, or idle for too long."""
        connection, now = self.connection, self.http.clock.now
        if self._transport.get_write_buffer_size():
            if self._takes_more():
                self.deadline = now + self.http.timeouts.send / 2
            else:
                self.abort()
        elif connection.fault is not None or (connection.refuses_more and not connection.streams):
            self.abort()  # It was told, and had its time to read that.
        elif not connection.settled and self._settle_by <= now:
            self._end(ConnectionFault(Code.SETTINGS_TIMEOUT, "the settings were not confirmed in time"))
        elif self._owed_by <= now:
            self._end(ConnectionFault(Code.ENHANCE_YOUR_CALM, "a frame did not come in time"))
        elif self._leaving:
            connection.refuse_more()
            self.deadline = now + _FAREWELL
        elif connection.streams:
            self._look_again()
        else:
            self.drain()

    def _takes_more(self) -> bool:
        """Return whether the client took anything of what waits for it since this was asked last, or since it waits."""
        before, self._acknowledged = self._acknowledged, acknowledged(self._transport)
        return self._acknowledged != before

    def _end(self, fault: ConnectionFault) -> None:
        self.deadline = NEVER
        self.connection.end(fault)

    def _close(self) -> None:
        """Close once everything has left; what still comes is read and dropped, or its RST would destroy it."""
        self._closed = True
        self.deadline = self.http.clock.now + _LINGER
        if self.tls:
            self._transport.close()
        elif not self._transport.is_closing():
            self._transport.write_eof()

    # --- requests

    def head_of(self, block: Block, *, end: bool) -> RequestHead:
        """Return the head of a request, behind which nothing comes if this is the `end`.

        Raises `StreamFault` for what is malformed, and a `ClientError` for what nobody serves.
        """
        parser = self.http.requests
        known: Known | None = block.meaning
        if known is not None and known.parser is parser and self._speaker is None:
            head = known.model.again(known.beginning, block.size)
        else:
            request = read_request(block.fields)
            head = self._head_of(unfold(request, oversize=block.oversize))
            head.size = block.size
            if self._speaker is None and head.ordinary and not request.protocol:
                beginning = Beginning(head.method, head.target, head.path, head.raw_target)
                beginning.raw_host, beginning.host = head.raw_host, head.host
                block.meaning = Known(parser, head.again(beginning, block.size), beginning)
        if end:
            if head.length:
                raise StreamFault(Code.PROTOCOL_ERROR, "the body that was announced is missing")
        elif head.length is None and not head.upgrade:
            head.chunked = True
        return head

    def pack(self, response: ResponseHead) -> bytes:
        """Return the block of a head that is `plain`; it is remembered with it."""
        lines = response.plain.partition(b"\r\n")[2]
        response.packed = self.http.packer.head(response.status, lines)
        return response.packed

    # --- the worker's side

    def cut(self, error: ProxyError) -> None:
        """End with `error` what is under way, or the connection if nothing is."""
        exchanges = self.exchanges
        if not exchanges:
            self.abort()
        for exchange in exchanges:
            flow.fail(exchange, error)

    def drain(self) -> None:
        """Have the client open no more streams, and end the connection once all are over."""
        if not self._leaving:
            self._leaving = True
            self.connection.wind_down()
            self.deadline = self.http.clock.now + _FAREWELL

    def abort(self) -> None:
        """End the connection so that the client sees that its responses are cut off."""
        for exchange in self.exchanges:
            if exchange.tunnel is not None:
                exchange.tunnel.abort()
        reset_when_closed(self._transport)
        self._transport.abort()

    def squeeze(self) -> None:
        """Let no more wait for the client, and for its endpoints, than the limits allow now."""
        self._transport.set_write_buffer_limits(high=self.http.limits.buffer)
        for exchange in self.exchanges:
            if exchange.connection is not None:
                exchange.connection.squeeze()


def take_over(guest: Guest, transport: asyncio.Transport, data: bytes = b"") -> None:
    """Go on in HTTP/2 with the client of a connection that has just begun, and has sent `data`."""
    client = Http2Client(guest.http, tls=guest.tls)
    client.succeed(guest)
    transport.set_protocol(client)
    client.connection_made(transport)
    if data:
        client.data_received(data)


def _terms(limits: Limits) -> Terms:
    # Not less than a client takes for granted, or what it sends before it knows would be its fault.
    return Terms(streams=limits.streams, window=max(limits.buffer, USUAL_WINDOW), head=limits.head)
