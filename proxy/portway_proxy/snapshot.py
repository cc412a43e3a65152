"""The contract between the halves: everything that a proxy needs to serve, as one frozen value.

The operator compiles a `Snapshot`, the proxy applies it. Collections are tuples in a canonical order (said at
each field), so that equal content has equal bytes and an equal digest (`codec.digest`).

What is as it is by default is not said at all where the default is the same object in every process (None, True, 0,
an empty string or tuple, an enum's member). So a field with such a default may be added within one schema version: a
proxy that does not know it serves every snapshot that does not use it, and rejects by its digest one that does, rather
than serve a path without, say, the password that it asks for. Another default, or another meaning, needs another
`codec.SCHEMA`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from portway_proxy.endpoint_tls import EndpointTls, Keyring
from portway_proxy.observing import Observing
from portway_proxy.policies import (
    BasicAuth,
    Blocked,
    Buffering,
    Canary,
    Cors,
    Credentials,
    Edits,
    ErrorPages,
    ExternalAuth,
    Mirror,
    Patience,
    Policy,
    Rate,
    RateLimit,
    Redirect,
    Traced,
)
from portway_proxy.sources import Source, Sources
from portway_proxy.tls_terms import ClientAuthority, ClientCertificate, TlsTerms, Verification
from portway_proxy.trust import Belief, Trust
from portway_proxy.tuning import Setting
from portway_proxy.upstream_policies import (
    Affinity,
    Capacity,
    Check,
    CheckKind,
    Ejection,
    HashOn,
    HashSource,
    ProxyVersion,
    Retries,
    UpstreamPolicy,
)

__all__ = [
    "Affinity",
    "Balance",
    "BasicAuth",
    "Belief",
    "Blocked",
    "Buffering",
    "Canary",
    "Capacity",
    "Certificate",
    "Check",
    "CheckKind",
    "ClientAuthority",
    "ClientCertificate",
    "Cors",
    "Credentials",
    "Edits",
    "Ejection",
    "Endpoint",
    "EndpointTls",
    "ErrorPages",
    "ExternalAuth",
    "Fallback",
    "HashOn",
    "HashSource",
    "Host",
    "Keyring",
    "Listener",
    "ListenerPolicy",
    "Mirror",
    "Origin",
    "Passthrough",
    "PathMatch",
    "Patience",
    "Policy",
    "Problem",
    "Protocol",
    "ProxyVersion",
    "Rate",
    "RateLimit",
    "Redirect",
    "Retries",
    "Route",
    "Severity",
    "SharedKey",
    "Snapshot",
    "Source",
    "Sources",
    "TlsTerms",
    "Traced",
    "Transport",
    "Trust",
    "Upstream",
    "UpstreamPolicy",
    "Verification",
]


class Protocol(StrEnum):
    """What the endpoints of an upstream speak."""

    HTTP = "http"
    HTTPS = "https"
    H2C = "h2c"
    H2 = "h2"
    OPAQUE = "opaque"


class Balance(StrEnum):
    """How an upstream's next endpoint is chosen."""

    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    POWER_OF_TWO = "power-of-two"
    LEAST_CONNECTIONS = "least-connections"
    EWMA = "ewma"
    HASH = "consistent-hash"


class PathMatch(StrEnum):
    """How a route's path is compared with a request's."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"


class Transport(StrEnum):
    """The transport protocol of a layer 4 listener."""

    TCP = "tcp"
    UDP = "udp"


class Severity(StrEnum):
    """What a problem costs: traffic (`error`), or nothing yet (`notice`)."""

    ERROR = "error"
    NOTICE = "notice"


class Origin(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """The object and field that a part of the snapshot came from."""

    kind: str
    namespace: str
    name: str
    field: str = ""

    def __str__(self) -> str:
        """Return `Ingress shop/web spec.rules[0].http.paths[1]`."""
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place} {self.field}".rstrip()


class Problem(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
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


class Endpoint(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """One address (IPv4 or IPv6 text, without brackets) and port that serves an upstream.

    `for_zones` are the zones whose traffic it should get (EndpointSlice `hints.forZones`), sorted.
    """

    address: str
    port: int
    zone: str = ""
    for_zones: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return `10.0.0.1:80` or `[fd00::1]:80`."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Upstream(msgspec.Struct, frozen=True, omit_defaults=True):
    """One service port and the endpoints that serve it; `name` is `namespace/service:port`.

    Behind that, `#web` is the Ingress that wants endpoints on terms of its own.

    `endpoints` are sorted. With none, `reason` is the reason code of the 503 that requests get
    (`service_missing`, `port_missing`, `no_endpoints`). An ExternalName service has `external_name` instead
    of endpoints: the proxy resolves it and connects to `external_port` there. An ordinary one has no policy at all.
    `tls` is for endpoints that speak it; without, they are not verified.
    """

    name: str
    protocol: Protocol = Protocol.HTTP
    balance: Balance = Balance.ROUND_ROBIN
    endpoints: tuple[Endpoint, ...] = ()
    external_name: str = ""
    external_port: int = 0
    reason: str = ""
    policy: UpstreamPolicy | None = None
    tls: EndpointTls | None = None


class Route(msgspec.Struct, frozen=True, omit_defaults=True):
    """A path of a host and the upstream that serves it.

    `path` is compared byte for byte with the normalised request path; a prefix is compared by whole segments. A regex
    has to fit the beginning of the request path, in upper or lower case (`patterns`).
    """

    path: str
    match: PathMatch
    upstream: str
    origin: Origin
    policy: Policy | None = None


class Host(msgspec.Struct, frozen=True, omit_defaults=True):
    """A host name and its routes.

    `name` is lower-case: exact (`shop.example`), one-label wildcard (`*.shop.example`), or empty for any host.
    `routes` are in order of precedence: exact paths first, then the longest prefix or regex.
    """

    name: str
    routes: tuple[Route, ...]


class ListenerPolicy(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """What a layer 4 port asks for beyond the ordinary; times are seconds, and what is None is the proxy's default.

    `announce`: the endpoint is told who its client is, by the PROXY protocol. `accept_proxy`: so is the proxy, by peers
    in the networks that it trusts. `clients` is the most at once at one proxy, all workers together; 0 is no limit.
    A client without traffic is given up after `idle`, and any after `lifetime`.
    """

    announce: ProxyVersion | None = None
    accept_proxy: bool = False
    clients: int = 0
    connect: float | None = None
    idle: float | None = None
    lifetime: float | None = None


class Listener(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """A layer 4 port: every connection to it goes to one endpoint of `upstream`.

    Clients come to `port`. The proxy listens on `bind`, or without that on `port` too: an unprivileged one cannot open
    ports below 1024, and a Service in front of it leads them elsewhere.
    """

    port: int
    upstream: str
    origin: Origin
    transport: Transport = Transport.TCP
    bind: int = 0
    policy: ListenerPolicy | None = None


class Passthrough(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """TLS of clients that ask for `host` goes to `upstream` as it is; `host` is as in `Host`, and never empty."""

    host: str
    upstream: str
    origin: Origin


class Fallback(msgspec.Struct, frozen=True, omit_defaults=True):
    """Connections to the HTTP port that speak neither HTTP nor TLS go to `upstream`, and so do silent ones.

    A client counts as silent, because its server speaks first, when nothing came in `wait` seconds.
    """

    upstream: str
    origin: Origin
    wait: float = 1.0


class Certificate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A TLS certificate chain and its private key (PEM), and the names (SNI) that it is served for.

    `name` is `namespace/secret`. `hosts` are lower-case and sorted: exact or one-label wildcard. `not_after` is
    in seconds since the epoch. `staple` is an OCSP response (DER) for those who ask, until `staple_until`, in seconds
    since the epoch too; empty is none. Neither `repr` nor `str` shows the key.
    """

    name: str
    hosts: tuple[str, ...]
    chain: bytes
    key: bytes
    not_after: int
    staple: bytes = b""
    staple_until: int = 0

    def __repr__(self) -> str:
        """Return the name, the hosts and the expiry; never the key."""
        return f"Certificate(name={self.name!r}, hosts={self.hosts!r}, not_after={self.not_after})"


class SharedKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """Random bytes that all proxies share; neither `repr` nor `str` shows them."""

    value: bytes

    def __repr__(self) -> str:
        """Return no byte of it."""
        return "SharedKey(...)"


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything a proxy serves.

    `hosts`, `upstreams` and `certificates` are sorted by name, `listeners` by port, `passthroughs` by host,
    `problems` by origin. `default` serves requests that no host or path matches; without it they get 404.
    `default_certificate` names the certificate for TLS clients whose name has none; without it the proxy makes a
    self-signed one. `affinity_key` signs affinity cookies; without it each proxy has a key of its own.
    `credentials`, sorted by name, are those that policies name. `trust` is whom the proxy believes; without it
    nobody. `request_ids`: requests that come without an X-Request-ID get one. `signed`:
    responses without a Server field get ours. `observing` is what the operator's
    ConfigMap says of access lines and traces, and `settings`, sorted by name, what it says of limits and timeouts.
    `tls` is how TLS is spoken, where that is not as usual. `authorities`, sorted by name, are those of clients,
    `keyrings` those for endpoints. `sources`, sorted by name, tell people where values came from; the digest is without
    them, and so is what workers get.
    """

    hosts: tuple[Host, ...] = ()
    default: Route | None = None
    upstreams: tuple[Upstream, ...] = ()
    listeners: tuple[Listener, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    default_certificate: str = ""
    problems: tuple[Problem, ...] = ()
    affinity_key: SharedKey | None = None
    credentials: tuple[Credentials, ...] = ()
    trust: Trust | None = None
    request_ids: bool = True
    signed: bool = True
    passthroughs: tuple[Passthrough, ...] = ()
    fallback: Fallback | None = None
    settings: tuple[Setting, ...] = ()
    observing: Observing | None = None
    tls: TlsTerms | None = None
    authorities: tuple[ClientAuthority, ...] = ()
    keyrings: tuple[Keyring, ...] = ()
    sources: tuple[Sources, ...] = ()

    @property
    def served(self) -> Snapshot:
        """Itself without what is for people alone: what workers get."""
        return msgspec.structs.replace(self, sources=()) if self.sources else self
