"""The coarse clock: one tick a second drives every timeout of a worker, so that none costs a timer of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

__all__ = ["NEVER", "Clock", "Still", "Timed", "Watch"]

_log = logging.getLogger(__name__)

NEVER = float("inf")
"""A deadline that never comes."""


class Timed(Protocol):
    """Something with a deadline: seconds of `Clock.now`, which it may move at any time by plain assignment."""

    deadline: float

    def expire(self) -> None:
        """Act on the deadline that has passed; move it or stop being watched, or it is called again."""


class Watch(Protocol):
    """What something with deadlines needs of a clock."""

    @property
    def now(self) -> float:
        """The time in seconds, a second coarse."""

    def watch(self, item: Timed) -> None:
        """Call `item.expire()` when its deadline has passed, until `unwatch`."""

    def unwatch(self, item: Timed) -> None:
        """Forget `item`; harmless when it is not watched."""


class Still:
    """A clock that stands still: for what no worker serves."""

    now = 0.0

    def watch(self, item: Timed) -> None:
        """Do nothing: no deadline ever passes."""

    def unwatch(self, item: Timed) -> None:
        """Do nothing."""


class Clock:
    """The time of a worker, a second coarse, and the watch over all deadlines.

    A tick walks everything that is watched (0.1 us each): moving a deadline then costs an assignment, which happens
    per request, and the walk 1 ms a second for 10,000 connections.
    """

    __slots__ = ("_handle", "_loop", "_watched", "now", "wall")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: set[Timed] = set()
        self._handle: asyncio.TimerHandle | None = None
        self.now = loop.time()
        self.wall = time.time()

    def start(self) -> None:
        """Begin to tick."""
        self._tick()

    def stop(self) -> None:
        """End ticking; deadlines no longer pass."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def watch(self, item: Timed) -> None:
        """Call `item.expire()` when its deadline has passed, until `unwatch`."""
        self._watched.add(item)

    def unwatch(self, item: Timed) -> None:
        """Forget `item`; harmless when it is not watched."""
        self._watched.discard(item)

    def _tick(self) -> None:
        self._handle = self._loop.call_later(1.0, self._tick)
        # Deadlines are set from `now`, which is up to a tick old: only what passed at the last tick has had its time.
        passed, self.now = self.now, self._loop.time()
        self.wall = time.time()
        for item in [item for item in self._watched if item.deadline <= passed]:
            # What came before it may have ended it, or given it more time.
            if item.deadline <= passed and item in self._watched:
                try:
                    item.expire()
                except Exception:  # noqa: BLE001 - the fault of one must not cost all others their timeouts
                    _log.exception("a deadline could not be acted on")
