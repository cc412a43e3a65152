"""What a worker does when it has more to do, or holds more memory, than it can bear.

Memory comes in steps, as Envoy's overload manager has them: connections are no longer kept and next to nothing waits
for slow readers, then new requests are refused, then nobody is accepted, and those are cut off for whom far more waits
than may. A loop that is late again and again refuses what it reads too late in its turn. What else runs is finished.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from time import monotonic
from typing import TYPE_CHECKING, Final

from portway_proxy.errors import LoopLate, MemoryShort
from portway_proxy.l7 import flow
from portway_proxy.l7.http import Http
from portway_proxy.pressure import Pressure

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange

__all__ = ["Level", "Overload"]

_BEAT: Final = 0.1  # Seconds between two looks at the loop: a second's overload must be known long before it is over.
_SPAN: Final = 50  # Beats whose worst lag is told: at least these, at most twice as many.
_STEPS: Final = (0.92, 0.95, 0.98)  # The first two are those of Envoy's example.
_BACK: Final = 0.02  # So far below its step must the share be to end it.
_WARY: Final = 10  # Beats in time until the loop is trusted to stay so: what was refused comes again meanwhile.
_REST: Final = 0.3  # Seconds until a late refusal is said: enough that those who come again at once cost little.
_TIGHT: Final = 8192  # Bytes that may wait for a slow reader while connections are not kept.
_CUTS: Final = 16  # Clients that are cut off at one beat: then it is seen what that brought.
_TRIMS: Final = 100  # Beats between two attempts to give memory back to the system.


class Level(IntEnum):
    """How short memory is, by what is done about it."""

    CALM = 0
    LETTING_GO = 1
    REFUSING = 2
    CLOSED = 3


class Overload:
    """Watches the loop and the memory of one worker and sets its `http` accordingly.

    `close` is called with whether nobody is to be accepted, when that changes. `share` is that of memory, `level` what
    it comes to.
    """

    __slots__ = (
        "_beats",
        "_close",
        "_due",
        "_handle",
        "_http",
        "_loop",
        "_pressure",
        "_refused",
        "_wary",
        "_worst",
        "level",
        "share",
    )

    def __init__(self, http: Http, pressure: Pressure, close: Callable[[bool], None]) -> None:
        self._http = http
        self._loop = http.loop
        self._pressure = pressure
        self._close = close
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._beats = 0
        self._wary = 0
        self._refused: deque[tuple[float, list[Exchange]]] = deque()
        self._worst = (0.0, 0.0)
        self.share = 0.0
        self.level = Level.CALM

    @property
    def lag(self) -> float:
        """The worst lag of the last seconds, in seconds."""
        return max(self._worst)

    def start(self) -> None:
        """Begin to watch."""
        self._next()

    def tune(self, memory: int) -> None:
        """Go by another limit of memory, in bytes."""
        self._pressure.limit = memory

    def stop(self) -> None:
        """End watching."""
        if self._handle is not None:
            self._handle.cancel()
        self._pressure.close()

    @contextmanager
    def excused(self) -> Iterator[None]:
        """Do not count the time that this takes: clients did not cause it, and are not refused for it.

        Nothing may be awaited meanwhile: what else was done would be excused too.
        """
        # Not the loop's time, which stands still while it is held up.
        began = monotonic()
        try:
            yield
        finally:
            took = monotonic() - began
            self._due += took
            self._http.late_from += took

    def _next(self) -> None:
        self._due = self._loop.time() + _BEAT
        self._http.late_from = self._due + self._http.limits.loop_lag
        self._handle = self._loop.call_later(_BEAT, self._beat)

    def _beat(self) -> None:
        self._beats += 1
        self._note(max(0.0, self._loop.time() - self._due))
        self.share = self._pressure.share()
        self._follow()
        self._say()
        self._next()

    def _say(self) -> None:
        """Tell those who were refused a moment ago."""
        now = self._loop.time()
        if self._http.refused:
            self._refused.append((now + _REST, self._http.refused))
            self._http.refused = []
        while self._refused and self._refused[0][0] <= now:
            for exchange in self._refused.popleft()[1]:
                flow.fail(exchange, LoopLate("more comes than can be served in time"))

    def _note(self, lag: float) -> None:
        before, now = self._worst
        self._worst = (now, lag) if self._beats % _SPAN == 0 else (before, max(now, lag))
        # Once may be the system's; what came meanwhile is served.
        if 0 < self._http.limits.loop_lag < lag:
            self._wary = _WARY
        elif self._wary:
            self._wary -= 1
        self._refuse()

    def _follow(self) -> None:
        level = Level(sum(self.share >= step for step in _STEPS))
        if level < self.level:
            level = min(self.level, Level(sum(self.share >= step - _BACK for step in _STEPS)))
        if level and self._beats % _TRIMS == 0:
            _trim()
        if level is Level.CLOSED:
            self._cut_off()
        before, self.level = self.level, level
        if level == before:
            return
        self._http.letting_go = tight = level >= Level.LETTING_GO
        if tight != (before >= Level.LETTING_GO):
            # What runs may still grow by as much as may wait for each of many readers.
            usual = self._http.settings.limits.buffer
            self._http.squeeze(min(usual, _TIGHT) if tight else usual)
        self._refuse()
        if (level is Level.CLOSED) != (before is Level.CLOSED):
            self._close(level is Level.CLOSED)

    def _cut_off(self) -> None:
        """End what holds the most: rather a few, who have not read what they got, than everybody with the process."""
        usual = self._http.settings.limits.buffer
        greedy = heapq.nlargest(_CUTS, ((one.unsent, id(one), one) for one in self._http.worker.clients))
        for unsent, _, client in greedy:
            if unsent <= usual:
                break
            client.cut(MemoryShort(f"{unsent} bytes wait for somebody to read them"))

    def _refuse(self) -> None:
        why = MemoryShort if self.level >= Level.REFUSING else LoopLate if self._wary else None
        if why is not self._http.shedding:
            self._http.shedding = why


def _trim() -> None:
    """Have the allocator give free memory back, or a worker that was full once might look so for ever."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; musl does so by itself.
    if trim is not None:
        trim(0)
