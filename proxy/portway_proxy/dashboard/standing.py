"""How traffic stands: the figures of the last look, by host, route and upstream, and since when each is as it is."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Final, Generic, TypeVar

from portway_proxy.dashboard.feed import Figure, Traffic
from portway_proxy.dashboard.figures import ZERO, Gathered, Moved
from portway_proxy.dashboard.rows import Rows
from portway_proxy.dashboard.stamped import Stamped

__all__ = ["Standing"]

K = TypeVar("K")

_KEPT: Final = 100  # Looks for which a zero is kept for who reads slowly; a reader that is slower is gone by then.


class _Column(Generic[K]):
    """The figures of one kind of thing."""

    def __init__(self) -> None:
        self.figures: Stamped[K, Figure] = Stamped(0)
        self._moving: set[K] = set()

    def take(self, figures: Mapping[K, Figure], beat: int) -> None:
        """Take the figures of a look; what moved before and does not any more is put to zero."""
        for key in self._moving.difference(figures):
            self.figures.put(key, ZERO, beat)
        self.figures.put_all(figures, beat)
        self._moving = set(figures)
        self.figures.expire(beat - _KEPT)


class Standing:
    """The figures of the last look, whose number is `beat`; 0 before any."""

    def __init__(self) -> None:
        self.beat = 0
        self._hosts: _Column[str] = _Column()
        self._routes: _Column[int] = _Column()
        self._upstreams: _Column[str] = _Column()
        self._last = Gathered()
        self._at = 0.0

    def take(self, gathered: Gathered, rows: Rows) -> None:
        """Take what a look has gathered."""
        self.beat += 1
        self._last, self._at = gathered, time.time()
        if not gathered.over:
            return
        routes: dict[int, Figure] = {}
        hosts: defaultdict[str, list[Moved]] = defaultdict(list)
        upstreams: defaultdict[str, list[Moved]] = defaultdict(list)
        for moved in gathered.moved:
            figure = moved.figure(gathered.over)
            row = None
            for row in rows.labelled(moved.labels):
                routes[row.id] = figure
                hosts[row.host].append(moved)
            if row is not None:
                upstreams[row.upstream].append(moved)
        self._routes.take(routes, self.beat)
        self._hosts.take(_figures(hosts, gathered.over), self.beat)
        self._upstreams.take(_figures(upstreams, gathered.over), self.beat)

    def traffic(self, since: int) -> Traffic:
        """Return the totals, and the figures that are not as they were at the beat `since`."""
        last, seconds = self._last, self._last.seconds or 1.0
        return Traffic(
            round(self._at, 3),
            round(last.seconds, 3),
            last.total.figure(seconds),
            round(last.received / seconds),
            round(last.sent / seconds),
            last.connections,
            last.flows,
            round(last.over, 3),
            self._hosts.figures.since(since),
            self._routes.figures.since(since),
            self._upstreams.figures.since(since),
        )


def _figures(parts: Mapping[str, list[Moved]], seconds: float) -> dict[str, Figure]:
    return {name: Moved.sum(some).figure(seconds) for name, some in parts.items()}
