"""What the dashboard's page is sent: the table of routes, and the events of the stream, all of it JSON.

`GET /dashboard/routes` answers a `Table`. `GET /dashboard/stream?since=MARK` is Server-Sent Events: each has the name
of a struct in lower case (`event: traffic`) and the struct as its data. First come `hello`, `generation`, `problems`,
`unwell` and, of an operator, `proxies`; each again when it changes, and `traffic` about once a second. The id of a
`generation` is its `mark`: a browser that connects again sends the last one (Last-Event-ID) and gets what is new.

Rows are arrays, in the order of their fields. Nothing here holds a key, a password's hash or a cookie.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from portway_proxy.snapshot import Problem

__all__ = [
    "CertificateRow",
    "Counts",
    "Event",
    "Figure",
    "Generation",
    "Hello",
    "ListenerRow",
    "Problems",
    "Proxies",
    "ProxyRow",
    "Role",
    "RouteRow",
    "Table",
    "Traffic",
    "Unwell",
    "UnwellRow",
    "UpstreamRow",
    "event",
]


class Role(StrEnum):
    """Whose dashboard it is."""

    PROXY = "proxy"
    STANDALONE = "standalone"  # `portway run`: proxy and operator in one.
    OPERATOR = "operator"  # Of the whole fleet.


# --- rows


class RouteRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A route. `id` is its number for as long as the `mark` begins with the same word.

    `host` is `*` for any; `path` and `match` (`exact`, `prefix`, `regex`, `default`) are as in `/routes`, and so is
    `origin`. `does` is what its policy asks for, a text for each (`https-redirect`). `certificate` is the name of that
    which TLS clients of the host get, empty when it is none of the snapshot's.
    """

    id: int
    host: str
    path: str
    match: str
    upstream: str
    origin: str
    does: tuple[str, ...]
    certificate: str


class UpstreamRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An upstream: how many endpoints it has, and if none why (a reason code) or which external name.

    `protocol` and `balance` are as in the snapshot. The state of each endpoint is at `/upstreams?name=NAME`.
    """

    name: str
    endpoints: int
    reason: str
    external_name: str
    protocol: str
    balance: str


class CertificateRow(msgspec.Struct, frozen=True, array_like=True):
    """A certificate: its name, the hosts that it is served for, and when it ends, in seconds since the epoch.

    It is `default` for TLS clients whose name has none.
    """

    name: str
    hosts: tuple[str, ...]
    not_after: int
    default: bool


class ListenerRow(msgspec.Struct, frozen=True, array_like=True):
    """What is passed through at layer 4, and to which upstream: `tcp/5432`, `udp/53`, `tls db.example`, `fallback`."""

    name: str
    upstream: str
    origin: str


class Table(msgspec.Struct, frozen=True):
    """Everything that is served, as rows: `GET /dashboard/routes`.

    `mark` is for the stream's `since`. Routes are in the order of `/routes`, certificates those first that end first.
    """

    mark: str
    generation: int
    routes: list[RouteRow]
    upstreams: list[UpstreamRow]
    certificates: list[CertificateRow]
    listeners: list[ListenerRow]


class Figure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The requests of a while: how many a second, and which shares of them (0 to 1) failed (5xx) or were refused (4xx).

    `p50`, `p95` and `p99` are the milliseconds in which so many percent were done, from a request's head to its
    response's end; None without requests. They are interpolated between the bounds of a histogram
    (`metrics.LATENCY_BOUNDS`): the truth lies within the same two bounds.
    """

    requests: float = 0.0
    failed: float = 0.0
    refused: float = 0.0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


# --- events


class Hello(msgspec.Struct, frozen=True):
    """Who speaks: the first event. `node` is the name of its node, as far as it knows."""

    role: Role
    version: str
    node: str


class Counts(msgspec.Struct, frozen=True):
    """How much is served."""

    hosts: int = 0
    routes: int = 0
    upstreams: int = 0
    endpoints: int = 0
    listeners: int = 0
    certificates: int = 0
    problems: int = 0


class Generation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is served now, and what differs from what this reader had before.

    `at` is when it came into service, in seconds since the epoch. It is `whole` when the difference is not known: then
    the reader gets `/dashboard/routes` again. Else `routes` and `upstreams` are those that were added or changed, with
    those that are `gone`; `certificates` and `listeners` are all of them, or None where they are as before.
    """

    mark: str
    number: int
    digest: str
    at: float
    counts: Counts
    whole: bool = False
    routes: list[RouteRow] = []
    routes_gone: list[int] = []
    upstreams: list[UpstreamRow] = []
    upstreams_gone: list[str] = []
    certificates: list[CertificateRow] | None = None
    listeners: list[ListenerRow] | None = None


class Problems(msgspec.Struct, frozen=True):
    """All problems of the snapshot and of this machine, the first `len(problems)` of them, and how many `more`."""

    problems: list[Problem]
    more: int = 0


class UnwellRow(msgspec.Struct, frozen=True, array_like=True):
    """An upstream of which endpoints are ejected, or fail their checks, as the worker sees it that sees most so."""

    upstream: str
    ejected: int
    failing: int


class Unwell(msgspec.Struct, frozen=True):
    """All upstreams with endpoints that are not well, by name."""

    upstreams: list[UnwellRow]


class Traffic(msgspec.Struct, frozen=True):
    """The figures of the last `seconds`, which ended `at` (seconds since the epoch).

    `received` and `sent` are bytes a second of clients, at layers 4 and 7; `connections` the clients of HTTP that are
    connected, `flows` what passes through at layer 4 now. `hosts` (by name), `routes` (by id) and `upstreams` (by name)
    hold the figures that moved, of the last `over` seconds; `over` is 0 when nobody looked at them, which is done less
    often where there are many. What is not among them is as it was, and what has no request any more is sent once, as
    zeros. A request of no route counts in `total` alone. Routes of one host, path and service that differ in how the
    path is compared have their figures in common, and so have the hosts of a route where metrics are not kept by host.
    """

    at: float
    seconds: float
    total: Figure
    received: float
    sent: float
    connections: int
    flows: int
    over: float
    hosts: dict[str, Figure]
    routes: dict[int, Figure]
    upstreams: dict[str, Figure]


class ProxyRow(msgspec.Struct, frozen=True, array_like=True):
    """A proxy of the fleet: what it serves, since when it is connected (seconds since the epoch), and its requests.

    `state` is `current`, `behind` (it serves another digest), `rejects` (what it is sent) or `away`.
    """

    name: str
    node: str
    version: str
    state: str
    generation: int
    digest: str
    since: float
    requests: float


class Proxies(msgspec.Struct, frozen=True):
    """The whole fleet, by name; only an operator sends it."""

    proxies: list[ProxyRow]


Event = Hello | Generation | Problems | Unwell | Traffic | Proxies

_encoder = msgspec.json.Encoder()


def event(content: Event) -> bytes:
    """Return an event of the stream, ended by its empty line."""
    mark = f"id: {content.mark}\n" if isinstance(content, Generation) else ""
    head = f"event: {type(content).__name__.lower()}\n{mark}data: "
    return head.encode() + _encoder.encode(content) + b"\n\n"
