"""One exchange with an endpoint that speaks HTTP/2: a stream of a connection that is shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portway_proxy.clock import NEVER
from portway_proxy.errors import (
    DeadlineExceeded,
    ProxyError,
    StreamRefused,
    UpstreamBadResponse,
    UpstreamReset,
    UpstreamStale,
    UpstreamTimeout,
)
from portway_proxy.http2.codes import Code, StreamFault
from portway_proxy.http2.stream import Stream
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import (
    EARLY,
    HEAD_SENT,
    REQUEST_END,
    REQUEST_SENT,
    RESPONSE_HEAD,
    SENDING,
    Exchange,
)
from portway_proxy.l7.pace import Meter
from portway_proxy.l7.passage import timeouts_of
from portway_proxy.l7.trail import trail_of
from portway_proxy.l7.trailers import for_endpoint, known_for_client
from portway_proxy.l7.translation import read_trailers

if TYPE_CHECKING:
    from portway_proxy.http2.connection import Connection
    from portway_proxy.http2.outgoing import Outgoing
    from portway_proxy.http2.unpacking import Block
    from portway_proxy.l7.response import ResponseHead
    from portway_proxy.l7.shared import SharedConnection

__all__ = ["Call"]

_KEPT: Final = 65536  # Bytes of a request's body that can be sent once more; gRPC's own retries keep 256 KiB.


class _Side(Stream):
    """The stream of a call."""

    __slots__ = ("_call",)

    def __init__(self, connection: Outgoing, number: int, call: Call) -> None:
        super().__init__(connection, number)
        self._call = call

    def on_head(self, block: Block, *, end: bool) -> None:
        self._call.take_head(self, block, end=end)

    def on_data(self, data: bytes) -> None:
        self._call.take_data(data)

    def on_end(self, trailers: Block | None) -> None:
        self._call.take_end(trailers)

    def on_reset(self, code: Code) -> None:
        self._call.broken_off(code)

    def on_drained(self) -> None:
        self._call.drained()


class Call:
    """One exchange with an endpoint, from the head of its request to the end of its response.

    What is sent waits for `push`, what came for `hand_on`, so that all that comes together goes on together.
    """

    __slots__ = (
        "_answered",
        "_body",
        "_ended",
        "_ending",
        "_fault",
        "_first",
        "_head",
        "_interim",
        "_kept",
        "_meter",
        "_pieces",
        "_shared",
        "_stream",
        "_timeouts",
        "_unread",
        "_until",
        "deadline",
        "exchange",
        "open_ended",
        "write_paused",
    )

    def __init__(self, shared: SharedConnection, exchange: Exchange, *, first: bool) -> None:
        self.exchange: Exchange | None = exchange
        self.deadline = NEVER
        self.open_ended = False
        self.write_paused = False
        self._shared = shared
        self._first = first
        self._stream: Stream
        self._timeouts = timeouts_of(exchange)
        self._until = NEVER
        self._answered = False
        self._interim = 0
        self._fault = ""
        self._body: list[bytes] = []
        self._ending: bytes | None = None
        self._kept: list[bytes] | None = []
        self._head = b""
        self._pieces: list[bytes] = []
        self._unread = 0
        self._meter: Meter | None = None
        self._ended: bytes | None = None

    @property
    def unsent(self) -> int:
        """How many bytes wait for the endpoint to take them."""
        return self._stream.queued + sum(map(len, self._body))

    # --- the exchange's side

    def begin(self, connection: Connection, exchange: Exchange) -> None:
        """Send the head of the request, and its body as the client delivers it."""
        exchange.connection = self
        self._stream = connection.open(lambda number: _Side(connection, number, self))
        shared, client, passage = self._shared, exchange.client, exchange.passage
        head = exchange.head if passage is None else passage.instead or exchange.head
        if passage is not None and passage.pace is not None:
            self._meter = Meter(passage.pace, shared.http.loop, self._go_on)
        block, self.open_ended, timeout = shared.pack(exchange, head)
        self._until = exchange.started + timeout
        if not head.length and not head.chunked:
            exchange.on(REQUEST_SENT)
            self._stream.send_head(block, end=True)
            self._wait(self._timeouts.response)
            return
        exchange.on(HEAD_SENT)
        self._stream.send_head(block, end=False)
        if exchange.trail is not None and exchange.trail.body:
            self.send(exchange.trail.body)
        if client.request_read:
            self.request_ended(exchange)
            return
        self._wait_for_either(exchange)
        client.send_body()

    def send(self, pieces: list[bytes]) -> None:
        """Send a part of the request's body."""
        if self.open_ended:
            self._wait(self._timeouts.read)
        if not self._body:
            self._shared.later(self)
        self._body += pieces
        if self._kept is not None:
            self._kept += pieces
            if self.exchange is None or self.exchange.request_size > _KEPT:
                self._kept = None

    def request_ended(self, exchange: Exchange) -> None:
        """End the request's body."""
        trailers = exchange.client.trailers
        self._ending = exchange.client.http.packer.fields(for_endpoint(exchange, trailers)) if trailers else b""
        if not self._body:
            self._shared.later(self)
        exchange.on(REQUEST_END)
        self._wait(self._timeouts.read if self._answered else self._timeouts.response)

    def push(self) -> None:
        """Send what waits for the endpoint, as far as it takes that now."""
        if self.exchange is None:
            return
        stream = self._stream
        body, self._body = self._body, []
        data = body[0] if len(body) == 1 else b"".join(body)
        trailers, self._ending = self._ending, None
        if trailers:
            if data:
                stream.send(data, end=False)
            stream.send_end(trailers)
        elif data or trailers is not None:
            stream.send(data, end=trailers is not None)
        if stream.queued > self._shared.http.limits.buffer and not self.write_paused:
            self.write_paused = True
            self._wait(self._timeouts.write)
            self.exchange.client.pause()

    def drained(self) -> None:
        """Take more of the request's body: the endpoint has taken what waited."""
        exchange = self.exchange
        if exchange is not None and self.write_paused:
            self.write_paused = False
            self._wait_for_either(exchange)
            exchange.client.resume()

    def abandon(self) -> None:
        """Let go of the exchange, and tell the endpoint that nobody waits."""
        self.exchange = None
        self._shared.leave(self)
        self._stream.reset(Code.CANCEL)

    def squeeze(self) -> None:
        """Do nothing: windows bound what waits."""

    def pause(self) -> None:
        """Let the endpoint send no more than it may already: the client does not keep up, its own deadline counts."""
        self.deadline = self._until

    def resume(self) -> None:
        """Let the endpoint send again, and the client have what waits."""
        self._credit()
        if self._meter is not None:
            self._shared.http.loop.call_soon(self._go_on)

    def cut(self, error: ProxyError) -> None:
        """End the exchange with `error`."""
        if self.exchange is not None:
            flow.fail(self.exchange, error)

    def expire(self) -> None:
        """End an exchange whose endpoint is silent, or that has come to its own deadline."""
        exchange = self.exchange
        self.deadline = NEVER
        if exchange is None:
            return
        if self._until <= self._shared.http.clock.now:
            flow.fail(exchange, DeadlineExceeded("the client's own deadline has passed"))
        else:
            flow.fail(exchange, UpstreamTimeout(f"{self._shared.pool.endpoint} was silent for too long"))

    def _wait_for_either(self, exchange: Exchange) -> None:
        """Wait for a client that still sends, or for the endpoint, or where either may come next for both."""
        sending = exchange.state in (SENDING, EARLY) and not self.open_ended
        self._wait(NEVER if sending else self._timeouts.read if self._answered else self._timeouts.response)

    def _wait(self, seconds: float) -> None:
        """Give the endpoint so long, unless the exchange has less time."""
        self.deadline = min(self._until, self._shared.http.clock.now + seconds)

    # --- the stream's side

    def take_head(self, stream: Stream, block: Block, *, end: bool) -> None:
        """Take the head of a response, which may be an interim one; raises `StreamFault` for a malformed one."""
        exchange = self.exchange
        if exchange is None:
            stream.headed = True
            return
        http = self._shared.http
        try:
            response = (http.strict_heads if exchange.client.strict else http.heads).read(block)
            if response.status >= 200:
                stream.headed = True
                self._begin(exchange, stream, response, end=end)
                return
            self._interim += 1
            if end or self._interim > http.limits.interim_responses:
                raise UpstreamBadResponse("the endpoint sent too many interim responses, or one that is the last")
            exchange.client.interim(exchange.head, response)
        except StreamFault as fault:
            self._fault = str(fault)
            raise
        except ProxyError as error:
            flow.fail(exchange, error)

    def _begin(self, exchange: Exchange, stream: Stream, response: ResponseHead, *, end: bool) -> None:
        length = response.length
        if exchange.head.method == b"HEAD" or response.status in (204, 304):
            length = 0  # Whatever came would be taken for the beginning of the next response.
        if end and length:
            raise StreamFault(Code.PROTOCOL_ERROR, "the body is shorter than was announced")
        if length is not None:
            stream.missing = length
        pool = self._shared.pool
        own = b""
        if response.status >= 400 or pool.attentive:
            judged = flow.judge(exchange, pool, response.status)
            if judged is None:
                return
            own = judged
        self._answered = True
        self._kept = None
        exchange.response = response
        exchange.status = response.status
        exchange.on(RESPONSE_HEAD)
        if exchange.passage is not None:
            response = exchange.passage.response(response)
        self._head = exchange.client.head_of(exchange, response, own)
        trail = trail_of(exchange)
        trail.headed = self._shared.http.loop.time()
        trail.head_size = len(self._head)
        if end:
            self._finish(exchange, b"")
        else:
            self._shared.came(self)

    def take_data(self, data: bytes) -> None:
        """Take a part of the response's body."""
        exchange = self.exchange
        if exchange is None:
            self._stream.credit(len(data))
            return
        if not self._head and not self._pieces:
            self._shared.came(self)
        exchange.response_size += len(data)
        self._unread += len(data)
        self._pieces.append(data)

    def take_end(self, trailers: Block | None) -> None:
        """Take the end of the response; raises `StreamFault` for malformed trailers."""
        exchange = self.exchange
        if exchange is None:
            return
        known = b"" if trailers is None else known_for_client(exchange, read_trailers(trailers))
        if self._meter is None:
            self._finish(exchange, known)
        else:
            self._ended = known
            self._go_on()

    def _go_on(self) -> None:
        """Send the client what is due by now of a response that has a pace."""
        exchange, meter = self.exchange, self._meter
        if exchange is None or meter is None or exchange.client.write_paused:
            return
        self._hand_on(exchange, meter.take(self._pieces))
        if self._ended is not None and self.exchange is exchange and not meter.size:
            self._finish(exchange, self._ended)

    def _finish(self, exchange: Exchange, trailers: bytes) -> None:
        """End the exchange, whose response is complete."""
        client, stream = exchange.client, self._stream
        early = exchange.state is EARLY
        exchange.connection = None
        self.exchange = None
        head, pieces = self._head, self._pieces
        self._head, self._pieces = b"", []
        if self._unread:
            stream.credit(self._unread)
        if not stream.sent:
            # Whoever answers before the request is complete will not read the rest.
            stream.reset(Code.NO_ERROR)
        self._shared.leave(self)
        client.deliver_end(head, pieces, trailers)
        flow.complete(exchange, keeps=client.response_keeps and not early)

    def hand_on(self) -> None:
        """Send the client what came."""
        exchange = self.exchange
        if exchange is not None and (self._head or self._pieces):
            self._hand_on(exchange, self._pieces if self._meter is None else self._meter.take(self._pieces))

    def _hand_on(self, exchange: Exchange, pieces: list[bytes]) -> None:
        head, self._head, self._pieces = self._head, b"", []
        if not (head or pieces):
            return
        exchange.client.deliver(head, pieces)
        if not exchange.client.write_paused:
            self._credit()

    def _credit(self) -> None:
        """Let the endpoint send as much more as the client has taken."""
        held = 0 if self._meter is None else self._meter.size
        unread, self._unread = self._unread - held, held
        if unread:
            self._stream.credit(unread)
        self._wait(self._timeouts.read)

    def broken_off(self, code: Code) -> None:
        """Take the end of the stream before that of the response."""
        exchange = self.exchange
        if exchange is None:
            return
        self._unread = 0  # The connection counts it as read.
        self._meter = None
        self.hand_on()
        if self.exchange is not None:
            flow.fail(exchange, self._failure(exchange, code))

    def _failure(self, exchange: Exchange, code: Code) -> ProxyError:
        endpoint = self._shared.pool.endpoint
        silent = not self._answered and not self._interim
        if self._fault or self._shared.fault:
            return UpstreamBadResponse(f"{endpoint}: {self._fault or self._shared.fault}")
        if not silent:
            return UpstreamReset(f"{endpoint} broke the stream off: {code.name}")
        if code is Code.REFUSED_STREAM and (self._kept is not None or not exchange.request_size):
            if self._kept:
                trail_of(exchange).body = self._kept
            return StreamRefused(f"{endpoint} did not take the request")
        if self._shared.lost and not self._first:
            return UpstreamStale("the connection had ended")
        return UpstreamReset(f"{endpoint} broke the stream off: {code.name}", silent=True)
