"""How traffic stands: the figures of the last look, by host, route and upstream, and since when each is as it is."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Final, Generic, TypeAlias, TypeVar

from portway_proxy.dashboard.feed import Figure, Traffic
from portway_proxy.dashboard.figures import Gathered, Moved
from portway_proxy.dashboard.rows import Rows
from portway_proxy.dashboard.stamped import Stamped
from portway_proxy.traffic import Labels

__all__ = ["Standing"]

K = TypeVar("K")

_Part: TypeAlias = tuple[Moved, Figure]

_ZERO: Final = Figure()
_KEPT: Final = 100  # Looks for which a zero is kept for who reads slowly; a reader that is slower is gone by then.


class _Column(Generic[K]):
    """The figures of one kind of thing."""

    def __init__(self) -> None:
        self.figures: Stamped[K, Figure] = Stamped(0)
        self._moving: set[K] = set()

    def take(self, parts: Mapping[K, list[_Part]], seconds: float, beat: int) -> None:
        """Take the figures of a look; what moved before and does not any more is put to zero."""
        for key in self._moving.difference(parts):
            self.figures.put(key, _ZERO, beat)
        for key, some in parts.items():
            self.figures.put(key, some[0][1] if len(some) == 1 else _sum(some).figure(seconds), beat)
        self._moving = set(parts)
        self.figures.expire(beat - _KEPT)


class Standing:
    """The figures of the last look, whose number is `beat`; 0 before any."""

    def __init__(self) -> None:
        self.beat = 0
        self._hosts: _Column[str] = _Column()
        self._routes: _Column[int] = _Column()
        self._upstreams: _Column[str] = _Column()
        self._last = Gathered()
        self._total = _ZERO
        self._at = 0.0

    def take(self, gathered: Gathered, rows: Rows) -> None:
        """Take what a look has gathered."""
        self.beat += 1
        self._last, self._at = gathered, time.time()
        seconds = gathered.seconds
        total = Moved(Labels())
        hosts: defaultdict[str, list[_Part]] = defaultdict(list)
        routes: defaultdict[int, list[_Part]] = defaultdict(list)
        upstreams: defaultdict[str, list[_Part]] = defaultdict(list)
        for moved in gathered.moved:
            total.add(moved)
            part = moved, moved.figure(seconds)
            found = rows.labelled(moved.labels)
            for row in found:
                routes[row.id].append(part)
            for host in {row.host for row in found}:
                hosts[host].append(part)
            for upstream in {row.upstream for row in found}:
                upstreams[upstream].append(part)
        self._total = total.figure(seconds)
        self._hosts.take(hosts, seconds, self.beat)
        self._routes.take(routes, seconds, self.beat)
        self._upstreams.take(upstreams, seconds, self.beat)

    def traffic(self, since: int) -> Traffic:
        """Return the totals, and the figures that are not as they were at the beat `since`."""
        last, seconds = self._last, self._last.seconds or 1.0
        return Traffic(
            round(self._at, 3),
            round(last.seconds, 3),
            self._total,
            round(last.received / seconds),
            round(last.sent / seconds),
            last.connections,
            last.flows,
            self._hosts.figures.since(since),
            self._routes.figures.since(since),
            self._upstreams.figures.since(since),
        )


def _sum(parts: list[_Part]) -> Moved:
    found = Moved(parts[0][0].labels)
    for moved, _ in parts:
        found.add(moved)
    return found
