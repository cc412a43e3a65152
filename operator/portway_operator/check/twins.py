"""Unprotected twins: ways past what guards a path, to the same port of the same Service.

A path that asks for a password, or lets only some networks in, guards nothing if its endpoints answer the same path on
another host, in another spelling, or through a port of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from portway_operator.check.report import Finding, Topic
from portway_proxy.errors import ProxyError
from portway_proxy.routing import HostRoutes, RouteTable
from portway_proxy.snapshot import Host, PathMatch, Route, Severity, Snapshot

__all__ = ["unprotected_twins"]

_REMEDY = "Guard it there too, or let it lead elsewhere."
_DONE = "Portway serves both as they are written."
_SHOWN = 3


def unprotected_twins(snapshot: Snapshot) -> list[Finding]:
    """Return a finding for each guarded path that can be reached unguarded."""
    try:
        table = RouteTable.build(snapshot)
    except ProxyError:
        return []  # A proxy would refuse it; that is a problem of its own.
    return list(_Twins(snapshot, table).find())


class _Twins:
    def __init__(self, snapshot: Snapshot, table: RouteTable) -> None:
        self._snapshot = snapshot
        self._table = table
        self._hosts: dict[str, set[str]] = defaultdict(set)
        for host in snapshot.hosts:
            for route in host.routes:
                if _reaches(route) and not _guarded(route):
                    self._hosts[route.upstream].add(host.name)
        self._others: dict[str, list[str]] = defaultdict(list)
        for listener in snapshot.listeners:
            self._others[_service(listener.upstream)].append(f"port {listener.transport}/{listener.port}")
        for passed in snapshot.passthroughs:
            self._others[_service(passed.upstream)].append(f"TLS passed through for {passed.host}")

    def find(self) -> Iterator[Finding]:
        for host in self._snapshot.hosts:
            for route in host.routes:
                if _guarded(route) and _reaches(route) and not (route.policy and route.policy.closed):
                    yield from self._ways_past(host, route)

    def _ways_past(self, host: Host, route: Route) -> Iterator[Finding]:
        if route.match is not PathMatch.REGEX:
            elsewhere = [name for name in sorted(self._hosts[route.upstream]) if name != host.name]
            found = [
                f"{name or 'any host'}{route.path} ({way.origin})"
                for name in elsewhere
                if (way := self._way(name, route, route.path)) is not None
            ]
            if found:
                yield _finding(host, route, found, "on another host", Severity.ERROR)
            if host.name in self._hosts[route.upstream]:
                yield from self._spellings(host, route)
        if doors := self._others[_service(route.upstream)]:
            yield _finding(host, route, doors, "by a port that asks nothing", Severity.ERROR)

    def _spellings(self, host: Host, route: Route) -> Iterator[Finding]:
        path = route.path
        slashed = [path[:-1] if path.endswith("/") else f"{path}/", f"{path.rstrip('/')}/x"]
        exact = [each for each in slashed if each and route.match is PathMatch.EXACT]
        shifted = [each for each in dict.fromkeys((path.upper(), path.title(), path.lower())) if each != path]
        for spellings, severity in ((exact, Severity.ERROR), (shifted, Severity.NOTICE)):
            found = [
                f"{each} ({way.origin})" for each in spellings if (way := self._way(host.name, route, each)) is not None
            ]
            if found:
                how = (
                    "in another spelling" if severity is Severity.ERROR else "in other letters, if endpoints take them"
                )
                yield _finding(host, route, found, how, severity)

    def _way(self, name: str, guarded: Route, path: str) -> Route | None:
        """Return the unguarded route by which `path` on a host comes to the same endpoints."""
        routes = self._routes(name)
        way = routes.match(path.encode()) if routes is not None else None
        if way is None or way.upstream != guarded.upstream or _guarded(way) or not _reaches(way):
            return None
        # A rewrite leads elsewhere, unless both lead to the same.
        return way if _rewrite(way) == _rewrite(guarded) else None

    def _routes(self, name: str) -> HostRoutes | None:
        if name.startswith("*."):
            return self._table.wildcards.get(name[2:].encode())
        return self._table.hosts.get(name.encode()) if name else self._table.any_host


def _guarded(route: Route) -> bool:
    return route.policy is not None and route.policy.guards


def _reaches(route: Route) -> bool:
    """Return whether requests of the route come to an endpoint at all."""
    return route.policy is None or not (route.policy.redirect or route.policy.www)


def _rewrite(route: Route) -> str:
    return "" if route.policy is None else route.policy.rewrite


def _service(upstream: str) -> str:
    return upstream.rpartition(":")[0]


def _finding(host: Host, route: Route, ways: list[str], how: str, severity: Severity) -> Finding:
    shown = ", ".join(ways[:_SHOWN]) + (f" and {len(ways) - _SHOWN} more" if len(ways) > _SHOWN else "")
    found = f"{host.name or 'Any host'}{route.path} is guarded, and {route.upstream} is reached {how}: {shown}."
    return Finding(Topic.UNPROTECTED, "unprotected_twin", severity, route.origin, found, _DONE, _REMEDY)
