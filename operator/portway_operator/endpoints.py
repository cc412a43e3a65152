"""EndpointSlices to the endpoints of a service port.

Which endpoints serve (KEP-1669, as kube-proxy does it): the ready ones; when there is none, those that are terminating
and still serving, so that a rollout that takes the last pod down loses no request.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from portway_operator.objects import EndpointSlice, SliceEndpoint
from portway_proxy.snapshot import Endpoint

__all__ = ["Found", "SlicePick", "find_endpoints"]

# Address and port -> zone, and the zones whose traffic it is meant for.
_Places: TypeAlias = dict[tuple[str, int], tuple[str, frozenset[str]]]


@dataclass(frozen=True, slots=True)
class SlicePick:
    """Which port of a slice serves a service port.

    With a `name` it is the port of that name and `protocol`; `number` is what is meant where the slice gives no number.
    Without one, the Service declares no ports at all and `number` is the port of its endpoints.
    """

    name: str | None
    number: int | None
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Found:
    """The endpoints of a service port, sorted; with none, `detail` says why in the words of a sentence.

    `refused` are the addresses that were left out, by slice.
    """

    endpoints: tuple[Endpoint, ...]
    detail: str = ""
    refused: tuple[tuple[EndpointSlice, tuple[str, ...]], ...] = ()


def find_endpoints(slices: Collection[EndpointSlice], pick: SlicePick, *, anywhere: bool) -> Found:
    """Return the endpoints of all `slices` together, each address and port once.

    `anywhere` allows addresses that no tenant of a cluster may use (loopback, link-local, ...).
    """
    ready: _Places = {}
    leaving: _Places = {}
    refused = []
    for found in slices:
        numbers = _numbers(found, pick)
        for endpoint in found.endpoints:
            into = _into(endpoint, ready, leaving)
            if into is None or (endpoint.special and not anywhere):
                continue
            for number in numbers:
                key = (endpoint.address, number)
                zone, hints = into.get(key, ("", frozenset()))
                into[key] = (min(zone, endpoint.zone) or zone or endpoint.zone, hints.union(endpoint.for_zones))
        if not anywhere and (bad := sorted({one.address for one in found.endpoints if one.special})):
            refused.append((found, tuple(bad)))
    chosen = ready or leaving
    return Found(
        tuple(Endpoint(*key, zone, tuple(sorted(hints))) for key, (zone, hints) in sorted(chosen.items())),
        "" if chosen else _detail(slices, pick, anywhere=anywhere),
        tuple(sorted(refused, key=lambda one: one[0].meta.key)),
    )


def _into(endpoint: SliceEndpoint, ready: _Places, leaving: _Places) -> _Places | None:
    if endpoint.ready:
        return ready
    return leaving if endpoint.serving and endpoint.terminating else None


def _numbers(found: EndpointSlice, pick: SlicePick) -> list[int]:
    ports = [port for port in found.ports if port.protocol == pick.protocol]
    if pick.name is not None:
        numbers = [pick.number if port.number is None else port.number for port in ports if port.name == pick.name]
    elif found.ports:
        numbers = [pick.number for port in ports if port.number in (None, pick.number)]
    else:
        # The slices of a headless Service without ports list none either: any port of the pods may be meant.
        numbers = [pick.number]
    return [number for number in numbers if number is not None]


def _detail(slices: Collection[EndpointSlice], pick: SlicePick, *, anywhere: bool) -> str:
    if not slices:
        return "the Service has no EndpointSlice"
    if not any(_numbers(found, pick) for found in slices):
        wanted = f"port {pick.number}" if pick.name is None else f"port named {pick.name!r}"
        return f"its EndpointSlices have no {pick.protocol} {wanted}"
    endpoints = [one for found in slices for one in found.endpoints]
    if not endpoints:
        return "its EndpointSlices are empty"
    allowed = [one for one in endpoints if anywhere or not one.special]
    return f"none of its {len(allowed)} endpoints is ready" if allowed else "no Service may lead to its addresses"
