"""Asks an endpoint of PostgreSQL for TLS, which its client was promised before it said which endpoint it wants."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from portway_proxy.clock import NEVER
from portway_proxy.errors import ProxyError, UpstreamBadResponse, UpstreamReset, UpstreamTimeout
from portway_proxy.l4.peek import SSL_REQUEST
from portway_proxy.l4.splicer import READABLE, Splicer

__all__ = ["UNWILLING", "WILLING", "TlsWish"]

WILLING: Final = b"S"
"""The answer of who begins with what was asked for."""

UNWILLING: Final = b"N"
"""The answer of who does not."""


class TlsWish:
    """A wish, whose answer may take `patience` seconds.

    `done` is called once: with the socket when the endpoint begins TLS, or with why it does not; then the socket is
    closed.
    """

    __slots__ = ("_done", "_patience", "_sock", "_splicer", "deadline")

    def __init__(self, splicer: Splicer, patience: float, done: Callable[[socket.socket | ProxyError], None]) -> None:
        self._splicer = splicer
        # The clock's time may be a second old: without that second it could end early.
        self._patience = patience + 1.0
        self._done = done
        self._sock: socket.socket | None = None
        self.deadline = NEVER

    def start(self, sock: socket.socket) -> None:
        """Send the wish over `sock` (non-blocking, just connected), and take over its watch."""
        self._sock = sock
        self._splicer.watch(sock.fileno(), READABLE, self._answered)
        self.deadline = self._splicer.clock.now + self._patience
        self._splicer.clock.watch(self)
        try:
            # A socket that has sent nothing yet takes eight bytes.
            sock.send(SSL_REQUEST)
        except OSError as error:
            self._fail(UpstreamReset(f"the endpoint hung up before TLS ({error.strerror})"))

    def cancel(self) -> None:
        """Wait no longer, and close the socket. Harmless when it is over."""
        sock = self._settle()
        if sock is not None:
            sock.close()

    def expire(self) -> None:
        """Give up, because the endpoint does not answer."""
        self._fail(UpstreamTimeout("the endpoint did not say whether it speaks TLS"))

    def _answered(self, _: int) -> None:
        assert self._sock is not None  # noqa: S101 - tells the type: only an open socket is watched
        try:
            answer = self._sock.recv(len(WILLING))
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(UpstreamReset(f"the endpoint hung up before TLS ({error.strerror})"))
            return
        if answer != WILLING:
            self._fail(UpstreamBadResponse("the endpoint does not speak TLS"))
        elif (sock := self._settle()) is not None:
            self._done(sock)

    def _fail(self, error: ProxyError) -> None:
        self.cancel()
        self._done(error)

    def _settle(self) -> socket.socket | None:
        """End the wait and return the socket, if there is one still."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self.deadline = NEVER
            self._splicer.clock.unwatch(self)
            self._splicer.unwatch(sock.fileno())
        return sock
