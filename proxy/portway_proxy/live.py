"""What a worker serves right now: the compiled snapshot, and the upstreams whose pools and counts survive a swap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from portway_proxy.deltas import patch
from portway_proxy.errors import BadSnapshot
from portway_proxy.l7.rules import RuleBook
from portway_proxy.routing import NameTable, RouteTable
from portway_proxy.snapshot import Route, Snapshot, Upstream
from portway_proxy.upstreams import LiveUpstream, Surroundings

__all__ = ["Live", "LiveUpstream"]


@dataclass(frozen=True, slots=True)
class Live:
    """A snapshot in service; an exchange keeps the parts that it began with."""

    generation: int
    digest: str
    snapshot: Snapshot
    table: RouteTable
    upstreams: Mapping[str, LiveUpstream]
    around: Surroundings
    rules: RuleBook
    names: NameTable

    @classmethod
    def empty(cls, around: Surroundings | None = None) -> Live:
        """Return what a worker serves before its first snapshot: nothing."""
        return cls(0, "", Snapshot(), RouteTable(None), {}, around or Surroundings(), RuleBook(), NameTable())

    @classmethod
    def build(cls, snapshot: Snapshot, generation: int, digest: str, previous: Live) -> Live:
        """Return `snapshot` ready to serve; upstreams that stay keep their pools and counts.

        What is the same object as in the `previous` snapshot costs next to nothing. Raises `BadSnapshot`, with
        `previous` untouched, for a snapshot that refers to what it does not have.
        """
        table = RouteTable.build(snapshot, previous.table)
        routes = _routes(snapshot)
        _check(snapshot, routes)
        rules = previous.rules.next(routes, snapshot.credentials)
        previous.around.contexts.update(snapshot.keyrings)
        kept: dict[str, LiveUpstream] = {}
        key = _key(snapshot)
        same_key = key == _key(previous.snapshot)
        for upstream in snapshot.upstreams:
            live = previous.upstreams.get(upstream.name)
            if live is None:
                live = LiveUpstream(upstream, previous.around, key)
            elif (live.upstream is not upstream and live.upstream != upstream) or not same_key:
                live.update(upstream, key)
            kept[upstream.name] = live
        for name, live in previous.upstreams.items():
            if name not in kept:
                live.close()
        return cls(generation, digest, snapshot, table, kept, previous.around, rules, NameTable(snapshot.passthroughs))

    def patch(self, upstreams: tuple[Upstream, ...], generation: int, digest: str) -> Live:
        """Return this with new content for some upstreams; raises `BadSnapshot` for one that it does not have."""
        snapshot = patch(self.snapshot, upstreams)
        for upstream in upstreams:
            self.upstreams[upstream.name].update(upstream, _key(snapshot))
        return Live(generation, digest, snapshot, self.table, self.upstreams, self.around, self.rules, self.names)


def _key(snapshot: Snapshot) -> bytes:
    return b"" if snapshot.affinity_key is None else snapshot.affinity_key.value


def _routes(snapshot: Snapshot) -> list[Route]:
    routes = [route for host in snapshot.hosts for route in host.routes]
    return routes if snapshot.default is None else [*routes, snapshot.default]


def _check(snapshot: Snapshot, routes: list[Route]) -> None:
    known = {upstream.name for upstream in snapshot.upstreams}
    parts = [(route.upstream, route.origin) for route in routes]
    policies = [(route.policy, route.origin) for route in routes if route.policy is not None]
    parts += [(name, origin) for policy, origin in policies for name in policy.upstreams if name]
    parts += [(listener.upstream, listener.origin) for listener in snapshot.listeners]
    parts += [(passed.upstream, passed.origin) for passed in snapshot.passthroughs]
    if snapshot.fallback is not None:
        parts.append((snapshot.fallback.upstream, snapshot.fallback.origin))
    keyrings = {"", *(keyring.name for keyring in snapshot.keyrings)}
    for each in snapshot.upstreams:
        if each.tls is not None and each.tls.keyring not in keyrings:
            raise BadSnapshot(f"{each.name} refers to the keyring {each.tls.keyring}, which the snapshot does not have")
    for upstream, origin in parts:
        if upstream not in known:
            raise BadSnapshot(f"{origin} refers to the upstream {upstream}, which the snapshot does not have")
