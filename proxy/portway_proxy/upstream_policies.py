"""What a Service may ask for its endpoints beyond the ordinary, as parts of the snapshot."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import msgspec

__all__ = [
    "Affinity",
    "Capacity",
    "Check",
    "CheckKind",
    "Ejection",
    "HashOn",
    "HashSource",
    "ProxyVersion",
    "Retries",
    "UpstreamPolicy",
]

_Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class HashSource(StrEnum):
    """The part of a request that a consistent hash is taken of."""

    ADDRESS = "source-address"
    HEADER = "header"
    COOKIE = "cookie"
    URI = "uri"
    TEXT = "text"


class CheckKind(StrEnum):
    """How an endpoint is asked whether it is well."""

    HTTP = "http"
    TCP = "tcp"


class HashOn(msgspec.Struct, frozen=True):
    """What a consistent hash is taken of; `name` is that of the header (any case) or of the cookie, or a template.

    It chooses groups of `subset` endpoints, any of which gets the request; 0 is no groups.
    """

    source: HashSource = HashSource.ADDRESS
    name: str = ""
    subset: int = 0

    def __str__(self) -> str:
        """Return `header:X-User`, or what it is without a name."""
        return f"{self.source}:{self.name}" if self.name else str(self.source)


class Affinity(msgspec.Struct, frozen=True):
    """A cookie that keeps a client at one endpoint.

    `ttl` (Max-Age) and `expires` are in seconds; 0 until the browser ends. `secure` None is as the request came: Secure
    over TLS. `same_site` is the attribute's value, empty for none; where `lenient`, browsers that misread None get
    none. An empty `path` is that of the route.

    Where it `spreads`, the cookie holds what a consistent hash is taken of, so that some clients move when endpoints
    come; else it names the endpoint. Where it `stays`, a failure of the endpoint leaves the cookie as it is.
    """

    cookie: str = "portway"
    path: str = "/"
    domain: str = ""
    ttl: int = 0
    same_site: str = "Lax"
    secure: bool | None = None
    expires: int = 0
    lenient: bool = False
    partitioned: bool = False
    spreads: bool = False
    stays: bool = False


class Check(msgspec.Struct, frozen=True):
    """How every worker asks each endpoint again and again whether it is well; times are seconds.

    `path` and `host` (empty: the endpoint's own address) are for HTTP, where a status from 200 to 399 is well. An
    endpoint is out after `failures` bad answers in a row, and back after `passes` good ones.
    """

    kind: CheckKind = CheckKind.HTTP
    path: str = "/"
    host: str = ""
    interval: _Positive = 5.0  # HAProxy 2, nginx plus 5, Kubernetes' probes 10.
    timeout: _Positive = 2.0
    failures: int = 3  # HAProxy 3, Kubernetes' probes 3.
    passes: int = 2  # HAProxy 2.


class Ejection(msgspec.Struct, frozen=True):
    """When an endpoint that fails requests is left alone: after `failures` in a row, 0 for never.

    It lasts `seconds`, times how often it happened of late. When more than `share` percent of the endpoints are out,
    for whatever reason, all are used.
    """

    failures: int = 5  # Envoy 5, Linkerd 7, nginx 1.
    seconds: float = 10.0  # nginx 10, Envoy 30.
    share: int = 50  # Envoy's panic threshold 50.


class Capacity(msgspec.Struct, frozen=True):
    """The most that one endpoint gets from one proxy, all workers together; 0 is no limit.

    A worker gets an equal part of it, and at least one. What is more waits: at most `queue` requests (all workers
    together), each at most `timeout` seconds, the first to come first.
    """

    connections: int = 0
    requests: int = 0
    queue: int = 100  # nginx plus's own example 100.
    timeout: float = 5.0  # HAProxy's queue timeout is that of connecting by default: 5 in its guides.


class Retries(msgspec.Struct, frozen=True):
    """How often a request may be sent: `tries` in all, and none begun later than `timeout` seconds after its start.

    `statuses` of an endpoint are as good as none when the request may be repeated: its method is among `methods` and it
    has no body. `budget` is the percentage of requests that may be repeated, beside ten a second.
    """

    tries: int = 3  # ingress-nginx's proxy-next-upstream-tries.
    statuses: tuple[int, ...] = ()
    methods: tuple[str, ...] = ("GET", "HEAD", "OPTIONS", "TRACE")
    timeout: float = 15.0  # Three attempts to connect, as in ingress-nginx.
    budget: int = 20  # Linkerd 20 % and 10 a second, Envoy 20 %.


class ProxyVersion(StrEnum):
    """The version of the PROXY protocol in which an endpoint is told who its client is."""

    V1 = "v1"
    V2 = "v2"


class UpstreamPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an upstream asks for beyond the ordinary; what is None is the proxy's default, or off.

    `slow_start` is in seconds: so long the share of an endpoint that just became ready grows; 0 is at once.
    `close_on_removal`: relays to an endpoint that is removed end at once, not when the time to drain is over.
    `announce`: endpoints of HTTP are told who the client is, by the PROXY protocol; no two requests share a connection.
    """

    hash_on: HashOn | None = None
    affinity: Affinity | None = None
    check: Check | None = None
    ejection: Ejection | None = None
    slow_start: float = 0.0
    capacity: Capacity | None = None
    retries: Retries | None = None
    close_on_removal: bool = False
    announce: ProxyVersion | None = None
