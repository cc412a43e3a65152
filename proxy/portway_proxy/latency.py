"""How long an endpoint takes of late: an average in which what is older counts less (ingress-nginx's ewma)."""

from __future__ import annotations

from math import exp
from typing import Final

__all__ = ["Latency"]

_FADES: Final = 10.0  # Seconds in which what was measured comes to count a third; ingress-nginx 10.


class Latency:
    """The average of an endpoint; times are seconds."""

    __slots__ = ("_at", "_average")

    def __init__(self) -> None:
        self._average = 0.0
        self._at = 0.0

    def note(self, took: float, now: float) -> None:
        """Take another time into the average."""
        share = self._share(now)
        self._average = self._average * share + took * (1.0 - share)
        self._at = now

    def score(self, now: float) -> float:
        """Return the average at `now`: who was not asked for long seems fast, and is tried again."""
        return self._average * self._share(now)

    def _share(self, now: float) -> float:
        return exp(-max(0.0, now - self._at) / _FADES)
