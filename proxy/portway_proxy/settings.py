"""What a proxy is started with: ports, limits and timeouts. Each limit stands beside its precedents.

Times are seconds, sizes are bytes.
"""

from __future__ import annotations

import os

import msgspec

from portway_proxy.log_format import Escape
from portway_proxy.observing import AccessLogSettings, Tracing

__all__ = ["Limits", "ProxySettings", "Timeouts"]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


class Limits(msgspec.Struct, frozen=True):
    """The most that a peer may send."""

    request_line: int = 8192  # nginx's large_client_header_buffers; RFC 9112, 3 asks for at least 8,000.
    field: int = 16384  # HAProxy's buffer: one long cookie jar must not be a 431.
    fields: int = 100  # Envoy 100, HAProxy 101.
    head: int = 65536  # Envoy 60 KiB.
    trailers: int = 16384
    interim_responses: int = 16  # 1xx heads before the response itself.
    body: int = 0  # A request body; 0 is no limit (Envoy, HAProxy, Traefik), a route may set one.
    buffer: int = 65536  # What waits in user space for a slow reader, for each connection; Envoy's edge guide 32 KiB.
    pool: int = 256  # Idle connections kept for an endpoint by each worker; ingress-nginx keeps 320.
    body_rate: int = 240  # Bytes a second that a request body must come with on average; Kestrel 240, Apache 500.
    udp_clients: int = 16384  # Of one UDP port at each worker; every one has a descriptor.
    streams: int = 128  # Of a client's connection of HTTP/2, at once; nginx and ingress-nginx 128.
    connections: int = 0  # Of clients to a worker; 0 is what descriptors allow (HAProxy). ingress-nginx 16384.
    connections_per_address: int = 0  # Of these, from one address (IPv6: a /64); 0 is any number (nginx, Envoy).
    memory: int = 0  # Resident bytes of a worker; 0 is no limit but its control group's.
    loop_lag: float = 0.5  # Seconds that the event loop may be late before requests are refused; 0 is never.


class Timeouts(msgspec.Struct, frozen=True):
    """How long the proxy waits. All are checked by the coarse clock: up to two seconds late, never early."""

    head: float = 60.0  # A whole request head; nginx and ingress-nginx 60.
    body: float = 60.0  # Between two reads of a request body; nginx 60.
    keep_alive: float = 75.0  # An idle client connection; nginx and ingress-nginx 75.
    connect: float = 5.0  # To an endpoint; ingress-nginx and Envoy 5.
    response: float = 60.0  # Until the response head; ingress-nginx 60.
    read: float = 60.0  # Between two reads of a response body; ingress-nginx 60.
    write: float = 60.0  # Until an endpoint that takes nothing of a request is given up; ingress-nginx 60.
    send: float = 60.0  # Until a client that reads nothing is given up; nginx 60.
    request: float = 0.0  # From a request's head to the end of its response; 0 is no limit (nginx, HAProxy).
    upstream_idle: float = 55.0  # Below the 60 that common servers keep idle connections.
    tunnel: float = 3600.0  # A relay without a byte in either direction; HAProxy's guides use 1 h.
    lifetime: float = 0.0  # Of a relay, however busy; 0 is no end (nginx, HAProxy, Envoy).
    udp: float = 60.0  # A UDP client without a datagram in either direction; Envoy 60, conntrack 30 to 120.
    # Bytes that a peer of a relay does not take. 0 (nginx, HAProxy): Linux gives the dead up after 15 min, and the idle
    # timeout those that live and read nothing, which TCP_USER_TIMEOUT does not tell apart.
    unacknowledged: float = 0.0
    drain: float = 30.0  # From SIGTERM to the end of what still runs.
    grace: float = 0.0  # From SIGTERM to the end of accepting; a cluster needs a few seconds, a shell none.


class AdminAccess(msgspec.Struct, frozen=True):
    """Who sees the admin server's pages beside this machine: whoever shows the token in `token_file`, if it is named.

    hosts: what requests from this machine may call it, beside `localhost`. With `protect_metrics` metrics need the same
    as the other pages. With `review` the tokens of accounts count that the cluster allows it, where it can be asked.
    """

    token_file: str = ""
    hosts: tuple[str, ...] = ()
    protect_metrics: bool = False
    review: bool = True


class ProxySettings(msgspec.Struct, frozen=True):
    """Everything that is fixed while a proxy runs.

    `public_http_port` and `public_https_port` are what clients see (in X-Forwarded-Port and in redirects), where that
    is not the port that is listened on. A port of 0 lets the system choose; None opens none. `node` is this proxy's
    name in logs and to the operator, `zone` where its node is (`topology.kubernetes.io/zone`), for zone hints.

    `log_format` is one of `log_format.FORMATS` or a template. With `metrics_names` `ingress-nginx` numbers of requests
    have those names too, which tell the `namespace` of this proxy's pod. Without `metrics_per_host` hosts are not told
    apart. What there is to count beyond `metrics_series` is counted together. Clients in the networks of `explain_to`
    are told in responses what became of their requests.
    """

    address: str = "127.0.0.1"
    http_port: int | None = 8080
    https_port: int | None = 8443
    admin_address: str = "127.0.0.1"
    admin_port: int = 9090
    admin_access: AdminAccess = AdminAccess()
    public_http_port: int | None = None
    public_https_port: int | None = None
    workers: int = msgspec.field(default_factory=_cores)
    access_log: bool = True
    access_log_path: str = ""
    log_format: str = "text"
    log_escape: Escape = Escape.DEFAULT
    log_skip: tuple[str, ...] = ()
    metrics_names: str = "portway"
    metrics_per_host: bool = True
    metrics_series: int = 10_000  # Requests by route, method and status; some 500 bytes each in every worker.
    tracing: Tracing | None = None
    explain_to: tuple[str, ...] = ()
    namespace: str = ""
    node: str = ""
    zone: str = ""
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()

    @property
    def access(self) -> AccessLogSettings:
        """How access lines are written, unless the operator says otherwise."""
        return AccessLogSettings(self.access_log, self.log_format, self.log_escape, self.log_skip, self.access_log_path)
