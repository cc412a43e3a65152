"""What is counted: plain integers in a worker, turned into samples only when somebody asks.

Rendering is `exposition`'s, in the supervisor: a worker never loads a metrics library.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final, Protocol

import msgspec

__all__ = [
    "FAMILIES",
    "LATENCY_BOUNDS",
    "LENGTH_BOUNDS",
    "SIZE_BOUNDS",
    "Carried",
    "Counters",
    "Family",
    "Histogram",
    "Kind",
    "Sample",
    "pack",
    "unpack",
]

LATENCY_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds: those of Prometheus' clients, and more at both ends."""

LENGTH_BOUNDS: Final = tuple(float(bound) for bound in range(10, 101, 10))
"""Upper bounds in bytes that ingress-nginx has for lengths of requests and responses."""

SIZE_BOUNDS: Final = tuple(float(10**power) for power in range(1, 8))
"""Upper bounds in bytes that ingress-nginx has for what is sent."""


class Kind(StrEnum):
    """How samples of a family behave in time, and so what becomes of those of a worker that died."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Histogram:
    """Values counted by how large they are: `counts[i]` of at most `bounds[i]`, the last one of those above all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count `value`."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Histogram) -> None:
        """Count what `other`, which has the same bounds, has counted."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One value of a family; `labels` are in the order of the family's label names.

    Of a histogram it is the sum of what was counted, and `counts` are how often between the family's bounds.
    """

    name: str
    labels: tuple[str, ...]
    value: float
    counts: tuple[int, ...] = ()


def pack(samples: Iterable[Sample]) -> bytes:
    """Return samples as they travel."""
    return msgspec.msgpack.encode(list(samples))


def unpack(packed: bytes) -> list[Sample]:
    """Return what `pack` was given."""
    return _samples.decode(packed)


_samples: Final = msgspec.msgpack.Decoder(list[Sample])


class Family(msgspec.Struct, frozen=True):
    """A metric: its name, kind, label names and the sentence that a scrape shows; a histogram's upper bounds."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    doc: str
    bounds: tuple[float, ...] = ()

    def sample(self, value: float, *labels: str) -> Sample:
        """Return a sample of this family, with the values of its labels in their order."""
        return Sample(self.name, labels, value)

    def distribution(self, values: Histogram, *labels: str) -> Sample:
        """Return a sample of this histogram."""
        return Sample(self.name, labels, values.total, tuple(values.counts))


_ROUTE: Final = ("host", "namespace", "ingress", "service")

REQUESTS: Final = Family(
    "portway_requests_total",
    Kind.COUNTER,
    (*_ROUTE, "method", "status"),
    "Requests by their route, method and class of status (2xx); host * is any, _other what found no room.",
)
REQUEST_DURATION: Final = Family(
    "portway_request_duration_seconds",
    Kind.HISTOGRAM,
    _ROUTE,
    "From a request's head to the end of its response.",
    LATENCY_BOUNDS,
)
UPSTREAM_DURATION: Final = Family(
    "portway_upstream_duration_seconds",
    Kind.HISTOGRAM,
    _ROUTE,
    "From sending a request to an endpoint, connecting included, to the head of its response; the last attempt.",
    LATENCY_BOUNDS,
)
CONNECT_DURATION: Final = Family(
    "portway_upstream_connect_duration_seconds",
    Kind.HISTOGRAM,
    _ROUTE,
    "Connecting to an endpoint, for requests that found no connection.",
    LATENCY_BOUNDS,
)
REQUEST_BYTES: Final = Family("portway_request_bytes_total", Kind.COUNTER, _ROUTE, "Bytes of requests, heads included.")
RESPONSE_BYTES: Final = Family(
    "portway_response_bytes_total", Kind.COUNTER, _ROUTE, "Bytes of responses, heads included."
)
REPLIES: Final = Family(
    "portway_replies_total",
    Kind.COUNTER,
    ("reason",),
    "Requests that the proxy answered itself, or had the maker of its error pages answer, by reason code.",
)
CONNECTIONS: Final = Family(
    "portway_connections_total", Kind.COUNTER, ("listener",), "Client connections that were accepted."
)
CONNECTIONS_REFUSED: Final = Family(
    "portway_connections_refused_total",
    Kind.COUNTER,
    ("reason",),
    "Client connections that were turned away when they came, by reason code.",
)
CONNECTIONS_ACTIVE: Final = Family(
    "portway_connections_active", Kind.GAUGE, (), "HTTP and HTTPS client connections that are open."
)
TLS_HANDSHAKES: Final = Family(
    "portway_tls_handshakes_total",
    Kind.COUNTER,
    (),
    "TLS handshakes that were completed; compare with the connections accepted for https.",
)
HTTP2_FAULTS: Final = Family(
    "portway_http2_faults_total",
    Kind.COUNTER,
    ("code",),
    "Client connections of HTTP/2 that were ended for what came on them, by the error code that the client was told.",
)
BYTES: Final = Family(
    "portway_bytes_total",
    Kind.COUNTER,
    ("listener", "direction"),
    "Bytes read from clients (in) and written to them (out); http stands for https too.",
)
ENDPOINT_CONNECTIONS: Final = Family(
    "portway_endpoint_connections_total",
    Kind.COUNTER,
    ("listener", "upstream", "endpoint"),
    "Layer 4 connections that were sent to an endpoint; it is told as long as the endpoint serves.",
)
ENDPOINT_BYTES: Final = Family(
    "portway_endpoint_bytes_total",
    Kind.COUNTER,
    ("listener", "upstream", "endpoint", "direction"),
    "Bytes of layer 4 that went to an endpoint (in) and came from it (out), as long as it serves.",
)
RELAYS: Final = Family(
    "portway_relays_total",
    Kind.COUNTER,
    ("listener", "result"),
    "Layer 4 connections that ended, by how they ended; http stands for those after an upgrade.",
)
RELAYS_ACTIVE: Final = Family(
    "portway_relays_active", Kind.GAUGE, ("listener",), "Layer 4 connections that are open, and upgraded ones."
)
UPSTREAM_CONNECTS: Final = Family(
    "portway_upstream_connects_total", Kind.COUNTER, ("upstream", "result"), "Connections to endpoints, by result."
)
RETRIES: Final = Family(
    "portway_retries_total",
    Kind.COUNTER,
    ("upstream", "cause"),
    "Requests that were sent once more, by what the attempt before failed of (refused, connect, stale, reset, status).",
)
RETRIES_REFUSED: Final = Family(
    "portway_retries_refused_total", Kind.COUNTER, ("upstream",), "Retries that were due and not in the budget."
)
EJECTIONS: Final = Family(
    "portway_ejections_total", Kind.COUNTER, ("upstream",), "Endpoints left alone for a while for failing requests."
)
ENDPOINTS_OUT: Final = Family(
    "portway_endpoints_out",
    Kind.GAUGE,
    ("upstream", "condition"),
    "Endpoints that are ejected, or that fail their checks; each worker counts those that it sees so.",
)
CHECKS: Final = Family(
    "portway_health_checks_total", Kind.COUNTER, ("upstream", "result"), "Active health checks, by result."
)
QUEUED: Final = Family(
    "portway_queued_requests", Kind.GAUGE, ("upstream",), "Requests that wait because every endpoint is at its limit."
)
WORKERS: Final = Family("portway_workers", Kind.GAUGE, (), "Worker processes that serve the current generation.")
WORKER_RESTARTS: Final = Family(
    "portway_worker_restarts_total", Kind.COUNTER, (), "Worker processes that ended and were replaced."
)
WORKER_RESIDENT: Final = Family(
    "portway_worker_resident_bytes", Kind.GAUGE, ("worker",), "Resident memory of a worker process."
)
LOOP_LAG: Final = Family(
    "portway_loop_lag_seconds",
    Kind.GAUGE,
    ("worker",),
    "How late the event loop of a worker was at worst, in the last five to ten seconds.",
)
MEMORY_SHARE: Final = Family(
    "portway_memory_share",
    Kind.GAUGE,
    ("worker",),
    "Memory in use as a share of the limit of the worker or of its control group; 0 without a limit.",
)
GENERATION: Final = Family("portway_generation", Kind.GAUGE, (), "Number of the snapshot that is served; 0 before any.")
SNAPSHOT_REJECTED: Final = Family(
    "portway_snapshot_rejected_total", Kind.COUNTER, (), "Snapshots that could not be applied."
)
CONFIG_STALE: Final = Family(
    "portway_config_stale",
    Kind.GAUGE,
    (),
    "1 while no operator confirms that what is served is what should be: it is away, or its snapshot was rejected.",
)
ACCESS_DROPPED: Final = Family(
    "portway_access_lines_dropped_total",
    Kind.COUNTER,
    (),
    "Access lines that were lost: their reader did not keep up, or writing failed.",
)
SPANS: Final = Family(
    "portway_spans_total", Kind.COUNTER, ("result",), "Spans of sampled requests: exported, failed or dropped."
)
CERTIFICATE_NOT_AFTER: Final = Family(
    "portway_certificate_not_after_seconds",
    Kind.GAUGE,
    ("certificate", "host"),
    "Expiry of a certificate, for each host that it is served for, since the epoch.",
)
PROBLEMS: Final = Family("portway_problems", Kind.GAUGE, ("severity",), "Problems of the snapshot and of this proxy.")

FAMILIES: Final[tuple[Family, ...]] = (
    REQUESTS,
    REQUEST_DURATION,
    UPSTREAM_DURATION,
    CONNECT_DURATION,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    REPLIES,
    CONNECTIONS,
    CONNECTIONS_REFUSED,
    CONNECTIONS_ACTIVE,
    TLS_HANDSHAKES,
    HTTP2_FAULTS,
    BYTES,
    ENDPOINT_CONNECTIONS,
    ENDPOINT_BYTES,
    RELAYS,
    RELAYS_ACTIVE,
    UPSTREAM_CONNECTS,
    RETRIES,
    RETRIES_REFUSED,
    EJECTIONS,
    ENDPOINTS_OUT,
    CHECKS,
    QUEUED,
    ACCESS_DROPPED,
    SPANS,
    WORKERS,
    WORKER_RESTARTS,
    WORKER_RESIDENT,
    LOOP_LAG,
    MEMORY_SHARE,
    GENERATION,
    SNAPSHOT_REJECTED,
    CONFIG_STALE,
    CERTIFICATE_NOT_AFTER,
    PROBLEMS,
)
"""Every family, in the order of the exposition."""


class Carried(Protocol):
    """A tunnel, which counts its bytes itself."""

    @property
    def bytes_in(self) -> int:
        """The bytes that came from the client."""

    @property
    def bytes_out(self) -> int:
        """The bytes that went to the client."""


class Counters:
    """What a worker counts that belongs to no upstream and no layer 4 listener.

    The worker counts what it accepts (`accepted_http`, `accepted_https`). A client connection counts itself once its
    protocol begins (`active`; over TLS that is after the handshake, and `handshakes` too), the bytes on the wire of
    HTTP, without those of TLS (`received`, `sent`), and what it answers without an upstream (`replies`: reason code ->
    count). `faults` counts connections of HTTP/2 that were ended, by error code. `tunnels` are those that are open,
    which have bytes of their own, `tunnels_ended` how others ended.
    """

    __slots__ = (
        "accepted_http",
        "accepted_https",
        "active",
        "faults",
        "handshakes",
        "received",
        "replies",
        "sent",
        "tunnels",
        "tunnels_ended",
    )

    def __init__(self) -> None:
        self.accepted_http = 0
        self.accepted_https = 0
        self.handshakes = 0
        self.active = 0
        self.faults: defaultdict[str, int] = defaultdict(int)
        self.received = 0
        self.sent = 0
        self.replies: defaultdict[str, int] = defaultdict(int)
        self.tunnels: set[Carried] = set()
        self.tunnels_ended: defaultdict[str, int] = defaultdict(int)

    def samples(self) -> Iterator[Sample]:
        """Return a sample for each count."""
        yield CONNECTIONS.sample(self.accepted_http, "http")
        yield CONNECTIONS.sample(self.accepted_https, "https")
        yield TLS_HANDSHAKES.sample(self.handshakes)
        yield CONNECTIONS_ACTIVE.sample(self.active)
        yield BYTES.sample(self.received + sum(some.bytes_in for some in self.tunnels), "http", "in")
        yield BYTES.sample(self.sent + sum(some.bytes_out for some in self.tunnels), "http", "out")
        yield RELAYS_ACTIVE.sample(len(self.tunnels), "http")
        for code, count in self.faults.items():
            yield HTTP2_FAULTS.sample(count, code)
        for reason, count in self.tunnels_ended.items():
            yield RELAYS.sample(count, "http", reason)
        for reason, count in self.replies.items():
            yield REPLIES.sample(count, reason)
