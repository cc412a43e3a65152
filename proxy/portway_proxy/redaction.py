"""Snapshots that may be kept and shown: what is secret in them is a keyed fingerprint, so that a change still shows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from portway_proxy.deltas import Changes, Delta
from portway_proxy.discretion import HIDDEN, discreet_fields, discreet_url, secret_name
from portway_proxy.endpoint_tls import Keyring
from portway_proxy.policies import Canary, Credentials, Edits, ExternalAuth, Policy
from portway_proxy.snapshot import Certificate, Host, Route, SharedKey, Snapshot, Upstream

__all__ = ["Redaction"]

_SIZE: Final = 16  # Bytes: nobody finds two secrets with one fingerprint, nor without the key a secret for one.


class Redaction:
    """Takes what is secret out of snapshots and deltas: keys, passwords, and values of fields and parameters.

    Of fields for endpoints no value is shown, of others those that are not called like a secret. Equal secrets have
    equal fingerprints under one `key`, and under no other; without a key all are `...`.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes = b"") -> None:
        """Take the key: random bytes, 64 at most, that are shown to nobody."""
        self._key = key

    def fingerprint(self, secret: bytes) -> str:
        """Return what stands for a secret; an empty one is none."""
        if not (secret and self._key):
            return HIDDEN if secret else ""
        return f"fingerprint:{hashlib.blake2b(secret, key=self._key, digest_size=_SIZE).hexdigest()}"

    def snapshot(self, found: Snapshot) -> Snapshot:
        """Return the snapshot without its secrets."""
        default, shared = found.default, found.affinity_key
        return msgspec.structs.replace(
            found,
            hosts=tuple(map(self._host, found.hosts)),
            upstreams=tuple(map(self._upstream, found.upstreams)),
            default=None if default is None else self._route(default),
            certificates=tuple(map(self._certificate, found.certificates)),
            affinity_key=None if shared is None else SharedKey(self.fingerprint(shared.value).encode()),
            credentials=tuple(map(self._credentials, found.credentials)),
            keyrings=tuple(map(self._keyring, found.keyrings)),
        )

    def delta(self, found: Delta) -> Delta:
        """Return the delta without its secrets: it leads from one snapshot without them to another."""
        changes = None if found.changes is None else self._changes(found.changes)
        return msgspec.structs.replace(found, upstreams=tuple(map(self._upstream, found.upstreams)), changes=changes)

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
        if policy is None:
            return route
        shown = self._policy(policy)
        return route if shown is policy else msgspec.structs.replace(route, policy=shown)

    def _policy(self, policy: Policy) -> Policy:
        """Return the policy itself where there is nothing secret in it."""
        parts: dict[str, object] = {
            name: change(self, part) for name, change in _PARTS.items() if (part := getattr(policy, name))
        }
        changed = {name: part for name, part in parts.items() if part != getattr(policy, name)}
        return msgspec.structs.replace(policy, **changed) if changed else policy

    def url(self, url: str) -> str:
        """Return a URL, or a template of one, without what is secret in it."""
        return discreet_url(url, self._text)

    def fields(self, fields: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """Return fields without the values of those that are called like a secret."""
        return discreet_fields(fields, self._text)

    def external(self, asked: ExternalAuth) -> ExternalAuth:
        """Return what a service is asked by, without what it is told."""
        urls = {name: self.url(getattr(asked, name)) for name in ("target", "host", "signin", "redirect", "cache_key")}
        return msgspec.structs.replace(asked, fields=self.values(asked.fields), **urls)

    def canary(self, canary: Canary) -> Canary:
        """Return who gets a canary; not by which secret."""
        if not secret_name(canary.header):
            return canary
        value, pattern = (self._text(text) if text else "" for text in (canary.value, canary.pattern))
        return msgspec.structs.replace(canary, value=value, pattern=pattern)

    def edits(self, edits: Edits) -> Edits:
        """Return what becomes of answers, without what is secret in a Location."""
        if edits.redirect is None:
            return edits
        before, after = edits.redirect
        return msgspec.structs.replace(edits, redirect=(self.url(before), self.url(after)))

    def values(self, fields: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """Return fields for an endpoint without any value: whatever they are called, they are between us and it."""
        return tuple((name, self._text(value)) for name, value in fields)

    def _text(self, secret: str) -> str:
        return self.fingerprint(secret.encode())

    def _upstream(self, upstream: Upstream) -> Upstream:
        policy = upstream.policy
        if policy is None or policy.check is None or "?" not in policy.check.path:
            return upstream
        check = msgspec.structs.replace(policy.check, path=self.url(policy.check.path))
        return msgspec.structs.replace(upstream, policy=msgspec.structs.replace(policy, check=check))

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


_PARTS: Final[dict[str, Callable[[Redaction, Any], object]]] = {
    "answer": Redaction.fields,
    "app_root": Redaction.url,
    "canary": Redaction.canary,
    "certificate": lambda redaction, asked: msgspec.structs.replace(asked, error_page=redaction.url(asked.error_page)),
    "edits": Redaction.edits,
    "external": Redaction.external,
    "mirror": lambda redaction, mirror: msgspec.structs.replace(mirror, target=redaction.url(mirror.target)),
    "redirect": lambda redaction, found: msgspec.structs.replace(found, location=redaction.url(found.location)),
    "request": Redaction.values,
    "rewrite": Redaction.url,
}
