"""Which host and which route a request belongs to, what else there was, and why it was not that."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from portway_proxy.explain.explanation import Rival, ShownRoute, Stage, StageName
from portway_proxy.patterns import BadPattern, compile_pattern
from portway_proxy.routing import other_readings
from portway_proxy.snapshot import PathMatch

if TYPE_CHECKING:
    from portway_proxy.routing import HostRoutes, RouteTable
    from portway_proxy.snapshot import Problem, Route, Snapshot

__all__ = ["host_stage", "route_stage", "shown_route"]

_MOST: Final = 8  # Rivals that are named; the others are counted.
_OWNERS: Final = 4  # Objects that are named as those which have rules for a host.
_COMPARED: Final = 5_000  # Names that a wrong one is compared with: more would take seconds.
_ALIKE: Final = 0.7  # How much two names must have in common (`difflib`'s ratio) for one to be taken for the other.

# Problems that say that a younger Ingress lost a path, or a host, to what is served.
_LOST: Final = frozenset({"path_taken", "path_shadowed", "alias_taken", "default_unused", "default_taken"})


def host_stage(snapshot: Snapshot, table: RouteTable, name: str) -> Stage:
    """Return which host serves requests for `name` (lower-case, without port)."""
    chosen = table.host(name.encode())
    if chosen is None:
        near = [Rival(host, _why_not_host(name, host)) for host in _near_hosts(snapshot, name)]
        why = f"no rule is for {name or 'requests without a host'}, and none for any host"
        return Stage(StageName.HOST, "none", why, "", tuple(near))
    passed: list[Rival] = []
    why = "the very host that is asked for"
    if chosen.name.startswith("*."):
        why = f"{name} has no rule of its own, and this wildcard stands for one label before the rest"
    elif not chosen.name:
        why = f"no rule names {name}, and this one is for any host" if name else "the request names no host"
        passed += [Rival(host, _why_not_host(name, host)) for host in _near_hosts(snapshot, name)]
    if chosen.name == name:
        passed += _wildcard(table, name)
    if chosen.name and table.any_host is not None:
        passed.append(Rival("any host", "a host that is named comes before it, whatever its paths"))
    return Stage(StageName.HOST, chosen.name or "any host", why, _owners(chosen.host.routes), tuple(passed))


def _owners(routes: Iterable[Route]) -> str:
    """Return the objects that have a rule for a host, the first few by name."""
    owners = {f"{one.kind} {one.namespace}/{one.name}" for one in (route.origin for route in routes)}
    few = sorted(owners)[:_OWNERS]
    return ", ".join([*few, *([f"and {len(owners) - _OWNERS} more"] if len(owners) > _OWNERS else [])])


def _wildcard(table: RouteTable, name: str) -> Iterator[Rival]:
    found = table.wildcards.get(name.partition(".")[2].encode())
    if found is not None:
        yield Rival(found.name, "an exact host comes before a wildcard, and keeps its requests even where no path fits")


def _near_hosts(snapshot: Snapshot, name: str) -> list[str]:
    """Return the hosts that somebody may have meant by `name`: wildcards above it, and those that are spelt alike."""
    if not name:
        return []
    above = [host.name for host in snapshot.hosts if host.name.startswith("*.") and name.endswith(host.name[1:])]
    rest = name.partition(".")[2]
    likely = (host.name for host in snapshot.hosts if _looks_like(host.name, name, rest))
    alike = difflib.get_close_matches(name, list(islice(likely, _COMPARED)), 3, _ALIKE)
    return list(dict.fromkeys([*above[:2], *alike]))


def _looks_like(host: str, name: str, rest: str) -> bool:
    if host in ("", name) or host.startswith("*"):
        return False
    return abs(len(host) - len(name)) <= 2 or bool(rest and host.endswith(rest))


def _why_not_host(name: str, host: str) -> str:
    if host.startswith("*.") and name.endswith(host[1:]):
        return f"a wildcard stands for one label alone, and {name} has more before {host[1:]}"
    if host == f"*.{name}":
        return f"a wildcard stands for one label, and {name} has none before it"
    return "did you mean this host?"


def route_stage(
    snapshot: Snapshot, table: RouteTable, hosts: HostRoutes | None, chosen: Route | None, path: str
) -> Stage:
    """Return which route of a host serves `path`, and why no other does."""
    if hosts is not None and chosen is None and (two := _two_readings(table, hosts, path)):
        return Stage(
            StageName.ROUTE, "none", "the path has two readings, and a rule depends on which is meant", "", two
        )
    if hosts is None or chosen is None or chosen is table.default:
        return _fallen_through(hosts, chosen, path)
    rivals = list(_rivals(hosts.host.routes, chosen, path))
    rivals += _shadowed(snapshot.problems, chosen, hosts.name)
    more = max(0, len(rivals) - _MOST)
    return Stage(StageName.ROUTE, _name(chosen), _why(chosen), str(chosen.origin), tuple(rivals[:_MOST]), more)


def _fallen_through(hosts: HostRoutes | None, default: Route | None, path: str) -> Stage:
    near: tuple[Rival, ...] = ()
    lost = "no rule is for the host"
    if hosts is not None:
        lost = f"no path of {hosts.name or 'any host'} fits {path}"
        near = tuple(_misses(hosts.host.routes, path))
    if default is None:
        return Stage(StageName.ROUTE, "none", f"{lost}, and there is no default backend", "", near)
    return Stage(StageName.ROUTE, "the default backend", lost, str(default.origin), near)


def _two_readings(table: RouteTable, hosts: HostRoutes, path: str) -> tuple[Rival, ...]:
    """Return where each reading of a path leads that is refused for having several; nothing for any other path."""
    readings = dict.fromkeys((path.encode(), *other_readings(path.encode())))
    found = {reading: hosts.match(reading) or table.default for reading in readings}
    if not any(found.values()):
        return ()
    return tuple(
        Rival("nothing" if route is None else _name(route), f"if {reading.decode()} is meant")
        for reading, route in found.items()
    )


def shown_route(table: RouteTable, hosts: HostRoutes | None, route: Route) -> ShownRoute:
    """Return the route that was chosen."""
    if route is table.default:
        return ShownRoute("", route.path, "default", str(route.origin))
    return ShownRoute("" if hosts is None else hosts.name, route.path, str(route.match), str(route.origin))


def _name(route: Route) -> str:
    return f"{route.path} ({route.match})"


def _why(route: Route) -> str:
    match route.match:
        case PathMatch.EXACT:
            return "the very path, and an exact path comes before all others"
        case PathMatch.PREFIX:
            return "the longest prefix that fits, compared by whole segments"
    return "the longest text of the regular expressions that fit, and longer than any prefix that does"


def _rivals(routes: Iterable[Route], chosen: Route, path: str) -> Iterator[Rival]:
    for route in routes:
        if route is chosen:
            continue
        if _fits(route, path):
            yield Rival(_name(route), _why_lost(route, chosen))
        elif (why := _why_missed(route, path)) and (chosen.path == "/" or len(route.path) > len(chosen.path)):
            yield Rival(_name(route), why)


def _why_lost(route: Route, chosen: Route) -> str:
    if chosen.match is PathMatch.EXACT:
        return "it fits, and an exact path comes before it"
    if route.path.rstrip("/") == chosen.path.rstrip("/") and route.match is chosen.match:
        return f"{route.path} and {chosen.path} are one prefix, and the longer text comes first"
    if PathMatch.REGEX in (route.match, chosen.match):
        return "it fits, and its text is no longer than that of the one that is chosen"
    return "it fits, and it is shorter"


def _fits(route: Route, path: str) -> bool:
    if route.match is PathMatch.EXACT:
        return path == route.path
    if route.match is PathMatch.PREFIX:
        prefix = route.path.rstrip("/")
        return path == prefix or path.startswith(f"{prefix}/")
    try:
        return compile_pattern(route.path).match(path.encode()) is not None
    except BadPattern:
        return False


def _why_missed(route: Route, path: str) -> str:
    """Return why a route that looks as if it fitted does not; nothing for one that does not look so."""
    if route.match is PathMatch.REGEX:
        return ""
    own, asked = route.path.rstrip("/"), path.rstrip("/")
    if not own:
        return "" if route.match is PathMatch.PREFIX else "it is exact: for / alone"
    if own == asked:
        return "it is exact, and a slash at the end makes another path"
    if own.lower() == asked.lower():
        return "upper and lower case are different paths"
    if route.match is PathMatch.EXACT:
        return "it is exact: for this very path, and nothing below it" if path.startswith(f"{own}/") else ""
    if path.startswith(own):
        return f"prefixes are compared by whole segments, and {path} goes on within one"
    return ""


def _misses(routes: Iterable[Route], path: str) -> Iterator[Rival]:
    """Yield the routes that somebody may have had in mind, and why each does not fit."""
    few = list(islice(routes, _COMPARED))
    named = {}
    for route in few:
        why = _why_missed(route, path)
        if why:
            named[_name(route)] = why
    alike = difflib.get_close_matches(path, [route.path for route in few], 3, _ALIKE)
    for route in few:
        if route.path in alike:
            named.setdefault(_name(route), "did you mean this path?")
    if not named:
        named = {_name(route): _why_other(route) for route in few[:3]}
    yield from (Rival(name, why) for name, why in list(named.items())[:_MOST])


def _why_other(route: Route) -> str:
    if route.match is PathMatch.REGEX:
        return "the expression does not fit the beginning of the path"
    return "another path" if route.match is PathMatch.EXACT else "the path is not below it"


def _shadowed(problems: Iterable[Problem], chosen: Route, host: str) -> Iterator[Rival]:
    """Yield what other Ingresses wanted for the same path, and do not get."""
    winner = str(chosen.origin)
    for problem in problems:
        if (
            problem.code in _LOST
            and winner in problem.found
            and problem.found.startswith((host or "Any host", "The prefix"))
        ):
            yield Rival(str(problem.origin), f"{problem.found} {problem.done}")
