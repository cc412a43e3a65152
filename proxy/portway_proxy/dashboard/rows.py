"""A snapshot as rows, and what of them is new since when; of the next snapshot only what differs is looked at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from secrets import token_hex
from typing import Final, NamedTuple

from portway_proxy.dashboard.feed import (
    CertificateRow,
    Counts,
    Generation,
    ListenerRow,
    RouteRow,
    Table,
    UpstreamRow,
)
from portway_proxy.dashboard.stamped import Stamped
from portway_proxy.describe_policies import policy_parts
from portway_proxy.snapshot import Certificate, Host, Route, Snapshot, Upstream
from portway_proxy.traffic import Labels, labels_of

__all__ = ["Rows"]

_GONE: Final = 20_000  # Rows that are gone and still known; a reader that has missed more gets the whole table again.

_LONGEST: Final = 64  # Of a mark; ours are shorter.

_Key = tuple[str, str]


class _Known(NamedTuple):
    """A route, what its figures are counted under, and its row."""

    route: Route
    labels: Labels
    row: RouteRow


class Rows:
    """All rows. `version` is their stamp: it grows with every snapshot that is not the one before."""

    def __init__(self) -> None:
        self.version = 0
        self.snapshot = Snapshot()
        self._word = token_hex(4)
        self._numbers = count(1)
        self._known: dict[str | None, dict[_Key, _Known]] = {}
        self._routes: Stamped[int, RouteRow] = Stamped(_GONE)
        self._upstreams: Stamped[str, UpstreamRow] = Stamped(_GONE)
        self._certificates = _Certificates(self.snapshot)
        # When the certificates and the listeners became what they are.
        self._certified = self._listening = 0
        self._labelled: defaultdict[tuple[str, ...], dict[str, list[RouteRow]]] = defaultdict(dict)

    @property
    def mark(self) -> str:
        """What a reader that has all this says to be told what is new."""
        return f"{self._word}-{self.version}"

    def stamp(self, mark: str) -> int:
        """Return the version that a mark stands for, and 0 for one of nothing that is known."""
        word, _, version = mark[:_LONGEST].partition("-")
        return int(version) if word == self._word and version.isdecimal() else 0

    def labelled(self, labels: Labels) -> list[RouteRow]:
        """Return the routes whose figures are counted under these labels; without a host, those of all hosts."""
        hosts = self._labelled.get(labels[1:])
        if hosts is None:
            return []
        return hosts.get(labels.host, []) if labels.host else [row for rows in hosts.values() for row in rows]

    # --- what is told

    def counts(self, problems: int) -> Counts:
        """Return how much there is; the number of problems is known elsewhere."""
        snapshot = self.snapshot
        return Counts(
            len(snapshot.hosts),
            len(self._routes),
            len(snapshot.upstreams),
            sum(len(upstream.endpoints) for upstream in snapshot.upstreams),
            len(snapshot.listeners) + len(snapshot.passthroughs) + (snapshot.fallback is not None),
            len(snapshot.certificates),
            problems,
        )

    def table(self, generation: int) -> Table:
        """Return everything."""
        names: list[str | None] = [host.name for host in self.snapshot.hosts]
        routes = [known.row for name in (*names, None) for known in self._known.get(name, {}).values()]
        upstreams = list(self._upstreams.since(0).values())
        return Table(
            self.mark,
            generation,
            routes,
            sorted(upstreams, key=lambda row: row.name),
            _certificate_rows(self.snapshot),
            list(_listener_rows(self.snapshot)),
        )

    def news(self, since: int, base: Generation) -> Generation:
        """Return `base`, which says what is served, with what is new since that version; 0 is never."""
        if not since or since > self.version or since < max(self._routes.forgotten, self._upstreams.forgotten):
            return Generation(self.mark, base.number, base.digest, base.at, base.counts, whole=True)
        return Generation(
            self.mark,
            base.number,
            base.digest,
            base.at,
            base.counts,
            routes=list(self._routes.since(since).values()),
            routes_gone=self._routes.gone(since),
            upstreams=list(self._upstreams.since(since).values()),
            upstreams_gone=self._upstreams.gone(since),
            certificates=_certificate_rows(self.snapshot) if self._certified > since else None,
            listeners=list(_listener_rows(self.snapshot)) if self._listening > since else None,
        )

    # --- what is taken

    def update(self, snapshot: Snapshot) -> None:
        """Take what is served now."""
        before, self.snapshot = self.snapshot, snapshot
        self.version += 1
        certified = _secured(before) != _secured(snapshot)
        if certified:
            self._certified = self.version
            self._certificates = _Certificates(snapshot)
        if _at_layer_4(before) != _at_layer_4(snapshot):
            self._listening = self.version
        if certified or snapshot.hosts is not before.hosts:
            self._take_hosts({} if certified else {host.name: host for host in before.hosts}, snapshot.hosts)
        if certified or snapshot.default is not before.default:
            self._take(None, [] if snapshot.default is None else [("default", snapshot.default)])
        if snapshot.upstreams is not before.upstreams:
            self._take_upstreams(before.upstreams, snapshot.upstreams)

    def _take_hosts(self, same: Mapping[str, Host], hosts: Iterable[Host]) -> None:
        """Take all hosts; those that are the `same` objects are as they were."""
        gone = {name for name in self._known if name is not None}
        for host in hosts:
            gone.discard(host.name)
            if same.get(host.name) is not host:
                self._take(host.name, [(str(route.match), route) for route in host.routes])
        for name in gone:
            self._take(name, [])

    def _take(self, name: str | None, routes: Sequence[tuple[str, Route]]) -> None:
        """Take the routes of a host, each with how it is compared; None is where all go whom no host is for."""
        certificate = self._certificates.of(name or "")
        before = self._known.pop(name, {})
        now: dict[_Key, _Known] = {}
        for match, route in routes:
            if (route.path, match) in now:
                continue  # Nothing ever reaches it.
            old = before.pop((route.path, match), None)
            same = old is not None and (old.route is route or old.route == route)
            if old is not None and same and old.row.certificate == certificate:
                now[route.path, match] = old
                continue
            if old is not None:
                self._forget(old)
            labels = labels_of(route, name or "*")
            row = _row(next(self._numbers) if old is None else old.row.id, labels.host, match, route, certificate)
            now[route.path, match] = _Known(route, labels, row)
            self._routes.put(row.id, row, self.version)
            self._labelled[labels[1:]].setdefault(labels.host, []).append(row)
        for old in before.values():
            self._forget(old)
            self._routes.drop(old.row.id, self.version)
        if now:
            self._known[name] = now

    def _forget(self, known: _Known) -> None:
        labels = known.labels
        hosts = self._labelled[labels[1:]]
        hosts[labels.host].remove(known.row)
        if not hosts[labels.host]:
            del hosts[labels.host]
        if not hosts:
            del self._labelled[labels[1:]]

    def _take_upstreams(self, before: Iterable[Upstream], now: Iterable[Upstream]) -> None:
        known = {upstream.name: upstream for upstream in before}
        for upstream in now:
            if known.pop(upstream.name, None) is upstream:
                continue
            row = UpstreamRow(
                upstream.name,
                len(upstream.endpoints),
                upstream.reason,
                upstream.external_name,
                str(upstream.protocol),
                str(upstream.balance),
            )
            # As many endpoints as before, at other addresses, are the same row.
            if self._upstreams.get(row.name) != row:
                self._upstreams.put(row.name, row, self.version)
        for name in known:
            self._upstreams.drop(name, self.version)


class _Certificates:
    """Which certificate the clients of a host get."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._default = snapshot.default_certificate
        self._names = {name: one.name for one in reversed(snapshot.certificates) for name in one.hosts}

    def of(self, host: str) -> str:
        """Return the name of the certificate: that of the exact name, of the wildcard, or the default one."""
        found = self._names.get(host)
        if found is None and not host.startswith("*."):
            found = self._names.get(f"*.{host.partition('.')[2]}")
        return self._default if found is None else found


def _row(number: int, host: str, match: str, route: Route, certificate: str) -> RouteRow:
    does = tuple(policy_parts(route.policy))
    return RouteRow(number, host, route.path, match, route.upstream, str(route.origin), does, certificate)


def _secured(snapshot: Snapshot) -> tuple[str, tuple[Certificate, ...]]:
    return snapshot.default_certificate, snapshot.certificates


def _at_layer_4(snapshot: Snapshot) -> tuple[object, ...]:
    return snapshot.listeners, snapshot.passthroughs, snapshot.fallback


def _certificate_rows(snapshot: Snapshot) -> list[CertificateRow]:
    rows = [
        CertificateRow(one.name, one.hosts, one.not_after, one.name == snapshot.default_certificate)
        for one in snapshot.certificates
    ]
    return sorted(rows, key=lambda row: (row.not_after, row.name))


def _listener_rows(snapshot: Snapshot) -> Iterator[ListenerRow]:
    for listener in snapshot.listeners:
        yield ListenerRow(f"{listener.transport}/{listener.port}", listener.upstream, str(listener.origin))
    for passed in snapshot.passthroughs:
        yield ListenerRow(f"tls {passed.host}", passed.upstream, str(passed.origin))
    if (fallback := snapshot.fallback) is not None:
        yield ListenerRow("fallback", fallback.upstream, str(fallback.origin))
