"""Where the values of policies came from: a part of the snapshot for people, by which nothing is served.

So it is no part of the digest, workers do not get it, and a proxy that does not know it loses nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from portway_proxy.snapshot import Listener, Route, Snapshot, Upstream

__all__ = ["FOR_ALL", "Source", "Sources", "of_listener", "of_route", "of_upstream"]

FOR_ALL: Final = ""
"""The name of the sources that count for every object that has none of its own for a field."""

_JOINED: Final = ("retries",)  # Elsewhere what an Ingress says of its endpoints counts over what their Service says.

_name: Final = attrgetter("name")


class Source(msgspec.Struct, frozen=True, order=True, array_like=True):
    """Where the value of one field came from.

    `field` is one of `Policy`, `Upstream`, `UpstreamPolicy` or `ListenerPolicy`. `places` made its value together, the
    object's own first: `annotation nginx.ingress.kubernetes.io/limit-rps`, `ConfigMap ingress/portway key
    proxy-body-size`, `annotation nginx.ingress.kubernetes.io/canary of Ingress shop/canary`.
    """

    field: str
    places: tuple[str, ...]


class Sources(msgspec.Struct, frozen=True, order=True):
    """What an object (`Ingress shop/web`, `Service shop/web`) says of fields, and what is said for it; sorted by field.

    A field may be there whose value is as by default: it says so itself.
    """

    name: str
    fields: tuple[Source, ...]


def of_route(snapshot: Snapshot, route: Route, field: str) -> tuple[str, ...]:
    """Return the places that made a field of the policy of a route; empty is the default."""
    origin = route.origin
    return _said_by(snapshot, f"{origin.kind} {origin.namespace}/{origin.name}", field)


def of_upstream(snapshot: Snapshot, upstream: Upstream, field: str) -> tuple[str, ...]:
    """Return the places that made a field of an upstream or of its policy; empty is the default.

    What the Ingress says that asks for endpoints of its own comes first, what their Service says counts below it.
    """
    service, _, rest = upstream.name.partition(":")
    _, _, ingress = rest.partition("#")
    found: tuple[str, ...] = ()
    if ingress:
        found = _places(snapshot, f"Ingress {service.partition('/')[0]}/{ingress}", field)
    of_service = _places(snapshot, f"Service {service}", field)
    if not found or field in _JOINED:
        found += tuple(f"{place} of Service {service}" for place in of_service)
    return found or _places(snapshot, FOR_ALL, field)


def of_listener(snapshot: Snapshot, listener: Listener, field: str) -> tuple[str, ...]:
    """Return the places that made a field of the policy of a listener; empty is the default."""
    return _said_by(snapshot, f"Service {listener.upstream.partition(':')[0]}", field)


def _said_by(snapshot: Snapshot, name: str, field: str) -> tuple[str, ...]:
    """Return the places that made a field of an object, those for all where it says nothing; empty is the default."""
    return _places(snapshot, name, field) or _places(snapshot, FOR_ALL, field)


def _places(snapshot: Snapshot, name: str, field: str) -> tuple[str, ...]:
    sources = snapshot.sources
    index = bisect_left(sources, name, key=_name)
    if index == len(sources) or sources[index].name != name:
        return ()
    return next((source.places for source in sources[index].fields if source.field == field), ())
