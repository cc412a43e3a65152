"""The way in for HTTP clients of one port: accepted, counted and given a protocol, or turned away.

A client that is turned away costs neither a transport nor a handshake: those who come when nobody can be served must
not cost those who are.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from portway_proxy.accepting import Acceptor
from portway_proxy.clock import NEVER
from portway_proxy.errors import ProxyError
from portway_proxy.l7.client import ClientConnection
from portway_proxy.l7.replies import reply

if TYPE_CHECKING:
    from portway_proxy.l7.http import Http

__all__ = ["Door"]

_FAREWELL: Final = 1.0  # Seconds for a client that is turned away to read why.
_FAREWELLS: Final = 32  # Clients that read it at the same time: each holds a descriptor.

# A client that does not answer close_notify must not hold its connection, or a drain, for uvloop's 30 s.
_TLS_SHUTDOWN: Final = 5.0


class Door:
    """Accepts clients on the listening socket `sock`, which belongs to it; with a `context`, over TLS."""

    __slots__ = ("_acceptor", "_context", "_http", "_leaving", "deadline")

    def __init__(self, http: Http, sock: socket.socket, name: str, context: ssl.SSLContext | None = None) -> None:
        self._http = http
        self._context = context
        self._acceptor = Acceptor(http.loop, sock, name, self._take)
        self._leaving: deque[socket.socket] = deque()
        self.deadline = NEVER

    def start(self) -> None:
        """Begin to accept."""
        self._acceptor.start()

    def last_call(self) -> None:
        """Accept who has connected already, then nobody."""
        self._acceptor.last_call()

    def hold(self) -> None:
        """Accept nobody until `release`; clients wait in the backlog."""
        self._acceptor.hold()

    def release(self) -> None:
        """Accept again; harmless when nothing held it."""
        self._acceptor.release()

    def pause(self) -> None:
        """Accept nobody for a moment, because descriptors have run out."""
        self._acceptor.pause()

    def expire(self) -> None:
        """Close on those who were turned away."""
        while self._leaving:
            _close(self._leaving.popleft())
        self._http.clock.unwatch(self)

    def _take(self, sock: socket.socket, peer: str) -> None:
        http = self._http
        try:
            origin = http.gate.enter(peer)
        except ProxyError as error:
            self._turn_away(sock, error)
            return
        client = ClientConnection(http, tls=self._context is not None)
        if client.tls:
            http.counters.accepted_https += 1
        else:
            http.counters.accepted_http += 1
        client.origin = origin
        http.tasks.spawn(self._let_in(sock, client), "a client comes in")

    async def _let_in(self, sock: socket.socket, client: ClientConnection) -> None:
        """Give the client its transport; over TLS that takes a handshake, which may fail."""
        context = self._context
        try:
            await self._http.loop.connect_accepted_socket(
                lambda: client,
                sock,
                ssl=context,
                ssl_handshake_timeout=None if context is None else self._http.timeouts.head,
                ssl_shutdown_timeout=None if context is None else _TLS_SHUTDOWN,
            )
        except OSError:
            client.leave()  # It never came in: its protocol hears nothing of its end.

    def _turn_away(self, sock: socket.socket, error: ProxyError) -> None:
        """Say why, where that costs no handshake, and hang up."""
        if self._context is not None:
            sock.close()
            return
        sock.settimeout(0)
        fields = b"Date: %b\r\nConnection: close\r\nRetry-After: %d\r\n" % (self._http.date(), error.retry_after)
        try:
            sock.send(reply(error.status, fields, bodiless=False))
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        # Closed with its request unread, it would be reset, and might never see the answer.
        if not self._leaving:
            self.deadline = self._http.clock.now + _FAREWELL
            self._http.clock.watch(self)
        elif len(self._leaving) >= _FAREWELLS:
            _close(self._leaving.popleft())
        self._leaving.append(sock)


def _close(sock: socket.socket) -> None:
    """Close a socket once what has come is read."""
    with suppress(OSError):
        sock.recv(65536)
    sock.close()
