"""Which paths ingress-nginx would match otherwise than the specification has it, by a compile in each of both modes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from portway_operator.check.report import Finding, Topic
from portway_operator.compile import compile_snapshot
from portway_operator.decode.meta import PREFIX
from portway_operator.problems import Origin
from portway_operator.settings import Compatibility, CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import PathMatch, Route, Severity, Snapshot

__all__ = ["matched_otherwise"]

_REMEDY = (
    f"See that nobody relies on it, or annotate the Ingress with {PREFIX}compatibility: {Compatibility.INGRESS_NGINX}."
)
_Shape = tuple[str, PathMatch, bool]


def matched_otherwise(store: ObjectStore, settings: CompileSettings, snapshot: Snapshot) -> list[Finding]:
    """Return a finding for each path that ingress-nginx would match otherwise than `snapshot` does."""
    there = compile_snapshot(store, replace(settings, compatibility=Compatibility.INGRESS_NGINX)).snapshot
    if there.hosts == snapshot.hosts:
        return []
    return list(_compared(_shapes(snapshot), _shapes(there)))


def _shapes(snapshot: Snapshot) -> dict[Origin, dict[str, list[_Shape]]]:
    """Return by origin and host how paths are matched, and whether they only redirect."""
    found: dict[Origin, dict[str, list[_Shape]]] = defaultdict(lambda: defaultdict(list))
    for host in snapshot.hosts:
        for route in host.routes:
            found[route.origin][host.name].append((route.path, route.match, _redirects(route)))
    return found


def _redirects(route: Route) -> bool:
    return route.policy is not None and route.policy.redirect is not None


def _compared(
    here: dict[Origin, dict[str, list[_Shape]]], there: dict[Origin, dict[str, list[_Shape]]]
) -> Iterator[Finding]:
    for origin in sorted(here):
        for host, shapes in here[origin].items():
            other = there.get(origin, {}).get(host, [])
            if sorted(shapes) == sorted(other):
                continue
            path, match, _ = shapes[0]
            turned = any(each is PathMatch.REGEX for _, each, _ in other)
            what = (
                f"{host or 'Any host'}{path} is a regular expression in ingress-nginx, as another path of the host is "
                "one: it fits the beginning of a path in upper or lower case."
                if turned
                else f"ingress-nginx sends {host or 'any host'}{path[:-1]} to {path} by a 301."
            )
            done = f"Here it is compared as the specification has it: {match}."
            yield Finding(Topic.MATCHING, "matched_otherwise", Severity.NOTICE, origin, what, done, _REMEDY)
