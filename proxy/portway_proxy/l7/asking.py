"""A stream of a client: one request and its response, by frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from portway_proxy.clock import NEVER
from portway_proxy.errors import ClientError, ClientGone, RequestTimeout, UpstreamBadResponse
from portway_proxy.http2.codes import Code
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import Exchange
from portway_proxy.l7.replies import SIGNATURE, text_of
from portway_proxy.l7.request import RequestHead
from portway_proxy.l7.stream_transport import StreamTransport
from portway_proxy.l7.stream_uploader import StreamUploader

if TYPE_CHECKING:
    import asyncio

    from portway_proxy.http2.unpacking import Block
    from portway_proxy.l7.http2 import Http2Client
    from portway_proxy.l7.response import ResponseHead

__all__ = ["AskingStream"]


class AskingStream(StreamUploader):
    """The client of one exchange, on the connection of `home`."""

    __slots__ = (
        "_most",
        "_progress",
        "_tunnel",
        "response_keeps",
        "write_paused",
    )

    versions: ClassVar = (b"HTTP/2.0", b"HTTP/2.0")  # As nginx names it.

    def __init__(self, home: Http2Client, number: int) -> None:
        super().__init__(home, number)
        self.response_keeps = True
        self.write_paused = False
        self._most = 0
        self._progress = 0
        self._tunnel: StreamTransport | None = None

    # --- what comes

    def on_head(self, block: Block, *, end: bool) -> None:
        """Begin an exchange."""
        self.headed = True
        home = self.home
        try:
            head = home.head_of(block, end=end)
        except ClientError as error:
            self.identify()
            # Nothing of the request counts but that: what answers a HEAD has no body, whatever was wrong with it.
            self._refuse(error, b"HEAD" if (b":method", b"HEAD") in block.fields else b"-")
            return
        self.identify()
        if head.length is not None and not end:
            self.missing = head.length
        self.two_way = bool(head.upgrade)
        self.http.begin(self, head)

    def _refuse(self, error: ClientError, method: bytes) -> None:
        """Answer what is no request that anybody could serve."""
        head = RequestHead(method, b"-", 1)
        head.request_id = self.http.request_id()
        self.exchange = Exchange(self, head, self.http.loop.time())
        flow.fail(self.exchange, error)

    def on_data(self, data: bytes) -> None:
        """Pass on a part of the body, or of what follows a 101."""
        if self._tunnel is None:
            super().on_data(data)
        else:
            self._tunnel.take(data)

    def on_end(self, trailers: Block | None) -> None:
        """Pass on the end of what the client sends."""
        if self._tunnel is None:
            super().on_end(trailers)
        else:
            self._tunnel.take_end()

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

    # --- the asker: its response

    def keeps(self, head: RequestHead) -> bool:  # noqa: ARG002 - an asker's signature
        """Return True: a response ends its stream, not the connection."""
        return True

    def takes_trailers(self, head: RequestHead) -> bool:  # noqa: ARG002 - an asker's signature
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

    def interim(self, head: RequestHead, response: ResponseHead) -> None:  # noqa: ARG002 - an asker's signature
        """Send an interim response."""
        self.send_head(self.http.packer.head(response.status, b"".join(response.lines)), end=False)

    def head_of(self, exchange: Exchange, response: ResponseHead, own: bytes) -> bytes:  # noqa: ARG002 - an asker's signature
        """Return the block of a response's head, with `own` lines."""
        self._check_answer(response)
        lines = [*response.lines, own]
        if response.length is not None and response.status != 204:
            lines.append(b"content-length: %d\r\n" % response.length)
        if not response.named:
            lines.append(SIGNATURE)
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
        if self.queued > (self._most or self.http.limits.buffer) and not self.write_paused:
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

    def reply(
        self,
        head: RequestHead,
        status: int,
        fields: bytes,
        *,
        keeps: bool,  # noqa: ARG002 - an asker's signature
    ) -> tuple[int, int]:
        """Send a response of the proxy's own; return the sizes of its head and its body."""
        body = text_of(status)
        lines = self.http.signature + fields
        if body:
            lines += b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(body)
        block = self.http.packer.head(status, lines)
        body = b"" if head.method == b"HEAD" else body
        self.two_way = False
        self.send_whole(block, body)
        self._await_reader()
        return len(block), len(body)

    def widen(self, size: int) -> None:
        """Let so many bytes wait for the client, until `squeeze`."""
        self._most = size

    def squeeze(self) -> None:
        """Let no more wait for the client, and for its endpoint, than the limits allow."""
        self._most = 0
        if self.exchange is not None and self.exchange.connection is not None:
            self.exchange.connection.squeeze()

    def finished(self, *, keeps: bool) -> None:  # noqa: ARG002 - an asker's signature
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

    def switch(self, response: ResponseHead, lines: list[bytes], own: bytes) -> bytes:  # noqa: ARG002 - an asker's signature
        """Send the head that begins a tunnel here (RFC 8441, 5); nothing of it is for the tunnel to send."""
        kept = [line for line in lines if not line[:21].lower().startswith(b"sec-websocket-accept:")]
        self.send_head(self.http.packer.head(200, b"".join((*kept, own))), end=False)
        return b""

    def take_early(self) -> bytes:
        """Return what the client sent before its tunnel began."""
        early, self._early = b"".join(self._early), []
        self._done_with(len(early))
        return early

    def hand_over(self) -> asyncio.Transport:
        """Give the stream to a tunnel, and watch no deadline any more."""
        self._watch(NEVER)
        self._tunnel = tunnel = StreamTransport(self.http.loop, self, self.http.limits.buffer)
        if self.received:
            self.http.loop.call_soon(tunnel.take_end)
        return tunnel

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a protocol's signature
        """Give the client time to take what still waits: the tunnel has ended."""
        self._await_reader()
