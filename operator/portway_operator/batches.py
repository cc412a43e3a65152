"""When changes of endpoints are published: each at once while they are few, together in a storm."""

from __future__ import annotations

from math import inf
from typing import Final

__all__ = ["BURST", "PAUSE", "RATE", "Batches"]

RATE: Final = 75.0
"""Changes a second from which on they come in a storm; rollouts of a large cluster stay below."""

BURST: Final = 10
"""So many changes at once are no storm yet."""

PAUSE: Final = 0.125
"""Seconds between the batches of a storm: with those of its first moment, fewer than ten a second."""


class Batches:
    """Says when what changed is to be published; a leaky bucket of changes tells a storm.

    Times are the event loop's, in seconds.
    """

    __slots__ = ("_due", "_level", "_published", "_seen")

    def __init__(self) -> None:
        self._level = 0.0
        self._seen = self._published = -inf
        self._due = inf

    def add(self, now: float) -> None:
        """Take note of a change."""
        # Bounded, so that a storm is over a moment after it was, however large it was.
        left = max(0.0, self._level - (now - self._seen) * RATE) if self._level else 0.0
        self._level, self._seen = min(left + 1, 2 * BURST), now
        due = now if self._level <= BURST else max(now, self._published + PAUSE)
        self._due = min(self._due, due)

    def due(self, now: float) -> float:
        """Return the seconds until what changed is to be published; infinite when nothing has."""
        return self._due - now

    def publish(self, now: float) -> None:
        """Take note that all that changed is published now."""
        self._published, self._due = now, inf
