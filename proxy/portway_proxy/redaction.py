"""Snapshots that may be kept and shown: what is secret in them is a keyed fingerprint, so that a change still shows."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from portway_proxy.deltas import Changes, Delta
from portway_proxy.endpoint_tls import Keyring
from portway_proxy.policies import Credentials, Policy
from portway_proxy.snapshot import Certificate, Host, Route, SharedKey, Snapshot

__all__ = ["Redaction"]

_SIZE: Final = 16  # Bytes: nobody finds two secrets with one fingerprint, nor without the key a secret for one.


class Redaction:
    """Takes what is secret out of snapshots and deltas: keys, passwords, and the values of fields for endpoints.

    Equal secrets have equal fingerprints under one `key`, and under no other.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """Take the key: random bytes, 64 at most, that are shown to nobody."""
        self._key = key

    def fingerprint(self, secret: bytes) -> str:
        """Return what stands for a secret; an empty one is none."""
        digest = hashlib.blake2b(secret, key=self._key, digest_size=_SIZE).hexdigest()
        return f"fingerprint:{digest}" if secret else ""

    def snapshot(self, found: Snapshot) -> Snapshot:
        """Return the snapshot without its secrets."""
        default, shared = found.default, found.affinity_key
        return msgspec.structs.replace(
            found,
            hosts=tuple(map(self._host, found.hosts)),
            default=None if default is None else self._route(default),
            certificates=tuple(map(self._certificate, found.certificates)),
            affinity_key=None if shared is None else SharedKey(self.fingerprint(shared.value).encode()),
            credentials=tuple(map(self._credentials, found.credentials)),
            keyrings=tuple(map(self._keyring, found.keyrings)),
        )

    def delta(self, found: Delta) -> Delta:
        """Return the delta without its secrets: it leads from one snapshot without them to another."""
        changes = found.changes
        if changes is None:
            return found
        return msgspec.structs.replace(found, changes=self._changes(changes))

    def _changes(self, changes: Changes) -> Changes:
        return msgspec.structs.replace(
            changes,
            hosts=tuple(map(self._host, changes.hosts)),
            certificates=tuple(map(self._certificate, changes.certificates)),
            rest=None if changes.rest is None else self.snapshot(changes.rest),
        )

    def _host(self, host: Host) -> Host:
        routes = tuple(map(self._route, host.routes))
        same = all(new is old for new, old in zip(routes, host.routes, strict=True))
        return host if same else Host(host.name, routes)

    def _route(self, route: Route) -> Route:
        policy = route.policy
        if policy is None or not (policy.request or (policy.external is not None and policy.external.fields)):
            return route
        return msgspec.structs.replace(route, policy=self._policy(policy))

    def _policy(self, policy: Policy) -> Policy:
        external = policy.external
        if external is not None:
            external = msgspec.structs.replace(external, fields=self._values(external.fields))
        return msgspec.structs.replace(policy, request=self._values(policy.request), external=external)

    def _values(self, fields: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        return tuple((name, self.fingerprint(value.encode())) for name, value in fields)

    def _certificate(self, certificate: Certificate) -> Certificate:
        return msgspec.structs.replace(certificate, key=self.fingerprint(certificate.key).encode())

    def _credentials(self, credentials: Credentials) -> Credentials:
        users = tuple(
            (self.fingerprint(user.encode()), self.fingerprint(f"{user}:{password}".encode()))
            for user, password in credentials.users
        )
        return Credentials(credentials.name, users)

    def _keyring(self, keyring: Keyring) -> Keyring:
        return msgspec.structs.replace(keyring, key=self.fingerprint(keyring.key).encode())
