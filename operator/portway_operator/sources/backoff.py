"""How long to wait before asking the API server again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

__all__ = ["Backoff", "EndlessBackoff"]

# An outage ends for us at most this many seconds after it ends for others; client-go waits up to 30 s.
_MOST = 5.0
_FIRST = 0.1
_CALM = 30.0


class Backoff:
    """Pauses that double from 0.1 s to 5 s, and begin anew when half a minute passed since the last one ended.

    Each is shortened at random by up to a half, so that many clients do not come back in step.
    """

    __slots__ = ("_clock", "_pause", "_until")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause = 0.0
        self._until = -_CALM

    def next(self, least: float = 0.0) -> float:
        """Return the seconds to wait now, at least `least` (what the server asked for, believed up to a minute)."""
        now = self._clock()
        fresh = now > self._until + _CALM
        self._pause = _FIRST if fresh else min(self._pause * 2, _MOST)
        seconds = max(self._pause * random.uniform(0.5, 1.0), min(least, 60.0))  # noqa: S311 - jitter, no secret
        self._until = now + seconds
        return seconds


class EndlessBackoff:
    """The same pauses as an endless iterable, for kopf: when its list of pauses ends, so does the whole operator."""

    def __iter__(self) -> Iterator[float]:
        backoff = Backoff()
        while True:
            yield backoff.next()
