"""The figures of requests: what moved between two looks, added up over workers and proxies, and percentiles of it."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import accumulate
from typing import Final, Self

import msgspec

from portway_proxy.dashboard.feed import Figure, UnwellRow
from portway_proxy.metrics import LATENCY_BOUNDS
from portway_proxy.traffic import Labels

__all__ = ["ZERO", "Depth", "Gathered", "Moved", "percentile"]

ZERO: Final = Figure()
"""That of no requests."""

_ALIKE: Final = 0.1
_PATTERNS: Final = 4096  # Of most routes few requests end in one second, and those look alike.


class Depth(StrEnum):
    """How much a look asks for."""

    TOTALS = "totals"  # Of all requests together.
    ROWS = "rows"  # Of each route as well, since such a look was before.
    LAST = "last"  # Nothing: nobody looks any more.


class Moved(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What ended on a route between two looks: requests, of which so many failed (5xx) or were refused (4xx).

    `counts` are those in each place between `LATENCY_BOUNDS`, by place, without zeros.
    """

    labels: Labels
    requests: int = 0
    failed: int = 0
    refused: int = 0
    counts: dict[int, int] = {}

    @classmethod
    def sum(cls, parts: Sequence[Self]) -> Self:
        """Return what several counted together; that of the first, if it is alone."""
        if len(parts) == 1:
            return parts[0]
        counts = [0] * (len(LATENCY_BOUNDS) + 1)
        requests = failed = refused = 0
        for part in parts:
            requests += part.requests
            failed += part.failed
            refused += part.refused
            for place, count in part.counts.items():
                counts[place] += count
        found = {place: count for place, count in enumerate(counts) if count}
        return cls(parts[0].labels if parts else Labels(), requests, failed, refused, found)

    def times(self, share: float) -> Moved:
        """Return this if so many times as much had ended; what differs by less than a tenth is told as it is."""
        if abs(share - 1) < _ALIKE or not self.requests:
            return self
        counts = {place: round(count * share) or 1 for place, count in self.counts.items()}
        failed, refused = round(self.failed * share), round(self.refused * share)
        return Moved(self.labels, round(self.requests * share), failed, refused, counts)

    def figure(self, seconds: float) -> Figure:
        """Return this as a figure; it took so many `seconds`."""
        requests = self.requests
        if not requests:
            return ZERO
        failed, refused = (
            self.failed and round(self.failed / requests, 4),
            self.refused and round(self.refused / requests, 4),
        )
        return Figure(round(requests / seconds, 2), failed, refused, *_percentiles(tuple(self.counts.items())))


class Gathered(msgspec.Struct, frozen=True):
    """What was counted in the last `seconds`, and how things stand at their end.

    `total` is all requests; `moved`, by route, and `unwell` are told when `over` is not 0, for so many seconds.
    `received` and `sent` are bytes of clients, at layers 4 and 7. `cost` is the time (of a processor) that it took to
    find out.
    """

    seconds: float = 0.0
    total: Moved = Moved(Labels())
    over: float = 0.0
    moved: list[Moved] = []
    received: int = 0
    sent: int = 0
    connections: int = 0
    flows: int = 0
    unwell: list[UnwellRow] = []
    cost: float = 0.0

    @property
    def plausible(self) -> bool:
        """Whether it can be true: a report of another process may be of whatever making."""
        counts = (self.received, self.sent, self.connections, self.flows, self.over)
        return self.seconds > 0 and min(counts) >= 0 and all(map(_plausible, (self.total, *self.moved)))

    @classmethod
    def unpack(cls, packed: Sequence[bytes]) -> Self:
        """Return what several workers have packed as one; the time that this takes is part of the cost."""
        began = time.thread_time()
        found = cls.join([msgspec.msgpack.decode(part, type=cls) for part in packed])
        return msgspec.structs.replace(found, cost=found.cost + time.thread_time() - began)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Return what several workers, or proxies, have gathered as one."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            max((part.seconds for part in parts), default=0.0),
            Moved.sum([part.total for part in parts]),
            max((part.over for part in parts), default=0.0),
            _joined(parts),
            sum(part.received for part in parts),
            sum(part.sent for part in parts),
            sum(part.connections for part in parts),
            sum(part.flows for part in parts),
            _worst(row for part in parts for row in part.unwell),
            sum(part.cost for part in parts),
        )

    def then(self, later: Gathered) -> Gathered:
        """Return this and what was gathered next as one."""
        if not self.seconds and not self.over:
            return later
        return Gathered(
            self.seconds + later.seconds,
            Moved.sum([self.total, later.total]),
            self.over + later.over,
            _joined((self, later)),
            self.received + later.received,
            self.sent + later.sent,
            later.connections,
            later.flows,
            later.unwell if later.over else self.unwell,
            later.cost,
        )

    def split(self, depth: Depth) -> tuple[Gathered, Gathered]:
        """Return what who asks for that much is told, and what is left to tell."""
        if depth is Depth.ROWS or not self.over:
            return self, Gathered()
        told = msgspec.structs.replace(self, over=0.0, moved=[], unwell=[])
        return told, Gathered(over=self.over, moved=self.moved, unwell=self.unwell)

    def paced(self, seconds: float, over: float) -> Gathered:
        """Return what would have been gathered in so many seconds, and of routes over so many."""
        share, rows = seconds / self.seconds, over / self.over if self.over else 1.0
        return msgspec.structs.replace(
            self,
            seconds=seconds,
            total=self.total.times(share),
            over=over if self.over else 0.0,
            moved=[moved.times(rows) for moved in self.moved],
            received=round(self.received * share),
            sent=round(self.sent * share),
        )


def _plausible(moved: Moved) -> bool:
    """Return whether each request has its place between bounds that there are."""
    counts = moved.counts
    if counts and (min(counts) < 0 or max(counts) > len(LATENCY_BOUNDS) or min(counts.values()) <= 0):
        return False
    shares = (moved.failed, moved.refused)
    return min(shares) >= 0 and sum(shares) <= moved.requests == sum(counts.values())


def _joined(parts: Iterable[Gathered]) -> list[Moved]:
    found: defaultdict[Labels, list[Moved]] = defaultdict(list)
    for part in parts:
        for moved in part.moved:
            found[moved.labels].append(moved)
    return list(map(Moved.sum, found.values()))


def _worst(rows: Iterable[UnwellRow]) -> list[UnwellRow]:
    found: dict[str, UnwellRow] = {}
    for row in rows:
        known = found.get(row.upstream, row)
        found[row.upstream] = UnwellRow(row.upstream, max(row.ejected, known.ejected), max(row.failing, known.failing))
    return sorted(found.values(), key=lambda row: row.upstream)


def percentile(counts: Sequence[tuple[int, int]], share: float) -> float:
    """Return the milliseconds in which `share` of the requests were done: `counts` are places and how many, in order.

    Between two bounds they are taken for evenly spread; what is above the last bound counts as that.
    """
    reached = list(accumulate(count for _, count in counts))
    wanted = share * reached[-1]
    at = bisect_left(reached, wanted)
    place, count = counts[at]
    missing = wanted - reached[at] + count
    low = LATENCY_BOUNDS[place - 1] if place else 0.0
    high = LATENCY_BOUNDS[place] if place < len(LATENCY_BOUNDS) else low
    return round((low + (high - low) * missing / count) * 1000, 2)


@lru_cache(_PATTERNS)
def _percentiles(counts: tuple[tuple[int, int], ...]) -> tuple[float, float, float]:
    return percentile(counts, 0.5), percentile(counts, 0.95), percentile(counts, 0.99)
