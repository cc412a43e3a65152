"""Where clients reach the proxies, for the statuses: what is given, what a Service says, or the proxies' nodes.

ingress-semantics 1.9; the rules for Services are ingress-nginx's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol, TypeAlias

from portway_operator.objects import PublicAddress, Service
from portway_operator.pods import Pods

__all__ = [
    "Addresses",
    "FixedAddresses",
    "NodeAddresses",
    "PublicAddresses",
    "ServiceAddresses",
    "address_of",
    "of_service",
]

Addresses: TypeAlias = tuple[PublicAddress, ...]
"""Sorted, each once."""


class PublicAddresses(Protocol):
    """Knows where clients reach the proxies."""

    async def find(self) -> Addresses | None:
        """Return the addresses; None when they cannot be known now, so that statuses stay as they are.

        Raises `ApiUnavailable`.
        """

    def glance(self) -> Addresses | None:
        """Return them, or None, if they can be known without asking anybody."""


def address_of(text: str) -> PublicAddress:
    """Return an IP or a host name as an address."""
    try:
        return PublicAddress(ip=str(ipaddress.ip_address(text)))
    except ValueError:
        return PublicAddress(hostname=text.rstrip(".").lower())


def of_service(service: Service) -> Addresses:
    """Return where a Service is reached.

    A LoadBalancer by what its status says and by its external IPs, a NodePort by these or else by its own IP, an
    ExternalName by that name.
    """
    match service.type:
        case "ExternalName":
            return _unique([address_of(service.external_name)] if service.external_name else [])
        case "LoadBalancer":
            return _unique([*service.published, *map(address_of, service.external_ips)])
        case "NodePort":
            return _unique(map(address_of, service.external_ips or service.cluster_ips))
    return _unique(map(address_of, service.cluster_ips))


class FixedAddresses:
    """What somebody wrote down."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._addresses = _unique(map(address_of, addresses))

    async def find(self) -> Addresses:
        """Return the addresses."""
        return self._addresses

    def glance(self) -> Addresses:
        """Return the addresses."""
        return self._addresses


class ServiceAddresses:
    """Those of one Service, which the store follows."""

    def __init__(self, services: Mapping[tuple[str, str], Service], namespace: str, name: str) -> None:
        self._services = services
        self._key = (namespace, name)

    async def find(self) -> Addresses | None:
        """Return the Service's addresses; None while there is no such Service."""
        return self.glance()

    def glance(self) -> Addresses | None:
        """Return the same."""
        service = self._services.get(self._key)
        return None if service is None else of_service(service)


class NodeAddresses:
    """Those of the nodes with a ready proxy; `internal`: never an address that is reached from outside."""

    def __init__(self, pods: Pods, selector: str, *, internal: bool) -> None:
        self._pods = pods
        self._selector = selector
        self._internal = internal

    async def find(self) -> Addresses | None:
        """Return the nodes' addresses; None while no proxy is ready, because then statuses tell nobody anything."""
        nodes = {pod.node for pod in await self._pods.find(self._selector) if pod.node and pod.ready}
        found = [await self._pods.node(name) for name in sorted(nodes)]
        return _unique(address for node in found for address in node.public(internal=self._internal)) or None

    def glance(self) -> Addresses | None:
        """Return None: the API has to be asked."""
        return None


def _unique(addresses: Iterable[PublicAddress] | Collection[PublicAddress]) -> Addresses:
    return tuple(sorted(set(addresses)))
