"""What becomes of requests: each host's routes of two snapshots, asked for the same paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from portway_operator.diff.access import Loss
from portway_operator.diff.findings import Effect, Finding
from portway_operator.diff.guards import ACCESS, Way, losses, without
from portway_operator.diff.probes import host_names, paths, probe_of
from portway_operator.diff.side import Side, bare, plain
from portway_proxy.describe_policies import policy_parts
from portway_proxy.errors import BadTarget, NoHost, NoPath
from portway_proxy.routing import HostRoutes, RouteTable
from portway_proxy.snapshot import Policy, Route
from portway_proxy.summary import count

__all__ = ["compare_hosts"]


@dataclass(frozen=True, slots=True)
class _Pair:
    """What serves a path of a host on each side; None is a 404. Without a path it is what no rule serves."""

    host: str
    path: str
    old: Route | None
    new: Route | None


def compare_hosts(old: Side, new: Side) -> Iterator[Finding]:
    """Yield what differs for requests, host by host."""
    yield from _of_default(old, new)
    for host in host_names(old.table, new.table):
        pairs = _pairs(host, old.table, new.table)
        if pairs:
            yield from _of_host(pairs, old, new)


def _of_default(old: Side, new: Side) -> Iterator[Finding]:
    """Yield what becomes of requests that no rule serves, on whatever host."""
    pair = _Pair("", "", old.table.default, new.table.default)
    if pair.old is None or pair.new is None:
        if pair.old is not None:
            yield _shape(pair, Effect.TRAFFIC_LOST, "default_gone", (f"went to {bare(pair.old.upstream)}", "gets 404"))
        elif pair.new is not None:
            yield _shape(pair, Effect.ADDED, "default_added", ("got 404", f"goes to {bare(pair.new.upstream)}"))
        return
    yield from _guards(pair, old, new)
    yield from _opened(pair, pair.old, pair.new)
    yield from _changed(pair, old, new)


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
    # What no rule serves on either side is the same for all hosts.
    return [pair for pair in found.values() if pair.old is not old.default or pair.new is not new.default]


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
            yield from _opened(pair, pair.old, pair.new)
            owners = _owner(pair.old), _owner(pair.new)
            if owners[0] != owners[1] and _effect(pair.old) != _effect(pair.new):
                hands.setdefault(owners, []).append(pair)
            else:
                yield from _changed(pair, old, new)
    yield from map(_handed, hands.values())


def _guards(pair: _Pair, old: Side, new: Side) -> Iterator[Finding]:
    """Yield what guarded the requests of a pair and does not now, and what does now."""
    lost, gained = _judged(pair, old, new)
    for one in lost:
        words = one.asked, one.other
        yield _finding(pair, Effect.PROTECTION_LOST, one.kind, words, f"{words[0]}, now it {words[1]}")
    for subject, one in gained.items():
        yield _finding(pair, Effect.PROTECTION_GAINED, f"{subject}_gained", ("", one.asks), f"now {one.asks}")


def _judged(pair: _Pair, old: Side, new: Side) -> tuple[list[Loss], dict[str, Loss]]:
    """Return what is lost, and what is gained by its subject."""
    if pair.old is None or pair.new is None:
        return [], {}
    ways = Way(old, pair.old.policy, pair.old.upstream), Way(new, pair.new.policy, pair.new.upstream)
    lost = list(losses(*ways))
    if _served(pair.old, old) and not _served(pair.new, new):
        # Other requests than these are the default backend's: only who may come to it tells the two apart.
        return [one for one in lost if one.subject in ACCESS], {}
    subjects = {"closure", *(one.subject for one in lost)}  # What was closed by mistake is traffic lost.
    return lost, {one.subject: one for one in losses(*ways[::-1]) if one.subject not in subjects}


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


def _opened(pair: _Pair, before: Route, after: Route) -> Iterator[Finding]:
    """Yield that a path is closed now, or is not any more."""
    old, new = ("" if one.policy is None else one.policy.closed for one in (before, after))
    if new and not old:
        yield _shape(pair, Effect.TRAFFIC_LOST, "route_closed", ("was open", f"answers 503 ({new})"))
    elif old and not new:
        yield _shape(pair, Effect.MENDED, "route_open", (f"answered 503 ({old})", "is open"))


def _changed(pair: _Pair, old: Side, new: Side) -> Iterator[Finding]:
    """Yield what else becomes of requests that the same Ingress still serves."""
    if pair.old is None or pair.new is None:
        return
    before, after = _effect(pair.old), _effect(pair.new)
    if before[0] != after[0]:
        words = f"went to {before[0]}", f"goes to {after[0]}"
        yield _shape(pair, Effect.CHANGED, "upstream_changed", words)
    if before[1] != after[1] and not (before[1].closed or after[1].closed):
        lost, gained = _judged(pair, old, new)
        subjects = [*(one.subject for one in lost), *gained]
        yield from _otherwise(pair, without(before[1], subjects), without(after[1], subjects))


def _otherwise(pair: _Pair, before: Policy, after: Policy) -> Iterator[Finding]:
    """Yield what policies say otherwise, beyond what guards requests."""
    if before == after:
        return
    parts = policy_parts(before), policy_parts(after)
    was, now = (", ".join(part for part in one if part not in other) for one, other in (parts, parts[::-1]))
    words = (f"had {was or 'less'}", f"has {now or 'none of it'}")
    if not was and not now:
        words = "had the same policy with other values", "has new ones"
    yield _shape(pair, Effect.CHANGED, "policy_changed", words)


def _effect(route: Route) -> tuple[str, Policy]:
    """Return what becomes of a route's requests, whatever the Ingress is called."""
    return bare(route.upstream), plain(route.policy)


def _handed(pairs: list[_Pair]) -> Finding:
    pair = pairs[0]
    upstreams = ["" if one is None else bare(one.upstream) for one in (pair.old, pair.new)]
    alike = upstreams[0] == upstreams[1]
    was, now = (
        "" if one is None else f"served by {_owner(one)}{'' if alike else f' with {upstream}'}"
        for one, upstream in zip((pair.old, pair.new), upstreams, strict=True)
    )
    more = f" ({len(pairs)} such paths)" if len(pairs) > 1 else ""
    return _shape(pair, Effect.HANDS, "hands_changed", (f"was {was}", f"is {now}{more}"))


def _owner(route: Route) -> str:
    origin = route.origin
    return f"{origin.kind} {origin.namespace}/{origin.name}"


def _shape(pair: _Pair, effect: Effect, kind: str, words: tuple[str, str]) -> Finding:
    """Return a finding about where requests go."""
    return _finding(pair, effect, kind, words, f"{words[0]}, now it {words[1]}")


def _finding(pair: _Pair, effect: Effect, kind: str, words: tuple[str, str], says: str) -> Finding:
    path = "" if kind.startswith("host_") else pair.path
    where = f"{pair.host or 'Any host'}{path and f' {path}'}" if pair.path else "What no rule serves"
    return Finding(
        effect,
        kind,
        f"{where} {says}.",
        pair.host,
        path,
        *words,
        None if pair.old is None else pair.old.origin,
        None if pair.new is None else pair.new.origin,
    )
