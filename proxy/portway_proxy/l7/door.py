"""The way in for HTTP clients of one port: accepted, counted and given a protocol, or turned away.

A client that is turned away costs neither a transport nor a handshake: those who come when nobody can be served must
not cost those who are.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from portway_proxy.accepting import Acceptor
from portway_proxy.announced import HeaderWait
from portway_proxy.clock import NEVER
from portway_proxy.errors import ClientGone, HandshakeFailed, PlainHttp, ProxyError, TooManyFromAddress
from portway_proxy.l4.records import RelayRecord
from portway_proxy.l4.sharing import Arrival, Shared
from portway_proxy.l7.client import ClientConnection
from portway_proxy.l7.replies import plain_http, reply

if TYPE_CHECKING:
    from portway_proxy.l7.http import Http
    from portway_proxy.proxy_protocol import ProxyHeader

__all__ = ["Certificates", "Door"]

_log = logging.getLogger(__name__)

_COMPLAINTS: Final = 60.0  # Seconds between two lines in the log about PROXY headers that are none.

_FAREWELL: Final = 1.0  # Seconds for a client that is turned away to read why.
_FAREWELLS: Final = 32  # Clients that read it at the same time: each holds a descriptor.

# A client that does not answer close_notify must not hold its connection, or a drain, for uvloop's 30 s.
_TLS_SHUTDOWN: Final = 5.0

# OpenSSL's reasons for what does not begin as TLS does, in which nginx sees a request without TLS too.
_NO_TLS: Final = ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER")

# Alerts (RFC 8446, 6.2) for what is wrong with a ClientHello: later ones would be encrypted.
_ALERTS: Final = {
    "UNSUPPORTED_PROTOCOL": 70,  # protocol_version
    "NO_SHARED_CIPHER": 40,  # handshake_failure
    "NO_SUITABLE_SIGNATURE_ALGORITHM": 40,
    "NO_SUITABLE_KEY_SHARE": 40,
    "CALLBACK_FAILED": 112,  # unrecognized_name: that is all that our callback refuses
}


class Certificates(Protocol):
    """What serves certificates."""

    def welcome(self, name: str) -> tuple[ssl.SSLContext, str]:
        """Return the context for a client that asks for `name`, and the authority by which it is asked who it is."""


class Door:
    """Accepts clients on the listening socket `sock`, which belongs to it; with `certificates`, over TLS.

    Peers that have to say first whose connection it is (the PROXY protocol) come in once they have said so. Others may
    have a part in the port (`shared`), and then have the first look at who comes.
    """

    __slots__ = ("_acceptor", "_certificates", "_complain_after", "_http", "_leaving", "_name", "deadline", "shared")

    def __init__(self, http: Http, sock: socket.socket, name: str, certificates: Certificates | None = None) -> None:
        self._http = http
        self._certificates = certificates
        self._name = name
        self._complain_after = 0.0
        self._acceptor = Acceptor(http.loop, sock, name, self._take)
        self._leaving: deque[socket.socket] = deque()
        self.deadline = NEVER
        self.shared: Shared | None = None

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
        announces = http.trusted.announces(peer)
        try:
            origin = http.gate.enter(None if announces or self._brings_many(peer) else peer)
        except ProxyError as error:
            self._turn_away(sock, peer, error)
            return
        if announces:
            sock.settimeout(0)
            told = partial(self._told, sock, peer)
            HeaderWait(http.loop, http.clock, sock, http.trusted.trust.patience, told).start()
        else:
            self._arrive(Arrival(sock, peer, origin, None))

    def _brings_many(self, peer: str) -> bool:
        """Return whether a limit for each address is not for this one, because it stands for many."""
        return bool(self._http.gate.each) and self._http.trusted.believes(peer)

    def _told(self, sock: socket.socket, peer: str, outcome: ProxyHeader | ProxyError) -> None:
        """Let in who has a PROXY header; everybody else had their chance."""
        gate, address = self._http.gate, peer
        try:
            if isinstance(outcome, ProxyError):
                raise outcome
            address = peer if outcome.source is None else outcome.source.host
            origin = b"" if self._brings_many(address) else gate.claim(address)
        except ProxyError as error:
            gate.leave(b"")
            self._disappoint(sock, address, error)
            return
        self._arrive(Arrival(sock, address, origin, outcome))

    def _disappoint(self, sock: socket.socket, peer: str, error: ProxyError) -> None:
        if isinstance(error, TooManyFromAddress):
            self._turn_away(sock, peer, error)
            return
        sock.close()
        if isinstance(error, ClientGone):
            return  # As health checks do.
        self._http.gate.refused[error.reason] += 1
        now = self._http.loop.time()
        if now >= self._complain_after:
            self._complain_after = now + _COMPLAINTS
            _log.warning("%s: a connection of %s is refused: %s", self._name, peer, error)

    def _arrive(self, arrival: Arrival) -> None:
        if self.shared is None:
            self.admit(arrival)
        else:
            self.shared.look(arrival, tls=self._certificates is not None)

    def admit(self, arrival: Arrival) -> None:
        """Let in a client of HTTP, or of TLS that ends here."""
        http = self._http
        client = ClientConnection(http, tls=self._certificates is not None, told=arrival.told)
        context = None
        if self._certificates is not None:
            context, client.authority = self._certificates.welcome(arrival.name)
        if client.tls:
            http.counters.accepted_https += 1
        else:
            http.counters.accepted_http += 1
        client.origin = arrival.origin
        client.peer = arrival.peer.encode()
        http.tasks.spawn(self._let_in(arrival.sock, client, context), "a client comes in")

    async def _let_in(self, sock: socket.socket, client: ClientConnection, context: ssl.SSLContext | None) -> None:
        """Give the client its transport; over TLS that takes a handshake, which may fail."""
        try:
            if context is None:
                await self._http.loop.connect_accepted_socket(lambda: client, sock)
            else:
                await self._shake_hands(sock, client, context)
        except OSError:
            client.leave()  # It never came in: its protocol hears nothing of its end.

    async def _shake_hands(self, sock: socket.socket, client: ClientConnection, context: ssl.SSLContext) -> None:
        # uvloop closes the socket of a handshake that fails, before what OpenSSL had to say about it has left.
        own = os.dup(sock.fileno())
        try:
            await self._http.loop.connect_accepted_socket(
                lambda: client,
                sock,
                ssl=context,
                ssl_handshake_timeout=self._http.timeouts.head,
                ssl_shutdown_timeout=_TLS_SHUTDOWN,
            )
        except ssl.SSLError as error:
            self._explain(socket.socket(fileno=os.dup(own)), client.peer.decode(), error.reason)
            raise
        finally:
            os.close(own)

    def _explain(self, sock: socket.socket, peer: str, reason: str) -> None:
        """Say why a handshake failed, to whoever did not come for TLS or asked for what is not to be had."""
        if reason in _NO_TLS:
            self._http.gate.refused[PlainHttp.reason] += 1
            self._answer(sock, peer, PlainHttp.reason, plain_http(self._fields(peer, PlainHttp.reason)))
            return
        self._http.gate.refused[HandshakeFailed.reason] += 1
        if reason in _ALERTS:
            self._say(sock, b"\x15\x03\x03\x00\x02\x02%c" % _ALERTS[reason])
        else:
            sock.close()

    def _turn_away(self, sock: socket.socket, peer: str, error: ProxyError) -> None:
        """Say why, where that costs no handshake, and hang up."""
        if self._certificates is not None:
            sock.close()
            return
        fields = b"%bConnection: close\r\nRetry-After: %d\r\n" % (self._fields(peer, error.reason), error.retry_after)
        self._answer(sock, peer, error.reason, reply(error.status, fields, bodiless=False))

    def _fields(self, peer: str, reason: str) -> bytes:
        """Return the lines that every answer to a client has that has not come in."""
        http = self._http
        told = b"" if http.telling is None else http.telling.refusal(peer, reason)
        return b"%bDate: %b\r\n%b" % (http.signature, http.date(), told)

    def _answer(self, sock: socket.socket, peer: str, reason: str, last_words: bytes) -> None:
        """Say something, hang up, and leave an access line."""
        self._say(sock, last_words)
        self._http.journal.turned_away(RelayRecord(self._name, peer, "", "", 0, len(last_words), 0.0, reason))

    def _say(self, sock: socket.socket, last_words: bytes) -> None:
        """Send something and hang up, once that was read or had its time."""
        sock.settimeout(0)
        try:
            sock.send(last_words)
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
