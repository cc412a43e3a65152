"""A connection to an endpoint: one exchange at a time, and nothing between exchanges."""

from __future__ import annotations

import asyncio
import os
import select
from typing import TYPE_CHECKING, ClassVar, cast

from portway_proxy.clock import NEVER
from portway_proxy.endpoint_contexts import Kept
from portway_proxy.errors import (
    ProxyError,
    UpstreamReset,
    UpstreamStale,
    UpstreamTimeout,
)
from portway_proxy.l7 import flow, tunnel
from portway_proxy.l7.answering import Answering
from portway_proxy.l7.exchange import (
    EARLY,
    HEAD_SENT,
    REQUEST_END,
    REQUEST_SENT,
    SENDING,
    Exchange,
)
from portway_proxy.l7.framing import LAST_CHUNK, UntilClose, chunk, last_chunk
from portway_proxy.l7.pace import Paced
from portway_proxy.l7.passage import timeouts_of
from portway_proxy.l7.trailers import for_client, for_endpoint

if TYPE_CHECKING:
    from portway_proxy.l7.http import Http
    from portway_proxy.l7.pool import Pool

__all__ = ["UpstreamConnection"]

_READ = 65536


class UpstreamConnection(Answering):
    """The protocol of one connection to an endpoint.

    `deadline` is watched by the clock from beginning to end: idle, it ends the connection; in use, the exchange.
    """

    __slots__ = ("_paced", "_poll", "reused", "write_paused")

    open_ended: ClassVar = False

    def __init__(self, http: Http, pool: Pool) -> None:
        super().__init__(http, pool)
        self.reused = False
        self.write_paused = False
        self._poll = select.poll()
        self._paced: Paced | None = None

    @property
    def unsent(self) -> int:
        """How many bytes wait for the endpoint to take them."""
        return self._transport.get_write_buffer_size()

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch the deadline."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self.http.limits.buffer)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._pool.opened(self)
        self.http.clock.watch(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange: well, when the end of the connection ends its body, else as a failure."""
        self.http.clock.unwatch(self)
        self._poll = select.poll()
        self._pool.forget(self)
        if exc is not None and not self._pool.secure:
            self._hear_out()
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        exchange.connection = None
        if isinstance(self._framing, UntilClose) and exc is None:
            self._end(exchange)
        else:
            silent = self._framing is None and not self._held and not self._interim
            if silent and self.reused:
                flow.fail(exchange, UpstreamStale("the pooled connection had ended"))
            else:
                flow.fail(exchange, UpstreamReset("the endpoint hung up", silent=silent))

    def _hear_out(self) -> None:
        """Take what the endpoint said before it hung up on a body that it did not want; the write failed first."""
        descriptor = self._transport.get_extra_info("socket").fileno()
        try:
            while self.exchange is not None and (data := os.read(descriptor, _READ)):
                self.data_received(data)
        except OSError:
            pass  # It said nothing more.

    def pause_writing(self) -> None:
        """Stop reading from the client: the endpoint does not keep up."""
        self.write_paused = True
        self.deadline = self.http.clock.now + self._timeouts.write
        if self.exchange is not None:
            self.exchange.client.pause()

    def resume_writing(self) -> None:
        """Read from the client again."""
        self.write_paused = False
        exchange = self.exchange
        if exchange is not None:
            self.deadline = NEVER if exchange.state is SENDING else self.http.clock.now + self._patience()
            exchange.client.resume()

    def expire(self) -> None:
        """End an idle connection, or an exchange whose endpoint is silent."""
        self.deadline = NEVER
        exchange = self.exchange
        if exchange is None:
            self.close()
        else:
            flow.fail(exchange, UpstreamTimeout(f"{self._pool.endpoint} was silent for too long"))

    # --- the pool's side

    def session(self) -> Kept | None:
        """Return the TLS session, if there is one to go on with."""
        return Kept.of(self._transport.get_extra_info("ssl_object"))

    def quiet(self) -> bool:
        """Return whether nothing has arrived on this idle connection, neither bytes nor its end."""
        return not self._transport.is_closing() and not self._poll.poll(0)

    def close(self) -> None:
        """End the connection at once."""
        self._pool.forget(self)
        self.deadline = NEVER
        self._transport.abort()

    def cut(self, error: ProxyError) -> None:
        """End the connection, and with `error` what still runs on it."""
        exchange = self.exchange
        if exchange is None:
            self.close()
        elif exchange.tunnel is not None:
            exchange.tunnel.abort(error.reason)
        else:
            flow.fail(exchange, error)

    # --- the exchange's side

    def start(self, exchange: Exchange) -> None:
        """Send the head of a request, and its body as the client delivers it."""
        self.exchange = exchange
        exchange.connection = self
        head = exchange.head
        client = exchange.client
        self._framing = None
        self._interim = 0
        passage = exchange.passage
        if passage is None:
            self._timeouts = self.http.timeouts
            self._transport.write(client.repeats.request_head(head, client.forwarded, self._pool.label))
        else:
            self._timeouts = timeouts_of(exchange)
            head = passage.instead or head
            if passage.pace is not None:
                self._paced = Paced(self, self._transport, self.http.loop, passage.pace)
            # Many a step changes nothing of the request, whose fields then repeat as those of others do.
            writer = passage if passage.touches_request else client.repeats
            self._transport.write(writer.request_head(head, client.forwarded, self._pool.label))
        if not head.length and not head.chunked:
            exchange.on(REQUEST_SENT)
            self.deadline = self.http.clock.now + self._timeouts.response
            return
        exchange.on(HEAD_SENT)
        if client.request_read:
            self.request_ended(exchange)
        else:
            self.deadline = NEVER
            client.send_body()

    def send(self, pieces: list[bytes]) -> None:
        """Send payload of the request's body."""
        exchange = self.exchange
        if exchange is not None and exchange.head.chunked:
            self._transport.write(chunk(pieces))
        else:
            self._transport.writelines(pieces)

    def request_ended(self, exchange: Exchange) -> None:
        """End the request's body."""
        if exchange.head.chunked:
            trailers = exchange.client.trailers
            self._transport.write(last_chunk(for_endpoint(exchange, trailers)) if trailers else LAST_CHUNK)
        exchange.on(REQUEST_END)
        self.deadline = self.http.clock.now + self._patience()

    def abandon(self) -> None:
        """Let go of the exchange: the connection is of no further use."""
        self.exchange = None
        self.close()

    def _tunnel(self, exchange: Exchange, head: bytes, data: bytes) -> None:
        if exchange.connection is self:
            tunnel.begin(exchange, self, head, data)

    def hand_over(self) -> asyncio.Transport:
        """Give the transport to a tunnel, and watch no deadline any more."""
        self.http.clock.unwatch(self)
        return self._transport

    def squeeze(self) -> None:
        """Let no more wait for the endpoint than the limits allow now."""
        self._transport.set_write_buffer_limits(high=self.http.limits.buffer)

    def pause(self) -> None:
        """Stop reading: the client does not keep up, and its own deadline counts."""
        self.deadline = NEVER
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        exchange = self.exchange
        if exchange is not None:
            self.deadline = self.http.clock.now + self._patience()
        if self._paced is None:
            self._transport.resume_reading()
        else:
            self._paced.go_on()

    def _end(self, exchange: Exchange, head: bytes = b"", pieces: list[bytes] | None = None) -> None:
        trailers = () if self._framing is None else self._framing.trailers
        exchange.client.deliver_end(head, pieces or [], for_client(exchange, trailers) if trailers else b"")
        self._leave(exchange)

    def _leave(self, exchange: Exchange) -> None:
        client = exchange.client
        early = exchange.state is EARLY
        if self._paced is not None:
            self._clean = self._paced.end() and self._clean
            self._paced = None
        exchange.connection = None
        self.exchange = None
        self._framing = None
        if client.write_paused:
            self._transport.resume_reading()  # That client may have paused us; whoever comes next has not.
        # An endpoint that answers before it read the body may never read the rest.
        sent = not exchange.request_size or not self.unsent
        if self._clean and sent and not early and not self._transport.is_closing():
            self._pool.release(self)
        else:
            self.close()
        flow.complete(exchange, keeps=client.response_keeps and not early)
