"""Requests by route, method and status: how many, how long, how many bytes; counted in batches, named when asked for.

The number of series is bounded: what comes beyond is counted under `_other`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from itertools import compress
from operator import ne
from typing import TYPE_CHECKING, Final, NamedTuple

from portway_proxy.metrics import (
    CONNECT_DURATION,
    LATENCY_BOUNDS,
    LENGTH_BOUNDS,
    REQUEST_BYTES,
    REQUEST_DURATION,
    REQUESTS,
    RESPONSE_BYTES,
    SIZE_BOUNDS,
    UPSTREAM_DURATION,
    Histogram,
    Sample,
)

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.trail import Trail
    from portway_proxy.live import Live
    from portway_proxy.routing import RouteTable
    from portway_proxy.snapshot import Route

__all__ = ["OTHER", "Labels", "Lengths", "Record", "Series", "Traffic", "labels_of"]

OTHER: Final = "_other"
"""What stands for the labels of series that found no room."""

# Places in `Series.whole`, behind its counts.
_SECONDS: Final = len(LATENCY_BOUNDS) + 1
_RECEIVED: Final = _SECONDS + 1
_SENT: Final = _SECONDS + 2

_PLACES: Final = range(_SECONDS)
_NOTHING: Final = array("d", bytes(8 * (_SENT + 1)))

_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"))
# Those of the registry, and nginx's for a client that is gone; an endpoint may make up 900.
_STATUSES: Final = frozenset((*(status.value for status in HTTPStatus), 499))


class Labels(NamedTuple):
    """What a route is known by; `host` as the Ingress spells it, `*` for any, and all empty for no route."""

    host: str = ""
    namespace: str = ""
    ingress: str = ""
    service: str = ""
    path: str = ""


class Lengths:
    """Histograms that only ingress-nginx's names have: of whole messages, and of the time until a response's end."""

    __slots__ = ("request", "response", "response_time", "sent")

    def __init__(self) -> None:
        self.request = Histogram(LENGTH_BOUNDS)
        self.response = Histogram(LENGTH_BOUNDS)
        self.sent = Histogram(SIZE_BOUNDS)
        self.response_time = Histogram(LATENCY_BOUNDS)


class Series:
    """What was counted of the requests that have a route, a method and a status in common.

    Those that were sent at once and answered in one piece, nearly all, are in `whole`: how many took how long, then
    their seconds, then the bytes received and sent of all exchanges, heads included. Numbers side by side, because with
    many routes each that lies elsewhere has to be fetched from memory. Of others `rest` is the time of the whole
    exchange, `late` that until the endpoint's head came, `connect` that of connecting.
    """

    __slots__ = ("_seen", "connect", "late", "lengths", "rest", "whole")

    def __init__(self, *, lengths: bool) -> None:
        self.whole = array("d", bytes(8 * (_SENT + 1)))
        self.rest: Histogram | None = None
        self.late: Histogram | None = None
        self.connect: Histogram | None = None
        self.lengths = Lengths() if lengths else None
        self._seen: array[float] | None = None  # How many took how long, and the bytes, when somebody looked last.

    def see(self) -> None:
        """Have `moved` tell what comes from here on."""
        now = self._seen = self.whole[:]
        if self.rest is not None:
            for place, count in enumerate(self.rest.counts):
                now[place] += count

    def moved(self) -> dict[int, int]:
        """Return how many took how long since this or `see` was called, by their places, without zeros."""
        before = self._seen or _NOTHING
        # Every request that has a route has bytes, so that one look tells those apart that had none.
        if before[_RECEIVED] == self.whole[_RECEIVED]:
            return {}
        self.see()
        now = self._seen or _NOTHING
        return {place: int(now[place] - before[place]) for place in compress(_PLACES, map(ne, now, before))}

    def unsee(self) -> None:
        """Keep nothing for `moved`, which returns everything then."""
        self._seen = None

    @property
    def time(self) -> Histogram:
        """How long exchanges took."""
        return self._with(self.rest)

    @property
    def head(self) -> Histogram:
        """How long it took until the endpoint's head came, of those that got one."""
        return self._with(self.late)

    @property
    def received(self) -> int:
        """The bytes of requests."""
        return int(self.whole[_RECEIVED])

    @property
    def sent(self) -> int:
        """The bytes of responses."""
        return int(self.whole[_SENT])

    def _with(self, other: Histogram | None) -> Histogram:
        found = Histogram(LATENCY_BOUNDS)
        found.counts = [int(count) for count in self.whole[:_SECONDS]]
        found.total = self.whole[_SECONDS]
        if other is not None:
            found.add(other)
        return found


class Record(dict[tuple[bytes, int], Series]):
    """The series of a route by method and status."""

    __slots__ = ("_traffic", "labels")

    def __init__(self, labels: Labels, traffic: Traffic) -> None:
        super().__init__()
        self.labels = labels
        self._traffic = traffic

    def __missing__(self, key: tuple[bytes, int]) -> Series:
        """Return the series for `key`, in whose place one for the sort of it may stand."""
        method, status = key
        plain = (
            method if method in _METHODS else OTHER.encode(),
            status if status in _STATUSES else status // 100 * 100,
        )
        found = self.get(plain)
        if found is None:
            found = self._traffic.new_series(self, plain)
        return found


class Traffic:
    """All requests of a worker, at most `most` series of them.

    `lengths` says whether what only ingress-nginx's names have is counted too. Without `per_host` all hosts are one.
    """

    __slots__ = ("_known", "_lengths", "_live", "_most", "_per_host", "_records", "_series", "_swept", "_usual")

    def __init__(self, most: int, *, per_host: bool = True, lengths: bool = False) -> None:
        self._most = most
        self._per_host = per_host
        self._lengths = lengths
        self._records: dict[Labels, Record] = {}
        # By identity: a hash of a route would walk through all of it. While its table is in service a route stays.
        self._known: dict[tuple[int, bytes, int], Series] = {}
        self._usual: dict[int, Series] = {}  # Those for GET and 200, which nearly all requests come to.
        self._live: Live | None = None
        self._swept: RouteTable | None = None
        self._series = 0

    @property
    def records(self) -> Iterable[Record]:
        """What was counted, route by route."""
        return self._records.values()

    def count(self, exchanges: Iterable[Exchange], live: Live) -> None:
        """Count exchanges that have ended, while `live` is in service."""
        if self._live is None or live.table is not self._live.table:
            self._forget()
        self._live = live
        usual = self._usual
        for exchange in exchanges:
            head = exchange.head
            if exchange.status == 200 and head.method == b"GET":
                series = usual.get(id(exchange.route)) or self._find(exchange, live.table)
            else:
                series = self._find(exchange, live.table)
            whole = series.whole
            whole[_RECEIVED] += head.size + exchange.request_size
            response = exchange.response
            if exchange.trail is None and response is not None:
                seconds = exchange.ended - exchange.started
                whole[bisect_left(LATENCY_BOUNDS, seconds)] += 1
                whole[_SECONDS] += seconds
                whole[_SENT] += len(response.plain) + exchange.response_size
            else:
                _follow(series, exchange, exchange.trail)
            if series.lengths is not None:
                _measure(series.lengths, exchange)

    def samples(self) -> Iterator[Sample]:
        """Return the samples of all routes, those with the same labels added up."""
        groups: dict[tuple[str, ...], list[Record]] = {}
        for labels, record in self._records.items():
            groups.setdefault(labels[:4], []).append(record)
        for names, records in groups.items():
            yield from _samples(names, records)

    def new_series(self, record: Record, key: tuple[bytes, int]) -> Series:
        """Return a new series of `record`, or where there is no room the one of `OTHER`."""
        other = record.labels.host == OTHER
        if self._series >= self._most and not other:
            self._sweep()
        if self._series >= self._most and not other:
            return self._record(Labels(*[OTHER] * 5))[key]
        if not other:
            self._series += 1
        series = record[key] = Series(lengths=self._lengths)
        return series

    def _find(self, exchange: Exchange, table: RouteTable) -> Series:
        route = exchange.route
        key = (exchange.head.method, exchange.status)
        series = self._known.get((id(route), *key))
        if series is not None:
            return series
        if route is None:
            labels = Labels()
        else:
            labels = labels_of(route, _host_of(exchange, route, table) if self._per_host else "")
        series = self._record(labels)[key]
        if key == (b"GET", 200):
            self._usual[id(route)] = series
        elif len(self._known) < self._most:
            self._known[id(route), *key] = series
        return series

    def _record(self, labels: Labels) -> Record:
        record = self._records.get(labels)
        if record is None:
            record = self._records[labels] = Record(labels, self)
        return record

    def _sweep(self) -> None:
        """Forget routes that are served no more; once for each table, because there may be 100,000."""
        live = self._live
        if live is None or live.table is self._swept:
            return
        self._swept = live.table
        snapshot = live.snapshot
        routes = [(host.name or "*", route) for host in snapshot.hosts for route in host.routes]
        if snapshot.default is not None:
            routes.append(("*", snapshot.default))
        kept = {labels_of(route, host if self._per_host else "") for host, route in routes}
        kept.update((Labels(), Labels(*[OTHER] * 5)))
        for labels in [labels for labels in self._records if labels not in kept]:
            self._series -= len(self._records.pop(labels))
        self._forget()

    def _forget(self) -> None:
        self._known.clear()
        self._usual.clear()


def _follow(series: Series, exchange: Exchange, trail: Trail | None) -> None:
    """Count what was not sent at once, or not answered in one piece by an endpoint."""
    if series.rest is None:
        series.rest = Histogram(LATENCY_BOUNDS)
    series.rest.observe(exchange.ended - exchange.started)
    series.whole[_SENT] += exchange.response_size
    if trail is None:
        return
    series.whole[_SENT] += trail.head_size
    response = exchange.response
    if response is not None:
        if not trail.head_size:
            series.whole[_SENT] += len(response.plain)
        if series.late is None:
            series.late = Histogram(LATENCY_BOUNDS)
        series.late.observe((trail.headed or exchange.ended) - trail.sent)
    if trail.connect is not None:
        if series.connect is None:
            series.connect = Histogram(LATENCY_BOUNDS)
        series.connect.observe(trail.connect)


def labels_of(route: Route, host: str) -> Labels:
    """Return what a route of `host` is counted under; an empty host stands for all of them."""
    origin = route.origin
    namespace, _, service = route.upstream.partition("/")
    ingress = origin.name if origin.kind == "Ingress" else ""
    return Labels(host, origin.namespace or namespace, ingress, service.partition(":")[0], route.path)


def _host_of(exchange: Exchange, route: Route, table: RouteTable) -> str:
    """Return the host that `route` is of, which a swap meanwhile may have made another object."""
    head = exchange.head
    routes = table.host(head.host)
    if routes is None:
        return "*"
    found = routes.match(head.path)
    same = found is not None and (found is route or found.origin == route.origin)
    return routes.name or "*" if same else "*"


def _measure(lengths: Lengths, exchange: Exchange) -> None:
    trail, response = exchange.trail, exchange.response
    head_size = trail.head_size if trail is not None else 0
    if not head_size and response is not None:
        head_size = len(response.plain)
    lengths.request.observe(exchange.head.size + exchange.request_size)
    lengths.response.observe(head_size + exchange.response_size)
    lengths.sent.observe(head_size + exchange.response_size)
    if response is not None:
        lengths.response_time.observe(exchange.ended - (exchange.started if trail is None else trail.sent))


def _samples(names: tuple[str, ...], records: Iterable[Record]) -> Iterator[Sample]:
    counts: dict[tuple[str, str], int] = {}
    time, head, connect = Histogram(LATENCY_BOUNDS), Histogram(LATENCY_BOUNDS), Histogram(LATENCY_BOUNDS)
    received = sent = 0
    for record in records:
        for (method, status), series in record.items():
            key = (method.decode(), f"{status // 100}xx")
            spent = series.time
            counts[key] = counts.get(key, 0) + sum(spent.counts)
            time.add(spent)
            head.add(series.head)
            if series.connect is not None:
                connect.add(series.connect)
            received += series.received
            sent += series.sent
    for (method_, status_), count in counts.items():
        yield REQUESTS.sample(count, *names, method_, status_)
    yield REQUEST_BYTES.sample(received, *names)
    yield RESPONSE_BYTES.sample(sent, *names)
    yield REQUEST_DURATION.distribution(time, *names)
    if any(head.counts):
        yield UPSTREAM_DURATION.distribution(head, *names)
    if any(connect.counts):
        yield CONNECT_DURATION.distribution(connect, *names)
