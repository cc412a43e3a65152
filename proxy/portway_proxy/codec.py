"""Snapshots to bytes and back, and the digest of their content.

The digest is a hash over the parts: one for each upstream, one for all the rest. So a delta of upstreams updates the
digest without another walk through the whole snapshot, and any other without one through all upstreams. Only what is
served counts: `Snapshot.sources` are no part of it.
"""

from __future__ import annotations

import hashlib
from typing import Self

import msgspec

from portway_proxy.deltas import Delta, find
from portway_proxy.errors import BadSnapshot
from portway_proxy.snapshot import Snapshot, Upstream

__all__ = ["SCHEMA", "Digest", "decode", "digest", "encode"]

SCHEMA = 2
"""The version of the snapshot's schema; a proxy refuses what it does not know.

Within a version, fields may be added as `snapshot` says: a proxy that skipped what it does not know would serve a path
without the password that the path asks for, but the digest of what it read tells.
"""

_MODULUS = 1 << 256


class _Envelope(msgspec.Struct, frozen=True):
    schema: int
    digest: str
    snapshot: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_snapshots = msgspec.msgpack.Decoder(Snapshot)
_envelopes = msgspec.msgpack.Decoder(_Envelope)


def _hash(part: object) -> int:
    return int.from_bytes(hashlib.sha256(_encoder.encode(part)).digest(), "big")


def _hash_rest(snapshot: Snapshot) -> int:
    return _hash(msgspec.structs.replace(snapshot, upstreams=(), sources=()))


class Digest:
    """The digest of a snapshot, kept up to date as it changes.

    Equal content has an equal digest in every process. It finds accidents, not forgeries: upstream hashes are
    added up, which an attacker who chooses the content could exploit.
    """

    __slots__ = ("_rest", "_sum")

    def __init__(self, rest: int, total: int) -> None:
        self._rest = rest
        self._sum = total

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """Return the digest of `snapshot`; cost is one encoding of it."""
        return cls(_hash_rest(snapshot), sum(map(_hash, snapshot.upstreams)) % _MODULUS)

    def replace(self, old: Upstream, new: Upstream) -> None:
        """Account for `new` in the place of `old`."""
        self._sum = (self._sum - _hash(old) + _hash(new)) % _MODULUS

    def after(self, before: Snapshot, delta: Delta, after: Snapshot) -> Digest:
        """Return the digest of `after`, which a delta made of the snapshot `before`, whose digest this is."""
        changes = delta.changes
        gone = () if changes is None else changes.gone_upstreams
        old = find(before, [*(upstream.name for upstream in delta.upstreams), *gone])
        total = self._sum - sum(map(_hash, old.values())) + sum(map(_hash, delta.upstreams))
        return Digest(self._rest if changes is None else _hash_rest(after), total % _MODULUS)

    def insist(self, said: str) -> None:
        """Raise `BadSnapshot` unless that is the digest that the content was sent with."""
        if str(self) != said:
            raise BadSnapshot(
                f"the content has digest {self}, it was sent as {said}: it asks for what this version of the proxy does"
                " not know, or was damaged"
            )

    def __str__(self) -> str:
        """Return 32 hexadecimal digits."""
        both = self._rest.to_bytes(32, "big") + self._sum.to_bytes(32, "big")
        return hashlib.sha256(both).hexdigest()[:32]


def digest(snapshot: Snapshot) -> str:
    """Return 32 hexadecimal digits that are equal exactly when the content is."""
    return str(Digest.of(snapshot))


def encode(snapshot: Snapshot, content: str = "") -> bytes:
    """Return the snapshot with its schema version and digest, as msgpack; `content` is the digest where it is known."""
    raw = msgspec.Raw(_encoder.encode(snapshot))
    return _encoder.encode(_Envelope(SCHEMA, content or digest(snapshot), raw))


def decode(data: bytes, *, trusted: bool = False) -> tuple[Snapshot, str]:
    """Return the snapshot in `data` and its digest.

    Raises `BadSnapshot` for another schema version, for bytes that are no snapshot, and for content that does
    not have the digest it was sent with; whoever is `trusted` has just made it, and is not checked for that.
    """
    try:
        envelope = _envelopes.decode(data)
        if envelope.schema != SCHEMA:
            raise BadSnapshot(f"the snapshot has schema version {envelope.schema}, this proxy knows {SCHEMA}")
        snapshot = _snapshots.decode(envelope.snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadSnapshot(f"the bytes are no snapshot: {error}") from None
    if not trusted and (actual := digest(snapshot)) != envelope.digest:
        raise BadSnapshot(f"the content has digest {actual}, it was sent as {envelope.digest}")
    return snapshot, envelope.digest
