"""What proxies report of their traffic while somebody looks at the dashboard: kept until it is looked at."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from portway_proxy.dashboard.figures import Depth, Gathered
from portway_proxy.endpoint_states import EndpointPage
from portway_proxy.stream import Report, Watch

__all__ = ["Reported", "Teller"]

_NOTHING: Final = Gathered()
_ASKED: Final = 32  # Upstreams that are looked at together; the oldest question gives way.
_FRESH: Final = 6.0  # Seconds for which what was told of endpoints counts: it is told every two.


@dataclass(frozen=True, slots=True)
class Teller:
    """What a proxy said of itself last: the name of its node, its version and its requests a second."""

    place: str = ""
    version: str = ""
    requests: float = 0.0


class Reported:
    """What each proxy has reported that nobody has looked at yet; it belongs to the event loop's thread.

    `tellers` are the proxies that have reported since somebody began to look.
    """

    def __init__(self) -> None:
        self.tellers: dict[str, Teller] = {}
        self._untold: dict[str, Gathered] = {}
        # The rows of each proxy as they were last: it tells of them as often as they may cost.
        self._rows: dict[str, Gathered] = {}
        self._until = 0.0
        self._asked: dict[str, float] = {}
        self._pages: dict[str, tuple[float, Report]] = {}
        self._news = asyncio.Event()

    @property
    def watch(self) -> Watch:
        """For how many seconds more reports are wanted, 0 when nobody looks; and of which endpoints."""
        now = time.monotonic()
        self._asked = {name: until for name, until in self._asked.items() if until > now}
        until = max(self._until, *self._asked.values(), now)
        return Watch(until - now, ",".join(self._asked))

    def want(self, seconds: float, endpoints: str = "") -> bool:
        """Want reports for so many seconds, and with how `endpoints` fare; return whether proxies do not know yet.

        0 is that nobody looks at figures any more: those that came are forgotten.
        """
        before = self.watch
        until = time.monotonic() + seconds
        if endpoints:
            self._asked[endpoints] = until
            while len(self._asked) > _ASKED:
                del self._asked[next(iter(self._asked))]
        elif seconds:
            self._until = until
        else:
            self._until = 0.0
            for kept in (self._untold, self._rows, self.tellers, self._pages):
                kept.clear()
        return seconds > 0 and (not before.seconds or self.watch.endpoints != before.endpoints)

    def take(self, report: Report) -> None:
        """Take a report, if any are wanted; of figures, if they can be true."""
        if not self.watch.seconds:
            return
        if report.asked:
            self._pages[report.node] = time.monotonic(), report
            self._news.set()
        gathered = report.gathered
        if self._until <= time.monotonic() or not gathered.plausible:
            return
        rate = round(gathered.total.requests / gathered.seconds, 2)
        self.tellers[report.node] = Teller(report.place, report.version, rate)
        self._untold[report.node] = self._untold.get(report.node, _NOTHING).then(gathered)
        self._news.set()

    async def wait(self, names: Collection[str], seconds: float) -> None:
        """Wait until all these proxies have reported since they were looked at, at most so many seconds."""
        await self._wait(lambda: all(name in self._untold and self._untold[name].seconds for name in names), seconds)

    async def pages(self, endpoints: str, names: Collection[str], seconds: float) -> list[EndpointPage]:
        """Return how these endpoints fare for each proxy that told of late; those named are waited for."""
        await self._wait(lambda: self._told(endpoints).keys() >= set(names), seconds)
        return list(self._told(endpoints).values())

    def _told(self, endpoints: str) -> dict[str, EndpointPage]:
        oldest = time.monotonic() - _FRESH
        self._pages = {node: told for node, told in self._pages.items() if told[0] > oldest}
        return {
            node: report.endpoints for node, (_, report) in self._pages.items() if endpoints in report.asked.split(",")
        }

    async def _wait(self, claim: Callable[[], bool], seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not claim():
                    self._news.clear()
                    await self._news.wait()

    def look(self, depth: Depth) -> Gathered:
        """Return what all who have reported told, added up."""
        parts = {}
        for name, untold in list(self._untold.items()):
            parts[name], self._untold[name] = untold.split(depth)
        parts = {name: part for name, part in parts.items() if part.seconds}
        self._rows |= {name: part for name, part in parts.items() if part.over}
        self._rows = {name: rows for name, rows in self._rows.items() if name in self.tellers}
        if any(part.over for part in parts.values()):
            parts = {name: _with_rows(part, self._rows.get(name)) for name, part in parts.items()}
        return _joined(list(parts.values()))


def _with_rows(part: Gathered, rows: Gathered | None) -> Gathered:
    """Return it with the rows of before, where it has none itself."""
    if part.over or rows is None:
        return part
    return msgspec.structs.replace(part, over=rows.over, moved=rows.moved, unwell=rows.unwell)


def _joined(parts: list[Gathered]) -> Gathered:
    """Return them added up; of who told of another time than most, what it would have told of that."""
    if not parts:
        return _NOTHING
    seconds = statistics.median(part.seconds for part in parts)
    over = statistics.median([part.over for part in parts if part.over] or [0.0])
    found = Gathered.join([part.paced(seconds, over) for part in parts])
    return msgspec.structs.replace(found, seconds=seconds, over=over)
