"""Deltas in few bytes: each part is encoded by itself, so that two are joined, and one is kept, without reading any.

A part at a time is also what other threads can bear: one call for all of a large snapshot would stop them for long.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Final, TypeVar

import msgspec

from portway_proxy.deltas import Changes, Delta
from portway_proxy.snapshot import Certificate, Host, Snapshot, Sources, Upstream

__all__ = ["Packed", "join_packed", "pack", "packed_delta", "patch_packed", "precede", "unpack"]

Part = TypeVar("Part", Host, Certificate, Upstream, Sources)
_Parts = dict[str, msgspec.Raw]


class Packed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a delta changes, each part by its name and encoded; what is gone is None.

    `rest` is a snapshot of all other parts, empty where none of them changed.
    """

    upstreams: _Parts = {}
    hosts: _Parts = {}
    certificates: _Parts = {}
    sources: _Parts = {}
    rest: bytes = b""

    @property
    def size(self) -> int:
        """How many parts are new, changed or gone, and KiB of all others."""
        parts = len(self.upstreams) + len(self.hosts) + len(self.certificates) + len(self.sources)
        return parts + (len(self.rest) >> 10)


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Packed)
_snapshots: Final = msgspec.msgpack.Decoder(Snapshot)
_hosts: Final = msgspec.msgpack.Decoder(Host)
_upstreams: Final = msgspec.msgpack.Decoder(Upstream)
_certificates: Final = msgspec.msgpack.Decoder(Certificate)
_sources: Final = msgspec.msgpack.Decoder(Sources)
_GONE: Final = _encoder.encode(None)


def packed_delta(delta: Delta) -> Packed:
    """Return what `delta` changes; for whom it is, and to what it leads, is not in it."""
    changes = delta.changes or Changes()
    return Packed(
        _encoded(delta.upstreams, changes.gone_upstreams),
        _encoded(changes.hosts, changes.gone_hosts),
        _encoded(changes.certificates, changes.gone_certificates),
        _encoded(changes.sources, changes.gone_sources),
        b"" if changes.rest is None else _encoder.encode(changes.rest),
    )


def join_packed(first: Packed, second: Packed) -> Packed:
    """Return what does both, one after the other."""
    return Packed(
        first.upstreams | second.upstreams,
        first.hosts | second.hosts,
        first.certificates | second.certificates,
        first.sources | second.sources,
        second.rest or first.rest,
    )


def precede(second: Packed, first: Packed) -> Packed:
    """Return what does `first` and then `second`, whose parts it takes over: cost is that of the first alone."""
    for kind in ("upstreams", "hosts", "certificates", "sources"):
        parts = getattr(second, kind)
        for name, part in getattr(first, kind).items():
            parts.setdefault(name, part)
    return msgspec.structs.replace(second, rest=second.rest or first.rest)


def patch_packed(snapshot: Snapshot, changes: Packed) -> Snapshot:
    """Return `snapshot`, whose parts are in canonical order, with what was changed."""
    return msgspec.structs.replace(
        _snapshots.decode(changes.rest) if changes.rest else snapshot,
        hosts=_patched(snapshot.hosts, changes.hosts, _hosts),
        upstreams=_patched(snapshot.upstreams, changes.upstreams, _upstreams),
        certificates=_patched(snapshot.certificates, changes.certificates, _certificates),
        sources=_patched(snapshot.sources, changes.sources, _sources),
    )


def pack(changes: Packed) -> bytes:
    """Return it in as few bytes as can be."""
    return zlib.compress(_encoder.encode(changes))


def unpack(data: bytes) -> Packed:
    """Return what was packed."""
    return _decoder.decode(zlib.decompress(data))


def _encoded(new: Iterable[Part], gone: Collection[str]) -> _Parts:
    parts = {one.name: msgspec.Raw(_encoder.encode(one)) for one in new}
    return parts | dict.fromkeys(gone, msgspec.Raw(_GONE))


def _patched(
    before: tuple[Part, ...], changes: Mapping[str, msgspec.Raw], decoder: msgspec.msgpack.Decoder[Part]
) -> tuple[Part, ...]:
    if not changes:
        return before
    found = {one.name: one for one in before}
    for name, data in changes.items():
        if bytes(data) == _GONE:
            found.pop(name, None)
        else:
            found[name] = decoder.decode(data)
    return tuple(found[name] for name in sorted(found))
