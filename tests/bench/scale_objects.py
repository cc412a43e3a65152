"""The cluster of the scale rows: its objects, as the API server takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.kubectl import Raw

__all__ = [
    "INGRESSES",
    "NAMESPACE",
    "PORTS",
    "SERVICES",
    "endpoint_slice",
    "everything",
    "host",
    "ingress",
    "path",
    "resource",
    "service",
]

NAMESPACE = "scale"
INGRESSES = 5000
SERVICES = 10_000
"""Each Ingress has two routes, to a Service each; each Service has an EndpointSlice."""

PORTS = (8001, 8002)
"""What endpoints listen on; they answer with the port that was asked."""

_PATHS = ("/a", "/b")
_RESOURCES = {
    "Ingress": "apis/networking.k8s.io/v1/namespaces/scale/ingresses",
    "Service": "api/v1/namespaces/scale/services",
    "EndpointSlice": "apis/discovery.k8s.io/v1/namespaces/scale/endpointslices",
}


def resource(raw: Raw, name: str = "") -> str:
    """Return the path of the API server for the kind of `raw`, or of the object called `name`."""
    return f"/{_RESOURCES[raw['kind']]}" + (f"/{name}" if name else "")


def host(service: int) -> str:
    """Return the host by which a Service is reached."""
    return f"h{service // len(_PATHS)}.bench.example"


def path(service: int) -> str:
    """Return the path by which a Service is reached."""
    return _PATHS[service % len(_PATHS)]


def everything(addresses: Sequence[str], real: int) -> Iterator[Raw]:
    """Yield all objects; the first `real` Services lead to `addresses`, the others to where nobody listens."""
    for number in range(SERVICES):
        yield service(number)
        elsewhere = [f"10.{64 + end}.{number >> 8}.{number & 255}" for end in range(len(addresses))]
        yield endpoint_slice(number, addresses if number < real else elsewhere)
    for number in range(INGRESSES):
        yield ingress(number)


def service(number: int) -> Raw:
    """Return a Service without a selector, for whose endpoints no controller cares."""
    ports = [{"name": "http", "port": 80, "targetPort": PORTS[0]}]
    spec = {"clusterIP": "None", "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta(f"s{number}"), "spec": spec}


def endpoint_slice(number: int, addresses: Sequence[str], port: int = PORTS[0]) -> Raw:
    """Return the EndpointSlice of a Service, as its controller would write it."""
    meta = _meta(f"s{number}-1") | {"labels": {"kubernetes.io/service-name": f"s{number}"}}
    conditions = {"ready": True, "serving": True, "terminating": False}
    endpoints = [{"addresses": [address], "conditions": conditions, "nodeName": "node"} for address in addresses]
    ports = [{"name": "http", "port": port, "protocol": "TCP"}]
    kind = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4"}
    return kind | {"metadata": meta, "endpoints": endpoints, "ports": ports}


def ingress(number: int, more: str = "") -> Raw:
    """Return an Ingress for two Services; the path `more` leads to the first as well."""
    services = {name: len(_PATHS) * number + place for place, name in enumerate(_PATHS)}
    if more:
        services[more] = len(_PATHS) * number
    paths = [
        {"path": name, "pathType": "Prefix", "backend": {"service": {"name": f"s{one}", "port": {"number": 80}}}}
        for name, one in services.items()
    ]
    rules = [{"host": host(len(_PATHS) * number), "http": {"paths": paths}}]
    spec = {"ingressClassName": "portway", "rules": rules}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": _meta(f"i{number}"), "spec": spec}


def _meta(name: str) -> Raw:
    return {"name": name, "namespace": NAMESPACE}
