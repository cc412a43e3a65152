"""The way to an endpoint: one is chosen, and another when it cannot be reached."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, Protocol

from portway_proxy.clock import NEVER
from portway_proxy.errors import ConnectFailed, ConnectTimeout, NoDescriptors, NoEndpoints, ProxyError
from portway_proxy.l4.splicer import FAILED, WRITABLE, Splicer
from portway_proxy.listeners import KEEP_ALIVE

if TYPE_CHECKING:
    from portway_proxy.l7.pool import Pool

__all__ = ["EXHAUSTED", "Chooser", "Dial", "prepare"]

EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
"""Error numbers that say what this system lacks, not what the peer did; the last is a port for our side."""

_TRIES: Final = 3  # As ingress-nginx.

_AT_ONCE: Final = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_OOBINLINE, 1))
_OPTIONS: Final = (*_AT_ONCE, *KEEP_ALIVE)


class Chooser(Protocol):
    """What a dial needs of an upstream."""

    def reach(self, client: bytes, tried: Collection[Pool] = ()) -> Pool:
        """Return the endpoint for a connection of `client`, none of `tried`; raises `NoEndpoints` without one."""

    def failed(self, pool: Pool) -> None:
        """Note that an endpoint did not accept a connection."""

    def succeeded(self, pool: Pool) -> None:
        """Note that an endpoint accepted one."""


def prepare(sock: socket.socket, unacknowledged: float) -> None:
    """Set what a relay's socket needs; of a listening socket, those that it accepts inherit it.

    Bytes go out at once, a vanished peer is noticed, also while bytes for it wait (after `unacknowledged` seconds; 0
    leaves that to the system), and urgent bytes stay in line instead of being lost.
    """
    _set(sock, unacknowledged, _OPTIONS)


def _set(sock: socket.socket, unacknowledged: float, options: tuple[tuple[int, int, int], ...]) -> None:
    for level, option, value in options:
        sock.setsockopt(level, option, value)
    if unacknowledged:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(unacknowledged * 1000))


class Dial:
    """Reaches one endpoint of an upstream for `client`: each is tried at most once, for at most `timeout` seconds.

    `on_done` is called once, possibly before `start` returns: with a connected socket, or with the reason why no
    endpoint was reached. The socket is the callee's, and so is its watch, which it must take over or end at once.
    `pool` is that of the endpoint that was tried last. Endpoints hear of what became of them.
    """

    __slots__ = (
        "_client",
        "_error",
        "_on_done",
        "_sock",
        "_splicer",
        "_timeout",
        "_tried",
        "_unacknowledged",
        "_upstream",
        "deadline",
    )

    def __init__(
        self,
        splicer: Splicer,
        upstream: Chooser,
        client: bytes,
        timeouts: tuple[float, float],
        on_done: Callable[[socket.socket | ProxyError], None],
    ) -> None:
        """`timeouts` are for each attempt, and as `prepare` has it."""
        self._splicer = splicer
        self._upstream = upstream
        self._client = client
        # The clock's time may be a second old: without that second an attempt could end early.
        self._timeout = timeouts[0] + 1.0
        self._unacknowledged = timeouts[1]
        self._on_done = on_done
        self._tried: list[Pool] = []
        self._sock: socket.socket | None = None
        self._error: ProxyError | None = None
        self.deadline = NEVER

    @property
    def pool(self) -> Pool | None:
        """The pool of the endpoint that was tried last."""
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
        self._fail(ConnectTimeout(f"no answer from {self._tried[-1].endpoint}"))
        self._advance()

    def _advance(self) -> None:
        """Begin to connect to the next endpoint, or end without one."""
        while len(self._tried) < _TRIES:
            try:
                pool = self._upstream.reach(self._client, self._tried)
            except ProxyError as error:
                # With every endpoint tried, how they failed says more than that none is left.
                self._finish(self._error or error)
                return
            self._tried.append(pool)
            try:
                self._connect(pool)
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._hang_up()
                    self._finish(NoDescriptors(str(error)))
                    return
                self._fail(ConnectFailed(f"{pool.endpoint}: {error}"))
            else:
                return
        self._finish(self._error or NoEndpoints())

    def _connect(self, pool: Pool) -> None:
        """Begin to connect; raises OSError when that fails at once."""
        endpoint = pool.endpoint
        family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        self._sock = sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        pool.connecting += 1
        # A relay that lasts sees to the rest.
        _set(sock, self._unacknowledged, _AT_ONCE)
        code = sock.connect_ex((endpoint.address, endpoint.port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        self._splicer.watch(sock.fileno(), WRITABLE, self._answered)
        self.deadline = self._splicer.clock.now + self._timeout

    def _answered(self, events: int) -> None:
        sock, pool = self._sock, self._tried[-1]
        assert sock is not None  # noqa: S101 - tells the type: only an open socket is watched
        if events & FAILED:
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._fail(ConnectFailed(f"{pool.endpoint}: {os.strerror(code)}"))
            self._advance()
        elif pool.retired:
            # Removed meanwhile: what is new goes elsewhere.
            self._hang_up()
            self._advance()
        else:
            pool.connecting -= 1
            pool.connected += 1
            if pool.attentive:
                self._upstream.succeeded(pool)
            self._finish(sock)

    def _fail(self, error: ProxyError) -> None:
        """Note that the endpoint that was tried last could not be reached."""
        pool = self._tried[-1]
        self._error = error
        self._hang_up()
        pool.failed += 1
        self._upstream.failed(pool)

    def _hang_up(self) -> None:
        """Take back the attempt that is under way, if there is one."""
        if self._sock is not None:
            self._splicer.unwatch(self._sock.fileno())
            self._sock.close()
            self._sock = None
            self._tried[-1].connecting -= 1

    def _finish(self, outcome: socket.socket | ProxyError) -> None:
        self._splicer.clock.unwatch(self)
        self._on_done(outcome)
