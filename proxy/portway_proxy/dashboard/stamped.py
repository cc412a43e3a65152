"""A table that tells its readers what is new since they looked last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Generic, TypeVar

__all__ = ["Stamped"]

K = TypeVar("K")
V = TypeVar("V")


class Stamped(Generic[K, V]):
    """Values by key, each with the stamp (a number that never falls) of when it was put.

    Telling what is new costs as much as there is of it. Of keys that are gone it remembers `most`; who looked last
    before the stamp `forgotten` cannot be told any more.
    """

    def __init__(self, most: int) -> None:
        self.forgotten = 0
        self._most = most
        # Both in the order of their stamps, the newest last.
        self._values: dict[K, tuple[int, V]] = {}
        self._gone: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Return the value for `key`, if there is one."""
        found = self._values.get(key)
        return None if found is None else found[1]

    def put(self, key: K, value: V, stamp: int) -> None:
        """Take a new value."""
        self._values.pop(key, None)
        self._gone.pop(key, None)
        self._values[key] = stamp, value

    def put_all(self, values: Mapping[K, V], stamp: int) -> None:
        """Take new values for keys of which none was ever dropped."""
        known = self._values
        for key, value in values.items():
            known.pop(key, None)
            known[key] = stamp, value

    def drop(self, key: K, stamp: int) -> None:
        """Take it that there is no value any more; harmless when there was none."""
        if self._values.pop(key, None) is None:
            return
        self._gone[key] = stamp
        if len(self._gone) > self._most:
            oldest = next(iter(self._gone))
            self.forgotten = self._gone.pop(oldest)

    def expire(self, stamp: int) -> None:
        """Drop what was put up to `stamp`, and not again since."""
        old = list(takewhile(lambda key: self._values[key][0] <= stamp, self._values))
        for key in old:
            del self._values[key]

    def since(self, stamp: int) -> dict[K, V]:
        """Return what was put behind `stamp`."""
        return dict(_behind(self._values, stamp))

    def gone(self, stamp: int) -> list[K]:
        """Return the keys that went behind `stamp`."""
        found = []
        for key in reversed(self._gone):
            if self._gone[key] <= stamp:
                break
            found.append(key)
        return found


def _behind(values: dict[K, tuple[int, V]], stamp: int) -> Iterator[tuple[K, V]]:
    for key, (put, value) in reversed(values.items()):
        if put <= stamp:
            return
        yield key, value
