"""What a worker serves right now: the compiled snapshot, and the upstreams whose pools and counts survive a swap."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from portway_proxy.balance import Balancer, balancer
from portway_proxy.codec import patch
from portway_proxy.errors import AddressRefused, BadSnapshot, NoEndpoints, ProxyError
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import Exchange
from portway_proxy.l7.pool import Pool
from portway_proxy.metrics import REQUESTS, UPSTREAM_CONNECTS, Sample
from portway_proxy.routing import RouteTable
from portway_proxy.snapshot import Endpoint, Protocol, Snapshot, Upstream

__all__ = ["Live", "LiveUpstream"]

_RANDOM = random.Random()  # noqa: S311 - it spreads load, it guards nothing


class LiveUpstream:
    """An upstream in service: its endpoints' pools, its balancer and its counts.

    `label` is the name for access lines; `statuses` counts requests by the status that their client got. While the
    first addresses of an external name are looked up, `parked` holds the exchanges that wait for them; later None.
    """

    __slots__ = (
        "_balancer",
        "_connected",
        "_failed",
        "_failure",
        "label",
        "parked",
        "pools",
        "statuses",
        "upstream",
    )

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.label = upstream.name.encode()
        self.statuses: dict[int, int] = {}
        self.pools: tuple[Pool, ...] = ()
        self._connected = 0
        self._failed = 0
        self._failure: Callable[[], ProxyError] = partial(NoEndpoints, upstream.reason)
        self.parked: list[Exchange] | None = [] if upstream.external_name else None
        self._balancer: Balancer[Pool]
        self.serve(upstream.endpoints)

    def update(self, upstream: Upstream) -> None:
        """Take new content; pools of endpoints that stay keep their connections."""
        before = self.upstream
        self.upstream = upstream
        named = (upstream.external_name, upstream.external_port)
        if upstream.external_name and named == (before.external_name, before.external_port):
            self.serve(tuple(pool.endpoint for pool in self.pools))
            return
        if upstream.external_name and self.parked is None:
            self.parked = []
        self._failure = partial(NoEndpoints, upstream.reason)
        self.serve(upstream.endpoints)
        if not upstream.external_name:
            self._unpark()

    def resolved(self, endpoints: Collection[Endpoint], failure: type[ProxyError]) -> None:
        """Take what the external name resolves to; with nothing, earlier endpoints stay, or requests get `failure`."""
        self._failure = failure
        if endpoints or failure is AddressRefused:
            self.serve(endpoints)
        self._unpark()

    def _unpark(self) -> None:
        parked, self.parked = self.parked, None
        for exchange in parked or ():
            flow.attempt_or_fail(exchange)

    def serve(self, endpoints: Collection[Endpoint]) -> None:
        """Send new requests to these endpoints; idle connections to others end, busy ones finish."""
        secure = self.upstream.protocol is Protocol.HTTPS
        wanted = frozenset(endpoints)
        kept = {pool.endpoint: pool for pool in self.pools if pool.secure is secure}
        gone = [pool for pool in self.pools if pool.endpoint not in wanted or pool.secure is not secure]
        self.pools = tuple(kept.get(endpoint) or Pool(endpoint, secure=secure) for endpoint in endpoints)
        self._balancer = balancer(self.upstream.balance, self.pools, _RANDOM)
        for pool in gone:
            pool.retire()
            # A counter never falls, whatever pods come and go.
            self._connected += pool.connected
            self._failed += pool.failed

    def next_pool(self, exclude: Collection[Pool] = ()) -> Pool:
        """Return the pool of the next endpoint; raises the reason why there is none (as a rule `NoEndpoints`)."""
        try:
            return self._balancer.choose(exclude)
        except NoEndpoints:
            raise self._failure() from None

    def choose(self, exclude: Collection[Endpoint] = ()) -> Endpoint:
        """Return the next endpoint that is not in `exclude`; raises like `next_pool`."""
        return self.next_pool([pool for pool in self.pools if pool.endpoint in exclude] if exclude else ()).endpoint

    def count(self, status: int) -> None:
        """Count a finished request."""
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def samples(self) -> Iterator[Sample]:
        """Return a sample for each count."""
        name = self.upstream.name
        for status, count in self.statuses.items():
            yield REQUESTS.sample(count, name, str(status))
        connected = self._connected + sum(pool.connected for pool in self.pools)
        failed = self._failed + sum(pool.failed for pool in self.pools)
        if connected or failed:
            yield UPSTREAM_CONNECTS.sample(connected, name, "connected")
            yield UPSTREAM_CONNECTS.sample(failed, name, "failed")

    def close(self) -> None:
        """End idle connections, and answer what waits; the upstream is gone from the snapshot."""
        self.serve(())
        self._unpark()


@dataclass(frozen=True, slots=True)
class Live:
    """A snapshot in service; an exchange keeps the parts that it began with."""

    generation: int
    digest: str
    snapshot: Snapshot
    table: RouteTable
    upstreams: Mapping[str, LiveUpstream]

    @classmethod
    def empty(cls) -> Live:
        """Return what a worker serves before its first snapshot: nothing."""
        return cls(0, "", Snapshot(), RouteTable(None), {})

    @classmethod
    def build(cls, snapshot: Snapshot, generation: int, digest: str, previous: Live) -> Live:
        """Return `snapshot` ready to serve; upstreams that stay keep their pools and counts.

        Raises `BadSnapshot`, with `previous` untouched, for a snapshot that refers to what it does not have.
        """
        table = RouteTable.build(snapshot)
        _check(snapshot)
        kept: dict[str, LiveUpstream] = {}
        for upstream in snapshot.upstreams:
            live = previous.upstreams.get(upstream.name)
            if live is None:
                live = LiveUpstream(upstream)
            elif live.upstream != upstream:
                live.update(upstream)
            kept[upstream.name] = live
        for name, live in previous.upstreams.items():
            if name not in kept:
                live.close()
        return cls(generation, digest, snapshot, table, kept)

    def patch(self, upstreams: tuple[Upstream, ...], generation: int, digest: str) -> Live:
        """Return this with new content for some upstreams; raises `BadSnapshot` for one that it does not have."""
        snapshot = patch(self.snapshot, upstreams)
        for upstream in upstreams:
            self.upstreams[upstream.name].update(upstream)
        return Live(generation, digest, snapshot, self.table, self.upstreams)


def _check(snapshot: Snapshot) -> None:
    known = {upstream.name for upstream in snapshot.upstreams}
    routes = [route for host in snapshot.hosts for route in host.routes]
    if snapshot.default is not None:
        routes.append(snapshot.default)
    parts = [(route.upstream, route.origin) for route in routes]
    parts += [(listener.upstream, listener.origin) for listener in snapshot.listeners]
    for upstream, origin in parts:
        if upstream not in known:
            raise BadSnapshot(f"{origin} refers to the upstream {upstream}, which the snapshot does not have")
