"""What a worker counts for the dashboard while somebody looks, and tells at each look."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

import msgspec

from portway_proxy.dashboard.feed import UnwellRow
from portway_proxy.dashboard.figures import Depth, Gathered, Moved
from portway_proxy.metrics import BYTES, LATENCY_BOUNDS, RELAYS_ACTIVE, Counters
from portway_proxy.traffic import Labels

if TYPE_CHECKING:
    from portway_proxy.journal import Journal
    from portway_proxy.l4.ports import Ports
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.live import Live
    from portway_proxy.traffic import Record, Series

__all__ = ["Lookout", "Pulse"]


class Pulse:
    """All requests since a look, whatever their route."""

    __slots__ = ("_counts", "_failed", "_refused")

    def __init__(self) -> None:
        self._counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self._failed = 0
        self._refused = 0

    def take(self, exchanges: Iterable[Exchange]) -> None:
        """Count exchanges that have ended."""
        counts = self._counts
        for exchange in exchanges:
            counts[bisect_left(LATENCY_BOUNDS, exchange.ended - exchange.started)] += 1
            if exchange.status >= 500:
                self._failed += 1
            elif exchange.status >= 400:
                self._refused += 1

    def total(self) -> Moved:
        """Return what was counted."""
        counts = {place: count for place, count in enumerate(self._counts) if count}
        return Moved(Labels(), sum(counts.values()), self._failed, self._refused, counts)


class Watched(Protocol):
    """The worker that is looked at."""

    journal: Journal
    counters: Counters
    live: Live


class _Last(msgspec.Struct, frozen=True):
    """The look before: when it was, when routes were looked at, and the bytes until then."""

    at: float
    rows_at: float
    received: int
    sent: int


class Lookout:
    """The looks at one worker."""

    def __init__(self, worker: Watched, ports: Ports) -> None:
        self._worker = worker
        self._ports = ports
        self._last: _Last | None = None

    def look(self, depth: Depth) -> Gathered:
        """Return what was counted since the look before; nothing at the first, nor at the `LAST`.

        Looking at routes costs a quarter of a microsecond for each series of requests, and three for each that moved.
        """
        began, now = time.thread_time(), time.monotonic()
        journal = self._worker.journal
        journal.expire()  # Ends the batch that is not counted yet.
        if depth is Depth.LAST:
            self._stop()
            return Gathered()
        pulse, journal.pulse = journal.pulse, Pulse()
        before = self._last
        rows = depth is Depth.ROWS
        received, sent, flows = self._carried()
        self._last = _Last(now, now if before is None or rows else before.rows_at, received, sent)
        if before is None or pulse is None:
            for series in self._series():
                series.see()
            return Gathered()
        return Gathered(
            now - before.at,
            pulse.total(),
            now - before.rows_at if rows else 0.0,
            list(_moved(journal.traffic.records)) if rows else [],
            max(0, received - before.received),
            max(0, sent - before.sent),
            self._worker.counters.active,
            flows,
            list(self._unwell()) if rows else [],
            time.thread_time() - began,
        )

    def _stop(self) -> None:
        self._last = self._worker.journal.pulse = None
        for series in self._series():
            series.unsee()

    def _series(self) -> Iterator[Series]:
        return (series for record in self._worker.journal.traffic.records for series in record.values())

    def _carried(self) -> tuple[int, int, int]:
        """Return the bytes received and sent so far at both layers, and how much passes through at layer 4."""
        found = {"in": 0.0, "out": 0.0, "": 0.0}
        for samples in (self._worker.counters.samples(), self._ports.samples()):
            for sample in samples:
                if sample.name == BYTES.name:
                    found[sample.labels[1]] += sample.value
                elif sample.name == RELAYS_ACTIVE.name:
                    found[""] += sample.value
        return int(found["in"]), int(found["out"]), int(found[""])

    def _unwell(self) -> Iterator[UnwellRow]:
        for name, upstream in self._worker.live.upstreams.items():
            tally = upstream.tally
            if tally.ejections or tally.checks_failed:
                healths = [pool.health for pool in upstream.pools]
                ejected, failing = sum(one.ejected for one in healths), sum(one.failing for one in healths)
                if ejected or failing:
                    yield UnwellRow(name, ejected, failing)


def _moved(records: Iterable[Record]) -> Iterator[Moved]:
    """Return what moved on each route."""
    for record in records:
        parts = []
        for (_, status), series in record.items():
            counts = series.moved()
            if counts:
                requests = sum(counts.values())
                failed, refused = (requests, 0) if status >= 500 else (0, requests if status >= 400 else 0)
                parts.append(Moved(record.labels, requests, failed, refused, counts))
        if parts:
            yield Moved.sum(parts)
