"""Measures how late the event loop is: what it was busy with kept everything else waiting."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

__all__ = ["Heartbeat"]

# What lasts less goes unseen, and 50 wake-ups a second cost a thousandth of a core.
_BEAT: Final = 0.02
_KEPT: Final = 3000


class Heartbeat:
    """The lateness of the last minute's beats; `run` has to be running."""

    __slots__ = ("_busy", "_late")

    def __init__(self) -> None:
        self._late: deque[float] = deque((0.0,), maxlen=_KEPT)
        self._busy: deque[float] = deque((0.0,), maxlen=_KEPT)

    @property
    def lag(self) -> float:
        """Return the seconds that the latest of the last minute's beats came too late."""
        return max(self._late)

    @property
    def busy(self) -> float:
        """Return how much of a beat's lateness was at most the loop's own work, in seconds of processor time.

        What is late beyond that waited for a processor, because the machine is too small or shared, or for another
        thread, which has to let go after five milliseconds.
        """
        return max(self._busy)

    async def run(self) -> None:
        """Beat until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due, worked = loop.time() + _BEAT, time.thread_time()
            await asyncio.sleep(_BEAT)
            late = loop.time() - due
            self._late.append(late)
            self._busy.append(min(late, time.thread_time() - worked))
