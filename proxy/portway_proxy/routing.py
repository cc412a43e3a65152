"""The one routing function: which route serves a host and a path. Traffic and `explain` both ask it.

A host is a dict of exact paths and a dict of prefixes. A match costs a lookup for the exact path and one for each
segment of the path, whatever the number of routes.

Source of the rules: ingress-semantics (exact host, then one-label wildcard, then any host; exact path, then the
longest prefix by whole segments; a host that was chosen is never left for another one's paths). Where an Ingress asks
for regular expressions, the longest text of those that fit counts, as in ingress-nginx.

An encoded slash or backslash and a `;` are text to us, and the end of a segment to some servers. A path with one of
them passes where both readings lead to the same upstream under the same policy, and is refused where a rule depends on
the reading: `/admin%2Fusers` must not come to an endpoint by the rule `/` when `/admin/users` has a rule of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Self

from portway_proxy.errors import BadSnapshot, BadTarget, NoHost, NoPath
from portway_proxy.patterns import BadPattern, PatternSet
from portway_proxy.snapshot import Host, Passthrough, PathMatch, Policy, Route, Snapshot

__all__ = ["HostRoutes", "NameTable", "PatternRoutes", "RouteTable", "other_readings"]

# Numbers: to look for `b"%"` with `in` costs ten times as much.
_PERCENT = 0x25
_SEMICOLON = 0x3B
_AMBIGUOUS = re.compile(rb"%2F|%5C|;|%3B")
_SLASHES = re.compile(rb"(?:/|%2F|%5C)+")
_RUNS = re.compile(rb"/+")
_PARAMETERS = re.compile(rb"(?:;|%3B)[^/]*")


class HostRoutes:
    """The compiled routes of one host, which is `host`."""

    __slots__ = ("depth", "exact", "host", "name", "prefix")

    def __init__(self, host: Host) -> None:
        self.host = host
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


class PatternRoutes(HostRoutes):
    """The compiled routes of one host, some of which are regular expressions."""

    __slots__ = ("_numbers", "_patterns", "regexes")

    def __init__(self, host: Host) -> None:
        literal = tuple(route for route in host.routes if route.match is not PathMatch.REGEX)
        super().__init__(Host(host.name, literal))
        self.host = host
        self.regexes = [route for route in host.routes if route.match is PathMatch.REGEX]
        self.regexes.sort(key=lambda route: -len(route.path))
        self._patterns = PatternSet([route.path for route in self.regexes])
        self._numbers = {id(route): number for number, route in enumerate(self.regexes)}

    def match(self, path: bytes) -> Route | None:
        """Return the route for a normalised `path`, or None: a literal one, or a regex with a longer text."""
        literal = super().match(path)
        if literal is not None and literal.match is PathMatch.EXACT:
            return literal
        number = self._patterns.first(path)
        if number >= 0 and (literal is None or len(self.regexes[number].path) > len(literal.path)):
            return self.regexes[number]
        return literal

    def groups(self, route: Route, path: bytes) -> tuple[bytes, ...]:
        """Return the groups of a route's regex in `path`; none for a literal route."""
        number = self._numbers.get(id(route))
        return () if number is None else self._patterns.groups(number, path)


class RouteTable:
    """All hosts and routes of a snapshot, compiled for matching; `mark` is this table's alone."""

    __slots__ = ("any_host", "default", "hosts", "mark", "wildcards")

    def __init__(self, default: Route | None) -> None:
        self.default = default
        self.mark = object()
        self.any_host: HostRoutes | None = None
        self.hosts: dict[bytes, HostRoutes] = {}
        self.wildcards: dict[bytes, HostRoutes] = {}

    @classmethod
    def build(cls, snapshot: Snapshot, before: RouteTable | None = None) -> Self:
        """Return the table for `snapshot`; 10,000 routes take about 10 ms, hosts of the table `before` next to none."""
        table = cls(snapshot.default)
        # By identity: the host of a delta's snapshot is the one before, and to compare them costs as much as to build.
        kept = {} if before is None else {id(routes.host): routes for routes in before.all()}
        for host in snapshot.hosts:
            routes = kept.get(id(host)) or _routes_of(host)
            if not host.name:
                table.any_host = routes
            elif host.name.startswith("*."):
                table.wildcards[host.name[2:].encode()] = routes
            else:
                table.hosts[host.name.encode()] = routes
        return table

    def all(self) -> Iterator[HostRoutes]:
        """Yield the routes of each host."""
        yield from self.hosts.values()
        yield from self.wildcards.values()
        if self.any_host is not None:
            yield self.any_host

    def host(self, name: bytes) -> HostRoutes | None:
        """Return the routes of the host that `name` (lower-case, no port, no trailing dot) belongs to, or None."""
        found = self.hosts.get(name)
        if found is None and self.wildcards:
            found = self.wildcards.get(name.partition(b".")[2])
        return self.any_host if found is None else found

    def names(self, name: bytes) -> bool:
        """Return whether `name` (lower-case) belongs to a host that a rule names, itself or by a wildcard."""
        return name in self.hosts or name.partition(b".")[2] in self.wildcards

    def match(self, host: bytes, path: bytes) -> Route:
        """Return the route that serves `path` on `host`; an empty `host` is a request without one.

        `path` is canonical (`l7.target.canonical_path`). Raises `NoHost` or `NoPath` when nothing matches and there is
        no default backend, and `BadTarget` when the route depends on how the path is read.
        """
        routes = self.host(host)
        route = self.default
        if routes is not None:
            route = routes.match(path) or route
            if (_PERCENT in path or _SEMICOLON in path) and _AMBIGUOUS.search(path):
                self._insist(routes, path, route)
        if route is None:
            raise NoHost if routes is None else NoPath
        return route

    def groups(self, host: bytes, route: Route, path: bytes) -> tuple[bytes, ...]:
        """Return the groups of a route's regex in `path`; none for a literal route, and for one of another table."""
        routes = self.host(host)
        return routes.groups(route, path) if isinstance(routes, PatternRoutes) else ()

    def _insist(self, routes: HostRoutes, path: bytes, route: Route | None) -> None:
        for reading in other_readings(path):
            other = routes.match(reading) or self.default
            if other is not route and _effect(other) != _effect(route):
                raise BadTarget("the path has two readings, and a rule depends on which one is meant")


def _routes_of(host: Host) -> HostRoutes:
    if any(route.match is PathMatch.REGEX for route in host.routes):
        try:
            return PatternRoutes(host)
        except BadPattern as error:
            raise BadSnapshot(f"{host.name or 'any host'} has a path that is no pattern: {error}") from None
    return HostRoutes(host)


def _effect(route: Route | None) -> tuple[str, Policy | None] | None:
    return None if route is None else (route.upstream, route.policy)


def other_readings(path: bytes) -> Iterator[bytes]:
    """Return `path` as servers read it that take encoded slashes for slashes, parameters out of segments, or both."""
    stripped = _PARAMETERS.sub(b"", path)
    decoded = _SLASHES.sub(b"/", path)
    yield decoded
    yield _SLASHES.sub(b"/", _PARAMETERS.sub(b"", decoded))
    yield _SLASHES.sub(b"/", stripped)
    yield _RUNS.sub(b"/", stripped)


class NameTable:
    """Which names of TLS clients pass through, and to which upstream: exact ones, then one-label wildcards."""

    __slots__ = ("_exact", "_wildcard")

    def __init__(self, passthroughs: Iterable[Passthrough] = ()) -> None:
        named = {each.host: each.upstream for each in passthroughs}
        self._exact = {host: upstream for host, upstream in named.items() if not host.startswith("*.")}
        self._wildcard = {host[1:]: upstream for host, upstream in named.items() if host.startswith("*.")}

    def __bool__(self) -> bool:
        """Return whether any does."""
        return bool(self._exact or self._wildcard)

    def match(self, name: str) -> str | None:
        """Return the upstream of a lower-case `name`; None when its TLS ends here, as it does without a name."""
        upstream = self._exact.get(name)
        if upstream is not None:
            return upstream
        label, dot, rest = name.partition(".")
        return self._wildcard.get(dot + rest) if label else None
