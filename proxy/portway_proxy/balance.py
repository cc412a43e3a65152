"""Choose the next endpoint of an upstream."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Generic, Protocol, TypeVar

from portway_proxy.errors import NoEndpoints
from portway_proxy.snapshot import Balance

__all__ = ["Balancer", "Random", "RoundRobin", "balancer"]

T = TypeVar("T")


class Balancer(Protocol[T]):
    """A way to choose."""

    def choose(self, exclude: Collection[T] = ()) -> T:
        """Return the next candidate that is not in `exclude`; raises `NoEndpoints` when there is none."""


class RoundRobin(Generic[T]):
    """Every candidate in turn. It starts anywhere, or all workers would begin with the same one."""

    __slots__ = ("_candidates", "_next")

    def __init__(self, candidates: Sequence[T], start: int) -> None:
        self._candidates = tuple(candidates)
        self._next = start

    def choose(self, exclude: Collection[T] = ()) -> T:
        """Return the next candidate that is not in `exclude`; raises `NoEndpoints` when there is none."""
        candidates = self._candidates
        count = len(candidates)
        for _ in range(count):
            self._next = position = (self._next + 1) % count
            candidate = candidates[position]
            if not exclude or candidate not in exclude:
                return candidate
        raise NoEndpoints


class Random(Generic[T]):
    """Any candidate, all equally likely."""

    __slots__ = ("_candidates", "_random")

    def __init__(self, candidates: Sequence[T], source: random.Random) -> None:
        self._candidates = tuple(candidates)
        self._random = source

    def choose(self, exclude: Collection[T] = ()) -> T:
        """Return a candidate that is not in `exclude`; raises `NoEndpoints` when there is none."""
        candidates: Sequence[T] = self._candidates
        if exclude:
            candidates = [candidate for candidate in candidates if candidate not in exclude]
        if not candidates:
            raise NoEndpoints
        return candidates[int(self._random.random() * len(candidates))]


def balancer(kind: Balance, candidates: Sequence[T], source: random.Random) -> Balancer[T]:
    """Return a new balancer of this kind over `candidates`."""
    if kind is Balance.RANDOM:
        return Random(candidates, source)
    return RoundRobin(candidates, source.randrange(len(candidates) or 1))
