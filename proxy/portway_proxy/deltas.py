"""What leads from one snapshot to another: found between two, made good, and joined with what comes after it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import Final, TypeVar

import msgspec

from portway_proxy.errors import BadSnapshot
from portway_proxy.snapshot import Certificate, Host, Snapshot, Sources, Upstream

__all__ = ["Changes", "Delta", "diff", "find", "join", "patch"]

Part = TypeVar("Part", Host, Certificate, Upstream, Sources)

_name: Final = attrgetter("name")


class Changes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a delta changes beside upstreams that stay.

    `hosts` and `certificates` are new, or have new content. What is gone is named. `rest` is a snapshot of all other
    parts; None where none of them changed. `sources` come with what they are the sources of, or alone: then the digest
    stays.
    """

    hosts: tuple[Host, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    gone_hosts: tuple[str, ...] = ()
    gone_certificates: tuple[str, ...] = ()
    gone_upstreams: tuple[str, ...] = ()
    rest: Snapshot | None = None
    sources: tuple[Sources, ...] = ()
    gone_sources: tuple[str, ...] = ()


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What leads from the snapshot with digest `base` to the one with digest `digest`.

    `upstreams` have new content. Without `changes` that is all, and the snapshot has them already. With some it is a
    wide one: upstreams may be new too, and not every proxy takes it.
    """

    base: str
    digest: str
    upstreams: tuple[Upstream, ...]
    changes: Changes | None = None

    @property
    def wide(self) -> bool:
        """Whether more changes than the content of upstreams."""
        return self.changes is not None

    @property
    def size(self) -> int:
        """How many hosts, certificates, upstreams and sources are new, changed or gone."""
        more = self.changes or Changes()
        gone = len(more.gone_hosts) + len(more.gone_certificates) + len(more.gone_upstreams) + len(more.gone_sources)
        return len(self.upstreams) + len(more.hosts) + len(more.certificates) + len(more.sources) + gone

    @property
    def served(self) -> Delta:
        """Itself without what is for people alone: what workers get."""
        if self.changes is None or not (self.changes.sources or self.changes.gone_sources):
            return self
        return msgspec.structs.replace(self, changes=msgspec.structs.replace(self.changes, sources=(), gone_sources=()))


def diff(before: Snapshot, after: Snapshot, base: str, digest: str) -> Delta:
    """Return what leads from one snapshot, with the digest `base`, to another with the digest `digest`.

    Parts that are the same object in both cost next to nothing.
    """
    hosts, gone_hosts = _differing(before.hosts, after.hosts)
    certificates, gone_certificates = _differing(before.certificates, after.certificates)
    upstreams, gone_upstreams = _differing(before.upstreams, after.upstreams)
    sources, gone_sources = _differing(before.sources, after.sources)
    rest = _rest(after)
    changes = Changes(
        hosts,
        certificates,
        gone_hosts,
        gone_certificates,
        gone_upstreams,
        None if rest == _rest(before) else rest,
        sources,
        gone_sources,
    )
    return Delta(base, digest, upstreams, changes)


def join(first: Delta, second: Delta) -> Delta:
    """Return what does both, one after the other."""
    if first.changes is None and second.changes is None:
        return Delta(first.base, second.digest, _joined(first.upstreams, second.upstreams))
    one, two = first.changes or Changes(), second.changes or Changes()
    return Delta(
        first.base,
        second.digest,
        _joined(first.upstreams, second.upstreams, two.gone_upstreams),
        Changes(
            _joined(one.hosts, two.hosts, two.gone_hosts),
            _joined(one.certificates, two.certificates, two.gone_certificates),
            _gone(one.gone_hosts, two.gone_hosts, two.hosts),
            _gone(one.gone_certificates, two.gone_certificates, two.certificates),
            _gone(one.gone_upstreams, two.gone_upstreams, second.upstreams),
            one.rest if two.rest is None else two.rest,
            _joined(one.sources, two.sources, two.gone_sources),
            _gone(one.gone_sources, two.gone_sources, two.sources),
        ),
    )


def patch(snapshot: Snapshot, upstreams: tuple[Upstream, ...], changes: Changes | None = None) -> Snapshot:
    """Return `snapshot` with what a delta changes; what it leaves as it is stays the same object.

    Raises `BadSnapshot` when it has no `changes`, and one of the upstreams is not in the snapshot.
    """
    if changes is None:
        return msgspec.structs.replace(snapshot, upstreams=_replaced(snapshot.upstreams, upstreams))
    return msgspec.structs.replace(
        snapshot if changes.rest is None else changes.rest,
        hosts=_patched(snapshot.hosts, changes.hosts, changes.gone_hosts),
        certificates=_patched(snapshot.certificates, changes.certificates, changes.gone_certificates),
        upstreams=_patched(snapshot.upstreams, upstreams, changes.gone_upstreams),
        sources=_patched(snapshot.sources, changes.sources, changes.gone_sources),
    )


def find(snapshot: Snapshot, names: Iterable[str]) -> dict[str, Upstream]:
    """Return the upstreams with these names, by name; those that the snapshot does not have are left out."""
    return {name: snapshot.upstreams[place] for name, place in _places(snapshot.upstreams, names)}


def _rest(snapshot: Snapshot) -> Snapshot:
    return msgspec.structs.replace(snapshot, hosts=(), certificates=(), upstreams=(), sources=())


def _differing(before: tuple[Part, ...], after: tuple[Part, ...]) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """Return the parts that are new or changed, and the names of those that are gone."""
    if before is after:
        return (), ()
    known = {one.name: one for one in before}
    new = tuple(one for one in after if (old := known.pop(one.name, None)) is not one and old != one)
    return new, tuple(known)


def _patched(before: tuple[Part, ...], new: Sequence[Part], gone: Collection[str]) -> tuple[Part, ...]:
    if not new and not gone:
        return before
    found = {one.name: one for one in before}
    for name in gone:
        found.pop(name, None)
    found.update((one.name, one) for one in new)
    return tuple(found[name] for name in sorted(found))


def _joined(first: Iterable[Part], second: Iterable[Part], gone: Collection[str] = ()) -> tuple[Part, ...]:
    found = {one.name: one for one in first if one.name not in gone}
    found.update((one.name, one) for one in second)
    return tuple(found.values())


def _gone(first: Iterable[str], second: Iterable[str], back: Iterable[Part]) -> tuple[str, ...]:
    return tuple(sorted({*first}.difference(map(_name, back)).union(second)))


def _replaced(before: tuple[Upstream, ...], upstreams: Iterable[Upstream]) -> tuple[Upstream, ...]:
    patched = list(before)
    new = {upstream.name: upstream for upstream in upstreams}
    for name, place in _places(patched, new):
        patched[place] = new.pop(name)
    if new:
        raise BadSnapshot(f"the delta names upstreams that the snapshot does not have: {', '.join(sorted(new))}")
    return tuple(patched)


def _places(upstreams: Sequence[Upstream], names: Iterable[str]) -> list[tuple[str, int]]:
    """Return the names that are among `upstreams`, each with its index."""
    found, others = [], set()
    for name in names:
        # What a compile makes is sorted: a delta need not walk through 10,000 upstreams in every process.
        place = bisect_left(upstreams, name, key=_name)
        if place < len(upstreams) and upstreams[place].name == name:
            found.append((name, place))
        else:
            others.add(name)
    if others:
        found += [(one.name, place) for place, one in enumerate(upstreams) if one.name in others]
    return found
