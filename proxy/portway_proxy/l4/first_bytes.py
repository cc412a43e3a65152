"""Looks at the first bytes of a connection and leaves them all in its socket, for whoever will read them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Generic, TypeVar

from portway_proxy.errors import ClientGone, ProxyError, RequestTimeout
from portway_proxy.l4.peek import LONGEST

__all__ = ["FirstBytes"]

T = TypeVar("T")


class FirstBytes(Generic[T]):
    """The look at what `sock` (non-blocking) receives first.

    `judge` gets all that has come so far and returns a verdict, or None: it needs more. `done` is called once: with the
    verdict, or with why there is none, which is `RequestTimeout` after `patience` seconds, and `ClientGone` when the
    peer will send no more. The socket is the caller's again then, and before that once `cancel` was called, which calls
    nothing. `seen` is how many bytes have come.
    """

    __slots__ = ("_done", "_judge", "_loop", "_sock", "_timer", "seen")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        patience: float,
        judge: Callable[[bytes], T | None],
        done: Callable[[T | ProxyError], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._judge = judge
        self._done = done
        self.seen = 0
        # Not by the coarse clock: who waits here for a server that speaks first waits for every bit of it.
        self._timer = loop.call_later(patience, self._expire)

    def start(self) -> None:
        """Begin to look; `done` may be called at once."""
        self._loop.add_reader(self._sock.fileno(), self._look)
        self._look()

    def cancel(self) -> None:
        """End the look. Harmless when it is over."""
        if not self._timer.cancelled():
            self._timer.cancel()
            self._loop.remove_reader(self._sock.fileno())
            if self.seen:
                self._wake_at(1)

    def _look(self) -> None:
        try:
            data = self._sock.recv(LONGEST, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._finish(ClientGone(f"the client hung up before it was clear what it wants ({error.strerror})"))
            return
        if len(data) <= self.seen:  # Readable without anything new: the peer has ended its half.
            self._finish(ClientGone("the client hung up before it was clear what it wants"))
            return
        self.seen = len(data)
        verdict = self._judge(data)
        if verdict is None:
            # Or the loop would be told again and again of what was seen already.
            self._wake_at(len(data) + 1)
        else:
            self._finish(verdict)

    def _wake_at(self, size: int) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def _expire(self) -> None:
        self._finish(RequestTimeout("the client was silent before it was clear what it wants"))

    def _finish(self, outcome: T | ProxyError) -> None:
        self.cancel()
        self._done(outcome)
