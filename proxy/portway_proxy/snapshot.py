"""The contract between the halves: everything that a proxy needs to serve, as one frozen value.

The operator compiles a `Snapshot`, the proxy applies it. Collections are tuples in a canonical order (said at
each field), so that equal content has equal bytes and an equal digest (`codec.digest`).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = [
    "Balance",
    "Certificate",
    "Endpoint",
    "Host",
    "Listener",
    "Origin",
    "PathMatch",
    "Policy",
    "Problem",
    "Protocol",
    "Route",
    "Severity",
    "Snapshot",
    "Transport",
    "Upstream",
]


class Protocol(StrEnum):
    """What the endpoints of an upstream speak."""

    HTTP = "http"
    HTTPS = "https"
    OPAQUE = "opaque"


class Balance(StrEnum):
    """How an upstream's next endpoint is chosen."""

    ROUND_ROBIN = "round-robin"
    RANDOM = "random"


class PathMatch(StrEnum):
    """How a route's path is compared with a request's."""

    EXACT = "exact"
    PREFIX = "prefix"


class Transport(StrEnum):
    """The transport protocol of a layer 4 listener."""

    TCP = "tcp"


class Severity(StrEnum):
    """What a problem costs: traffic (`error`), or nothing yet (`notice`)."""

    ERROR = "error"
    NOTICE = "notice"


class Origin(msgspec.Struct, frozen=True, order=True):
    """The object and field that a part of the snapshot came from."""

    kind: str
    namespace: str
    name: str
    field: str = ""

    def __str__(self) -> str:
        """Return `Ingress shop/web spec.rules[0].http.paths[1]`."""
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place} {self.field}".rstrip()


class Problem(msgspec.Struct, frozen=True, order=True):
    """One finding about a user's object: what is wrong, what was done about it, how to mend it.

    `code` is a stable slug (`service_missing`). `found`, `done` and `remedy` are sentences.
    """

    origin: Origin
    code: str
    found: str
    done: str
    remedy: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        """Return the whole finding as one line."""
        return f"{self.origin}: {self.found} {self.done} {self.remedy}"


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """One address (IPv4 or IPv6 text, without brackets) and port that serves an upstream."""

    address: str
    port: int
    zone: str = ""

    def __str__(self) -> str:
        """Return `10.0.0.1:80` or `[fd00::1]:80`."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Upstream(msgspec.Struct, frozen=True):
    """One service port and the endpoints that serve it; `name` is `namespace/service:port`.

    `endpoints` are sorted. With none, `reason` is the reason code of the 503 that requests get
    (`service_missing`, `port_missing`, `no_endpoints`). An ExternalName service has `external_name` instead
    of endpoints: the proxy resolves it and connects to `external_port` there.
    """

    name: str
    protocol: Protocol = Protocol.HTTP
    balance: Balance = Balance.ROUND_ROBIN
    endpoints: tuple[Endpoint, ...] = ()
    external_name: str = ""
    external_port: int = 0
    reason: str = ""


class Policy(msgspec.Struct, frozen=True):
    """What a route asks for beyond forwarding; a route without any of it has no policy at all.

    `https_redirect`: requests that came without TLS get a 308 to https.
    `body_size`: the most bytes a request body may have; None leaves the proxy's own limit, 0 lifts it.
    `closed`: a reason code; when set, every request gets 503 (a security setting could not be read).
    """

    https_redirect: bool = False
    body_size: int | None = None
    closed: str = ""


class Route(msgspec.Struct, frozen=True):
    """A path of a host and the upstream that serves it.

    `path` is compared byte for byte with the normalised request path; a prefix is compared by whole segments.
    """

    path: str
    match: PathMatch
    upstream: str
    origin: Origin
    policy: Policy | None = None


class Host(msgspec.Struct, frozen=True):
    """A host name and its routes.

    `name` is lower-case: exact (`shop.example`), one-label wildcard (`*.shop.example`), or empty for any host.
    `routes` are in order of precedence: exact paths first, then the longest prefix.
    """

    name: str
    routes: tuple[Route, ...]


class Listener(msgspec.Struct, frozen=True, order=True):
    """A layer 4 port that the proxy opens: every connection goes to one endpoint of `upstream`."""

    port: int
    upstream: str
    origin: Origin
    transport: Transport = Transport.TCP


class Certificate(msgspec.Struct, frozen=True):
    """A TLS certificate chain and its private key (PEM), and the names (SNI) that it is served for.

    `name` is `namespace/secret`. `hosts` are lower-case and sorted: exact or one-label wildcard. `not_after` is
    in seconds since the epoch. Neither `repr` nor `str` shows the key.
    """

    name: str
    hosts: tuple[str, ...]
    chain: bytes
    key: bytes
    not_after: int

    def __repr__(self) -> str:
        """Return the name, the hosts and the expiry; never the key."""
        return f"Certificate(name={self.name!r}, hosts={self.hosts!r}, not_after={self.not_after})"


class Snapshot(msgspec.Struct, frozen=True):
    """Everything a proxy serves.

    `hosts`, `upstreams` and `certificates` are sorted by name, `listeners` by port, `problems` by origin.
    `default` serves requests that no host or path matches; without it they get 404. `default_certificate` names
    the certificate for TLS clients whose name has none; without it the proxy makes a self-signed one.
    """

    hosts: tuple[Host, ...] = ()
    default: Route | None = None
    upstreams: tuple[Upstream, ...] = ()
    listeners: tuple[Listener, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    default_certificate: str = ""
    problems: tuple[Problem, ...] = ()
