"""The part of an upstream connection that takes responses, head and body, and passes them on to the client."""

from __future__ import annotations

import asyncio
import re
from abc import ABCMeta, abstractmethod
from typing import TYPE_CHECKING

from portway_proxy.clock import NEVER
from portway_proxy.errors import BadChunk, ProxyError, UpstreamBadResponse
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import RESPONDING, RESPONSE_HEAD, UPGRADED, WAITING, Exchange
from portway_proxy.l7.fields import offers
from portway_proxy.l7.framing import EMPTY, Chunked, Framing, Length, UntilClose
from portway_proxy.l7.response import ResponseHead
from portway_proxy.l7.trail import trail_of

if TYPE_CHECKING:
    from portway_proxy.l7.http import Http
    from portway_proxy.l7.pool import Pool
    from portway_proxy.l7.response import ResponseParser

__all__ = ["Answering"]

_BEGINNING = b"HTTP/1."
_NONE = ResponseHead(1, 0, b"")  # As no response is: no bytes are the whole of it.
_BARE_LF = re.compile(rb"(?<!\r)\n")


class Answering(asyncio.Protocol, metaclass=ABCMeta):
    """The protocol of a connection to an endpoint, as far as it is about what the endpoint sends.

    `deadline` is watched by the clock from beginning to end.
    """

    __slots__ = (
        "_clean",
        "_framing",
        "_held",
        "_interim",
        "_lately",
        "_pool",
        "_timeouts",
        "_transport",
        "deadline",
        "exchange",
        "http",
    )

    _transport: asyncio.Transport

    def __init__(self, http: Http, pool: Pool) -> None:
        self.http = http
        self.exchange: Exchange | None = None
        self.deadline = NEVER
        self._pool = pool
        self._held = b""
        self._framing: Framing | None = None
        self._clean = True
        self._interim = 0
        self._lately = _NONE
        self._timeouts = http.timeouts

    def data_received(self, data: bytes) -> None:
        """Take what the endpoint sent."""
        exchange = self.exchange
        if exchange is None:
            # Bytes that no request asked for would become the next one's response.
            self.close()
            return
        try:
            if self._framing is None:
                self._take_head(exchange, data)
            else:
                self._take_body(exchange, self._framing, data, b"")
        except BadChunk as error:
            flow.fail(exchange, UpstreamBadResponse(str(error)))
        except ProxyError as error:
            flow.fail(exchange, error)

    @abstractmethod
    def _tunnel(self, exchange: Exchange, head: bytes, data: bytes) -> None:
        """Become a tunnel whose client gets `head`, a 101, and then `data`."""

    @abstractmethod
    def close(self) -> None:
        """End the connection at once."""

    @abstractmethod
    def _end(self, exchange: Exchange, head: bytes = b"", pieces: list[bytes] | None = None) -> None:
        """End the exchange, whose response is complete with `pieces`, and its `head` if that has not left."""

    @abstractmethod
    def _leave(self, exchange: Exchange) -> None:
        """Let go of the exchange, whose whole response was written."""

    def _patience(self) -> float:
        timeouts = self._timeouts
        return timeouts.response if self._framing is None else timeouts.read

    def _take_head(self, exchange: Exchange, data: bytes) -> None:
        http = self.http
        parser = http.strict_responses if exchange.client.strict else http.responses
        lately = self._lately
        # Endpoints repeat themselves, and the same head with as many bytes behind it is a whole response again.
        repeats = len(data) == lately.whole and data.startswith(lately.text) and not self._held
        if repeats and lately.parser is parser:
            if not self._forward_whole(exchange, lately, data):
                self._begin(exchange, lately, data[len(lately.text) :])
            return
        if self._held:
            data = self._held + data
            self._held = b""
        self._take_heads(exchange, data, parser)

    def _take_heads(self, exchange: Exchange, data: bytes, parser: ResponseParser) -> None:
        """Take one head, or several of which all but the last are interim."""
        limit = self.http.limits.head
        while self._framing is None and self.exchange is exchange:
            end = data.find(b"\r\n\r\n") + 4
            size = end if end > 3 else len(data)
            if size > limit and size > _allowed(exchange):
                raise UpstreamBadResponse("the response head is too long")
            if end < 4:
                _check_unfinished(data)
                self._held = data
                return
            response = parser.parse(data[:end])
            if response.whole == len(data):
                self._lately = response
                if self._forward_whole(exchange, response, data):
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
        exchange.client.interim(exchange.head, response)

    def _upgrade(self, exchange: Exchange, response: ResponseHead, data: bytes) -> None:
        if not offers(exchange.head.upgrade, response.upgrade) or exchange.state is not WAITING:
            raise UpstreamBadResponse("the endpoint switched protocols, which nobody asked it to")
        if exchange.client.gone:
            flow.abandon(exchange)
            return
        own = flow.judge(exchange, self._pool, response.status) if self._pool.attentive else b""
        exchange.response = response
        exchange.status = response.status
        exchange.on(UPGRADED)
        passage = exchange.passage
        lines = response.lines if passage is None else passage.lines_for_client(response.lines, 101)
        trail_of(exchange).headed = self.http.loop.time()
        self._tunnel(exchange, exchange.client.switch(response, lines, own or b""), data)

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
        self._framing = framing = self._frame(request.method, response)
        self._clean = response.keep_alive and exchange.state is RESPONDING and not request.upgrade
        if exchange.passage is not None:
            response = exchange.passage.response(response)
        head = exchange.client.head_of(exchange, response, own)
        trail = trail_of(exchange)
        trail.headed = self.http.loop.time()
        trail.head_size = len(head)
        self._take_body(exchange, framing, data, head)

    def _forward_whole(self, exchange: Exchange, response: ResponseHead, data: bytes) -> bool:
        """Forward a whole response that needs no thought; return False when it needs some."""
        request = exchange.head
        client = exchange.client
        if response.status >= 400 or exchange.state is not WAITING:
            return False
        if exchange.passage is not None and exchange.passage.touches_answer:
            return False
        if self._pool.attentive and flow.judge(exchange, self._pool, response.status) != b"":
            return False
        if not request.minor or request.method == b"HEAD" or not client.keeps(request):
            return False
        size = response.length or 0
        exchange.response = response
        exchange.status = response.status
        exchange.response_size = size
        self._clean = not request.upgrade
        client.forward(response, data[len(data) - size :])
        self._leave(exchange)
        return True

    def _frame(self, method: bytes, response: ResponseHead) -> Framing:
        """Return where the response's body ends."""
        if method == b"HEAD" or response.status in (204, 304):
            return EMPTY
        if response.length is not None:
            return Length(response.length)
        return Chunked(self.http.limits) if response.chunked else UntilClose()

    def _take_body(self, exchange: Exchange, framing: Framing, data: bytes, head: bytes) -> None:
        pieces: list[bytes] = []
        used = 0
        if data and not framing.done:
            used = framing.take(data, pieces)
        if pieces:
            exchange.response_size += sum(map(len, pieces))
        if not framing.done:
            client = exchange.client
            if not client.write_paused:
                self.deadline = self.http.clock.now + self._timeouts.read
            if head or pieces:
                client.deliver(head, pieces)
            return
        if used < len(data):
            self._clean = False
        self._end(exchange, head, pieces)


def _allowed(exchange: Exchange) -> int:
    """Return how many bytes the head of a response may have, where it has more than usual."""
    policy = None if exchange.route is None else exchange.route.policy
    return 0 if policy is None or policy.buffering is None else policy.buffering.head


def _check_unfinished(data: bytes) -> None:
    # What speaks another protocol, or ends its lines otherwise, may never end its head: nobody need wait for that.
    if not data.startswith(_BEGINNING[: len(data)]) or _BARE_LF.search(data):
        raise UpstreamBadResponse("what the endpoint sends is no response head")
