"""A connection to an endpoint: one exchange at a time, and nothing between exchanges."""

from __future__ import annotations

import asyncio
import os
import re
import select
from typing import TYPE_CHECKING, cast

from portway_proxy.clock import NEVER
from portway_proxy.errors import (
    BadChunk,
    ProxyError,
    UpstreamBadResponse,
    UpstreamReset,
    UpstreamStale,
    UpstreamTimeout,
)
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import (
    EARLY,
    HEAD_SENT,
    REQUEST_END,
    RESPONDING,
    RESPONSE_HEAD,
    SENDING,
    TUNNEL,
    UPGRADED,
    WAITING,
    Exchange,
)
from portway_proxy.l7.framing import EMPTY, LAST_CHUNK, Chunked, Framing, Length, UntilClose, chunk
from portway_proxy.l7.rewrite import request_head, response_head

if TYPE_CHECKING:
    from portway_proxy.l7.http import Http
    from portway_proxy.l7.pool import Pool
    from portway_proxy.l7.response import ResponseHead

__all__ = ["UpstreamConnection"]

_READ = 65536
_BEGINNING = b"HTTP/1."
_BARE_LF = re.compile(rb"(?<!\r)\n")
_CHUNKED_FIELD = b"Transfer-Encoding: chunked\r\n"
# Whether the client's connection stays, its minor version -> the field that says so.
_PERSISTENCE = {
    (False, 0): b"Connection: close\r\n",
    (False, 1): b"Connection: close\r\n",
    (True, 0): b"Connection: keep-alive\r\n",
    (True, 1): b"",
}


class UpstreamConnection(asyncio.Protocol):
    """The protocol of one connection to an endpoint.

    `deadline` is watched by the clock from beginning to end: idle, it ends the connection; in use, the exchange.
    """

    __slots__ = (
        "_chunks_out",
        "_clean",
        "_framing",
        "_held",
        "_interim",
        "_poll",
        "_pool",
        "_transport",
        "deadline",
        "ended",
        "exchange",
        "http",
        "reused",
        "write_paused",
    )

    def __init__(self, http: Http, pool: Pool) -> None:
        self.http = http
        self.exchange: Exchange | None = None
        self.deadline = NEVER
        self.ended = False
        self.write_paused = False
        self._pool = pool
        self._held = b""
        self._framing: Framing | None = None
        self._chunks_out = False
        self._clean = True
        self._interim = 0
        self.reused = False
        self._poll = select.poll()

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch the deadline."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self.http.limits.buffer)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._pool.opened(self)
        self.http.clock.watch(self)

    def data_received(self, data: bytes) -> None:
        """Take what the endpoint sent."""
        exchange = self.exchange
        if exchange is None:
            # Bytes that no request asked for would become the next one's response.
            self.close()
            return
        try:
            if exchange.state is TUNNEL:
                self._tunnel(exchange, data)
            elif self._framing is None:
                self._take_head(exchange, data)
            else:
                self._take_body(exchange, self._framing, data, b"")
        except BadChunk as error:
            flow.fail(exchange, UpstreamBadResponse(str(error)))
        except ProxyError as error:
            flow.fail(exchange, error)

    def eof_received(self) -> bool:
        """Half-close a tunnel; every other connection ends with its first half."""
        exchange = self.exchange
        if exchange is None or exchange.state is not TUNNEL:
            return False
        self.ended = True
        return flow.end_half(exchange, exchange.client) and not self._pool.secure

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
        if exchange.state is TUNNEL:
            flow.abandon(exchange)
            exchange.client.close()
        elif isinstance(self._framing, UntilClose) and exc is None:
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
        self.deadline = self.http.clock.now + self.http.timeouts.response
        if self.exchange is not None:
            self.exchange.client.pause()

    def resume_writing(self) -> None:
        """Read from the client again."""
        self.write_paused = False
        exchange = self.exchange
        if exchange is not None:
            self.deadline = NEVER if exchange.state is SENDING else self.http.clock.now + self._patience(exchange)
            exchange.client.resume()

    def expire(self) -> None:
        """End an idle connection, or an exchange whose endpoint is silent."""
        self.deadline = NEVER
        exchange = self.exchange
        if exchange is None:
            self.close()
        elif exchange.state is TUNNEL:
            flow.abandon(exchange)
            exchange.client.close()
        else:
            flow.fail(exchange, UpstreamTimeout(f"{self._pool.endpoint} was silent for too long"))

    # --- the pool's side

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
        if self.exchange is None:
            self.close()
        else:
            flow.fail(self.exchange, error)

    # --- the exchange's side

    def start(self, exchange: Exchange) -> None:
        """Send the head of a request, and its body as the client delivers it."""
        self.exchange = exchange
        exchange.connection = self
        head = exchange.head
        client = exchange.client
        self._framing = None
        self._interim = 0
        self._transport.write(request_head(head, client.forwarded, self._pool.label))
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
            self._transport.write(LAST_CHUNK)
        exchange.on(REQUEST_END)
        self.deadline = self.http.clock.now + self._patience(exchange)

    def abandon(self) -> None:
        """Let go of the exchange: the connection is of no further use."""
        self.exchange = None
        self.close()

    def finish(self) -> None:
        """Let go of the exchange; what was written still leaves."""
        self.exchange = None
        self.deadline = self.http.clock.now + self.http.timeouts.send
        self._transport.close()

    def tunnel(self, data: bytes) -> None:
        """Send bytes of a tunnel."""
        self.deadline = self.http.clock.now + self.http.timeouts.tunnel
        self._transport.write(data)

    def end_tunnel(self) -> bool:
        """Pass on that the client's half of a tunnel ended; return False when that is not possible."""
        if self._transport.can_write_eof():
            self._transport.write_eof()
            return True
        return False

    def pause(self) -> None:
        """Stop reading: the client does not keep up, and its own deadline counts."""
        self.deadline = NEVER
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        exchange = self.exchange
        if exchange is not None:
            self.deadline = self.http.clock.now + self._patience(exchange)
        self._transport.resume_reading()

    # --- the response

    def _patience(self, exchange: Exchange) -> float:
        timeouts = self.http.timeouts
        return timeouts.tunnel if exchange.state is TUNNEL else timeouts.response

    def _take_head(self, exchange: Exchange, data: bytes) -> None:
        if self._held:
            data = self._held + data
            self._held = b""
        while self._framing is None and self.exchange is exchange:
            end = data.find(b"\r\n\r\n") + 4
            if end > self.http.limits.head or (end < 4 and len(data) > self.http.limits.head):
                raise UpstreamBadResponse("the response head is too long")
            if end < 4:
                _check_unfinished(data)
                self._held = data
                return
            response = self.http.responses.parse(data[:end])
            if response.plain and response.length == len(data) - end and self._forward_whole(exchange, response, data):
                return
            data = data[end:]
            if response.status >= 200:
                self._begin(exchange, response, data)
            elif response.status == 101:
                self._upgrade(exchange, response, data)
                return
            else:
                self._interim_response(exchange, response)

    def _interim_response(self, exchange: Exchange, response: ResponseHead) -> None:
        self._interim += 1
        if self._interim > self.http.limits.interim_responses:
            raise UpstreamBadResponse("the endpoint sent too many interim responses")
        if exchange.head.minor == 1:
            fields = b"".join(response.lines)
            exchange.client.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (response.status, response.phrase, fields))

    def _upgrade(self, exchange: Exchange, response: ResponseHead, data: bytes) -> None:
        if not exchange.head.upgrade or response.upgrade != b"websocket" or exchange.state is not WAITING:
            raise UpstreamBadResponse("the endpoint switched protocols, which nobody asked it to")
        own = flow.judge(exchange, self._pool, response.status) if self._pool.attentive else b""
        exchange.response = response
        exchange.status = response.status
        exchange.on(UPGRADED)
        fields = b"".join(response.lines) + (own or b"")
        self.deadline = self.http.clock.now + self.http.timeouts.tunnel
        exchange.client.write(
            b"HTTP/1.1 101 %b\r\n%bConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" % (response.phrase, fields)
        )
        if data:
            self._tunnel(exchange, data)
        exchange.client.begin_tunnel()

    def _tunnel(self, exchange: Exchange, data: bytes) -> None:
        self.deadline = self.http.clock.now + self.http.timeouts.tunnel
        exchange.response_size += len(data)
        exchange.client.tunnel(data)

    def _begin(self, exchange: Exchange, response: ResponseHead, data: bytes) -> None:
        own = b""
        if response.status >= 400 or self._pool.attentive:
            judged = flow.judge(exchange, self._pool, response.status)
            if judged is None:
                return
            own = judged
        exchange.response = response
        exchange.status = response.status
        exchange.on(RESPONSE_HEAD)
        request = exchange.head
        client = exchange.client
        framing, field = self._frame(request.method, request.minor, response)
        self._framing = framing
        keeps = field is not None and exchange.state is RESPONDING and client.keeps(request)
        client.response_keeps = keeps
        persistence = _PERSISTENCE[keeps, request.minor] + own
        self._clean = response.keep_alive and exchange.state is RESPONDING and not request.upgrade
        head = response_head(response, field or b"", self.http.date(), persistence)
        self._take_body(exchange, framing, data, head)

    def _forward_whole(self, exchange: Exchange, response: ResponseHead, data: bytes) -> bool:
        """Forward a whole response that needs no thought; return False when it needs some."""
        request = exchange.head
        client = exchange.client
        if response.status >= 400 or exchange.state is not WAITING:
            return False
        if self._pool.attentive and flow.judge(exchange, self._pool, response.status) != b"":
            return False
        if not request.minor or request.method == b"HEAD" or not client.keeps(request):
            return False
        size = response.length or 0
        exchange.response = response
        exchange.status = response.status
        exchange.response_size = size
        exchange.on(RESPONSE_HEAD)
        client.response_keeps = True
        self._chunks_out = False
        self._clean = not request.upgrade
        self._end(exchange, [response.plain, data[len(data) - size :]])
        return True

    def _frame(self, method: bytes, minor: int, response: ResponseHead) -> tuple[Framing, bytes | None]:
        """Return the framing of the response's body and the field that frames it for the client; None: its end does."""
        self._chunks_out = False
        length = response.length
        if method == b"HEAD" or response.status == 304:
            return EMPTY, b"" if length is None else b"Content-Length: %d\r\n" % length
        if response.status == 204:
            return EMPTY, b""
        if length is not None:
            return Length(length), b"Content-Length: %d\r\n" % length
        framing = Chunked(self.http.limits) if response.chunked else UntilClose()
        if minor == 0:
            return framing, None
        self._chunks_out = True
        return framing, _CHUNKED_FIELD

    def _take_body(self, exchange: Exchange, framing: Framing, data: bytes, head: bytes) -> None:
        pieces: list[bytes] = []
        used = 0
        if data and not framing.done:
            used = framing.take(data, pieces)
        out = [head] if head else []
        if pieces:
            exchange.response_size += sum(map(len, pieces))
            if self._chunks_out:
                out.append(chunk(pieces))
            else:
                out += pieces
        if not framing.done:
            if not exchange.client.write_paused:
                self.deadline = self.http.clock.now + self.http.timeouts.response
            if out:
                exchange.client.write(b"".join(out) if len(out) > 1 else out[0])
            return
        if used < len(data):
            self._clean = False
        self._end(exchange, out)

    def _end(self, exchange: Exchange, out: list[bytes] | None = None) -> None:
        out = out or []
        if self._chunks_out:
            out.append(LAST_CHUNK)
        client = exchange.client
        if out:
            client.write(b"".join(out) if len(out) > 1 else out[0])
        early = exchange.state is EARLY
        exchange.connection = None
        self.exchange = None
        self._framing = None
        if client.write_paused:
            self._transport.resume_reading()  # That client may have paused us; whoever comes next has not.
        if self._clean and not early and not self._transport.is_closing() and self._all_sent(exchange):
            self._pool.release(self)
        else:
            self.close()
        flow.complete(exchange, keeps=client.response_keeps and not early)

    def _all_sent(self, exchange: Exchange) -> bool:
        # An endpoint that answers before it read the body may never read the rest.
        return not exchange.request_size or not self._transport.get_write_buffer_size()


def _check_unfinished(data: bytes) -> None:
    # What speaks another protocol, or ends its lines otherwise, may never end its head: nobody need wait for that.
    if not data.startswith(_BEGINNING[: len(data)]) or _BARE_LF.search(data):
        raise UpstreamBadResponse("what the endpoint sends is no response head")
