"""What the compile is told beside the objects themselves."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CONTROLLER", "L4_CLASS", "CompileSettings"]

CONTROLLER = "portway.dev/ingress-controller"
"""The `spec.controller` of the IngressClasses that are ours."""

L4_CLASS = "portway.dev/l4"
"""The `spec.loadBalancerClass` of the Services whose ports become listeners."""


@dataclass(frozen=True, slots=True)
class CompileSettings:
    """Everything beside the objects that a snapshot depends on.

    controller: IngressClasses that name it are ours.
    ingress_class: names of classes that are ours by the old annotation, whether such an IngressClass exists or not
        (ingress-nginx's `--ingress-class`).
    watch_ingress_without_class: an Ingress that names no class is ours (ingress-nginx's flag of that name).
    ingress_class_by_name: an IngressClass with a name of `ingress_class` is ours whatever its controller says.
    standalone: the objects come out of files and there is no cluster (`portway run`): Ingresses without class are ours,
        as are those whose class the files do not define; endpoints may be on this machine; `portway.dev/endpoints`
        is read.
    default_backend_service: `namespace/name` or `namespace/name:port` of what serves requests that nothing else does.
    default_certificate: `namespace/name` of the Secret for TLS clients whose host has no certificate.
    ssl_redirect: requests without TLS are sent to https on hosts that have TLS, unless the Ingress says otherwise.
    allow_external_name: Services of type ExternalName are served.
    allow_catch_all: an Ingress with nothing but a default backend may serve what matches nothing else.
    reserved_ports: ports that no layer 4 listener may take, because the proxy itself listens there.
    expose_service: `namespace/name` of the Service that clients reach the proxies by, when its ports are kept equal to
        the listeners.
    stream_timeout: seconds that a connection through a layer 4 port, or a client of a UDP port, may be without traffic,
        where its Service says nothing else; 0 leaves the proxy's own.
    config_map: `namespace/name` of the ConfigMap whose keys count over these settings (`compile.configuration`).
    affinity_key: random bytes that sign affinity cookies. Without it each proxy has a key of its own, and a client that
        comes to another proxy begins anew.
    """

    controller: str = CONTROLLER
    ingress_class: tuple[str, ...] = ("portway",)
    watch_ingress_without_class: bool = False
    ingress_class_by_name: bool = False
    standalone: bool = False
    default_backend_service: str = ""
    default_certificate: str = ""
    ssl_redirect: bool = True
    allow_external_name: bool = True
    allow_catch_all: bool = True
    reserved_ports: frozenset[int] = frozenset()
    expose_service: str = ""
    stream_timeout: float = 0.0
    config_map: str = ""
    affinity_key: bytes = field(default=b"", repr=False)
