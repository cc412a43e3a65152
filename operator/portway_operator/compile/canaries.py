"""Canaries: Ingresses whose endpoints get some of the requests of other Ingresses' paths."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from portway_operator import problems
from portway_operator.annotations import IngressAnnotations
from portway_operator.annotations.balancing import CanaryBehavior
from portway_operator.compile.sources import Loan
from portway_operator.compile.upstreams import Upstreams, parse_name
from portway_operator.problems import Problem
from portway_proxy.snapshot import Canary, PathMatch, Policy, Route

__all__ = ["Canaries", "canary_of"]

_NONE = Policy()

Claim = tuple[str, str, PathMatch]


def canary_of(values: IngressAnnotations, upstream: str, *, sticky: bool) -> Canary:
    """Return what the annotations of a canary say of its upstream."""
    return Canary(
        upstream,
        values.canary_by_header,
        values.canary_by_header_value,
        values.canary_by_header_pattern,
        values.canary_by_cookie,
        values.canary_weight,
        values.canary_weight_total,
        sticky,
    )


class Canaries:
    """The canaries' routes, taken from the oldest Ingress to the youngest: each path has one at most.

    `loans` are those that have joined others.
    """

    __slots__ = ("_found", "_upstreams", "loans", "problems")

    def __init__(self, upstreams: Upstreams) -> None:
        self.problems: list[Problem] = []
        self.loans: list[Loan] = []
        self._upstreams = upstreams
        self._found: dict[Claim, tuple[Route, IngressAnnotations]] = {}

    def __bool__(self) -> bool:
        """Whether there is any that no route has joined yet."""
        return bool(self._found)

    def add(self, host: str, route: Route, values: IngressAnnotations) -> None:
        """Take a route of a canary."""
        winner, _ = self._found.setdefault((host, route.path, route.match), (route, values))
        if winner is not route:
            self.problems.append(problems.canary_taken(route.origin, host, route.path, winner.origin))

    def join(self, host: str, route: Route) -> Route:
        """Return a route with its canary, if it has one."""
        found = self._found.pop((host, route.path, route.match), None)
        if found is None:
            return route
        canary, values = found
        self.loans.append(Loan("canary", route.origin, canary.origin))
        shared = None if values.affinity_canary_behavior is CanaryBehavior.LEGACY else self._like(route, canary)
        of = canary_of(values, shared or canary.upstream, sticky=shared is not None)
        return msgspec.structs.replace(route, policy=msgspec.structs.replace(route.policy or _NONE, canary=of))

    def _like(self, route: Route, canary: Route) -> str | None:
        """Return the canary's upstream with the endpoints' terms of the Ingress that it is a canary of, if it has any.

        Those are its own namespace's to say.
        """
        main, other = parse_name(route.upstream), parse_name(canary.upstream)
        if main is None or other is None or not main.ingress or main.namespace != other.namespace:
            return None
        return self._upstreams.resolve(replace(other, ingress=main.ingress)).upstream.name

    def rest(self) -> list[Problem]:
        """Return a problem for each canary that no route has joined."""
        return [problems.canary_alone(route.origin, host, path) for (host, path, _), (route, _) in self._found.items()]
