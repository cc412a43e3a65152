"""What is shown now, kept up to date while somebody looks: the state that all readers of the stream are told of.

A reader is a place in that state. What is sent is always the newest, so that a slow one misses what was in between, and
nothing ever waits for it in a queue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Final, Protocol

from portway_proxy.dashboard.feed import (
    Event,
    Generation,
    Hello,
    Problems,
    Proxies,
    Role,
    Table,
    Unwell,
    event,
)
from portway_proxy.dashboard.figures import Depth, Gathered
from portway_proxy.dashboard.rows import Rows
from portway_proxy.dashboard.standing import Standing
from portway_proxy.snapshot import Problem, Snapshot
from portway_proxy.tasks import Tasks

__all__ = ["Board", "Crowded", "Reader", "Source"]

_MOST: Final = 16  # Readers; a wall of screens has fewer, and each that a page leaves open costs memory.
_GLANCE: Final = 0.1  # Seconds between two glances at what is served: comparing costs less than telling.
_EVERY: Final = 1.0  # Seconds between two looks at the figures.
_SHARE: Final = 250  # Looking at routes takes 0.4 % of a processor: what costs more is done less often.
_SLOWEST: Final = 15.0
_CHURN: Final = 50  # What is served is looked through for a fiftieth of the time at most, however often it changes.
_LATEST: Final = 2.0
_LINGER: Final = 10.0  # Seconds for which all is kept after the last reader, who may only have loaded the page anew.
_PROBLEMS: Final = 1000  # That are shown; who has more mends those first.


_NOTHING: Final = Snapshot()


class Source(Protocol):
    """Whose dashboard it is: a proxy, or an operator for its fleet."""

    @property
    def role(self) -> Role:
        """What it is."""

    @property
    def node(self) -> str:
        """The name of its node, or nothing."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot that is served, or None before the first."""

    @property
    def generation(self) -> int:
        """The number of the snapshot."""

    @property
    def digest(self) -> str:
        """The digest of the snapshot."""

    @property
    def served_since(self) -> float:
        """When the snapshot came into service, in seconds since the epoch."""

    @property
    def problems(self) -> Sequence[Problem]:
        """What is wrong here, beyond the snapshot's own problems."""

    def fleet(self) -> Proxies | None:
        """Return the proxies that serve the snapshot; None of a proxy itself."""

    async def figures(self, depth: Depth) -> Gathered:
        """Return what was counted since this was called before; nothing the first time, and the `LAST`."""


class Crowded(Exception):
    """There are as many readers as may be."""


@dataclass(slots=True)
class Reader:
    """How far somebody has read: of the rows, of the figures, and of each other event."""

    version: int = -1
    beat: int = 0
    heard: dict[type[Event], int] = field(default_factory=dict)


class Board:
    """The state of the dashboard of one source. `close` ends everything, and tells the readers."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._tasks = Tasks()
        self._readers = 0
        self._kept_until = 0.0
        self._changing = asyncio.Lock()
        self._news = asyncio.Event()
        self._keeping = False
        self._closed = False
        self._forget()

    def _forget(self) -> None:
        self._rows = Rows()
        self._standing = Standing()
        self._said: dict[type[Event], tuple[int, Event, bytes]] = {}
        self._served: Generation | None = None
        self._due = 0.0  # When what is served may be looked through again.
        self._encoded: tuple[tuple[int, int], bytes] = (0, 0), b""

    # --- reading

    async def table(self) -> Table:
        """Return everything that is served."""
        self._keep()
        self._due = 0.0  # Who comes gets what is served now.
        await self._glance()
        async with self._changing:
            return self._rows.table(0 if self._served is None else self._served.number)

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """Return a new reader, for whom all is kept up to date until the context ends. Raises `Crowded`."""
        if self._readers >= _MOST:
            raise Crowded(f"{_MOST} pages are open already")
        self._readers += 1
        try:
            yield Reader()
        finally:
            self._readers -= 1
            self._kept_until = time.monotonic() + _LINGER

    async def begin(self, reader: Reader, mark: str) -> bytes:
        """Return what a reader is told first, who has everything up to `mark` already."""
        self._keep()
        self._due = 0.0
        await self._glance()
        async with self._changing:
            reader.version = self._rows.stamp(mark) or -1
            hello = event(Hello(self._source.role, version("portway"), self._source.node))
            return hello + self._generation(reader) + self._told(reader)

    async def next(self, reader: Reader) -> bytes:
        """Wait for something new and return it; nothing at the end."""
        while not self._closed:
            news = self._news
            async with self._changing:
                told = self._told(reader)
            if told:
                return told
            await news.wait()
        return b""

    async def close(self) -> None:
        """End everything at once; readers are told."""
        self._closed = True
        self._news.set()
        await self._tasks.close()

    def _generation(self, reader: Reader) -> bytes:
        """Return what is served and what of it the reader has not, and take it that it has."""
        if self._served is None:
            return b""
        since, reader.version = max(0, reader.version), self._rows.version
        return event(self._rows.news(since, self._served))

    def _told(self, reader: Reader) -> bytes:
        """Return the events that the reader has not heard, and take it that it has."""
        parts = []
        if reader.version != self._rows.version:
            parts.append(self._generation(reader))
        for kind, (stamp, _, data) in self._said.items():
            if reader.heard.get(kind) != stamp:
                reader.heard[kind] = stamp
                parts.append(data)
        if reader.beat != self._standing.beat:
            parts.append(self._traffic(reader.beat))
            reader.beat = self._standing.beat
        return b"".join(parts)

    def _traffic(self, since: int) -> bytes:
        """Return the figures that are new since a beat; nearly all readers have the same one."""
        key = since, self._standing.beat
        if self._encoded[0] != key:
            self._encoded = key, event(self._standing.traffic(since))
        return self._encoded[1]

    # --- keeping up

    def _keep(self) -> None:
        """Keep up to date from now on, if that is not done."""
        self._kept_until = time.monotonic() + _LINGER
        if not self._keeping and not self._closed:
            self._keeping = True
            self._tasks.spawn(self._keep_up(), "dashboard")

    def _wanted(self) -> bool:
        return self._readers > 0 or time.monotonic() < self._kept_until

    async def _keep_up(self) -> None:
        """Follow what is served until nobody has looked for a while; then forget it all."""
        try:
            while self._wanted():
                looking = self._tasks.spawn(self._look_on(), "dashboard's figures")
                while self._wanted():
                    await asyncio.sleep(_GLANCE)
                    await self._glance()
                looking.cancel()
                await self._source.figures(Depth.LAST)
            self._forget()
        finally:
            self._keeping = False

    async def _look_on(self) -> None:
        """Gather figures once a second, of routes as often as they may cost."""
        due = 0.0
        while True:
            now = time.monotonic()
            depth = Depth.ROWS if now >= due else Depth.TOTALS
            began = time.thread_time()
            gathered = await self._source.figures(depth)
            if gathered.seconds:
                async with self._changing:
                    self._standing.take(gathered, self._rows)
                    if gathered.over:
                        self._say(Unwell(gathered.unwell))
                self._tell()
            if depth is Depth.ROWS:
                # What this thread did meanwhile for others counts too: the busier it is, the less often it looks.
                due = now + min(_SHARE * (gathered.cost + time.thread_time() - began), _SLOWEST)
            await asyncio.sleep(max(0.0, now + _EVERY - time.monotonic()))

    async def _glance(self) -> None:
        """Take what is new of what is served."""
        source = self._source
        async with self._changing:
            snapshot = source.snapshot or _NOTHING
            problems = (*snapshot.problems, *source.problems)
            before, now = self._served, time.monotonic()
            new = before is None or snapshot is not self._rows.snapshot or source.generation != before.number
            if new and now >= self._due:
                number, digest, since = source.generation, source.digest, source.served_since
                # In a thread: the first time it is 5,000 rows, and readiness must answer meanwhile.
                await asyncio.to_thread(self._rows.update, snapshot)
                self._due = now + min(_CHURN * (time.monotonic() - now), _LATEST)
                counts = self._rows.counts(len(problems))
                self._served = Generation(self._rows.mark, number, digest, round(since, 3), counts)
            said = self._say(Problems(list(problems[:_PROBLEMS]), max(0, len(problems) - _PROBLEMS)))
            fleet = source.fleet()
            said = (fleet is not None and self._say(fleet)) or said
            if said or self._served is not before:
                self._tell()

    def _say(self, content: Event) -> bool:
        """Take what is to be told of its kind; return whether it is new."""
        stamp, before, _ = self._said.get(type(content), (0, None, b""))
        if content == before:
            return False
        self._said[type(content)] = stamp + 1, content, event(content)
        return True

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
