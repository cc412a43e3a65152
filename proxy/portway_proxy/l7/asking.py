"""A stream of a client: one request and its response, by frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from portway_proxy.clock import NEVER
from portway_proxy.errors import ClientError, ClientGone, RequestTimeout, UpstreamBadResponse
from portway_proxy.http2.codes import Code
from portway_proxy.http2.semantics import check_trailers
from portway_proxy.http2.stream import Stream
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import Exchange
from portway_proxy.l7.replies import text_of
from portway_proxy.l7.request import RequestHead
from portway_proxy.l7.stream_transport import StreamTransport
from portway_proxy.l7.uploader import end_body, send_on

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from portway_proxy.http2.unpacking import Block
    from portway_proxy.l7.http2 import Http2Client
    from portway_proxy.l7.response import ResponseHead
    from portway_proxy.shown import Shown
    from portway_proxy.snapshot import ProxyVersion

__all__ = ["AskingStream"]


class AskingStream(Stream):
    """The client of one exchange, on the connection of `home`.

    What comes of the body is credited once the endpoint's connection has taken it, and no more than the window of a
    stream waits here. `deadline` is watched by the clock only while there is one.
    """

    __slots__ = (
        "_dropping",
        "_early",
        "_passed",
        "_paused",
        "_progress",
        "_tunnel",
        "_uncredited",
        "body_limit",
        "deadline",
        "exchange",
        "forwarded",
        "home",
        "http",
        "peer",
        "repeats",
        "response_keeps",
        "secure",
        "trailers",
        "write_paused",
    )

    versions: ClassVar = (b"HTTP/2.0", b"HTTP/2.0")  # As nginx names it.

    def __init__(self, home: Http2Client, number: int) -> None:
        super().__init__(home.connection, number)
        self.home = home
        self.http = home.http
        self.exchange: Exchange | None = None
        self.deadline = NEVER
        self.repeats = home.repeats
        self.peer = home.peer
        self.secure = home.secure
        self.forwarded = home.forwarded
        self.body_limit = 0
        self.response_keeps = True
        self.write_paused = False
        self.trailers: Sequence[bytes] = ()
        self._dropping = False
        self._early: list[bytes] = []
        self._passed = False
        self._paused = False
        self._progress = 0
        self._tunnel: StreamTransport | None = None
        self._uncredited = 0

    # --- what comes

    def on_head(self, block: Block, *, end: bool) -> None:
        """Begin an exchange."""
        self.headed = True
        home = self.home
        try:
            head = home.head_of(block, end=end)
        except ClientError as error:
            self.peer, self.secure, self.forwarded = home.peer, home.secure, home.forwarded
            self._refuse(error)
            return
        self.peer, self.secure, self.forwarded = home.peer, home.secure, home.forwarded
        if head.length is not None and not end:
            self.missing = head.length
        self.two_way = bool(head.upgrade)
        self.http.begin(self, head)

    def _refuse(self, error: ClientError) -> None:
        """Answer what is no request that anybody could serve."""
        head = RequestHead(b"-", b"-", 1)
        head.request_id = self.http.request_id()
        self.exchange = Exchange(self, head, self.http.loop.time())
        flow.fail(self.exchange, error)

    def on_data(self, data: bytes) -> None:
        """Pass on a part of the body, or hold it until somebody takes it."""
        exchange = self.exchange
        if self._tunnel is not None:
            self._tunnel.take(data)
        elif self._dropping or exchange is None:
            self.credit(len(data))
        elif exchange.connection is None or self._early or self.two_way:
            self._early.append(data)
        else:
            self._pass_on(exchange, data)

    def on_end(self, trailers: Block | None) -> None:
        """Pass on the end of the body."""
        if trailers is not None:
            self.trailers = [b"%b: %b" % field for field in check_trailers(trailers.fields)]
        exchange = self.exchange
        if self._tunnel is not None:
            self._tunnel.take_end()
        elif exchange is not None and exchange.connection is not None and not self._early and not self.two_way:
            self._watch(NEVER)
            if not self._dropping:
                self._passed = True
                end_body(exchange, exchange.connection)

    def on_reset(self, code: Code) -> None:
        """End what is under way: the client wants it no more, or its connection is gone."""
        self._watch(NEVER)
        if self._tunnel is not None:
            self._tunnel.lose(ConnectionResetError(f"the stream was broken off: {code.name}"))
        elif self.exchange is not None:
            flow.abandon(self.exchange)

    def on_drained(self) -> None:
        """Have the endpoint go on: the client has taken everything."""
        if self._tunnel is not None:
            self._tunnel.drained()
            return
        self._progress = 0
        self._watch(self._patience())
        if self.write_paused:
            self.write_paused = False
            if self.exchange is not None and self.exchange.connection is not None:
                self.exchange.connection.resume()

    # --- time

    def _watch(self, deadline: float) -> None:
        if self.deadline is not NEVER:
            if deadline is NEVER:
                self.http.clock.unwatch(self)
        elif deadline is not NEVER:
            self.http.clock.watch(self)
        self.deadline = deadline

    def _patience(self) -> float:
        """Return the deadline of a client that keeps up with its response."""
        exchange = self.exchange
        connection = None if exchange is None else exchange.connection
        if connection is None or connection.open_ended or self.received or self._paused or self._dropping:
            return NEVER
        return self.http.clock.now + self.http.timeouts.body

    def expire(self) -> None:
        """Act on a client that sends or takes nothing of this stream."""
        if self.queued:
            taken, self._progress = self._progress - self.queued, 0
            self._watch(NEVER)
            if taken > 0:
                self._await_reader()
                return
            self.reset(Code.CANCEL)
            if self.exchange is not None:
                flow.fail(self.exchange, ClientGone("the client reads nothing"))
            return
        self._watch(NEVER)
        if self.exchange is not None:
            flow.fail(self.exchange, RequestTimeout("the client was silent within its request"))

    def _await_reader(self, before: int = 0) -> None:
        """Give the client time to take some of what waits for it, if anything does; `before` is what waited already."""
        if not self.queued:
            return
        if self._progress:
            self._progress += self.queued - before  # Or what is new would look like a client that takes nothing.
        else:
            self._progress = self.queued
            self._watch(self.http.clock.now + self.http.timeouts.send / 2)

    # --- the asker: who it is

    @property
    def tls(self) -> bool:
        """Whether it came to a port for TLS."""
        return self.home.tls

    @property
    def strict(self) -> bool:
        """Whether it was shown a certificate for the very name that it asked for."""
        return self.home.strict

    @property
    def authority(self) -> str:
        """The authority by which it was asked for a certificate of its own; empty for none."""
        return self.home.authority

    @property
    def shown(self) -> Shown:
        """The certificate that it showed."""
        return self.home.shown

    @property
    def note(self) -> Callable[[Exchange], None]:
        """What takes its exchange when it is over."""
        return self.home.note

    @property
    def gone(self) -> bool:
        """Whether it is gone, though nobody was told yet."""
        return self.sent or self.home.gone

    def announcement(self, version: ProxyVersion) -> bytes:
        """Return the PROXY header that tells an endpoint who the client is."""
        return self.home.announcement(version)

    # --- the asker: its request

    @property
    def request_read(self) -> bool:
        """Whether the whole body of the request was passed on."""
        return self._passed

    def send_body(self) -> None:
        """Send what came of the body, then the rest as it comes."""
        exchange = self.exchange
        early, self._early = self._early, []
        self._paused = False
        for data in early:
            if exchange is not None and exchange.connection is not None:
                self._pass_on(exchange, data)
        if exchange is None or exchange.connection is None:
            return
        if self.received:
            self._passed = True
            end_body(exchange, exchange.connection)
        else:
            self._watch(self._patience())

    def _pass_on(self, exchange: Exchange, data: bytes) -> None:
        connection = exchange.connection
        if connection is None:
            return
        try:
            send_on(exchange, connection, [data], self.body_limit)
        except ClientError as error:
            flow.fail(exchange, error)
            return
        if self._paused:
            self._uncredited += len(data)
            return
        self.credit(len(data))
        if not self.queued:
            # Each byte buys a little time: who sends one now and then, always in time, runs out of it.
            until = self._patience()
            rate = self.http.limits.body_rate
            self._watch(min(until, self.deadline + len(data) / rate) if rate else until)

    def drop_body(self) -> None:
        """Send what is left of the body nowhere."""
        self._dropping = True
        early, self._early = self._early, []
        self.credit(sum(map(len, early)))

    def pause(self) -> None:
        """Credit nothing for now: the endpoint does not keep up."""
        self._paused = True
        if not self.queued:
            self._watch(NEVER)

    def resume(self) -> None:
        """Let the client go on."""
        self._paused = False
        size, self._uncredited = self._uncredited, 0
        if size:
            self.credit(size)
        if not self.queued:
            self._watch(self._patience())

    # --- the asker: its response

    def keeps(self, head: RequestHead) -> bool:  # noqa: ARG002 - an asker's signature
        """Return True: a response ends its stream, not the connection."""
        return True

    def takes_trailers(self, head: RequestHead) -> bool:  # noqa: ARG002 - as above
        """Return True: they have a place of their own."""
        return True

    def forward(self, response: ResponseHead, body: bytes) -> None:
        """Send a whole response whose head is `plain`."""
        self._check_answer(response)
        self.send_whole(response.packed or self.home.pack(response), body)
        self._await_reader()

    def _check_answer(self, response: ResponseHead) -> None:
        """Raise `UpstreamBadResponse` for what the client of a tunnel would take for one."""
        if self.two_way:
            if response.status < 300:
                raise UpstreamBadResponse("the endpoint answered where it was to switch protocols")
            self.two_way = False

    def interim(self, head: RequestHead, response: ResponseHead) -> None:  # noqa: ARG002 - as above
        """Send an interim response."""
        self.send_head(self.http.packer.head(response.status, b"".join(response.lines)), end=False)

    def head_of(self, exchange: Exchange, response: ResponseHead, own: bytes) -> bytes:  # noqa: ARG002 - as above
        """Return the block of a response's head, with `own` lines."""
        self._check_answer(response)
        lines = [*response.lines, own]
        if response.length is not None and response.status != 204:
            lines.append(b"content-length: %d\r\n" % response.length)
        if not response.named:
            lines.append(b"server: portway\r\n")
        if not response.dated:
            lines.append(b"date: %b\r\n" % self.http.date())
        return self.http.packer.head(response.status, b"".join(lines))

    def deliver(self, head: bytes, pieces: list[bytes]) -> None:
        """Send a part of the response."""
        before = self.queued
        if head:
            self.send_head(head, end=False)
        if pieces:
            self.send(b"".join(pieces) if len(pieces) > 1 else pieces[0], end=False)
        self._await_reader(before)
        if self.queued > self.http.limits.buffer and not self.write_paused:
            self.write_paused = True
            if self.exchange is not None and self.exchange.connection is not None:
                self.exchange.connection.pause()

    def deliver_end(self, head: bytes, pieces: list[bytes], trailers: bytes) -> None:
        """Send the last part of the response."""
        if trailers:
            self.deliver(head, pieces)
            self.send_end(self.http.packer.fields(trailers))
            return
        before = self.queued
        body = b"".join(pieces)
        if head:
            self.send_whole(head, body)
        else:
            self.send(body, end=True)
        self._await_reader(before)

    def reply(self, head: RequestHead, status: int, fields: bytes, *, keeps: bool) -> tuple[int, int]:  # noqa: ARG002
        """Send a response of the proxy's own; return the sizes of its head and its body."""
        body = text_of(status)
        lines = b"server: portway\r\n" + fields
        if body:
            lines += b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(body)
        block = self.http.packer.head(status, lines)
        body = b"" if head.method == b"HEAD" else body
        self.two_way = False
        self.send_whole(block, body)
        self._await_reader()
        return len(block), len(body)

    def finished(self, *, keeps: bool) -> None:  # noqa: ARG002 - as above
        """Note that the exchange is over; the rest of its response may still wait for the client."""
        if not self.queued:
            self._watch(NEVER)

    def abort(self) -> None:
        """Break the stream off, so that the client sees that its response is cut off."""
        if self.exchange is not None and self.exchange.tunnel is not None:
            self.exchange.tunnel.abort()
            return
        self._watch(NEVER)
        self.reset(Code.INTERNAL_ERROR)

    # --- the asker: a tunnel

    def switch(self, response: ResponseHead, lines: list[bytes], own: bytes) -> bytes:  # noqa: ARG002 - as above
        """Send the head that begins a tunnel here (RFC 8441, 5); nothing of it is for the tunnel to send."""
        kept = [line for line in lines if not line[:21].lower().startswith(b"sec-websocket-accept:")]
        self.send_head(self.http.packer.head(200, b"".join((*kept, own))), end=False)
        return b""

    def take_early(self) -> bytes:
        """Return what the client sent before its tunnel began."""
        early, self._early = b"".join(self._early), []
        self.credit(len(early))
        return early

    def hand_over(self) -> asyncio.Transport:
        """Give the stream to a tunnel, and watch no deadline any more."""
        self._watch(NEVER)
        self._tunnel = tunnel = StreamTransport(self.http.loop, self, self.http.limits.buffer)
        if self.received:
            self.http.loop.call_soon(tunnel.take_end)
        return tunnel

    def connection_lost(self, exc: Exception | None) -> None:
        """Do nothing: a stream whose tunnel has ended has ended itself."""
