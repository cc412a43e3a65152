"""What one proxy's stream has yet to be sent: bounded, and never older than it need be."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

from portway_proxy.stream import Position

__all__ = ["PING", "Published", "Subscription"]

PING: Final = 10.0
"""Seconds between two pings: they also tell a proxy that its stream lasts."""

_MOST: Final = 256
_BYTES: Final = 4 << 20
_FIRST_HOLD: Final = 1.0
_LONGEST_HOLD: Final = 60.0


class Published(Protocol):
    """Where subscriptions get their messages, encoded once for all of them."""

    def opening(self, position: Position | None, *, wide: bool) -> Sequence[bytes] | None:
        """Return the hello, and what leads from `position` to what is published; None before the first snapshot.

        That may be wide deltas for who takes `wide` ones.
        """

    def snapshot(self) -> bytes:
        """Return the message with all that is published now."""

    def ping(self) -> bytes:
        """Return a sign of life."""


class Subscription:
    """A proxy that follows us from `position` on, by `wide` deltas too or by those of upstreams alone.

    It holds no snapshot: that a snapshot is due is a flag, and the newest is sent when its turn comes.
    """

    def __init__(self, node: str, position: Position | None, source: Published, *, wide: bool = True) -> None:
        self.node = node
        self._wide = wide
        self._position = position
        self._source = source
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._greeted = False
        self._whole = False
        self._ping_at = asyncio.get_running_loop().time() + PING
        self._held_until = 0.0
        self._hold = _FIRST_HOLD
        self._wake = asyncio.Event()
        self._closed = False

    def push(self, line: bytes, *, wide: bool = False) -> bool:
        """Send a delta; when too many wait, send a snapshot in the place of them all, and return True.

        A `wide` one that the proxy does not take, or that may mend what it refused, is a `resync`.
        """
        if wide and (self._whole or not self._wide):
            self.resync()
        if not self._greeted or self._whole:
            return False  # What is sent next holds it already.
        self._lines.append(line)
        self._bytes += len(line)
        overflowed = len(self._lines) > _MOST or self._bytes > _BYTES
        if overflowed:
            self._want_snapshot()
        self._wake.set()
        return overflowed

    def tell(self, line: bytes) -> None:
        """Send what changes nothing, unless the proxy has not heard the hello or is about to get a snapshot."""
        if self._greeted and not self._whole:
            self._lines.append(line)
            self._bytes += len(line)
            self._wake.set()

    def resync(self) -> None:
        """Send the snapshot of the moment, and nothing that came before it."""
        self._held_until = 0.0
        self._want_snapshot()
        self._wake.set()

    def refused(self) -> None:
        """Wait a while, longer each time, then send a snapshot again: the proxy could not apply what it got.

        A `resync` comes first: what is published by then may be what the proxy can apply.
        """
        self._held_until = asyncio.get_running_loop().time() + self._hold
        self._hold = min(self._hold * 2, _LONGEST_HOLD)
        self._want_snapshot()
        self._wake.set()

    def applied(self) -> None:
        """Forget earlier refusals."""
        self._hold = _FIRST_HOLD

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True
        self._wake.set()

    async def next(self) -> Sequence[bytes] | None:
        """Return the messages to send next, as soon as there are some, or a ping; None when it is over."""
        loop = asyncio.get_running_loop()
        while not self._closed:
            now = loop.time()
            if now >= self._ping_at:
                self._ping_at = now + PING
                return (self._source.ping(),)
            if now >= self._held_until and (lines := self._take()):
                return lines
            self._wake.clear()
            until = self._held_until if now < self._held_until < self._ping_at else self._ping_at
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._wake.wait()
        return None

    def _take(self) -> Sequence[bytes] | None:
        if not self._greeted:
            opening = self._source.opening(self._position, wide=self._wide)
            self._greeted = opening is not None
            return opening
        if self._whole:
            self._whole = False
            return (self._source.snapshot(),)
        lines, self._lines, self._bytes = self._lines, deque(), 0
        return lines

    def _want_snapshot(self) -> None:
        self._whole = self._greeted  # The opening brings it by itself.
        self._lines.clear()
        self._bytes = 0
