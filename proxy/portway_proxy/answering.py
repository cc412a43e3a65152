"""What a worker answers to the questions of its supervisor; nothing of it is done while nobody asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from portway_proxy.dashboard.lookout import Lookout
from portway_proxy.endpoint_states import EndpointPage, EndpointQuery, EndpointRow
from portway_proxy.explain.explanation import EndpointState
from portway_proxy.flows import FlowPage, FlowQuery
from portway_proxy.health import Condition
from portway_proxy.ingress_nginx import INGRESS_NGINX, Controller, process_samples, request_samples
from portway_proxy.metrics import (
    CONNECTIONS_REFUSED,
    LOOP_LAG,
    MEMORY_SHARE,
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
    from portway_proxy.upstreams import LiveUpstream

__all__ = ["Answering", "endpoint_rows"]

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
        self.look = Lookout(worker, ports).look

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
        return EndpointPage.of((row for upstream in named for row in endpoint_rows(upstream, now)), query)


def endpoint_rows(upstream: LiveUpstream, now: float) -> Iterator[EndpointRow]:
    """Return how each endpoint of an upstream fares, those that leave behind the others."""
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
