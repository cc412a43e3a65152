"""Findings about Services, their endpoints and the ports that they ask for."""

from __future__ import annotations

from collections.abc import Sequence

from portway_operator.decode.fields import show
from portway_operator.objects import PortRef, ServicePort
from portway_proxy.snapshot import Origin, Problem, Severity, Transport

__all__ = [
    "address_refused",
    "app_protocol_unknown",
    "endpoint_secret_unusable",
    "endpoint_tls_idle",
    "endpoints_ignored",
    "external_name_disabled",
    "external_name_refused",
    "listener_port_missing",
    "listener_service_missing",
    "no_endpoints",
    "opaque_port",
    "port_map_invalid",
    "port_map_missing",
    "port_missing",
    "port_on_service",
    "port_reserved",
    "port_taken",
    "service_missing",
    "transport_unserved",
]

_STAYS = "The route stays and answers 503."


def service_missing(origin: Origin, service: str) -> Problem:
    """Say that a Service that something refers to does not exist."""
    found = f"There is no Service {service}."
    return Problem(origin, "service_missing", found, _STAYS, "Create it, or correct the name.")


def port_missing(origin: Origin, service: str, port: PortRef, known: Sequence[str]) -> Problem:
    """Say that a Service does not have the TCP port that something refers to."""
    ports = f"It has {', '.join(known)}." if known else "It has no TCP port."
    found = f"Service {service} has no TCP port {port}. {ports}"
    return Problem(origin, "port_missing", found, _STAYS, "Use a number or name of its ports.")


def opaque_port(origin: Origin, service: str, port: str) -> Problem:
    """Say that an Ingress refers to a port that is passed through as bytes."""
    return Problem(
        origin,
        "opaque_port",
        f"Port {port} of Service {service} does not speak HTTP, so that nothing can be routed by host and path.",
        _STAYS,
        f'Publish it as a port of its own (annotate the Service with portway.dev/tcp-ports: "{port}"), or name the '
        "host in spec.tls to pass TLS through; if it speaks HTTP, remove its appProtocol or portway.dev/opaque-ports.",
    )


def no_endpoints(origin: Origin, port: str, detail: str) -> Problem:
    """Say that a Service has nothing that could serve a request now."""
    return Problem(
        origin,
        "no_endpoints",
        f"No endpoint can serve port {port}: {detail}.",
        "Requests get 503, connections to a port of its own are closed.",
        "See that its pods run and are ready, and that its selector and targetPort fit them.",
        Severity.NOTICE,
    )


def address_refused(origin: Origin, addresses: Sequence[str]) -> Problem:
    """Say that an EndpointSlice leads to an address of the proxy's own, or of the machine's."""
    return Problem(
        origin,
        "address_refused",
        f"No Service may lead to {', '.join(addresses)}.",
        "The endpoint is left out.",
        "Give the address of the pod or of the machine.",
    )


def external_name_refused(origin: Origin, name: str, why: str) -> Problem:
    """Say that an ExternalName leads to where no tenant may send our traffic."""
    return Problem(
        origin,
        "external_name_refused",
        f"No Service may lead to {name} ({why}).",
        "Requests get 503.",
        "Name the host that serves them.",
    )


def external_name_disabled(origin: Origin) -> Problem:
    """Say that a Service of type ExternalName is referred to, and the settings forbid them."""
    return Problem(
        origin,
        "external_name_disabled",
        "This installation does not serve Services of type ExternalName.",
        "Requests get 503.",
        "Use a Service with endpoints, or start Portway with --allow-external-name.",
    )


def endpoint_tls_idle(origin: Origin, upstream: str) -> Problem:
    """Say that annotations are about TLS to endpoints that do not speak it."""
    return Problem(
        origin,
        "endpoint_tls_idle",
        f"Annotations about TLS to endpoints have no effect: {upstream} is spoken to in clear.",
        "They are ignored.",
        "Set backend-protocol to HTTPS, or appProtocol: https on the Service's port; or remove them.",
        Severity.NOTICE,
    )


def endpoint_secret_unusable(origin: Origin, secret: str, found: str) -> Problem:
    """Say that the Secret for TLS to endpoints cannot be used; `found` is a sentence."""
    return Problem(
        origin,
        "endpoint_secret_unusable",
        f"Secret {secret}: {found}",
        "The paths of the Ingress answer 503.",
        "Give it a PEM chain and its unencrypted key as tls.crt and tls.key, authorities as ca.crt, or both.",
    )


def app_protocol_unknown(origin: Origin, app_protocol: str) -> Problem:
    """Say that a port's appProtocol is a private name that means nothing to us."""
    return Problem(
        origin,
        "app_protocol_unknown",
        f"Portway does not know the private protocol {show(app_protocol)}.",
        "HTTP is assumed.",
        "For a port that does not speak HTTP, annotate the Service with portway.dev/opaque-ports.",
        Severity.NOTICE,
    )


def endpoints_ignored(origin: Origin, why: str) -> Problem:
    """Say that `portway.dev/endpoints` is not read."""
    return Problem(
        origin,
        "endpoints_ignored",
        why,
        "The annotation has no effect.",
        "Remove it; give other addresses as an EndpointSlice of the Service.",
    )


def port_taken(origin: Origin, port: int, winner: Origin) -> Problem:
    """Say that an older Service has the same listener port."""
    return Problem(
        origin,
        "port_taken",
        f"Port {port} already belongs to {winner}.",
        "This Service does not get it.",
        "Give one of the two another port.",
    )


def port_on_service(origin: Origin, port: ServicePort, own: Origin) -> Problem:
    """Say that the Service that clients come to has the port for something else, put there by hand."""
    name = f" ({port.name})" if port.name else ""
    return Problem(
        origin,
        "port_on_service",
        f"Port {port.number}{name} of {own} leads to {port.target} of the proxies already.",
        "This Service does not get it.",
        "Take another port, or remove that one from the Service; Portway adds what it needs itself.",
    )


def port_reserved(origin: Origin, port: int) -> Problem:
    """Say that a Service asks for a port that the proxy itself listens on."""
    return Problem(
        origin,
        "port_reserved",
        f"Port {port} is one of the proxy's own.",
        "The Service does not get it.",
        "Give it another port.",
    )


def listener_port_missing(
    origin: Origin, service: str, port: PortRef, known: Sequence[str], transport: Transport
) -> Problem:
    """Say that a listener would lead to a port that its Service does not have; the code is `port_missing`."""
    name = transport.upper()
    ports = f"It has {', '.join(known)}." if known else f"It has no {name} port."
    found = f"Service {service} has no {name} port {port}. {ports}"
    return Problem(origin, "port_missing", found, "No port is opened for it.", "Use a number or name of its ports.")


def transport_unserved(origin: Origin, port: PortRef) -> Problem:
    """Say that a Service asks for a listener with a transport other than TCP and UDP."""
    return Problem(
        origin,
        "transport_unserved",
        f"Port {port} is neither TCP nor UDP, which are all that Portway serves.",
        "No port is opened for it.",
        "Expose it by a Service of another class.",
    )


def listener_service_missing(origin: Origin, service: str) -> Problem:
    """Say that a ConfigMap opens a port for a Service that does not exist; the code is `service_missing`."""
    problem = service_missing(origin, service)
    return Problem(origin, "service_missing", problem.found, "No port is opened for it.", problem.remedy)


def port_map_invalid(origin: Origin, value: str, why: str = "") -> Problem:
    """Say that an entry of the tcp-services or udp-services ConfigMap cannot be read."""
    return Problem(
        origin,
        "port_map_invalid",
        f"{show(value)} opens no port. {why}".strip(),
        "No port is opened for it.",
        "Write the port as the key, and namespace/service:port as the value; for TCP, `:PROXY` or `:PROXY:PROXY` may "
        "follow.",
    )


def port_map_missing(origin: Origin, transport: str) -> Problem:
    """Say that the ConfigMap of layer 4 ports that a flag names does not exist."""
    return Problem(
        origin,
        "port_map_missing",
        "There is no such ConfigMap.",
        f"It opens no {transport.upper()} ports.",
        f"Create it, or do not name it by --{transport}-services-configmap.",
        Severity.NOTICE,
    )
