"""TLS entries of Ingresses to certificates (ingress-semantics 1.8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from portway_operator import problems
from portway_operator.certificates import KeyPair, covers
from portway_operator.objects import Ingress, IngressTls
from portway_operator.problems import Problem, at
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import Certificate, Origin

__all__ = ["DAY", "SOON", "TlsClaims", "TlsTable", "find_key_pair", "pair_problems", "read_tls", "secret_problem"]

Key = tuple[str, str]
Winners = dict[str, list[tuple[Key, Origin]]]

DAY: Final = 86_400
SOON: Final = 14  # Days; certificates of 90 are renewed 30 before, ingress-nginx speaks up 10 before.


@dataclass(frozen=True, slots=True)
class TlsClaims:
    """What one Ingress asks for.

    `hosts` are those that have TLS, with or without a certificate of their own. `named` and `implied` are the hosts
    that a Secret's certificate is to be served for: those that the Ingress names, and those that only the certificate
    does.
    """

    hosts: tuple[str, ...] = ()
    named: tuple[tuple[str, Key, Origin], ...] = ()
    implied: tuple[tuple[str, Key, Origin], ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(slots=True)
class TlsTable:
    """The certificates of each host, filled by `add` from the oldest Ingress to the youngest.

    A host has the oldest one, and of the same namespace those with other kinds of keys. `today` is the day since the
    epoch; 0 is unknown.
    """

    store: ObjectStore
    today: int = 0
    hosts: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    _named: Winners = field(default_factory=dict)
    _implied: Winners = field(default_factory=dict)

    def add(self, claims: TlsClaims) -> None:
        """Take in what a younger Ingress asks for."""
        self.hosts.update(claims.hosts)
        self.problems.extend(claims.problems)
        for table, wanted in ((self._named, claims.named), (self._implied, claims.implied)):
            for host, key, origin in wanted:
                winners = table.setdefault(host, [])
                winner = next((one for one in winners if self._rivals(one[0], key)), None)
                if winner is None:
                    winners.append((key, origin))
                elif not self._same(winner[0], key):
                    self.problems.append(problems.certificate_taken(origin, host, "/".join(winner[0]), winner[1]))

    def certificates(self, default: Key | None) -> tuple[Certificate, ...]:
        """Return each certificate with the hosts that it is served for, and the `default` one with or without any."""
        hosts: dict[Key, list[str]] = {} if default is None else {default: []}
        for host, winners in {**self._implied, **self._named}.items():
            for key, _ in winners:
                hosts.setdefault(key, []).append(host)
        pairs = {key: self._find(key) for key in hosts}
        return tuple(
            Certificate(
                "/".join(key),
                tuple(sorted(hosts[key])),
                pair.chain,
                pair.key,
                pair.not_after,
                pair.staple,
                pair.staple_until,
            )
            for key, pair in sorted(pairs.items(), key=lambda item: "/".join(item[0]))
            if pair is not None
        )

    def _rivals(self, one: Key, other: Key) -> bool:
        """Return whether not both can be served for a host; nobody else may add to what a host has."""
        first, second = self._find(one), self._find(other)
        return one[0] != other[0] or first is None or second is None or first.kind == second.kind

    def _same(self, one: Key, other: Key) -> bool:
        return one == other or self._find(one) == self._find(other)

    def _find(self, key: Key) -> KeyPair | None:
        return find_key_pair(self.store, key, self.today)


def find_key_pair(store: ObjectStore, key: Key, today: int = 0) -> KeyPair | None:
    """Return the usable certificate and key of a Secret on the day `today` since the epoch, or None."""
    secret = store.secrets.get(key)
    return None if secret is None else store.certificates.find(secret, today)


def secret_problem(store: ObjectStore, key: Key, origin: Origin) -> Problem | None:
    """Return what is wrong with the Secret that `origin` refers to, or None."""
    secret = store.secrets.get(key)
    if secret is None:
        return problems.secret_missing(origin, *key)
    read = store.certificates.read(secret)
    if isinstance(read, KeyPair):
        return None
    return problems.secret_unusable(origin, "/".join(key), read, store.certificates.find(secret))


def pair_problems(store: ObjectStore, key: Key, origin: Origin, today: int) -> list[Problem]:
    """Return what is wrong with the age of a Secret's certificate, or with what is stapled to it.

    `today` is the day since the epoch; 0 is unknown.
    """
    served = find_key_pair(store, key, today)
    if served is None:
        return []
    newest = store.certificates.read(store.secrets[key])
    pair = newest if isinstance(newest, KeyPair) else served
    name, found = "/".join(key), []
    if today and pair.not_after // DAY <= today + SOON:
        expired, before = pair.expired(today), served is not pair
        found.append(problems.certificate_expires(origin, name, pair.not_after, expired=expired, before=before))
    if pair.staple_fault:
        found.append(problems.staple_unusable(origin, name, pair.staple_fault))
    elif pair.staple and pair.staple_until < today * DAY:
        found.append(problems.staple_unusable(origin, name, "It does not count any more."))
    return found


def read_tls(store: ObjectStore, ingress: Ingress, today: int = 0) -> TlsClaims:
    """Return what the TLS entries of an Ingress ask for, on the day `today` since the epoch; 0 is none."""
    found: list[Problem] = []
    pairs = {entry.field: _key_pair(store, ingress, entry, found, today) for entry in ingress.tls}
    rule_hosts = tuple(dict.fromkeys(rule.host for rule in ingress.rules))
    named = []
    implied = []
    for entry in ingress.tls:
        pair = pairs[entry.field]
        if pair is None:
            continue
        key, origin = (ingress.meta.namespace, entry.secret), at(ingress, entry.field)
        found += pair_problems(store, key, origin, today)
        good = [host for host in entry.hosts if covers(pair.names, host)]
        named += [(host, key, origin) for host in good]
        if not entry.hosts:
            implied += [(host, key, origin) for host in pair.names]
        found += [
            problems.certificate_mismatch(origin, "/".join(key), host, pair.names)
            for host in entry.hosts
            if host not in good
        ]
    named += _by_certificate(ingress, pairs, rule_hosts)
    return TlsClaims(
        hosts=tuple(_secured(ingress.tls, rule_hosts, named)),
        named=tuple(named),
        implied=tuple(implied),
        problems=tuple(found),
    )


def _by_certificate(
    ingress: Ingress, pairs: Mapping[str, KeyPair | None], rule_hosts: Iterable[str]
) -> list[tuple[str, Key, Origin]]:
    """Find a certificate for each rule's host that no entry lists: the first one that is good for it."""
    listed = {host for entry in ingress.tls for host in entry.hosts}
    claims = []
    for host in rule_hosts:
        if not host or host in listed:
            continue
        for entry in ingress.tls:
            pair = pairs[entry.field]
            if pair is not None and covers(pair.names, host):
                claims.append((host, (ingress.meta.namespace, entry.secret), at(ingress, entry.field)))
                break
    return claims


def _secured(
    entries: Iterable[IngressTls], rule_hosts: Iterable[str], named: Iterable[tuple[str, Key, Origin]]
) -> Iterable[str]:
    """Yield the hosts that have TLS: the listed ones, the rules' that a listed wildcard or a certificate is good for.

    An entry that lists none is meant for all hosts of the rules.
    """
    listed = {host for entry in entries for host in entry.hosts}
    yield from listed
    yield from (host for host, _, _ in named)
    everywhere = any(not entry.hosts for entry in entries)
    yield from (host for host in rule_hosts if everywhere or (host and covers(tuple(listed), host)))


def _key_pair(
    store: ObjectStore, ingress: Ingress, entry: IngressTls, found: list[Problem], today: int
) -> KeyPair | None:
    if not entry.secret:
        return None
    key = (ingress.meta.namespace, entry.secret)
    problem = secret_problem(store, key, at(ingress, f"{entry.field}.secretName"))
    if problem is not None:
        found.append(problem)
    return find_key_pair(store, key, today)
