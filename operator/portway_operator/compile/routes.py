"""Rules of Ingresses to hosts and routes (ingress-semantics 1.2, 1.3, 1.4 and 1.7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from portway_operator import problems
from portway_operator.annotations import IngressAnnotations, key_of, rows
from portway_operator.compile.canaries import Canaries
from portway_operator.compile.compatibility import Surprises
from portway_operator.compile.hosts import MoreHosts
from portway_operator.compile.policies import Policies
from portway_operator.compile.sources import Loan
from portway_operator.compile.upstreams import Upstreams, Wanted
from portway_operator.objects import Backend, Ingress, IngressPath, IngressRule
from portway_operator.problems import Origin, Problem, at
from portway_proxy.snapshot import Host, PathMatch, Route, Severity, Sources

__all__ = ["HostTable", "IngressRoutes", "RouteReader"]

# What people write for globs, regular expressions and templates; none of it is common in a real path.
_PATTERN = re.compile(r"[*^|\[({]|\$\Z")

_ANY_PATH = ("/", PathMatch.PREFIX)
_DEFAULT_FIELD = "spec.defaultBackend"
_UNSAID = IngressAnnotations()

PathKey = tuple[str, PathMatch]


@dataclass(frozen=True, slots=True)
class IngressRoutes:
    """What one Ingress asks for: its routes, and its default backend as a route of any host and of each of its own.

    `values` are what its annotations say, `sources` where its policies came from. `nginx` tells that it is read as
    ingress-nginx would.
    """

    ingress: Ingress
    routes: tuple[tuple[str, Route], ...] = ()
    default: Route | None = None
    defaults: tuple[tuple[str, Route], ...] = ()
    problems: tuple[Problem, ...] = ()
    values: IngressAnnotations = _UNSAID
    nginx: bool = False
    sources: Sources | None = None


class RouteReader:
    """Reads the rules of one Ingress; `secured` hosts have TLS, that of `passed` ones passes through."""

    __slots__ = ("_ingress", "_passed", "_policies", "_problems", "_secured", "_upstreams", "_values")

    def __init__(
        self,
        ingress: Ingress,
        upstreams: Upstreams,
        policies: Policies,
        secured: AbstractSet[str],
        passed: AbstractSet[str] = frozenset(),
    ) -> None:
        self._ingress = ingress
        self._upstreams = upstreams
        self._policies = policies
        self._values = policies.values
        self._secured = secured | passed
        self._passed = passed
        self._problems: list[Problem] = []

    def read(self) -> IngressRoutes:
        """Return what the Ingress asks for."""
        ingress = self._ingress
        routes = [found for rule in ingress.rules for found in self._rule(rule)]
        backend = ingress.default_backend
        hosts = dict.fromkeys(rule.host for rule in ingress.rules)
        return IngressRoutes(
            ingress,
            tuple(routes),
            None if backend is None else self._route("", _ANY_PATH, backend, _DEFAULT_FIELD),
            () if backend is None else tuple((h, self._route(h, _ANY_PATH, backend, _DEFAULT_FIELD)) for h in hosts),
            tuple(self._problems),
            self._values,
        )

    def _rule(self, rule: IngressRule) -> list[tuple[str, Route]]:
        """Return the routes of a rule; one without `http` leads to the default backend."""
        if rule.paths is not None:
            return [(rule.host, self._path(rule.host, path)) for path in rule.paths]
        backend = self._ingress.default_backend
        if backend is None:
            self._problems.append(problems.host_unserved(at(self._ingress, rule.field), rule.host))
            return []
        return [(rule.host, self._route(rule.host, _ANY_PATH, backend, rule.field))]

    def _path(self, host: str, path: IngressPath) -> Route:
        if path.match is not PathMatch.REGEX and _PATTERN.search(path.path):
            self._problems.append(problems.path_pattern(at(self._ingress, f"{path.field}.path"), path.path))
        return self._route(host, (path.path, path.match), path.backend, path.field)

    def _route(self, host: str, key: PathKey, backend: Backend, place: str) -> Route:
        """Return the route of a path to a backend, and note what is wrong with the reference."""
        asks = self._values.balances(self._policies.usual) or self._values.asks_of_tls
        asker = self._ingress.meta.name if asks else ""
        wanted = Wanted(self._ingress.meta.namespace, backend.service, backend.port, ingress=asker)
        origin = at(self._ingress, place)
        if host not in self._passed:
            self._problems += self._upstreams.reference_problems(wanted, origin)
        name = self._upstreams.resolve(wanted).upstream.name
        return Route(*key, name, origin, self._policies.of(key[0], tls=host in self._secured))


class HostTable:
    """The routes of each host, filled by `add` from the oldest Ingress to the youngest; `ciphers` are by host."""

    __slots__ = (
        "_canaries",
        "_declared",
        "_defaults",
        "_more",
        "_routes",
        "_surprises",
        "_unused",
        "ciphers",
        "problems",
    )

    def __init__(self, upstreams: Upstreams) -> None:
        self.problems: list[Problem] = []
        self.ciphers: dict[str, str] = {}
        self._routes: dict[str, dict[PathKey, Route]] = {}
        self._declared: dict[str, tuple[str, str]] = {}
        self._defaults: list[tuple[str, Route]] = []
        self._unused: list[tuple[str, Route]] = []
        self._canaries = Canaries(upstreams)
        self._more = MoreHosts()
        self._surprises = Surprises()

    def add(self, found: IngressRoutes) -> None:
        """Take in the routes of a younger Ingress; what an older one has stays."""
        if found.values.canary:
            for host, route in found.routes:
                self._canaries.add(host, route, found.values)
            return
        self._add_hosts(found)
        self._add_ciphers(found)
        if found.nginx:
            self._surprises.add(found.ingress.meta.key, found.values, found.routes)
        key = found.ingress.meta.key
        for rule in found.ingress.rules:
            self._declared.setdefault(rule.host, key)
            self._routes.setdefault(rule.host, {})
        for host, route in found.routes:
            winner = self._routes[host].setdefault((route.path, route.match), route)
            if winner is not route:
                # To the same upstream under the same policy, nobody can tell the difference.
                alike = (winner.upstream, winner.policy) == (route.upstream, route.policy)
                severity = Severity.NOTICE if alike else Severity.ERROR
                self.problems.append(
                    problems.path_taken(route.origin, host, f"{route.path} ({route.match})", winner.origin, severity)
                )
        # As in ingress-nginx: a default backend serves the hosts that its Ingress was the first to declare.
        for host, route in found.defaults:
            (self._defaults if self._declared[host] == key else self._unused).append((host, route))

    def _add_ciphers(self, found: IngressRoutes) -> None:
        """Note the ciphers of the hosts of an Ingress, unless an older one has said others."""
        asked = found.values.ssl_ciphers
        for host in dict.fromkeys(rule.host for rule in found.ingress.rules if asked):
            if self.ciphers.setdefault(host, asked) != asked:
                self.problems.append(problems.ciphers_taken(_annotated(found.ingress, "ssl_ciphers"), host))

    def hosts(self, default: Route | None) -> tuple[Host, ...]:
        """Return the hosts in order, each with its routes in order of precedence; `default` is that of every host."""
        for host, route in self._defaults:
            # It serves what no rule matches, so that any Ingress's rule for `/` comes before it.
            self._routes[host].setdefault(_ANY_PATH, route)
        self.problems += [
            problems.default_unused(route.origin, host, self._declared[host])
            for host, route in self._unused
            if not _replaced(route, self._routes[host].get(_ANY_PATH, default))
        ]
        hosts = {name: Host(name, self._sorted(self._joined(name))) for name in self._routes}
        hosts |= {host.name: host for host in self._more.hosts(hosts)}
        self.problems += [*self._canaries.problems, *self._canaries.rest(), *self._more.problems]
        self.problems += self._surprises.problems
        return tuple(hosts[name] for name in sorted(hosts))

    @property
    def loans(self) -> list[Loan]:
        """What Ingresses say of routes of others."""
        return self._canaries.loans

    def _add_hosts(self, found: IngressRoutes) -> None:
        """Note the further hosts that an Ingress asks for."""
        values = found.values
        if not values.server_alias and not values.from_to_www_redirect:
            return
        alias, www = (_annotated(found.ingress, field) for field in ("server_alias", "from_to_www_redirect"))
        for host in dict.fromkeys(rule.host for rule in found.ingress.rules):
            for name in values.server_alias:
                self._more.alias(name, host, alias)
            if values.from_to_www_redirect:
                self._more.from_to_www(host, www)

    def _joined(self, name: str) -> Mapping[PathKey, Route]:
        routes = self._routes[name]
        if self._canaries:
            routes = {key: self._canaries.join(name, route) for key, route in routes.items()}
        return self._surprises.apply(name, routes)

    def _sorted(self, routes: Mapping[PathKey, Route]) -> tuple[Route, ...]:
        for (path, match), route in routes.items():
            if match is PathMatch.PREFIX and len(path) > 1 and path.endswith("/"):
                loser = routes.get((path[:-1], match))
                if loser is not None and loser.upstream != route.upstream:
                    self.problems.append(problems.path_shadowed(loser.origin, loser.path, route.origin))
        return tuple(sorted(routes.values(), key=_precedence))


def _annotated(ingress: Ingress, field: str) -> Origin:
    return at(ingress, f"metadata.annotations[{key_of(ingress, rows(IngressAnnotations)[field])}]")


def _replaced(unused: Route, route: Route | None) -> bool:
    """Return whether what serves the rest of a host is as the Ingress of an unused default would have it."""
    if route is None:
        return False
    ours, theirs = unused.origin, route.origin
    same = (ours.kind, ours.namespace, ours.name) == (theirs.kind, theirs.namespace, theirs.name)
    return same or route.upstream == unused.upstream


def _precedence(route: Route) -> tuple[bool, int, int, str]:
    """Order routes: exact ones first, then the most segments, then the longest."""
    path = route.path
    segments = path.count("/") - path.endswith("/")
    return route.match is not PathMatch.EXACT, -segments, -len(path), path
