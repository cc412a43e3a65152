"""Spreads what we do to others over time."""

from __future__ import annotations

import asyncio

__all__ = ["Throttle"]


class Throttle:
    """Lets `rate` turns pass in a second, and up to `burst` at once after a pause (a token bucket)."""

    __slots__ = ("_burst", "_full", "_rate")

    def __init__(self, rate: float, burst: int = 1) -> None:
        self._rate = rate
        self._burst = burst
        # The loop's time at which the bucket is full again.
        self._full = 0.0

    async def turn(self) -> None:
        """Return when it is the caller's turn, in the order of the calls."""
        now = asyncio.get_running_loop().time()
        self._full = max(self._full, now) + 1 / self._rate
        wait = self._full - now - self._burst / self._rate
        if wait > 0:
            await asyncio.sleep(wait)
