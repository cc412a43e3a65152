"""What differs between two snapshots, counted, in a line of words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from portway_proxy.deltas import Changes, Delta
from portway_proxy.snapshot import Snapshot

__all__ = ["changes", "count", "endpoints_of", "routes_of", "summary"]

_NAMED: Final = 3


def count(number: int, noun: str) -> str:
    """Return `1 route` or `2 routes`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def changes(before: Snapshot, after: Snapshot) -> str:
    """Return what differs between two snapshots: `2 routes new, 1 route gone, 1 problem new`."""
    parts = []
    for noun, parts_of in _PARTS.items():
        old, new = parts_of(before), parts_of(after)
        changed = sum(1 for key in old.keys() & new.keys() if old[key] != new[key])
        kinds = {"new": len(new.keys() - old.keys()), "changed": changed, "gone": len(old.keys() - new.keys())}
        parts += [f"{count(number, noun)} {word}" for word, number in kinds.items() if number]
    return ", ".join(parts) or "nothing that shows"


def summary(back: Delta, before: Snapshot, after: Snapshot) -> str:
    """Return the same for two snapshots of which `back` leads from the later one to the earlier.

    Only what it names is looked at.
    """
    if back.base == back.digest:
        return "where values came from"
    changed = back.changes or Changes()
    upstreams = {*(one.name for one in back.upstreams), *changed.gone_upstreams}
    hosts = {*(host.name for host in changed.hosts), *changed.gone_hosts}
    hosts |= {host.name for host in after.hosts for route in host.routes if route.upstream in upstreams}
    certificates = {*(one.name for one in changed.certificates), *changed.gone_certificates}
    return changes(_part(before, hosts, certificates), _part(after, hosts, certificates))


def endpoints_of(upstreams: Collection[str]) -> str:
    """Return `endpoints of shop/web:80 and 2 more`."""
    names = sorted(upstreams) or ["nothing that is served"]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"endpoints of {', '.join(names[:_NAMED])}{more}"


def routes_of(snapshot: Snapshot) -> Mapping[object, object]:
    """Return the routes with their upstreams, by place: host, kind of match and path, or `default`."""
    upstreams = {upstream.name: upstream for upstream in snapshot.upstreams}
    routes: dict[object, object] = {
        (host.name, route.match, route.path): (route, upstreams.get(route.upstream))
        for host in snapshot.hosts
        for route in host.routes
    }
    if snapshot.default is not None:
        routes["default"] = (snapshot.default, upstreams.get(snapshot.default.upstream))
    return routes


def _listeners(snapshot: Snapshot) -> Mapping[object, object]:
    upstreams = {upstream.name: upstream for upstream in snapshot.upstreams}
    return {(each.transport, each.port): (each, upstreams.get(each.upstream)) for each in snapshot.listeners}


def _part(snapshot: Snapshot, hosts: Collection[str], certificates: Collection[str]) -> Snapshot:
    return msgspec.structs.replace(
        snapshot,
        hosts=tuple(host for host in snapshot.hosts if host.name in hosts),
        certificates=tuple(one for one in snapshot.certificates if one.name in certificates),
    )


_PARTS: Final[Mapping[str, Callable[[Snapshot], Mapping[object, object]]]] = {
    "route": routes_of,
    "listener": _listeners,
    "certificate": lambda snapshot: {each.name: each for each in snapshot.certificates},
    "problem": lambda snapshot: dict.fromkeys(snapshot.problems),
}
