"""The Kubernetes objects that Portway reads: frozen, and only the fields that it uses.

So two versions of an object that differ in labels, status or managedFields compare equal. What `decode` had to leave
out of an object stays with it as `Fault`s, which the compile turns into problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, TypeAlias

from portway_proxy.snapshot import PathMatch

__all__ = [
    "Backend",
    "ConfigMap",
    "EndpointSlice",
    "Fault",
    "Ingress",
    "IngressClass",
    "IngressPath",
    "IngressRule",
    "IngressTls",
    "Kind",
    "Meta",
    "Object",
    "PortRef",
    "PublicAddress",
    "Secret",
    "Service",
    "ServicePort",
    "SliceEndpoint",
    "SlicePort",
]

PortRef: TypeAlias = int | str
"""A port by its number or by its name."""


class Kind(StrEnum):
    """The kinds of objects that Portway reads."""

    INGRESS = "Ingress"
    INGRESS_CLASS = "IngressClass"
    SERVICE = "Service"
    ENDPOINT_SLICE = "EndpointSlice"
    SECRET = "Secret"  # noqa: S105 - a kind, no password
    CONFIG_MAP = "ConfigMap"


@dataclass(frozen=True, slots=True)
class Fault:
    """A part of an object that was left out, because it is malformed or asks for what Portway cannot do.

    `found`, `done` and `remedy` are sentences, `code` is the slug of the problem that it becomes.
    """

    field: str
    code: str
    found: str
    done: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Meta:
    """Who an object is. `uid`, `resource_version` and `generation` do not count when two versions are compared.

    `namespace` is empty for cluster-wide kinds. `created` is in seconds since the epoch; infinite when the object
    says nothing, so that what no API server ever took is the youngest. `annotations` are those that Portway reads.
    """

    namespace: str
    name: str
    created: float = float("inf")
    annotations: Mapping[str, str] = field(default_factory=dict)
    uid: str = field(default="", compare=False)
    resource_version: str = field(default="", compare=False)
    generation: int = field(default=0, compare=False)

    @property
    def key(self) -> tuple[str, str]:
        """Return the namespace and the name."""
        return self.namespace, self.name

    @property
    def precedence(self) -> tuple[float, str, str]:
        """Return what objects are sorted by: the oldest first, then by namespace and name."""
        return self.created, self.namespace, self.name


@dataclass(frozen=True, slots=True, order=True)
class PublicAddress:
    """Where clients reach an Ingress or a Service, as a status says it: an IP, or else a host name."""

    ip: str = ""
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class Backend:
    """A port of a Service in the Ingress's own namespace."""

    service: str
    port: PortRef


@dataclass(frozen=True, slots=True)
class IngressPath:
    """A path of a rule; `path` is in the form that request paths are normalised to."""

    path: str
    match: PathMatch
    backend: Backend
    field: str


@dataclass(frozen=True, slots=True)
class IngressRule:
    """The paths of a host (lower-case; empty for any); `paths` is None when the rule has no `http` at all."""

    host: str
    paths: tuple[IngressPath, ...] | None
    field: str


@dataclass(frozen=True, slots=True)
class IngressTls:
    """A Secret of the Ingress's own namespace (empty: the default certificate) and the hosts it is meant for.

    Without hosts it is meant for every host of the Ingress.
    """

    hosts: tuple[str, ...]
    secret: str
    field: str


@dataclass(frozen=True, slots=True)
class Ingress:
    """`networking.k8s.io/v1` Ingress.

    `class_name` is None when `spec.ingressClassName` is absent. `has_rules` says whether it declared any rule, even
    if all of them were left out: such an Ingress must not become a catch-all. `published` is what its status says; it
    does not count when two versions are compared.
    """

    kind: ClassVar[Kind] = Kind.INGRESS

    meta: Meta
    class_name: str | None = None
    default_backend: Backend | None = None
    has_rules: bool = False
    rules: tuple[IngressRule, ...] = ()
    tls: tuple[IngressTls, ...] = ()
    faults: tuple[Fault, ...] = ()
    published: tuple[PublicAddress, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class IngressClass:
    """`networking.k8s.io/v1` IngressClass."""

    kind: ClassVar[Kind] = Kind.INGRESS_CLASS

    meta: Meta
    controller: str
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a Service; `target` is the number or name of the endpoints' port."""

    name: str
    number: int
    target: PortRef
    protocol: str = "TCP"
    app_protocol: str = ""
    field: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """`v1` Service; `type` is Kubernetes' word (`ClusterIP`, `LoadBalancer`, `ExternalName`, ...).

    `external_name` is empty when it is malformed, and for every other type. `cluster_ips`, `external_ips` and
    `published` (what its status says) are where the Service itself is reached; they do not count when two versions are
    compared.
    """

    kind: ClassVar[Kind] = Kind.SERVICE

    meta: Meta
    type: str = "ClusterIP"
    headless: bool = False
    external_name: str = ""
    load_balancer_class: str = ""
    ports: tuple[ServicePort, ...] = ()
    faults: tuple[Fault, ...] = ()
    cluster_ips: tuple[str, ...] = field(default=(), compare=False)
    external_ips: tuple[str, ...] = field(default=(), compare=False)
    published: tuple[PublicAddress, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class SlicePort:
    """A port of an EndpointSlice; `number` is None for any port."""

    name: str
    number: int | None
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class SliceEndpoint:
    """One address of an EndpointSlice and its conditions, defaults filled in.

    `special` names why no tenant may send our traffic there (`loopback`, `link-local`, ...); empty for an ordinary one.
    `for_zones` are the zones whose traffic it is meant for (`hints`), sorted.
    """

    address: str
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone: str = ""
    special: str = ""
    for_zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """`discovery.k8s.io/v1` EndpointSlice; `service` is empty when its label names none."""

    kind: ClassVar[Kind] = Kind.ENDPOINT_SLICE

    meta: Meta
    service: str
    ports: tuple[SlicePort, ...] = ()
    endpoints: tuple[SliceEndpoint, ...] = ()
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Secret:
    """`v1` Secret; of a `kubernetes.io/tls` one `data` holds `tls.crt`, `tls.key` and `ca.crt` alone.

    Tokens and other keys to Kubernetes itself have no data here. Neither `repr` nor `str` shows the data.
    """

    kind: ClassVar[Kind] = Kind.SECRET

    meta: Meta
    type: str
    data: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigMap:
    """`v1` ConfigMap."""

    kind: ClassVar[Kind] = Kind.CONFIG_MAP

    meta: Meta
    data: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


Object: TypeAlias = Ingress | IngressClass | Service | EndpointSlice | Secret | ConfigMap
