"""Two transports coupled: what `l4.relay` does between bare sockets, for sides that only user space can read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from portway_proxy.clock import Watch
from portway_proxy.l4.relay import CLIENT_RESET, CLOSED, DONE, IDLE, UPSTREAM_RESET
from portway_proxy.l7.sockets import reset_when_closed

__all__ = ["Copier"]

_FAREWELL: Final = 30.0  # Seconds for the last bytes to leave after both directions have ended.


class Copier:
    """Couples the transports `client` and `upstream`, which belong to it from `start` on.

    `idle` is in seconds. `on_done` is called once, when both are closed or were cut off; `reason` says by then why, in
    the words of `l4.relay`.
    """

    __slots__ = ("_client", "_clock", "_idle", "_on_done", "_open", "_upstream", "deadline", "reason")

    def __init__(
        self,
        clock: Watch,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        *,
        idle: float,
        on_done: Callable[[Copier], None],
    ) -> None:
        self.reason = ""
        self._clock = clock
        self._idle = idle
        self._on_done = on_done
        self._open = 2
        self._client = _Side(self, client, upstream, CLIENT_RESET)
        self._upstream = _Side(self, upstream, client, UPSTREAM_RESET)
        self.deadline = clock.now + idle

    @property
    def sent(self) -> int:
        """The bytes that went from the client to the upstream so far."""
        return self._client.moved

    @property
    def received(self) -> int:
        """The bytes that went from the upstream to the client so far."""
        return self._upstream.moved

    def start(self, to_upstream: bytes = b"", to_client: bytes = b"") -> None:
        """Begin, with bytes that were read from one side already and that the other gets first."""
        self._clock.watch(self)
        for side in (self._client, self._upstream):
            side.transport.set_protocol(side)
        if to_client:
            self._upstream.data_received(to_client)
        if to_upstream:
            self._client.data_received(to_upstream)

    def abort(self, reason: str = CLOSED) -> None:
        """End at once: both sides see that they are cut off. Harmless when it has ended."""
        self.reason = self.reason or reason
        for side in (self._client, self._upstream):
            reset_when_closed(side.transport)
            side.transport.abort()
        self._done()

    def expire(self) -> None:
        """End, because nothing moved for too long."""
        self.abort(IDLE)

    def moved(self) -> None:
        """Note that something moved."""
        if not self.reason:
            self.deadline = self._clock.now + self._idle

    def finish(self) -> None:
        """End well: what was written still leaves."""
        if not self.reason:
            self.reason = DONE
            self.deadline = self._clock.now + _FAREWELL
            self._client.transport.close()
            self._upstream.transport.close()

    def lost(self) -> None:
        """Note that one of the transports is closed."""
        self._open -= 1
        self.finish()
        if not self._open:
            self._done()

    def _done(self) -> None:
        on_done, self._on_done = self._on_done, _nothing
        self._clock.unwatch(self)
        on_done(self)


class _Side(asyncio.Protocol):
    """One of the two transports; `moved` counts the bytes that came from it, `ended` says that no more will."""

    __slots__ = ("_copier", "_other", "_reset", "ended", "moved", "transport")

    def __init__(self, copier: Copier, transport: asyncio.Transport, other: asyncio.Transport, reset: str) -> None:
        self.transport = transport
        self.ended = False
        self.moved = 0
        self._copier = copier
        self._other = other
        self._reset = reset

    def data_received(self, data: bytes) -> None:
        """Pass on what came."""
        self._copier.moved()
        self.moved += len(data)
        self._other.write(data)

    def eof_received(self) -> bool:
        """Pass on that this direction has ended, where TCP alone carries both; else all ends."""
        self.ended = True
        other = self._other
        secure = not self.transport.can_write_eof()
        if secure or not other.can_write_eof() or _ended(other):
            self._copier.finish()
            return False
        other.write_eof()
        return True

    def pause_writing(self) -> None:
        """Read no more from the other side: this one does not keep up."""
        if not self._other.is_closing():
            self._other.pause_reading()

    def resume_writing(self) -> None:
        """Read from the other side again."""
        self._copier.moved()
        if not self._other.is_closing():
            self._other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side too: well, unless this one broke off."""
        if exc is not None:
            self._copier.abort(self._reset)
        else:
            self._copier.lost()


def _ended(transport: asyncio.BaseTransport) -> bool:
    side = transport.get_protocol()
    return isinstance(side, _Side) and side.ended


def _nothing(_: Copier) -> None:
    """Do nothing: who asked was told."""
