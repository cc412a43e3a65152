"""What a worker answers to the questions of its supervisor; nothing of it is done while nobody asks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from portway_proxy.dashboard.feed import UnwellRow
from portway_proxy.dashboard.figures import Gathered, Moved
from portway_proxy.endpoint_states import EndpointPage, EndpointQuery, EndpointRow
from portway_proxy.explain.explanation import EndpointState
from portway_proxy.flows import FlowPage, FlowQuery
from portway_proxy.health import Condition
from portway_proxy.ingress_nginx import INGRESS_NGINX, Controller, process_samples, request_samples
from portway_proxy.metrics import (
    BYTES,
    CONNECTIONS_REFUSED,
    LOOP_LAG,
    MEMORY_SHARE,
    RELAYS_ACTIVE,
    Counters,
    Sample,
)

if TYPE_CHECKING:
    from portway_proxy.clock import Clock
    from portway_proxy.gate import Gate
    from portway_proxy.journal import Journal
    from portway_proxy.l4.ports import Ports
    from portway_proxy.l7.asker import OpenClient
    from portway_proxy.live import Live
    from portway_proxy.overload import Overload
    from portway_proxy.settings import ProxySettings
    from portway_proxy.traffic import Record
    from portway_proxy.upstreams import LiveUpstream

__all__ = ["Answering"]

_STATES: Final = {
    Condition.WELL: EndpointState.READY,
    Condition.EJECTED: EndpointState.EJECTED,
    Condition.FAILING: EndpointState.FAILING,
}


class Asked(Protocol):
    """The worker that is asked."""

    settings: ProxySettings
    clock: Clock
    journal: Journal
    counters: Counters
    clients: set[OpenClient]
    live: Live
    gate: Gate


class Answering:
    """The answers of one worker, whose number is `slot`."""

    def __init__(self, worker: Asked, ports: Ports, overload: Overload, slot: int) -> None:
        self._worker = worker
        self._ports = ports
        self._overload = overload
        self._slot = str(slot)
        # When somebody looked last and how many bytes there were; None while nobody looks.
        self._looked: tuple[float, int, int] | None = None

    def samples(self) -> Iterator[Sample]:
        """Return all samples."""
        worker = self._worker
        yield from worker.counters.samples()
        yield from worker.journal.samples()
        settings = worker.settings
        if settings.metrics_names == INGRESS_NGINX:
            controller = Controller.of(settings.namespace, settings.node)
            idle = sum(not client.exchanges for client in worker.clients)
            yield from request_samples(worker.journal.traffic.records, controller)
            yield from process_samples(worker.counters, idle, controller)
        for reason, count in worker.gate.refused.items():
            yield CONNECTIONS_REFUSED.sample(count, reason)
        yield LOOP_LAG.sample(self._overload.lag, self._slot)
        yield MEMORY_SHARE.sample(self._overload.share, self._slot)
        for upstream in worker.live.upstreams.values():
            yield from upstream.samples()
        yield from self._ports.samples()

    def flows(self, query: FlowQuery) -> FlowPage:
        """Return what passes through at layer 4 and is asked for."""
        return FlowPage.of(self._ports.flows(), query)

    def endpoints(self, query: EndpointQuery) -> EndpointPage:
        """Return how the endpoints fare that are asked for."""
        upstreams = self._worker.live.upstreams
        named = (upstream for name, upstream in upstreams.items() if query.names(name))
        now = self._worker.clock.now
        return EndpointPage.of((row for upstream in named for row in _rows(upstream, now)), query)

    def look(self, *, last: bool) -> Gathered:
        """Return what was counted since the look before, or nothing at the first and the `last`.

        It costs a quarter of a microsecond for each series of requests, and three for each that moved.
        """
        began, now = time.thread_time(), time.monotonic()
        worker = self._worker
        # Ends the batch that is not counted yet.
        worker.journal.expire()
        moved = list(_moved(worker.journal.traffic.records, last=last))
        received, sent, flows = self._carried()
        before, self._looked = self._looked, None if last else (now, received, sent)
        if before is None or last:
            return Gathered()
        return Gathered(
            now - before[0],
            moved,
            received - before[1],
            sent - before[2],
            worker.counters.active,
            flows,
            list(self._unwell()),
            time.thread_time() - began,
        )

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


def _rows(upstream: LiveUpstream, now: float) -> Iterator[EndpointRow]:
    shares = upstream.shares
    for pool in (*upstream.pools, *(one for one in upstream.tally.leaving if one.load)):
        health = pool.health
        state = EndpointState.DRAINING if pool.retired else _STATES[health.condition]
        yield EndpointRow(
            upstream.upstream.name,
            str(pool.endpoint),
            state,
            shares.get(pool, 0.0),
            max(0.0, health.until - now) if state is EndpointState.EJECTED else 0.0,
            health.failures,
            pool.load,
            pool.connections,
            len(pool),
            ready=int(state is EndpointState.READY),
        )


def _moved(records: Iterable[Record], *, last: bool) -> Iterator[Moved]:
    """Return what moved on each route."""
    for record in records:
        found: Moved | None = None
        for (_, status), series in record.items():
            counts = series.moved(last=last)
            if not counts:
                continue
            if found is None:
                found = Moved(record.labels)
            requests = sum(counts.values())
            failed, refused = status >= 500, 400 <= status < 500
            found.add(Moved(record.labels, requests, requests * failed, requests * refused, counts))
        if found is not None:
            yield found
