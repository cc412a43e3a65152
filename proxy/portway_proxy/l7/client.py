"""A client's connection: requests in, one after another, responses out in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from portway_proxy.clock import NEVER
from portway_proxy.errors import ClientError, ClientGone, RequestTimeout, TlsToPlainPort
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import Exchange
from portway_proxy.l7.framing import EMPTY, Length, UntilClose, framing_of
from portway_proxy.l7.guest import HANDSHAKE
from portway_proxy.l7.http2 import PRIOR_KNOWLEDGE, take_over
from portway_proxy.l7.request import RequestHead
from portway_proxy.l7.sockets import BROKEN, ENDED, acknowledged, heard, reset_when_closed
from portway_proxy.l7.uploader import Uploader

if TYPE_CHECKING:
    from portway_proxy.errors import ProxyError
    from portway_proxy.l7.http import Http
    from portway_proxy.proxy_protocol import ProxyHeader

__all__ = ["ClientConnection"]

_LINGER = 5.0  # Seconds that a client may go on sending what nobody reads; nginx's lingering_timeout.


class ClientConnection(Uploader):
    """The protocol of one client connection."""

    __slots__ = ("_acknowledged", "_lingering")

    def __init__(self, http: Http, *, tls: bool, told: ProxyHeader | None = None) -> None:
        super().__init__(http, tls=tls, told=told)
        self._acknowledged = -1
        self._lingering = False

    @property
    def exchanges(self) -> Sequence[Exchange]:
        """What is under way: one exchange, or none."""
        return () if self.exchange is None else (self.exchange,)

    @property
    def gone(self) -> bool:
        """Whether the connection is closing, though nobody was told yet."""
        return self._transport.is_closing()

    @property
    def unsent(self) -> int:
        """How many bytes wait for this client, and for the endpoint of its request; those of a tunnel do not count."""
        exchange = self.exchange
        if exchange is not None and exchange.tunnel is not None:
            return 0
        connection = None if exchange is None else exchange.connection
        return self._transport.get_write_buffer_size() + (0 if connection is None else connection.unsent)

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        self._transport = cast("asyncio.Transport", transport)
        http = self.http
        http.counters.active += 1
        if self.tls:
            http.counters.handshakes += 1
        http.worker.clients.add(self)
        http.clock.watch(self)
        if not self.identify():
            self._transport.abort()
            return
        if self.tls and transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            self._go_on_in_http2()
            return
        self._transport.set_write_buffer_limits(high=http.limits.buffer)
        self.deadline = http.clock.now + http.timeouts.head

    def _go_on_in_http2(self, data: bytes = b"") -> None:
        """Leave the connection, whose client has sent `data`, to another protocol."""
        self._lingering = True
        self.http.clock.unwatch(self)
        self.http.worker.clients.discard(self)
        take_over(self, self._transport, data)

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        self.http.counters.received += len(data)
        exchange = self.exchange
        if exchange is None:
            if self._lingering:
                return
            if self.write_paused:
                self._hold(data)  # Who does not read answers gets no more of them.
            else:
                self._serve(data)
        elif exchange.connection is None or self._framing.done:
            self._hold(data)
        else:
            self._take_body(exchange, data)

    def eof_received(self) -> bool:
        """End what is under way: hardly any client ends one half alone, and all end this one when they give up.

        As nginx does, and like it not while further requests wait, whose client could mean both.
        """
        exchange = self.exchange
        self.ended = True
        if exchange is None:
            # Held and not yet searched are whole requests, whose turn comes.
            return bool(self._ahead.held) and not self._ahead.begun and not self.tls
        if self._more_waits() and not self.tls:
            return True
        flow.fail(exchange, ClientGone("the client hung up"))
        return False

    def _more_waits(self) -> bool:
        """Return whether anything is held that the client sent after the request under way."""
        framing = self._framing
        missing = framing.remaining if isinstance(framing, Length) else 0
        return len(self._ahead.held) > missing and (framing.done or missing > 0)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """End what is under way."""
        http = self.http
        http.clock.unwatch(self)
        http.counters.active -= 1
        http.worker.clients.discard(self)
        self.leave()
        self._lingering = True
        if self.exchange is not None:
            flow.abandon(self.exchange)

    def pause_writing(self) -> None:
        """Stop reading from the endpoint: the client does not keep up."""
        self.write_paused = True
        self._acknowledged = -1
        self.deadline = self.http.clock.now + self.http.timeouts.send / 2
        if self.exchange is not None and self.exchange.connection is not None:
            self.exchange.connection.pause()

    def resume_writing(self) -> None:
        """Read from the endpoint again, or go on to the next request."""
        self.write_paused = False
        exchange = self.exchange
        if exchange is None:
            if not self._lingering:
                self.finished(keeps=True)
            return
        self.deadline = self._patience(exchange)
        if exchange.connection is not None:
            exchange.connection.resume()

    def expire(self) -> None:
        """Act on a client that is too slow, or idle for too long."""
        self.deadline = NEVER
        exchange = self.exchange
        if (self.write_paused or self._lingering) and self._takes_more():
            self.deadline = self.http.clock.now + self.http.timeouts.send / 2
        elif exchange is not None and self._paused and not self.write_paused:
            self._look(exchange)
        elif exchange is not None:
            timeout = RequestTimeout("the client was silent within its request")
            flow.fail(exchange, ClientGone("the client reads nothing") if self.write_paused else timeout)
        elif self._ahead.held and not self.write_paused:
            self._refuse(RequestTimeout("the head did not come in time"))
        else:
            self._transport.abort()

    def _look(self, exchange: Exchange) -> None:
        """See whether a client that is not read left meanwhile; whoever holds it up has a deadline of its own."""
        end = heard(self._transport)
        if end & BROKEN or (end & ENDED and not self._more_waits()):
            flow.fail(exchange, ClientGone("the client hung up"))
        else:
            self.deadline = self._patience(exchange)

    def _takes_more(self) -> bool:
        """Return whether the client took anything of what waits for it since this was asked last, or since it waits."""
        if not self._transport.get_write_buffer_size():
            return False
        before, self._acknowledged = self._acknowledged, acknowledged(self._transport)
        return self._acknowledged != before

    # --- requests

    def _serve(self, data: bytes) -> None:
        """Take the head of the next request; pipelined ones follow as each is answered."""
        ahead, block = self._ahead, self._block
        head = None if block is None or ahead.held else self.http.requests.again(data, block)
        if head is None:
            try:
                begun = ahead.begun
                data = ahead.take_head(data)
                if not data:
                    self._await_head(begun)
                    return
                head = self._head_of(data)
            except ClientError as error:
                if data == PRIOR_KNOWLEDGE and self.http.tls.http2 and not self.tls:
                    self._go_on_in_http2(data + ahead.take_all())
                    return
                self._refuse(TlsToPlainPort() if data.startswith(HANDSHAKE) else error)
                return
        self.deadline = NEVER
        self._framing = framing_of(head, self.http.limits) if head.length or head.chunked else EMPTY
        self.http.begin(self, head)

    def _await_head(self, begun: bool) -> None:  # noqa: FBT001 - a claim, not an option
        self._block = None  # What comes next is no head, or not all that has come of one.
        if self.ended:
            self._end()  # The rest will not come.
        elif self._ahead.held.startswith(HANDSHAKE):
            self._refuse(TlsToPlainPort())
        elif not begun:
            self.deadline = self.http.clock.now + self.http.timeouts.head

    def _refuse(self, error: ClientError) -> None:
        """Answer what is no request, and end the connection."""
        self._speak_for_itself()
        head = RequestHead(b"-", b"-", 1)
        self.exchange = Exchange(self, head, self.http.loop.time())
        head.request_id = self.http.request_id()
        self._ahead.held.clear()
        self._framing = UntilClose()  # Where this request would have ended nobody knows.
        flow.fail(self.exchange, error)

    # --- the exchange's side

    def keeps(self, head: RequestHead) -> bool:
        """Return whether the connection may stay after the response to `head`."""
        http = self.http
        if not head.keep_alive or not self._framing.done or http.letting_go or http.worker.draining:
            return False
        return not self.ended or bool(self._ahead.held)

    def finished(self, *, keeps: bool) -> None:
        """Go on to the next request, or end the connection."""
        if not keeps or (self.ended and not self._ahead.held):
            self._end()
            return
        if self.write_paused:
            return  # The client has yet to read what it got; `resume_writing` goes on.
        http = self.http
        self.deadline = http.clock.now + http.timeouts.keep_alive
        if self._paused:
            self.resume()
        if self._ahead.held:
            # Later, or a client that pipelines a thousand requests would nest a thousand calls.
            self.http.loop.call_soon(self._serve_held)

    def _serve_held(self) -> None:
        if self.exchange is None and self._ahead.held and not self._lingering:
            self._serve(b"")

    def _end(self) -> None:
        """Close once the response has left; what still comes is read and dropped, or its RST would destroy it."""
        if self._lingering:
            return
        expects_nothing = self._framing.done and not self._ahead.held
        self._ahead.held.clear()
        if expects_nothing or self.tls or self.ended:
            self.close()
        else:
            self._linger()
            self.resume()
            self._transport.write_eof()

    def _linger(self) -> None:
        self._lingering = True
        unsent = self._transport.get_write_buffer_size()
        self.deadline = self.http.clock.now + (self.http.timeouts.send / 2 if unsent else _LINGER)

    def abort(self) -> None:
        """End the connection so that the client sees that its response is cut off."""
        if self.exchange is not None and self.exchange.tunnel is not None:
            self.exchange.tunnel.abort()
            return
        self._lingering = True
        reset_when_closed(self._transport)
        self._transport.abort()

    def cut(self, error: ProxyError) -> None:
        """End with `error` what is under way, or the connection if nothing is."""
        if self.exchange is None:
            self.abort()
        else:
            flow.fail(self.exchange, error)

    def close(self) -> None:
        """End the connection once what was written has left."""
        self._linger()
        self._transport.close()

    def drain(self) -> None:
        """End an idle connection; a busy one ends with its response."""
        if self.exchange is None and not self._ahead.held:
            self.close()

    def squeeze(self) -> None:
        """Let no more wait for the client, and for its endpoint, than the limits allow now."""
        self._transport.set_write_buffer_limits(high=self.http.limits.buffer)
        if self.exchange is not None and self.exchange.connection is not None:
            self.exchange.connection.squeeze()

    # --- tunnels

    def take_early(self) -> bytes:
        """Return what the client sent before its tunnel began."""
        return self._ahead.take_all()

    def hand_over(self) -> asyncio.Transport:
        """Give the transport to a tunnel, and watch no deadline any more."""
        self.http.clock.unwatch(self)
        return self._transport
