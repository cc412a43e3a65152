"""The ports of a Service: which one is meant, what it speaks, and which of them the proxy opens at layer 4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from portway_operator.annotations import ServiceAnnotations
from portway_operator.decode.meta import PREFIX
from portway_operator.objects import PortRef, Service, ServicePort
from portway_operator.settings import L4_CLASS
from portway_proxy.snapshot import Protocol, ProxyVersion, Transport

__all__ = [
    "PortWish",
    "find_port",
    "is_l4",
    "port_names",
    "ports_of",
    "speaks",
    "speaks_unknown",
    "wished_ports",
]

# IANA's names of HTTP, the spelling of Gateway API (KEP-3726, GEP-1911), and what people write. All else without a
# domain before it is another protocol: IANA's list of TCP services is long, and the part that speaks HTTP is short.
_SPOKEN: Final = {
    frozenset({"", "http", "http-alt", "www", "www-http", "grpc-web", "ws", "kubernetes.io/ws"}): Protocol.HTTP,
    frozenset({"https", "wss", "kubernetes.io/wss"}): Protocol.HTTPS,
    frozenset({"kubernetes.io/h2c", "h2c", "http2", "grpc"}): Protocol.H2C,
    frozenset({"h2", "grpcs"}): Protocol.H2,
}


@dataclass(frozen=True, slots=True)
class PortWish:
    """A port that is to be opened for a Service, the Service's port behind it, and its field that says so, if one does.

    Without a `transport` it is one that proxies do not know (SCTP). `accept` and `announce` are of `ListenerPolicy`,
    over what the Service says.
    """

    external: int
    port: PortRef
    transport: Transport | None
    field: str = ""
    accept: bool = False
    announce: ProxyVersion | None = None


def ports_of(service: Service, transport: Transport = Transport.TCP) -> list[ServicePort]:
    """Return the ports with this transport."""
    return [port for port in service.ports if port.protocol == transport.upper()]


def port_names(service: Service, transport: Transport = Transport.TCP) -> list[str]:
    """Return the ports with this transport for a message: `80 (http)`."""
    ports = ports_of(service, transport)
    return [f"{port.number} ({port.name})" if port.name else str(port.number) for port in ports]


def find_port(service: Service, ref: PortRef, transport: Transport = Transport.TCP) -> ServicePort | None:
    """Return the port that `ref` means: by number, by name, or (as ingress-nginx has it) by named targetPort."""
    ports = ports_of(service, transport)
    if isinstance(ref, int):
        return next((port for port in ports if port.number == ref), None)
    named = next((port for port in ports if port.name == ref), None)
    return named or next((port for port in ports if port.target == ref), None)


def speaks(port: ServicePort, annotations: ServiceAnnotations) -> Protocol:
    """Return what the endpoints behind a port speak, by its appProtocol and the Service's annotations."""
    if port.number in annotations.opaque_ports or (port.name and port.name in annotations.opaque_ports):
        return Protocol.OPAQUE
    name = port.app_protocol.lower()
    found = next((protocol for names, protocol in _SPOKEN.items() if name in names), None)
    return found or (Protocol.HTTP if "/" in name else Protocol.OPAQUE)


def speaks_unknown(port: ServicePort) -> bool:
    """Return whether a port's appProtocol is a private name (`example.com/thing`) that means nothing to us."""
    name = port.app_protocol.lower()
    return "/" in name and not any(name in names for names in _SPOKEN)


def is_l4(service: Service) -> bool:
    """Return whether a Service is of our load balancer class: every port of it becomes a listener."""
    return service.type == "LoadBalancer" and service.load_balancer_class == L4_CLASS


def wished_ports(service: Service, annotations: ServiceAnnotations) -> Iterator[PortWish]:
    """Yield the ports that a Service wants to be opened: by its load balancer class, then by its annotations."""
    if is_l4(service):
        for port in service.ports:
            transport = next((one for one in Transport if one.upper() == port.protocol), None)
            yield PortWish(port.number, port.number, transport, port.field)
    for name, transport, mappings in (
        ("tcp-ports", Transport.TCP, annotations.tcp_ports),
        ("udp-ports", Transport.UDP, annotations.udp_ports),
    ):
        for mapping in mappings:
            yield PortWish(mapping.external, mapping.port, transport, f"metadata.annotations[{PREFIX}{name}]")
