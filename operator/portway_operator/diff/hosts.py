"""What becomes of requests: each host's routes of two snapshots, asked for the same paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from portway_operator.diff.findings import Effect, Finding
from portway_operator.diff.guards import ACCESS, Way, losses
from portway_operator.diff.probes import host_names, paths, probe_of
from portway_operator.diff.side import Side, bare, plain
from portway_proxy.describe_policies import policy_parts
from portway_proxy.errors import BadTarget, NoHost, NoPath
from portway_proxy.routing import HostRoutes, RouteTable
from portway_proxy.snapshot import Route
from portway_proxy.summary import count

__all__ = ["compare_hosts"]


@dataclass(frozen=True, slots=True)
class _Pair:
    """What serves a path of a host on each side; None is a 404."""

    host: str
    path: str
    old: Route | None
    new: Route | None


def compare_hosts(old: Side, new: Side) -> Iterator[Finding]:
    """Yield what differs for requests, host by host."""
    for host in host_names(old.table, new.table):
        pairs = _pairs(host, old.table, new.table)
        if pairs:
            yield from _of_host(pairs, old, new)


def _pairs(host: str, old: RouteTable, new: RouteTable) -> list[_Pair]:
    """Return each combination of routes that a request of the host can get, with the first path that shows it."""
    name = probe_of(host, old, new)
    sides = old.host(name), new.host(name)
    found: dict[tuple[int, int], _Pair] = {}
    for path in paths(*sides):
        routes = _match(sides[0], path, old, name), _match(sides[1], path, new, name)
        key = id(routes[0]), id(routes[1])
        if key not in found:
            found[key] = _Pair(host, path.decode(), *routes)
    return [pair for pair in found.values() if pair.old is not None or pair.new is not None]


def _match(routes: HostRoutes | None, path: bytes, table: RouteTable, name: bytes) -> Route | None:
    if routes is None:
        return table.default
    try:
        return table.match(name, path)
    except (BadTarget, NoHost, NoPath):
        return None


def _of_host(pairs: list[_Pair], old: Side, new: Side) -> Iterator[Finding]:
    for pair in pairs:
        yield from _guards(pair, old, new)
    before = [pair for pair in pairs if _served(pair.old, old)]
    after = [pair for pair in pairs if _served(pair.new, new)]
    if before and not after:
        yield _gone(before[0], new, len({id(pair.old) for pair in before}))
    elif after and not before:
        yield _come(after[0], old, len({id(pair.new) for pair in after}))
    else:
        yield from _of_routes(pairs, old, new)


def _served(route: Route | None, side: Side) -> bool:
    """Return whether a route is a rule's own, and not what is left for requests that no rule is for."""
    return route is not None and route is not side.table.default


def _of_routes(pairs: list[_Pair], old: Side, new: Side) -> Iterator[Finding]:
    hands: dict[tuple[str, str], list[_Pair]] = {}
    for pair in pairs:
        served = _served(pair.old, old), _served(pair.new, new)
        if served == (True, False):
            yield _gone(pair, new)
        elif served == (False, True):
            yield _come(pair, old)
        elif pair.old is not None and pair.new is not None:
            yield from _changed(pair, pair.old, pair.new, hands)
    yield from map(_handed, hands.values())


def _guards(pair: _Pair, old: Side, new: Side) -> Iterator[Finding]:
    """Yield what guarded the requests of a pair and does not now, and what does now."""
    if pair.old is None or pair.new is None:
        return
    ways = Way(old, pair.old.policy, pair.old.upstream), Way(new, pair.new.policy, pair.new.upstream)
    lost, gained = list(losses(*ways)), list(losses(ways[1], ways[0]))
    if _served(pair.old, old) and not _served(pair.new, new):
        # Other requests than these are the default backend's: only who may come to it tells the two apart.
        lost, gained = [one for one in lost if one.subject in ACCESS], []
    for one in lost:
        yield _finding(
            pair, Effect.PROTECTION_LOST, one.kind, (one.asked, one.other), f"{one.asked}, now it {one.other}"
        )
    subjects = {one.subject for one in lost}
    for subject, one in {one.subject: one for one in gained if one.subject not in subjects}.items():
        # What was closed by mistake is traffic lost.
        if subject != "closure":
            yield _finding(pair, Effect.PROTECTION_GAINED, f"{subject}_gained", ("", one.asks), f"now {one.asks}")


def _gone(pair: _Pair, new: Side, routes: int = 0) -> Finding:
    """Return that a path is not served any more, or a host with so many `routes`."""
    now = "gets 404" if new.table.default is None else "goes to the default backend"
    was = f"had {count(routes, 'route')}" if routes else f"went to {bare(pair.old.upstream) if pair.old else ''}"
    return _shape(pair, Effect.TRAFFIC_LOST, "host_gone" if routes else "route_gone", (was, now))


def _come(pair: _Pair, old: Side, routes: int = 0) -> Finding:
    """Return that a path is served now, or a host with so many `routes`."""
    was = "got 404" if old.table.default is None else "went to the default backend"
    now = f"has {count(routes, 'route')}" if routes else f"goes to {bare(pair.new.upstream) if pair.new else ''}"
    return _shape(pair, Effect.ADDED, "host_added" if routes else "route_added", (was, now))


def _changed(pair: _Pair, before: Route, after: Route, hands: dict[tuple[str, str], list[_Pair]]) -> Iterator[Finding]:
    old, new = plain(before.policy), plain(after.policy)
    moved = bare(before.upstream) != bare(after.upstream)
    if new.closed and not old.closed:
        yield _shape(pair, Effect.TRAFFIC_LOST, "route_closed", ("was open", f"answers 503 ({new.closed})"))
    elif old.closed and not new.closed:
        yield _shape(pair, Effect.MENDED, "route_open", (f"answered 503 ({old.closed})", "is open"))
    owners = _owner(before), _owner(after)
    if owners[0] != owners[1] and (moved or old != new):
        hands.setdefault(owners, []).append(pair)
    elif moved:
        words = f"went to {bare(before.upstream)}", f"goes to {bare(after.upstream)}"
        yield _shape(pair, Effect.CHANGED, "upstream_changed", words)
    elif old != new:
        parts = policy_parts(old), policy_parts(new)
        was, now = (", ".join(part for part in one if part not in other) for one, other in (parts, parts[::-1]))
        # What names alone show: the values behind the names differ.
        words = f"had the policy {was or 'without'}", f"has {now or 'none of it'}"
        yield _shape(pair, Effect.CHANGED, "policy_changed", words)


def _handed(pairs: list[_Pair]) -> Finding:
    pair = pairs[0]
    before, after = pair.old, pair.new
    more = f" ({len(pairs)} such paths)" if len(pairs) > 1 else ""
    words = (
        "" if before is None else f"was served by {_owner(before)} with {bare(before.upstream)}",
        "" if after is None else f"is served by {_owner(after)} with {bare(after.upstream)}{more}",
    )
    return _shape(pair, Effect.HANDS, "hands_changed", words)


def _owner(route: Route) -> str:
    origin = route.origin
    return f"{origin.kind} {origin.namespace}/{origin.name}"


def _shape(pair: _Pair, effect: Effect, kind: str, words: tuple[str, str]) -> Finding:
    """Return a finding about where requests go."""
    return _finding(pair, effect, kind, words, f"{words[0]}, now it {words[1]}")


def _finding(pair: _Pair, effect: Effect, kind: str, words: tuple[str, str], says: str) -> Finding:
    path = "" if kind.startswith("host_") else pair.path
    return Finding(
        effect,
        kind,
        f"{pair.host or 'Any host'}{path and f' {path}'} {says}.",
        pair.host,
        path,
        *words,
        None if pair.old is None else pair.old.origin,
        None if pair.new is None else pair.new.origin,
    )
