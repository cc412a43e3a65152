"""Decides what is news: which version of each object is known, so that the order of arrival does not matter (sans-io).

What a watch says, what a list says and what is repeated or late may come in any order and any number of times; the
resource versions tell what is newer. Kubernetes guarantees that they can be compared as integers within one kind
(KEP-5504), and that a list without a version is as new as anything seen before it was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Ledger", "Name", "Settled"]

Name = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a list taught: the names to put, those to remove, and whether the server's history was turned back."""

    fresh: frozenset[Name] = frozenset()
    vanished: frozenset[Name] = frozenset()
    rewound: bool = False


class Ledger:
    """The known versions of the objects of one watched collection.

    Costs one dict entry an object, and one a deletion until the next list.
    """

    __slots__ = ("_deleted", "_floor", "_known", "highest")

    def __init__(self) -> None:
        self._known: dict[Name, int] = {}
        self._deleted: dict[Name, int] = {}
        self._floor = 0
        self.highest = 0

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __len__(self) -> int:
        return len(self._known)

    def names(self) -> frozenset[Name]:
        """Return the names of the known objects."""
        return frozenset(self._known)

    def admit(self, name: Name, version: int) -> bool:
        """Record that an object was there in `version`; return whether that is news."""
        known = self._known.get(name)
        if known is None:
            known = max(self._floor, self._deleted.get(name, 0))
        if version <= known:
            return False
        self._known[name] = version
        self._deleted.pop(name, None)
        self.highest = max(self.highest, version)
        return True

    def retire(self, name: Name, version: int) -> bool:
        """Record that an object was gone in `version`; return whether it was known and none took its name since."""
        known = self._known.get(name)
        if known is not None and known > version:
            return False
        self._deleted[name] = max(version, self._deleted.get(name, 0))
        self.highest = max(self.highest, version)
        return self._known.pop(name, None) is not None

    def settle(self, version: int, listed: Mapping[Name, int], mark: int) -> Settled:
        """Take in a full list of `version`; `mark` is what `highest` was before it was asked for.

        A list that is older than one already taken in teaches nothing. One that is older than `mark` can only come
        from a server whose data was restored from a backup: then it is the whole truth.
        """
        if version < mark:
            return self._start_over(version, listed)
        if version < self._floor:
            return Settled()
        fresh = frozenset(name for name, seen in listed.items() if self._is_news(name, seen, version))
        vanished = frozenset(name for name, seen in self._known.items() if seen <= version and name not in listed)
        for name in vanished:
            del self._known[name]
        self._known.update((name, listed[name]) for name in fresh)
        self._deleted = {name: seen for name, seen in self._deleted.items() if seen > version}
        self._floor = version
        self.highest = max(self.highest, version)
        return Settled(fresh, vanished)

    def lacks(self, version: int, listed: Mapping[Name, int]) -> bool:
        """Return whether a full list of `version` would teach anything; `settle` is what learns it."""
        if version < self._floor:
            return False
        if any(self._is_news(name, seen, version) for name, seen in listed.items()):
            return True
        return any(seen <= version and name not in listed for name, seen in self._known.items())

    def _is_news(self, name: Name, listed: int, version: int) -> bool:
        known = self._known.get(name)
        if known is None:
            return self._deleted.get(name, 0) <= version
        return known <= version and known != listed

    def _start_over(self, version: int, listed: Mapping[Name, int]) -> Settled:
        vanished = frozenset(self._known.keys() - listed.keys())
        self._known = dict(listed)
        self._deleted = {}
        self._floor = self.highest = version
        return Settled(frozenset(listed), vanished, rewound=True)
