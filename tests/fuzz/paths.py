"""How servers read paths: every way that some of them are known to, for a rule on `/admin` that must hold in each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from portway_proxy.routing import RouteTable
from portway_proxy.snapshot import Host, Origin, PathMatch, Route, Snapshot

__all__ = ["ADMIN", "OTHER", "readings", "rules"]

ADMIN = "admin"
OTHER = "rest"
_PARAMETERS = re.compile(rb"(?:;|%3[bB])[^/]*")


def rules() -> RouteTable:
    """Return a table with a rule on `/admin` and one on everything else, for the host `h`."""
    origin = Origin("Ingress", "shop", "web")
    routes = (
        Route("/admin", PathMatch.PREFIX, ADMIN, origin),
        Route("/", PathMatch.PREFIX, OTHER, origin),
    )
    return RouteTable.build(Snapshot(hosts=(Host("h", routes),)))


def readings(path: bytes) -> Iterator[bytes]:
    """Return `path` as different servers would look it up."""
    for cut in (path, _PARAMETERS.sub(b"", path)):
        # RFC 3986: segments first, then their escapes, so that an encoded slash is text.
        yield _resolved([unquote_to_bytes(segment) for segment in cut.split(b"/")])
        # Most servers of files and of applications: everything is decoded first.
        decoded = unquote_to_bytes(cut)
        yield _resolved(decoded.split(b"/"))
        # Java's: decoded, then parameters go.
        yield _resolved([segment.partition(b";")[0] for segment in decoded.split(b"/")])
        # Windows': a backslash is a slash.
        yield _resolved(re.split(rb"[/\\]", decoded))


def _resolved(segments: list[bytes]) -> bytes:
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    return b"/" + b"/".join(kept)
