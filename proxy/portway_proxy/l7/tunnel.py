"""What an exchange is after its 101: bytes both ways, spliced between bare sockets and copied where TLS is involved."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Final, Protocol

from portway_proxy.l4.connect import prepare
from portway_proxy.l4.relay import CLOSED, DONE, Relay
from portway_proxy.l7 import flow
from portway_proxy.l7.copier import Copier
from portway_proxy.l7.passage import timeouts_of
from portway_proxy.l7.sockets import keep_alive

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.upstream import UpstreamConnection

__all__ = ["Tunnel", "begin"]

_NOBODY: Final = asyncio.Protocol()  # To whom the end of a transport means nothing whose socket lives on.


class _Carrier(Protocol):
    """What moves the bytes: a `Relay` or a `Copier`."""

    reason: str

    @property
    def sent(self) -> int:
        """The bytes that went from the client to the upstream so far."""

    @property
    def received(self) -> int:
        """The bytes that went from the upstream to the client so far."""

    def start(self, to_upstream: bytes = b"", to_client: bytes = b"") -> None:
        """Begin, with bytes that were read from one side already and that the other gets first."""

    def abort(self, reason: str = CLOSED) -> None:
        """End at once."""


class Tunnel:
    """An exchange from its 101 to the end of both directions.

    The client connection and the upstream connection count as open meanwhile, though their sockets are the carrier's.
    """

    __slots__ = ("_carrier", "_connection", "_early", "_exchange", "_head")

    def __init__(self, exchange: Exchange, connection: UpstreamConnection) -> None:
        self._exchange = exchange
        self._connection = connection
        self._head = 0
        self._early = 0
        self._carrier = self._couple(exchange.client.hand_over(), connection.hand_over())
        if isinstance(self._carrier, Copier) and not connection.write_paused:
            exchange.client.resume()  # It may have sent more ahead than anybody could take by then.

    @property
    def bytes_in(self) -> int:
        """The bytes that came from the client since the tunnel began."""
        return max(0, self._carrier.sent - self._early)

    @property
    def bytes_out(self) -> int:
        """The bytes that went to the client, the head of the 101 among them."""
        return self._carrier.received

    def start(self, early: bytes, head: bytes, data: bytes) -> None:
        """Send `head` to the client and begin.

        `early` came from the client before, `data` from the endpoint right behind its head.
        """
        self._early = len(early)
        self._head = len(head)
        self._exchange.client.http.counters.tunnels.add(self)
        self._carrier.start(early, head + data)

    def abort(self, reason: str = CLOSED) -> None:
        """End at once, for a reason that the access log tells. Harmless when it has ended."""
        self._carrier.abort(reason)

    def _couple(self, client: asyncio.Transport, upstream: asyncio.Transport) -> _Carrier:
        http = self._exchange.client.http
        idle = timeouts_of(self._exchange).tunnel
        bare = _taken((client, upstream), http.timeouts.unacknowledged)
        if bare is None:
            keep_alive(upstream)  # The client's side has it from its listening socket.
            return Copier(http.clock, client, upstream, idle=idle, on_done=self._ended)
        return Relay(http.worker.splicer, *bare, idle=idle, on_done=self._ended)

    def _ended(self, carrier: _Carrier) -> None:
        exchange = self._exchange
        counters = exchange.client.http.counters
        counters.tunnels.discard(self)
        counters.tunnels_ended[carrier.reason] += 1
        counters.received += self.bytes_in
        counters.sent += self.bytes_out
        exchange.request_size = carrier.sent
        exchange.response_size = max(0, carrier.received - self._head)
        flow.tunnel_ended(exchange, self._connection, "" if carrier.reason == DONE else carrier.reason)


def begin(exchange: Exchange, connection: UpstreamConnection, head: bytes, data: bytes) -> None:
    """Answer the client with `head`, a 101, and pass on whatever comes from either side, `data` first."""
    early = exchange.client.take_early()
    exchange.tunnel = tunnel = Tunnel(exchange, connection)
    tunnel.start(early, head, data)


def _taken(
    transports: tuple[asyncio.Transport, asyncio.Transport], unacknowledged: float
) -> tuple[socket.socket, socket.socket] | None:
    """Return the sockets of two transports, which end with this; None when one has more to do than its socket."""
    for transport in transports:
        # Only a bare socket can end one direction alone. What waits in a transport must not be overtaken.
        if not transport.can_write_eof() or transport.get_write_buffer_size():
            return None
        if transport.get_extra_info("socket") is None:
            return None  # A stream of HTTP/2.
    socks: list[socket.socket] = []
    try:
        for transport in transports:
            socks.append(socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())))
            prepare(socks[-1], unacknowledged)
    except OSError:
        # No descriptor is left, or the socket is: copying needs nothing new.
        for sock in socks:
            sock.close()
        return None
    for sock, transport in zip(socks, transports, strict=True):
        sock.settimeout(0)
        transport.pause_reading()
        transport.set_protocol(_NOBODY)
        transport.abort()
    return socks[0], socks[1]
