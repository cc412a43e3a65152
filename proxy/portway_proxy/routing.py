"""The one routing function: which route serves a host and a path. Traffic and `explain` both ask it.

A host is a dict of exact paths and a dict of prefixes. A match costs a lookup for the exact path and one for each
segment of the path, whatever the number of routes.

Source of the rules: ingress-semantics (exact host, then one-label wildcard, then any host; exact path, then the
longest prefix by whole segments; a host that was chosen is never left for another one's paths).
"""

from __future__ import annotations

from typing import Self

from portway_proxy.errors import NoHost, NoPath
from portway_proxy.snapshot import Host, PathMatch, Route, Snapshot

__all__ = ["HostRoutes", "RouteTable"]


class HostRoutes:
    """The compiled routes of one host."""

    __slots__ = ("depth", "exact", "name", "prefix")

    def __init__(self, host: Host) -> None:
        self.name = host.name
        self.exact: dict[bytes, Route] = {}
        self.prefix: dict[bytes, Route] = {}
        for route in host.routes:
            path = route.path.encode()
            if route.match is PathMatch.EXACT:
                self.exact.setdefault(path, route)
            else:
                # `/foo/` and `/foo` are one prefix; routes come in order of precedence, so the first one stays.
                self.prefix.setdefault(path.rstrip(b"/"), route)
        self.depth = max((prefix.count(b"/") for prefix in self.prefix), default=0)

    def match(self, path: bytes) -> Route | None:
        """Return the route for a normalised `path` (it begins with `/` and has no query), or None."""
        route = self.exact.get(path)
        if route is not None:
            return route
        prefix = self.prefix
        if not prefix:
            return None
        # Segments deeper than any rule are cut off first, or a path of 4,000 slashes would cost 4,000 look-ups.
        if path.count(b"/") > self.depth:
            path = b"/".join(path.split(b"/", self.depth + 1)[:-1])
        # `/a/b/` is tried as `/a/b/`, `/a/b`, `/a`, and last the empty prefix, which is the rule `/`.
        while path:
            route = prefix.get(path)
            if route is not None:
                return route
            path = path[: path.rfind(b"/")]
        return prefix.get(b"")


class RouteTable:
    """All hosts and routes of a snapshot, compiled for matching."""

    __slots__ = ("any_host", "default", "hosts", "wildcards")

    def __init__(self, default: Route | None) -> None:
        self.default = default
        self.any_host: HostRoutes | None = None
        self.hosts: dict[bytes, HostRoutes] = {}
        self.wildcards: dict[bytes, HostRoutes] = {}

    @classmethod
    def build(cls, snapshot: Snapshot) -> Self:
        """Return the table for `snapshot`; 10,000 routes take about 10 ms."""
        table = cls(snapshot.default)
        for host in snapshot.hosts:
            routes = HostRoutes(host)
            if not host.name:
                table.any_host = routes
            elif host.name.startswith("*."):
                table.wildcards[host.name[2:].encode()] = routes
            else:
                table.hosts[host.name.encode()] = routes
        return table

    def host(self, name: bytes) -> HostRoutes | None:
        """Return the routes of the host that `name` (lower-case, no port, no trailing dot) belongs to, or None."""
        found = self.hosts.get(name)
        if found is None and self.wildcards:
            found = self.wildcards.get(name.partition(b".")[2])
        return self.any_host if found is None else found

    def match(self, host: bytes, path: bytes) -> Route:
        """Return the route that serves `path` on `host`; an empty `host` is a request without one.

        Raises `NoHost` or `NoPath` when nothing matches and there is no default backend.
        """
        routes = self.host(host)
        if routes is not None:
            route = routes.match(path)
            if route is not None:
                return route
        if self.default is not None:
            return self.default
        raise NoHost if routes is None else NoPath
