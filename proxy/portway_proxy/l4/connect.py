"""The way to an endpoint: one is chosen, and another when it cannot be reached."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Collection
from typing import Final, Protocol

from portway_proxy.clock import NEVER
from portway_proxy.errors import ConnectFailed, ConnectTimeout, NoDescriptors, NoEndpoints, ProxyError
from portway_proxy.l4.splicer import FAILED, WRITABLE, Splicer
from portway_proxy.snapshot import Endpoint

__all__ = ["EXHAUSTED", "Chooser", "Dial", "prepare"]

EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Error numbers that say what this system lacks, not what the peer did."""

_TRIES: Final = 3  # As ingress-nginx.

# A peer that vanished without a word is found in minutes, not after the idle timeout: Linux asks after 2 h by itself.
_KEEPALIVE_IDLE: Final = 60
_KEEPALIVE_INTERVAL: Final = 15


class Chooser(Protocol):
    """What a dial needs of an upstream."""

    def choose(self, exclude: Collection[Endpoint] = ()) -> Endpoint:
        """Return an endpoint that is not in `exclude`; raises `NoEndpoints` when there is none."""


def prepare(sock: socket.socket) -> None:
    """Set what a relay's socket needs; of a listening socket, those that it accepts inherit it.

    Bytes go out at once, a vanished peer is noticed, and urgent bytes stay in line instead of being lost.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


class Dial:
    """Reaches one endpoint of an upstream: each is tried at most once, for at most `timeout` seconds.

    `on_done` is called once, possibly before `start` returns: with a connected socket, or with the reason why no
    endpoint was reached. The socket is the callee's, and so is its watch, which it must take over or end at once.
    `endpoint` is the one that was tried last; `failed` counts those that could not be reached.
    """

    __slots__ = ("_error", "_on_done", "_sock", "_splicer", "_timeout", "_tried", "_upstream", "deadline", "failed")

    def __init__(
        self,
        splicer: Splicer,
        upstream: Chooser,
        timeout: float,
        on_done: Callable[[socket.socket | ProxyError], None],
    ) -> None:
        self._splicer = splicer
        self._upstream = upstream
        # The clock's time may be a second old: without that second an attempt could end early.
        self._timeout = timeout + 1.0
        self._on_done = on_done
        self._tried: list[Endpoint] = []
        self._sock: socket.socket | None = None
        self._error: ProxyError | None = None
        self.deadline = NEVER
        self.failed = 0

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint that was tried last."""
        return self._tried[-1] if self._tried else None

    def start(self) -> None:
        """Begin with the first endpoint."""
        self._splicer.clock.watch(self)
        self._advance()

    def cancel(self) -> None:
        """Give up; `on_done` is not called."""
        self._splicer.clock.unwatch(self)
        self._hang_up()

    def expire(self) -> None:
        """Go on to the next endpoint, because this one did not answer."""
        self._fail(ConnectTimeout(f"no answer from {self.endpoint}"))

    def _advance(self) -> None:
        """Begin to connect to the next endpoint, or end without one."""
        while len(self._tried) < _TRIES:
            try:
                endpoint = self._upstream.choose(self._tried)
            except ProxyError as error:
                # With every endpoint tried, how they failed says more than that none is left.
                self._finish(self._error or error)
                return
            self._tried.append(endpoint)
            try:
                self._connect(endpoint)
            except OSError as error:
                self._hang_up()
                if error.errno in EXHAUSTED:
                    self._finish(NoDescriptors(str(error)))
                    return
                self.failed += 1
                self._error = ConnectFailed(f"{endpoint}: {error}")
            else:
                return
        self._finish(self._error or NoEndpoints())

    def _connect(self, endpoint: Endpoint) -> None:
        """Begin to connect; raises OSError when that fails at once."""
        family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        self._sock = sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        prepare(sock)
        code = sock.connect_ex((endpoint.address, endpoint.port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        self._splicer.watch(sock.fileno(), WRITABLE, self._answered)
        self.deadline = self._splicer.clock.now + self._timeout

    def _answered(self, events: int) -> None:
        sock = self._sock
        assert sock is not None  # noqa: S101 - tells the type: only an open socket is watched
        if events & FAILED:
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._fail(ConnectFailed(f"{self.endpoint}: {os.strerror(code)}"))
        else:
            self._finish(sock)

    def _fail(self, error: ProxyError) -> None:
        self.failed += 1
        self._error = error
        self._hang_up()
        self._advance()

    def _hang_up(self) -> None:
        if self._sock is not None:
            self._splicer.unwatch(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def _finish(self, outcome: socket.socket | ProxyError) -> None:
        self._splicer.clock.unwatch(self)
        self._on_done(outcome)
