"""What the compile is told beside the objects themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from portway_proxy.observing import Sampler
from portway_proxy.tls_terms import ACME
from portway_proxy.tuning import Setting

__all__ = ["CONTROLLER", "L4_CLASS", "NGINX_CONTROLLER", "Compatibility", "CompileSettings"]

CONTROLLER = "portway.dev/ingress-controller"
"""The `spec.controller` of the IngressClasses that are ours."""

NGINX_CONTROLLER = "k8s.io/ingress-nginx"
"""The `spec.controller` of ingress-nginx's IngressClasses."""

L4_CLASS = "portway.dev/l4"
"""The `spec.loadBalancerClass` of the Services whose ports become listeners."""


class Compatibility(StrEnum):
    """Whose reading of an Ingress counts: the specification's, or ingress-nginx's where the two differ."""

    STRICT = "strict"
    INGRESS_NGINX = "ingress-nginx"


@dataclass(frozen=True, slots=True)
class CompileSettings:
    """Everything beside the objects that a snapshot depends on.

    controller: IngressClasses that name it are ours.
    ingress_class: names of classes that are ours by the old annotation, whether such an IngressClass exists or not
        (ingress-nginx's `--ingress-class`).
    watch_ingress_without_class: an Ingress that names no class is ours (ingress-nginx's flag of that name).
    ingress_class_by_name: an IngressClass with a name of `ingress_class` is ours whatever its controller says.
    compatibility: how Ingresses are read that do not say it themselves, nor their class (`compile.compatibility`).
    standalone: the objects come out of files and there is no cluster (`portway run`): Ingresses without class are ours,
        as are those whose class the files do not define; endpoints may be on this machine; `portway.dev/endpoints`
        is read.
    default_backend_service: `namespace/name` or `namespace/name:port` of what serves requests that nothing else does.
    default_certificate: `namespace/name` of the Secret for TLS clients whose host has no certificate.
    today: the day, in days since the epoch, by which certificates expire; 0 is unknown, and none does.
    ssl_redirect: requests without TLS are sent to https on hosts that have TLS, unless the Ingress says otherwise.
    ssl_protocols, ssl_ciphers, ssl_ecdh_curve, ssl_session_tickets, ssl_session_timeout, ssl_reject_handshake, hsts,
        hsts_max_age, hsts_include_subdomains, hsts_preload, http_redirect_code, no_tls_redirect_locations, use_http2:
        how TLS is spoken and asked for (`portway_proxy.tls_terms`).
    force_ssl_redirect: they are on hosts without TLS too, unless the Ingress says otherwise.
    allow_source_range, deny_source_range: networks that clients must, and must not, come from, where an Ingress names
        none itself. block_cidrs: networks that nobody may come from.
    closed: the code of the problem for which nobody may come to any Ingress; empty for none.
    allow_external_name: Services of type ExternalName are served.
    allow_catch_all: an Ingress with nothing but a default backend may serve what matches nothing else.
    reserved_ports: ports that no layer 4 listener may take, because the proxy itself listens there.
    expose_service: `namespace/name` of the Service that clients reach the proxies by, when its ports are kept equal to
        the listeners.
    stream_timeout: seconds that a connection through a layer 4 port, or a client of a UDP port, may be without traffic,
        where its Service says nothing else; 0 leaves the proxy's own.
    proxy_real_ip_cidr: networks whose peers are believed what they say about clients; nobody else ever is.
    use_forwarded_headers: they say client, scheme, host, port and prefix in X-Forwarded-*.
    enable_real_ip: they say the client alone.
    forwarded_for_header: the field in which they say the client.
    compute_full_forwarded_for: endpoints get the X-Forwarded-For that came, and the peer behind it.
    use_proxy_protocol: their connections to the HTTP and HTTPS ports begin with a header of the PROXY protocol.
    proxy_protocol_header_timeout: seconds until that header has to be there.
    generate_request_id: requests that come without an X-Request-ID get one.
    tcp_services, udp_services: `namespace/name` of the ConfigMaps that open layer 4 ports, as ingress-nginx's do.
    custom_http_errors: statuses whose pages the default backend makes, where an Ingress does not say which.
    disable_proxy_intercept_errors: those count for no Ingress.
    for_all: fields of `IngressAnnotations` and their values, sorted, where an Ingress says nothing itself.
    global_auth: those of the service that is asked for the paths of all Ingresses, but of those that do without it.
    no_auth_locations: paths of rules that begin so ask for no password, and no service.
    add_headers: fields that every answer has, `proxy_set_headers`: those that every endpoint gets.
    proxy_add_original_uri_header: endpoints get the path and query as they came, as X-Original-Uri.
    global_allowed_response_headers: fields that Ingresses may add by their `custom-headers`.
    limit_req_status_code, limit_conn_status_code: what requests beyond a limit get.
    hide_headers: fields of endpoints' answers that clients do not get; without `allow_backend_server_header`, Server
        too.
    server_tokens: answers without a Server field get ours.
    block_user_agents, block_referers: clients that say so get 403.
    config_map: `namespace/name` of the ConfigMap whose keys count over these settings (`compile.configuration`).
    said: those of its keys that could be read, sorted.
    tuning: limits and timeouts of all proxies (`portway_proxy.tuning`), sorted by name.
    log_format_upstream, log_format_escape_json, disable_access_log, skip_access_log_urls: how proxies write access
        lines; what is empty or None leaves each proxy's own flags.
    explain_to: networks whose clients are told in responses what became of requests; None leaves each proxy's own.
    enable_opentelemetry, otlp_collector_host, otlp_collector_port, otel_service_name, otel_sampler, otel_sampler_ratio,
        otel_sampler_parent_based, opentelemetry_trust_incoming_span: how proxies trace requests, where it is enabled.
    affinity_key: random bytes that sign affinity cookies. Without it each proxy has a key of its own, and a client that
        comes to another proxy begins anew.
    """

    controller: str = CONTROLLER
    ingress_class: tuple[str, ...] = ("portway",)
    watch_ingress_without_class: bool = False
    ingress_class_by_name: bool = False
    compatibility: Compatibility = Compatibility.STRICT
    standalone: bool = False
    default_backend_service: str = ""
    default_certificate: str = ""
    today: int = 0
    ssl_redirect: bool = True
    force_ssl_redirect: bool = False
    allow_source_range: tuple[str, ...] = ()
    deny_source_range: tuple[str, ...] = ()
    block_cidrs: tuple[str, ...] = ()
    closed: str = ""
    ssl_protocols: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")
    ssl_ciphers: str = ""
    ssl_ecdh_curve: str = ""
    ssl_session_tickets: bool = True
    ssl_session_timeout: float = 0.0
    ssl_reject_handshake: bool = False
    hsts: bool = True
    hsts_max_age: int = 31_536_000
    hsts_include_subdomains: bool = True
    hsts_preload: bool = False
    http_redirect_code: int = 308
    no_tls_redirect_locations: tuple[str, ...] = (ACME,)
    use_http2: bool = True
    allow_external_name: bool = True
    allow_catch_all: bool = True
    reserved_ports: frozenset[int] = frozenset()
    expose_service: str = ""
    stream_timeout: float = 0.0
    proxy_real_ip_cidr: tuple[str, ...] = ()
    use_forwarded_headers: bool = False
    enable_real_ip: bool = False
    forwarded_for_header: str = "X-Forwarded-For"
    compute_full_forwarded_for: bool = False
    use_proxy_protocol: bool = False
    proxy_protocol_header_timeout: float = 5.0
    generate_request_id: bool = True
    tcp_services: str = ""
    udp_services: str = ""
    for_all: tuple[tuple[str, Any], ...] = ()
    global_auth: tuple[tuple[str, Any], ...] = ()
    no_auth_locations: tuple[str, ...] = (ACME,)
    add_headers: tuple[tuple[str, str], ...] = ()
    proxy_set_headers: tuple[tuple[str, str], ...] = ()
    proxy_add_original_uri_header: bool = False
    global_allowed_response_headers: tuple[str, ...] = ()
    limit_req_status_code: int = 503
    limit_conn_status_code: int = 503
    hide_headers: tuple[str, ...] = ()
    allow_backend_server_header: bool = True
    server_tokens: bool = True
    block_user_agents: tuple[str, ...] = ()
    block_referers: tuple[str, ...] = ()
    custom_http_errors: tuple[int, ...] = ()
    disable_proxy_intercept_errors: bool = False
    config_map: str = ""
    said: tuple[str, ...] = ()
    tuning: tuple[Setting, ...] = ()
    log_format_upstream: str = ""
    log_format_escape_json: bool | None = None
    disable_access_log: bool | None = None
    skip_access_log_urls: tuple[str, ...] | None = None
    explain_to: tuple[str, ...] | None = None
    enable_opentelemetry: bool = False
    otlp_collector_host: str = ""
    otlp_collector_port: int = 4317
    otel_service_name: str = "portway"
    otel_sampler: Sampler = Sampler.ALWAYS_ON
    otel_sampler_ratio: float = 0.01
    otel_sampler_parent_based: bool = True
    opentelemetry_trust_incoming_span: bool = True
    affinity_key: bytes = field(default=b"", repr=False)
