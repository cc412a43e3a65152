"""The figures of requests: what moved between two looks, added up over workers and proxies, and percentiles of it."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final, Self

import msgspec

from portway_proxy.dashboard.feed import Figure, UnwellRow
from portway_proxy.metrics import LATENCY_BOUNDS
from portway_proxy.traffic import Labels

__all__ = ["Gathered", "Moved", "percentile"]

_PATTERNS: Final = 4096  # Of most routes few requests end in one second, and those look alike.


class Moved(msgspec.Struct, array_like=True):
    """What ended on a route between two looks: requests, of which so many failed (5xx) or were refused (4xx).

    `counts` are those in each place between `LATENCY_BOUNDS`, by place, without zeros.
    """

    labels: Labels
    requests: int = 0
    failed: int = 0
    refused: int = 0
    counts: dict[int, int] = {}

    def add(self, other: Moved) -> None:
        """Count what `other` has counted."""
        self.requests += other.requests
        self.failed += other.failed
        self.refused += other.refused
        counts = self.counts
        for place, count in other.counts.items():
            counts[place] = counts.get(place, 0) + count

    def figure(self, seconds: float) -> Figure:
        """Return this as a figure; it took so many `seconds`."""
        requests = self.requests
        if not requests:
            return Figure()
        half, most, nearly_all = _percentiles(tuple(sorted(self.counts.items())))
        share, other = round(self.failed / requests, 4), round(self.refused / requests, 4)
        return Figure(round(requests / seconds, 2), share, other, half, most, nearly_all)


class Gathered(msgspec.Struct, frozen=True):
    """What was counted in the last `seconds`, and how things stand at their end.

    `received` and `sent` are bytes of clients, at layers 4 and 7. `cost` is the time (of a processor) that it took to
    find out.
    """

    seconds: float = 0.0
    moved: list[Moved] = []
    received: int = 0
    sent: int = 0
    connections: int = 0
    flows: int = 0
    unwell: list[UnwellRow] = []
    cost: float = 0.0

    @classmethod
    def unpack(cls, packed: Sequence[bytes]) -> Self:
        """Return what several workers have packed as one; the time that this takes is part of the cost."""
        began = time.thread_time()
        found = cls.join([msgspec.msgpack.decode(part, type=cls) for part in packed])
        return msgspec.structs.replace(found, cost=found.cost + time.thread_time() - began)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Return what several workers, or proxies, have gathered as one; what moved in `parts` is changed."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            max((part.seconds for part in parts), default=0.0),
            _joined(parts),
            sum(part.received for part in parts),
            sum(part.sent for part in parts),
            sum(part.connections for part in parts),
            sum(part.flows for part in parts),
            _worst(row for part in parts for row in part.unwell),
            sum(part.cost for part in parts),
        )


def _joined(parts: Iterable[Gathered]) -> list[Moved]:
    found: dict[Labels, Moved] = {}
    for part in parts:
        for moved in part.moved:
            known = found.setdefault(moved.labels, moved)
            if known is not moved:
                known.add(moved)
    return list(found.values())


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
