"""The annotations of a Service."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from portway_operator.annotations.rows import row
from portway_operator.objects import PortRef
from portway_operator.parse import (
    PortMapping,
    ProxyMapping,
    boolean,
    cookie_domain,
    cookie_path,
    count,
    endpoints,
    hash_on,
    host,
    methods,
    one_of,
    port_mappings,
    ports,
    proxy_mappings,
    seconds,
    statuses,
    target,
    token,
)
from portway_proxy.snapshot import Affinity, Balance, Capacity, Check, CheckKind, Ejection, Endpoint, HashOn, Retries

__all__ = ["AffinityKind", "SameSite", "ServiceAnnotations"]

_YEAR = 366 * 86400.0
_MOST = 1_000_000
_LIMITS = ("max_connections", "max_requests")


class AffinityKind(StrEnum):
    """What keeps a client at one endpoint."""

    COOKIE = "cookie"


class SameSite(StrEnum):
    """The values of a cookie's SameSite."""

    STRICT = "Strict"
    LAX = "Lax"
    NONE = "None"


@dataclass(frozen=True, slots=True)
class ServiceAnnotations:
    """What the annotations of a Service say; times are in seconds."""

    balance: Balance | None = row(
        "balance",
        one_of(Balance),
        default=None,
        makes=("balance", "hash_on"),
        doc="How the next endpoint is chosen: `round-robin` (the default), `random`, `power-of-two` (of two by chance "
        "the one with fewer requests in flight), `ewma` (of two the one that took less time of late), "
        "`least-connections` or `consistent-hash`. A port that is passed through counts its connections, and hashes "
        "the source address alone.",
    )
    hash_on: HashOn | None = row(
        "hash-on",
        hash_on,
        default=None,
        makes=("balance", "hash_on"),
        doc="What a consistent hash is taken of, and by itself the wish for one: `source-address`, `uri`, "
        "`header:NAME` or `cookie:NAME`; requests that lack it go round-robin.",
    )
    affinity: AffinityKind | None = row(
        "affinity",
        one_of(AffinityKind),
        default=None,
        makes="affinity",
        doc="`cookie` keeps each client at one endpoint, as long as that one serves, by a cookie of the proxy's own.",
    )
    affinity_cookie_name: str = row(
        "affinity-cookie-name",
        token,
        default=Affinity().cookie,
        makes="affinity",
        doc="The name of that cookie.",
        requires=("affinity",),
    )
    affinity_cookie_path: str = row(
        "affinity-cookie-path",
        cookie_path,
        default=Affinity().path,
        makes="affinity",
        doc="The Path of that cookie.",
        requires=("affinity",),
    )
    affinity_cookie_domain: str = row(
        "affinity-cookie-domain",
        cookie_domain,
        default="",
        makes="affinity",
        doc="The Domain of that cookie; unset, it is for the host of the request alone.",
        requires=("affinity",),
    )
    affinity_cookie_ttl: float = row(
        "affinity-cookie-ttl",
        seconds(0, _YEAR),
        default=0.0,
        makes="affinity",
        doc="The Max-Age of that cookie (`3600`, `12h`); 0 is until the browser ends.",
        requires=("affinity",),
    )
    affinity_cookie_same_site: SameSite = row(
        "affinity-cookie-same-site",
        one_of(SameSite),
        default=SameSite.LAX,
        makes="affinity",
        doc="The SameSite of that cookie: `Strict`, `Lax` or `None`.",
        requires=("affinity",),
    )
    affinity_cookie_secure: bool | None = row(
        "affinity-cookie-secure",
        boolean,
        default=None,
        makes="affinity",
        doc="Whether that cookie is Secure; unset, it is when the request came over TLS.",
        requires=("affinity",),
    )
    health_check: CheckKind | None = row(
        "health-check",
        one_of(CheckKind),
        default=None,
        makes="check",
        doc="`http` or `tcp`: every worker asks each endpoint again and again, and leaves out those that are not well. "
        "Ready pods were asked by Kubernetes; this is for what its probes cannot see.",
    )
    health_check_path: str = row(
        "health-check-path",
        target,
        default=Check().path,
        makes="check",
        doc="The path, perhaps with a query, that an HTTP check asks for; a status from 200 to 399 is well.",
        requires=("health_check",),
    )
    health_check_host: str = row(
        "health-check-host",
        host,
        default="",
        makes="check",
        doc="The Host that an HTTP check names; unset, the endpoint's own address.",
        requires=("health_check",),
    )
    health_check_interval: float = row(
        "health-check-interval",
        seconds(1, 3600),
        default=Check().interval,
        makes="check",
        doc="The time between two checks of an endpoint (`5s`).",
        requires=("health_check",),
    )
    health_check_timeout: float = row(
        "health-check-timeout",
        seconds(0.1, 60),
        default=Check().timeout,
        makes="check",
        doc="The time that a check may take (`2s`, `500ms`).",
        requires=("health_check",),
    )
    health_check_failures: int = row(
        "health-check-failures",
        count(1, 100),
        default=Check().failures,
        makes="check",
        doc="After so many bad answers in a row an endpoint is left out.",
        requires=("health_check",),
    )
    health_check_passes: int = row(
        "health-check-passes",
        count(1, 100),
        default=Check().passes,
        makes="check",
        doc="After so many good answers in a row it is back.",
        requires=("health_check",),
    )
    ejection_failures: int = row(
        "ejection-failures",
        count(0, _MOST),
        default=Ejection().failures,
        makes="ejection",
        doc="After so many failures in a row (no connection, no answer, 502, 503, 504) an endpoint is left alone for a "
        "while; 0 is never.",
    )
    ejection_time: float = row(
        "ejection-time",
        seconds(1, 300),
        default=Ejection().seconds,
        makes="ejection",
        doc="How long, the first time; when it happens again and again, each time longer, up to 300 s.",
    )
    ejection_share: int = row(
        "ejection-share",
        count(0, 100),
        default=Ejection().share,
        makes="ejection",
        doc="When more than this percentage of the endpoints would be left out, all are used.",
    )
    slow_start: float = row(
        "slow-start",
        seconds(0, 3600),
        default=0.0,
        makes="slow_start",
        doc="So long the share of an endpoint that just became ready grows, from a tenth to the whole (`30s`); 0 is at "
        "once. It is not for a consistent hash.",
    )
    max_connections: int = row(
        "max-connections",
        count(0, _MOST),
        default=0,
        makes="capacity",
        doc="The most connections that a proxy holds to one endpoint; 0 is no limit. Workers share it evenly.",
    )
    max_requests: int = row(
        "max-requests",
        count(0, _MOST),
        default=0,
        makes="capacity",
        doc="The most requests that a proxy has in flight at one endpoint; 0 is no limit. Workers share it evenly.",
    )
    queue: int = row(
        "queue",
        count(0, _MOST),
        default=Capacity().queue,
        makes="capacity",
        doc="How many requests may wait when every endpoint has its most; further ones get 503.",
        requires=_LIMITS,
    )
    queue_timeout: float = row(
        "queue-timeout",
        seconds(0.1, 3600),
        default=Capacity().timeout,
        makes="capacity",
        doc="How long a request may wait there until it gets 503.",
        requires=_LIMITS,
    )
    retries: int = row(
        "retries",
        count(0, 10),
        default=Retries().tries - 1,
        makes="retries",
        doc="How often a request may be sent again, each time to another endpoint: when there was no connection, and "
        "when there was no answer, if it has no body and its method is among `retry-methods`.",
    )
    retry_on: tuple[int, ...] = row(
        "retry-on",
        statuses,
        default=(),
        makes="retries",
        doc="Statuses that are as good as no answer (`502, 503, 504`).",
    )
    retry_methods: tuple[str, ...] = row(
        "retry-methods",
        methods,
        default=Retries().methods,
        makes="retries",
        doc="Methods that may be repeated although an endpoint may have acted on them.",
    )
    retry_timeout: float = row(
        "retry-timeout",
        seconds(0, 3600),
        default=Retries().timeout,
        makes="retries",
        doc="Later than this after its beginning a request is not sent again.",
    )
    retry_budget: int = row(
        "retry-budget",
        count(0, 100),
        default=Retries().budget,
        makes="retries",
        doc="The percentage of requests that may be repeated, beside ten a second.",
    )
    tcp_ports: tuple[PortMapping, ...] = row(
        "tcp-ports",
        port_mappings,
        default=(),
        doc="TCP ports to open for the Service, each with the Service's port if that is another: `5432, 9000:metrics`.",
    )
    udp_ports: tuple[PortMapping, ...] = row(
        "udp-ports",
        port_mappings,
        default=(),
        doc="As `tcp-ports`, for UDP.",
    )
    proxy_protocol: tuple[ProxyMapping, ...] = row(
        "proxy-protocol",
        proxy_mappings,
        default=(),
        makes="announce",
        doc="`v1` or `v2`: endpoints behind the TCP ports that are opened for the Service are told who the client is, "
        "by the PROXY protocol; `25:v1, 993:v2` says it for each port. Of a port that speaks HTTP it is the Service's "
        "own number that says it (`80:v2`); then each request has a connection of its own.",
    )
    accept_proxy_protocol: bool = row(
        "accept-proxy-protocol",
        boolean,
        default=False,
        makes="accept_proxy",
        doc="Peers in the networks that the proxy trusts begin with a PROXY header on these TCP ports, which says who "
        "the client is; others are passed through as they are.",
    )
    max_clients: int = row(
        "max-clients",
        count(0, _MOST),
        default=0,
        makes="clients",
        doc="The most clients at once on each port that is opened for the Service, at one proxy; further ones are "
        "reset. 0 is no limit. Workers share it evenly.",
    )
    connect_timeout: float | None = row(
        "connect-timeout",
        seconds(0.1, 3600),
        default=None,
        makes="connect",
        doc="How long an endpoint behind such a port may take to accept a connection (`2s`).",
    )
    idle_timeout: float | None = row(
        "idle-timeout",
        seconds(1, 30 * 86400),
        default=None,
        makes="idle",
        doc="How long a connection through such a port, or a client of a UDP port, may be without traffic (`10m`).",
    )
    max_lifetime: float | None = row(
        "max-lifetime",
        seconds(1, 366 * 86400),
        default=None,
        makes="lifetime",
        doc="How long a connection through such a port may last (`24h`).",
    )
    close_on_removal: bool = row(
        "close-on-removal",
        boolean,
        default=False,
        makes="close_on_removal",
        doc="Connections through such a port to an endpoint that is removed end at once, not after the drain time.",
    )
    opaque_ports: tuple[PortRef, ...] = row(
        "opaque-ports",
        ports,
        default=(),
        makes="protocol",
        doc="Ports of the Service that do not speak HTTP, by number or name.",
    )
    endpoints: tuple[Endpoint, ...] = row(
        "endpoints",
        endpoints,
        default=(),
        makes="endpoints",
        doc="Where the Service lives, for `portway run` and a Service without EndpointSlices: `127.0.0.1:5000`.",
    )
