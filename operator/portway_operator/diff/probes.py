"""Which requests show all that differs between the routes of two snapshots.

Two requests of a host that fall between the same rules of both snapshots get the same routes. So one request for each
such place is enough: the path of each rule, that path as a folder, and something below it that no rule names. Regular
expressions have no such places: there, the requests are examples (`samples`), below each path too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from typing import Final

from portway_operator.diff.samples import samples
from portway_proxy.routing import HostRoutes, RouteTable
from portway_proxy.snapshot import PathMatch, Route

__all__ = ["host_names", "paths", "probe_of"]

_CROSSED: Final = 4000  # Paths that are crossed with those of expressions, for a host; a bound, as there may be many.


def host_names(old: RouteTable, new: RouteTable) -> Iterator[str]:
    """Yield each host that a rule of either names, as in `snapshot.Host`; any host comes last."""
    names = {routes.name for table in (old, new) for routes in table.all()}
    yield from sorted(names - {""})
    yield ""


def probe_of(host: str, old: RouteTable, new: RouteTable) -> bytes:
    """Return a name that belongs to `host`, and to no exact host of either snapshot."""
    if not host:
        return b""
    if not host.startswith("*."):
        return host.encode()
    label, rest = b"x", host[1:].encode()
    while label + rest in old.hosts or label + rest in new.hosts:
        label += b"x"
    return label + rest


def paths(old: HostRoutes | None, new: HostRoutes | None) -> Iterator[bytes]:
    """Yield the paths to ask both for; those of the rules themselves come first."""
    routes = [route for one in (old, new) if one is not None for route in one.host.routes]
    literal = dict.fromkeys(route.path.encode() for route in routes if route.match is not PathMatch.REGEX)
    literal.setdefault(b"/")
    examples = _examples(routes)
    yield from literal
    yield from examples
    segment = _unused(literal)
    for path in [*literal, *examples]:
        folder = path.rstrip(b"/")
        yield folder or b"/"
        yield folder + b"/"
        yield folder + b"/" + segment
    if examples:
        # Expressions take upper for lower case, and paths do not.
        yield from (each for path in [*literal, *examples] for each in (path.upper(), path.lower()))
        yield from _crossed(list(literal), examples)


def _examples(routes: list[Route]) -> list[bytes]:
    patterns = dict.fromkeys(route.path for route in routes if route.match is PathMatch.REGEX)
    return [text.encode() for pattern in patterns for text in samples(pattern)]


def _crossed(literal: list[bytes], examples: list[bytes]) -> Iterator[bytes]:
    """Yield each path with an example behind it, and examples in the letters of the path that they begin with.

    `/.*[.]php` serves what is below `/admin`, too, and `/Admin/x` fits `/admin/x`.
    """
    every = [path.rstrip(b"/") for path in (*literal, *examples)]
    for path, example in islice(product(every, examples), _CROSSED):
        yield path + example
        if example.lower().startswith(path.lower()):
            yield path + example[len(path) :]


def _unused(literal: dict[bytes, None]) -> bytes:
    """Return a segment that no rule holds."""
    text = b"/".join(literal) + b"/"
    segment = b"x"
    while b"/" + segment in text:
        segment += b"x"
    return segment
