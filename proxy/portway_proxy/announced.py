"""Waits for the header of the PROXY protocol on a socket that was just accepted, and takes not one byte more of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from portway_proxy.clock import NEVER, Watch
from portway_proxy.errors import BadProxyHeader, ClientGone, ProxyError, RequestTimeout
from portway_proxy.proxy_protocol import LONGEST, ProxyHeader, read_header

__all__ = ["HeaderWait"]


class HeaderWait:
    """The wait for the header that begins what `sock` (non-blocking) receives; what follows it stays in the socket.

    `done` is called once, with the header or with why there is none: `BadProxyHeader`, `RequestTimeout` after
    `patience` seconds, `ClientGone` when the peer hung up. The socket is the caller's again then, and before that once
    `cancel` was called, which calls nothing.
    """

    __slots__ = ("_clock", "_done", "_held", "_loop", "_sock", "deadline")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Watch,
        sock: socket.socket,
        patience: float,
        done: Callable[[ProxyHeader | ProxyError], None],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._sock = sock
        self._done = done
        self._held = b""
        self.deadline = clock.now + patience

    def start(self) -> None:
        """Begin to wait; `done` may be called at once."""
        self._clock.watch(self)
        self._loop.add_reader(self._sock.fileno(), self._read)
        self._read()

    def cancel(self) -> None:
        """End the wait. Harmless when it is over."""
        if self.deadline != NEVER:
            self.deadline = NEVER
            self._clock.unwatch(self)
            self._loop.remove_reader(self._sock.fileno())

    def expire(self) -> None:
        """Give up, because the header did not come in time."""
        self._finish(RequestTimeout("the PROXY header did not come in time"))

    def _read(self) -> None:
        try:
            data = self._sock.recv(LONGEST, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._finish(ClientGone(f"the peer hung up before its PROXY header ({error.strerror})"))
            return
        if not data:
            self._finish(ClientGone("the peer hung up before its PROXY header"))
            return
        known = len(self._held)
        try:
            header = read_header(self._held + data)
        except BadProxyHeader as error:
            self._finish(error)
            return
        # All that was seen belongs to the header, or the header says how much of it: nothing else leaves the socket.
        self._held += self._sock.recv(len(data) if header is None else header.size - known)
        if header is not None:
            self._finish(header)

    def _finish(self, outcome: ProxyHeader | ProxyError) -> None:
        self.cancel()
        self._done(outcome)
