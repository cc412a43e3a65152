"""Which objects are in which published version, and so which of them proxies are known to serve."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from portway_operator.compile import Compiled
from portway_operator.objects import Ingress, Kind, Service

__all__ = ["Applied", "Owned"]

Key = tuple[Kind, str, str]


@dataclass(slots=True)
class Owned:
    """An object whose status is ours to write, as it was compiled.

    `contained` is the first version that held any form of it (of this very object: a namesake made later is another),
    `current` the first that held it as it is now. `served` says that a Service has a listener; an Ingress always is.
    """

    object: Ingress | Service
    contained: int
    current: int
    served: bool = True


class Applied:
    """What of our objects is in what was published; `settle` and `acknowledge` keep it up to date.

    Costs one entry an object, however many versions there were.
    """

    def __init__(self) -> None:
        self._owned: dict[Key, Owned] = {}
        self._newest = self._acknowledged = 0

    def __len__(self) -> int:
        return len(self._owned)

    def __iter__(self) -> Iterator[Owned]:
        return iter(self._owned.values())

    def get(self, kind: Kind, namespace: str, name: str) -> Owned | None:
        """Return what is known of an object, or None when it is not ours."""
        return self._owned.get((kind, namespace, name))

    def settle(self, compiled: Compiled, version: int) -> None:
        """Take note that the published `version` is what the objects of `compiled` amount to."""
        listening = {(each.origin.namespace, each.origin.name) for each in compiled.snapshot.listeners}
        self._owned = {key: self._entry(key, one, version, listening) for key, one in _keyed(compiled.owned)}
        self._newest = max((owned.contained for owned in self._owned.values()), default=0)

    def acknowledge(self, version: int) -> bool:
        """Take note that some proxy serves `version`; return whether any object was waiting for that."""
        waiting = self._acknowledged < self._newest and self._acknowledged < version
        self._acknowledged = max(self._acknowledged, version)
        return waiting

    def acknowledged(self, owned: Owned) -> bool:
        """Return whether a proxy ever served a version that contains the object."""
        return owned.contained <= self._acknowledged

    def _entry(self, key: Key, one: Ingress | Service, version: int, listening: Collection[tuple[str, str]]) -> Owned:
        served = one.kind is Kind.INGRESS or one.meta.key in listening
        before = self._owned.get(key)
        if before is None or before.object.meta.uid != one.meta.uid:
            return Owned(one, version, version, served)
        return Owned(one, before.contained, before.current if before.object == one else version, served)


def _keyed(objects: Iterable[Ingress | Service]) -> Iterator[tuple[Key, Ingress | Service]]:
    for one in objects:
        yield (one.kind, one.meta.namespace, one.meta.name), one
