"""Reads Services and EndpointSlices."""

from __future__ import annotations

import ipaddress
from functools import partial

from portway_operator.addresses import Address, special_use
from portway_operator.decode.fields import (
    BadObject,
    Raw,
    boolean,
    each,
    items,
    mapping,
    optional_mapping,
    show,
    text,
)
from portway_operator.decode.meta import read_meta
from portway_operator.decode.names import dns_name, label, port_name, port_number, port_or_name
from portway_operator.decode.status import published, texts
from portway_operator.objects import EndpointSlice, Fault, PortRef, Service, ServicePort, SliceEndpoint, SlicePort

__all__ = ["read_endpoint_slice", "read_service"]

_NO_PORT = "The port is left out; the rest of the object is used."
_NO_NAME = "Requests to the Service get 503."
_NO_ENDPOINT = "The endpoint is left out; the rest of the slice is used."

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_SERVICE_LABEL = "kubernetes.io/service-name"
_FAMILIES = {"IPv4": 4, "IPv6": 6}


def read_service(raw: Raw) -> Service:
    """Return a Service and what had to be left out of it."""
    meta = read_meta(raw)
    label(meta.name, "metadata.name")
    spec = optional_mapping(raw.get("spec"), "spec")
    kind = text(spec.get("type"), "spec.type", "ClusterIP")
    if kind not in _SERVICE_TYPES:
        raise BadObject("spec.type", f"There is no type {show(kind)}.", f"Use one of {', '.join(_SERVICE_TYPES)}.")
    faults: list[Fault] = []
    ports = each(items(spec.get("ports"), "spec.ports"), "spec.ports", _service_port, _NO_PORT, faults)
    return Service(
        meta=meta,
        type=kind,
        headless=spec.get("clusterIP") == "None" and kind != "ExternalName",
        external_name=_external_name(spec, faults) if kind == "ExternalName" else "",
        load_balancer_class=text(spec.get("loadBalancerClass"), "spec.loadBalancerClass", ""),
        ports=tuple(_distinct(ports, faults)),
        faults=tuple(faults),
        cluster_ips=_cluster_ips(spec),
        external_ips=texts(spec.get("externalIPs")),
        published=published(raw),
    )


def _cluster_ips(spec: Raw) -> tuple[str, ...]:
    found = texts(spec.get("clusterIPs")) or texts((spec.get("clusterIP"),))
    return () if "None" in found else found


def _external_name(spec: Raw, faults: list[Fault]) -> str:
    field = "spec.externalName"
    found = each((spec.get("externalName"),), field, lambda one, _: dns_name(one, field), _NO_NAME, faults)
    return found[0] if found else ""


def _service_port(value: object, field: str) -> ServicePort:
    port = mapping(value, field)
    number = port_number(port.get("port"), f"{field}.port")
    name = port.get("name") or None
    target: PortRef = port_or_name(port.get("targetPort") or number, f"{field}.targetPort")
    return ServicePort(
        name="" if name is None else port_name(name, f"{field}.name"),
        number=number,
        target=target,
        protocol=_protocol(port.get("protocol"), f"{field}.protocol"),
        app_protocol=text(port.get("appProtocol"), f"{field}.appProtocol", ""),
        field=field,
    )


def _distinct(ports: list[ServicePort], faults: list[Fault]) -> list[ServicePort]:
    """Leave out a port whose number or name an earlier one has; then a reference has one meaning."""
    seen: set[object] = set()
    kept = []
    for port in ports:
        keys = {(port.number, port.protocol), port.name}
        if keys & seen:
            found = f"An earlier port has the number {port.number} or the name {show(port.name)} too."
            faults.append(Fault(port.field, "malformed", found, _NO_PORT, "Give each port its own number and name."))
        else:
            seen |= keys
            kept.append(port)
    return kept


def _protocol(value: object, field: str) -> str:
    protocol = text(value, field, "TCP")
    if protocol not in _PROTOCOLS:
        raise BadObject(field, f"There is no protocol {show(protocol)}.", f"Use one of {', '.join(_PROTOCOLS)}.")
    return protocol


def read_endpoint_slice(raw: Raw) -> EndpointSlice:
    """Return an EndpointSlice and what had to be left out of it; several addresses are as many endpoints."""
    meta = read_meta(raw)
    labels = optional_mapping(mapping(raw.get("metadata"), "metadata").get("labels"), "metadata.labels")
    service = labels.get(_SERVICE_LABEL)
    family = text(raw.get("addressType"), "addressType")
    faults: list[Fault] = []
    if family not in _FAMILIES:
        known = f"There is no address type {show(family)}." if family != "FQDN" else "It holds names, not addresses."
        raise BadObject("addressType", known, "Use IPv4 or IPv6; for a name, use a Service of type ExternalName.")
    ports = each(items(raw.get("ports"), "ports"), "ports", _slice_port, _NO_PORT, faults)
    read = partial(_endpoint, family=_FAMILIES[family])
    endpoints = each(items(raw.get("endpoints"), "endpoints"), "endpoints", read, _NO_ENDPOINT, faults)
    return EndpointSlice(
        meta=meta,
        service="" if service is None else label(service, f"metadata.labels[{_SERVICE_LABEL}]"),
        ports=tuple(ports),
        endpoints=tuple(endpoint for addresses in endpoints for endpoint in addresses),
        faults=tuple(faults),
    )


def _slice_port(value: object, field: str) -> SlicePort:
    port = mapping(value, field)
    name, number = port.get("name") or None, port.get("port")
    return SlicePort(
        name="" if name is None else port_name(name, f"{field}.name"),
        number=None if number is None else port_number(number, f"{field}.port"),
        protocol=_protocol(port.get("protocol"), f"{field}.protocol"),
    )


def _endpoint(value: object, field: str, family: int) -> list[SliceEndpoint]:
    endpoint = mapping(value, field)
    conditions = optional_mapping(endpoint.get("conditions"), f"{field}.conditions")
    # KEP-1669: what is not said is true for ready and serving, and false for terminating.
    ready = boolean(conditions.get("ready"), f"{field}.conditions.ready", default=True)
    serving = boolean(conditions.get("serving"), f"{field}.conditions.serving", default=True)
    terminating = boolean(conditions.get("terminating"), f"{field}.conditions.terminating", default=False)
    zone = _zone(endpoint.get("zone"), f"{field}.zone", "")
    for_zones = _for_zones(endpoint.get("hints"), f"{field}.hints")
    addresses = items(endpoint.get("addresses"), f"{field}.addresses")
    if not addresses:
        raise BadObject(f"{field}.addresses", "There is no address.", "Give it one.")
    found = [_address(address, f"{field}.addresses[{index}]", family) for index, address in enumerate(addresses)]
    return [SliceEndpoint(str(one), ready, serving, terminating, zone, special_use(one), for_zones) for one in found]


def _for_zones(value: object, field: str) -> tuple[str, ...]:
    field += ".forZones"
    hints = items(optional_mapping(value, field).get("forZones"), field)
    each_zone = (mapping(hint, f"{field}[{index}]").get("name") for index, hint in enumerate(hints))
    return tuple(sorted({_zone(name, f"{field}[{index}].name") for index, name in enumerate(each_zone)}))


def _zone(value: object, field: str, default: str | None = None) -> str:
    zone = text(value, field, default)
    if not zone.isprintable():
        raise BadObject(field, f"{show(zone)} is no zone.", "Use the value of the node's zone label.")
    return zone


def _address(value: object, field: str, family: int) -> Address:
    written = text(value, field)
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        raise BadObject(field, f"{show(written)} is no address.", "Give an IP address, without port.") from None
    if address.version != family:
        raise BadObject(field, f"{show(written)} is not of the slice's addressType.", "Use one slice for each family.")
    return address
