"""The same numbers under the names and labels of ingress-nginx, for dashboards and alerts that ask for those.

Times are those of nginx's variables of the same names; every bound of ingress-nginx's histograms is among ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from portway_proxy.metrics import LATENCY_BOUNDS, LENGTH_BOUNDS, SIZE_BOUNDS, Family, Histogram, Kind, Sample

if TYPE_CHECKING:
    from portway_proxy.metrics import Counters
    from portway_proxy.snapshot import Snapshot
    from portway_proxy.traffic import Lengths, Record

__all__ = [
    "INGRESS_NGINX",
    "INGRESS_NGINX_FAMILIES",
    "Controller",
    "process_samples",
    "request_samples",
    "snapshot_samples",
]

INGRESS_NGINX: Final = "ingress-nginx"
"""The value of the setting `metrics_names` that asks for these."""

_PREFIX: Final = "nginx_ingress_controller_"
_CONTROLLER: Final = ("controller_class", "controller_namespace", "controller_pod")
_REQUEST: Final = (*_CONTROLLER, "host", "namespace", "ingress", "service", "path", "canary", "method", "status")
_CLASS: Final = "k8s.io/ingress-nginx"  # Dashboards choose by it; ours is not another one to them.


class Controller(NamedTuple):
    """The labels that are the same for everything that a proxy tells."""

    controller_class: str
    namespace: str
    pod: str

    @classmethod
    def of(cls, namespace: str, pod: str) -> Controller:
        """Return the labels of the proxy in this pod."""
        return cls(_CLASS, namespace, pod)


def _histogram(name: str, doc: str, bounds: tuple[float, ...] = LATENCY_BOUNDS) -> Family:
    return Family(_PREFIX + name, Kind.HISTOGRAM, _REQUEST, doc, bounds)


REQUESTS: Final = Family(_PREFIX + "requests", Kind.COUNTER, _REQUEST, "Requests of clients.")
REQUEST_DURATION: Final = _histogram("request_duration_seconds", "From a request's head to the end of its response.")
HEADER_DURATION: Final = _histogram("header_duration_seconds", "Until the head of the endpoint's response.")
RESPONSE_DURATION: Final = _histogram("response_duration_seconds", "Until the end of the endpoint's response.")
CONNECT_DURATION: Final = _histogram("connect_duration_seconds", "Connecting to an endpoint; 0 where it was.")
REQUEST_SIZE: Final = _histogram("request_size", "Bytes of a request, its head included.", LENGTH_BOUNDS)
RESPONSE_SIZE: Final = _histogram("response_size", "Bytes of a response, its head included.", LENGTH_BOUNDS)
BYTES_SENT: Final = _histogram("bytes_sent", "Bytes of a response, its head included, in steps of ten.", SIZE_BOUNDS)
CONNECTIONS: Final = Family(
    _PREFIX + "nginx_process_connections",
    Kind.GAUGE,
    (*_CONTROLLER, "state"),
    "Client connections: active, of which waiting are idle, and writing have a request.",
)
CONNECTIONS_TOTAL: Final = Family(
    _PREFIX + "nginx_process_connections_total",
    Kind.COUNTER,
    (*_CONTROLLER, "state"),
    "Client connections that were accepted and handled.",
)
REQUESTS_TOTAL: Final = Family(
    _PREFIX + "nginx_process_requests_total", Kind.COUNTER, _CONTROLLER, "Requests of clients."
)
SSL_EXPIRE: Final = Family(
    _PREFIX + "ssl_expire_time_seconds",
    Kind.GAUGE,
    ("class", "host", "namespace", "secret_name"),
    "Expiry of the certificate for a host, since the epoch.",
)
RELOAD_SUCCESSFUL: Final = Family(
    _PREFIX + "config_last_reload_successful",
    Kind.GAUGE,
    _CONTROLLER,
    "1 while what is served is what should be, as far as this proxy knows.",
)
CONFIG_HASH: Final = Family(_PREFIX + "config_hash", Kind.GAUGE, _CONTROLLER, "A number made of what is served.")

INGRESS_NGINX_FAMILIES: Final[tuple[Family, ...]] = (
    REQUESTS,
    REQUEST_DURATION,
    HEADER_DURATION,
    RESPONSE_DURATION,
    CONNECT_DURATION,
    REQUEST_SIZE,
    RESPONSE_SIZE,
    BYTES_SENT,
    CONNECTIONS,
    CONNECTIONS_TOTAL,
    REQUESTS_TOTAL,
    SSL_EXPIRE,
    RELOAD_SUCCESSFUL,
    CONFIG_HASH,
)
"""Every family, in the order of the exposition."""


def request_samples(records: Iterable[Record], controller: Controller) -> Iterator[Sample]:
    """Return the samples of requests, and how many there were in all."""
    total = 0
    for record in records:
        labels = record.labels
        host = "_" if labels.host in ("", "*") else labels.host
        route = (*controller, host, labels.namespace, labels.ingress, labels.service, labels.path, "")
        for (method, status), series in record.items():
            names = (*route, method.decode(), str(status))
            time, head = series.time, series.head
            count = sum(time.counts)
            total += count
            yield REQUESTS.sample(count, *names)
            yield REQUEST_DURATION.distribution(time, *names)
            if any(head.counts):
                yield HEADER_DURATION.distribution(head, *names)
                yield CONNECT_DURATION.distribution(_connects(series.connect, sum(head.counts)), *names)
            if series.lengths is not None:
                yield from _lengths(series.lengths, names)
    yield REQUESTS_TOTAL.sample(total, *controller)


def process_samples(counters: Counters, idle: int, controller: Controller) -> Iterator[Sample]:
    """Return the samples of a worker's client connections, of which `idle` have no request."""
    accepted = counters.accepted_http + counters.accepted_https
    yield CONNECTIONS.sample(counters.active, *controller, "active")
    yield CONNECTIONS.sample(0, *controller, "reading")
    yield CONNECTIONS.sample(counters.active - idle, *controller, "writing")
    yield CONNECTIONS.sample(idle, *controller, "waiting")
    yield CONNECTIONS_TOTAL.sample(accepted, *controller, "accepted")
    yield CONNECTIONS_TOTAL.sample(accepted, *controller, "handled")


def snapshot_samples(snapshot: Snapshot, digest: str, controller: Controller, *, current: bool) -> Iterator[Sample]:
    """Return the samples of what is served; `current` says that it is what should be."""
    yield RELOAD_SUCCESSFUL.sample(current, *controller)
    # As many digits as a float holds exactly.
    yield CONFIG_HASH.sample(int(digest[:12] or "0", 16), *controller)
    for certificate in snapshot.certificates:
        namespace, _, name = certificate.name.partition("/")
        for host in certificate.hosts:
            yield SSL_EXPIRE.sample(certificate.not_after, controller.controller_class, host, namespace, name)


def _connects(made: Histogram | None, answered: int) -> Histogram:
    """Return how long connecting took, for all that were answered: those that found a connection took no time."""
    found = Histogram(LATENCY_BOUNDS)
    if made is not None:
        found.add(made)
    found.counts[0] += max(0, answered - sum(found.counts))
    return found


def _lengths(lengths: Lengths, names: tuple[str, ...]) -> Iterator[Sample]:
    yield REQUEST_SIZE.distribution(lengths.request, *names)
    yield RESPONSE_SIZE.distribution(lengths.response, *names)
    yield BYTES_SENT.distribution(lengths.sent, *names)
    if any(lengths.response_time.counts):
        yield RESPONSE_DURATION.distribution(lengths.response_time, *names)
