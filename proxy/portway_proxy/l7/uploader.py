"""The part of a client's connection that takes the bodies of its requests, and passes them on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from portway_proxy.clock import NEVER
from portway_proxy.errors import BodyTooLarge, ClientError, ClientGone
from portway_proxy.l7 import flow
from portway_proxy.l7.ahead import Ahead
from portway_proxy.l7.framing import DROPPED, EMPTY, Framing, framing_of
from portway_proxy.l7.responder import Responder

if TYPE_CHECKING:
    from portway_proxy.l7.buffering import Gathering
    from portway_proxy.l7.carrier import Carrier
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.http import Http
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.proxy_protocol import ProxyHeader

__all__ = ["Uploader", "end_body", "send_on"]

_LOOK = 1.0  # Seconds between two looks at a client that nobody reads from.


class Uploader(Responder):
    """The protocol of a client connection, as far as it is about bodies of requests.

    Bytes that cannot be used yet (a part of a head, a pipelined request) are held, a bounded number of them. `ended`
    says that the client will send nothing more.
    """

    __slots__ = (
        "_ahead",
        "_framing",
        "_gathering",
        "_paused",
        "body_limit",
        "deadline",
        "ended",
        "exchange",
        "write_paused",
    )

    def __init__(self, http: Http, *, tls: bool, told: ProxyHeader | None) -> None:
        super().__init__(http, tls=tls, told=told)
        self.exchange: Exchange | None = None
        self.deadline = NEVER
        self.ended = False
        self.body_limit = 0
        self.write_paused = False
        self._framing: Framing = EMPTY
        self._ahead = Ahead(http.limits)
        self._gathering: Gathering | None = None
        self._paused = False

    @property
    def request_read(self) -> bool:
        """Whether the whole body of the request was taken from the client."""
        return self._framing.done

    @property
    def trailers(self) -> Sequence[bytes]:
        """The fields behind the body of the request, as `Name: value`; none before its end."""
        return self._framing.trailers

    def send_body(self) -> None:
        """Send what was held of the body, then the rest as it comes."""
        exchange = self.exchange
        if exchange is None:
            return
        self.deadline = self.http.clock.now + self.http.timeouts.body
        self.resume()
        if self._ahead.held:
            self._take_body(exchange, self._ahead.take_all())
        if self.ended and not self._framing.done:
            flow.fail(exchange, ClientGone("the client hung up within its request"))

    def framing_of(self, head: RequestHead) -> Framing:
        """Return what tells where the body of a request ends, in what is held and what comes."""
        return framing_of(head, self.http.limits)

    def gather(self, gathering: Gathering) -> bool:
        """Hold the body of the request for a while; return whether enough of it is there already."""
        self._gathering = gathering
        more = gathering.take(bytes(self._ahead.held))
        if more:
            self.deadline = self.http.clock.now + self.http.timeouts.body
            self.resume()
        else:
            self._gathering = None
        return not more

    def _gather(self, gathering: Gathering, data: bytes) -> None:
        self.deadline = self.http.clock.now + self.http.timeouts.body
        try:
            if gathering.take(data):
                return
        except ClientError as error:
            self._gathering = None
            gathering.failed(error)
        else:
            self._gathering = None
            self.deadline = NEVER
            gathering.over()

    def widen(self, size: int) -> None:
        """Let so many bytes wait for the client, until `squeeze`."""
        self._transport.set_write_buffer_limits(high=size)

    def drop_body(self) -> None:
        """Send what is left of the body nowhere; the connection ends with the response."""
        if not self._framing.done:
            self._framing = DROPPED
            self.resume()

    def _take_body(self, exchange: Exchange, data: bytes) -> None:
        connection = exchange.connection
        if connection is None:
            return
        pieces: list[bytes] = []
        try:
            used = self._framing.take(data, pieces)
            if pieces:
                send_on(exchange, connection, pieces, self.body_limit)
        except ClientError as error:
            flow.fail(exchange, error)
            return
        if self._framing.done:
            self._hold(data[used:])
            self.deadline = NEVER
            end_body(exchange, connection)
        elif not connection.write_paused:
            # Each byte buys a little time: who sends one now and then, always in time, runs out of it.
            until = self.http.clock.now + self.http.timeouts.body
            rate = self.http.limits.body_rate
            self.deadline = min(until, self.deadline + len(data) / rate) if rate else until

    def _hold(self, data: bytes) -> None:
        self._ahead.held += data
        if self._gathering is not None:
            self._gather(self._gathering, data)
            return
        if len(self._ahead.held) > self.http.limits.buffer:
            self.pause()

    def pause(self) -> None:
        """Stop reading from the client."""
        if not self._paused:
            self._paused = True
            if not self.write_paused and self.exchange is not None:
                self.deadline = self._patience(self.exchange)
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read from the client again."""
        if self._paused and not self._transport.is_closing():
            self._paused = False
            if self.exchange is not None and not self.write_paused:
                self.deadline = self._patience(self.exchange)
            self._transport.resume_reading()

    def _patience(self, exchange: Exchange) -> float:
        """Return the deadline of a client that keeps up with its responses."""
        if self._paused:
            return self.http.clock.now + _LOOK
        if self._framing.done or exchange.connection is None:
            return NEVER
        return self.http.clock.now + self.http.timeouts.body


def send_on(exchange: Exchange, connection: Carrier, pieces: list[bytes], limit: int) -> None:
    """Send a part of a request's body to the endpoint, and to whoever gets a copy; raises `BodyTooLarge`."""
    exchange.request_size += sum(map(len, pieces))
    if 0 < limit < exchange.request_size:
        raise BodyTooLarge(f"the body is longer than {limit} bytes")
    connection.send(pieces)
    if exchange.passage is not None and exchange.passage.copy is not None:
        exchange.passage.copy.take(pieces)


def end_body(exchange: Exchange, connection: Carrier) -> None:
    """Tell the endpoint, and whoever gets a copy, that the body of a request is complete."""
    if exchange.passage is not None:
        exchange.passage.body_ended()
    connection.request_ended(exchange)
