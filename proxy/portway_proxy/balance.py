"""Choose the next endpoint of an upstream: in turn, by chance, by load, or by what a request holds.

A balancer is made anew whenever its candidates or their weights change, and goes on where the one before it was.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Collection, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from struct import Struct
from typing import Generic, Protocol, TypeVar

from portway_proxy.errors import NoEndpoints
from portway_proxy.snapshot import Balance

__all__ = ["Balancer", "LeastLoad", "PowerOfTwo", "Random", "Ring", "RoundRobin", "SmoothRoundRobin", "balancer"]

T = TypeVar("T")

_DIGESTS = 20  # Of eight points each: 160 for each candidate, as ketama and nginx. Shares differ by about 8 %.
_EIGHT = Struct(">8Q")
_FIRST = Struct(">Q")
_NUMBER = (1 << 20) - 1
_PLACE = ~_NUMBER


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

    @property
    def last(self) -> T | None:
        """The candidate that was chosen last, or that this began behind."""
        return self._candidates[self._next % len(self._candidates)] if self._candidates else None

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


class SmoothRoundRobin(Generic[T]):
    """Every candidate in turn, as often as its weight says, and never in bursts (nginx's algorithm).

    Each choice gives every candidate its weight as credit, takes the one that has most, and charges it the whole.
    """

    __slots__ = ("_weights", "credit", "last")

    def __init__(self, candidates: Sequence[T], weights: Sequence[float], before: SmoothRoundRobin[T] | None) -> None:
        self._weights = tuple(weights)
        earned: dict[T, float] = {} if before is None else before.credit
        self.credit: dict[T, float] = {candidate: earned.get(candidate, 0.0) for candidate in candidates}
        self.last: T | None = None

    def choose(self, exclude: Collection[T] = ()) -> T:
        """Return the next candidate that is not in `exclude`; raises `NoEndpoints` when there is none."""
        credit = self.credit
        best, most, total = None, 0.0, 0.0
        for candidate, weight in zip(credit, self._weights, strict=True):
            if exclude and candidate in exclude:
                continue
            total += weight
            credit[candidate] = now = credit[candidate] + weight
            if best is None or now > most:
                best, most = candidate, now
        if best is None:
            raise NoEndpoints
        credit[best] -= total
        self.last = best
        return best


class Random(Generic[T]):
    """Any candidate, each as likely as its weight says."""

    __slots__ = ("_candidates", "_random", "_weights")

    def __init__(self, candidates: Sequence[T], source: random.Random, weights: Sequence[float] | None = None) -> None:
        self._candidates = tuple(candidates)
        self._random = source
        self._weights = weights

    def choose(self, exclude: Collection[T] = ()) -> T:
        """Return a candidate that is not in `exclude`; raises `NoEndpoints` when there is none."""
        candidates: Sequence[T] = self._candidates
        weights = self._weights
        if exclude:
            left = [position for position, candidate in enumerate(candidates) if candidate not in exclude]
            candidates = [candidates[position] for position in left]
            weights = weights and [weights[position] for position in left]
        if not candidates:
            raise NoEndpoints
        if weights:
            bounds = list(accumulate(weights))
            place = bisect(bounds, self._random.random() * bounds[-1])
            return candidates[min(place, len(candidates) - 1)]
        return candidates[int(self._random.random() * len(candidates))]


class PowerOfTwo(Generic[T]):
    """Of two candidates that chance picks, the one with less load for its weight.

    Nearly as even as the least load of all, at a cost that does not grow, and without the herd that runs to whoever
    reports least.
    """

    __slots__ = ("_candidates", "_load", "_random", "_weights")

    def __init__(
        self,
        candidates: Sequence[T],
        source: random.Random,
        load: Callable[[T], float],
        weights: Sequence[float] | None = None,
    ) -> None:
        self._candidates = tuple(candidates)
        self._random = source
        self._load = load
        self._weights = weights

    def choose(self, exclude: Collection[T] = ()) -> T:
        """Return a candidate that is not in `exclude`; raises `NoEndpoints` when there is none."""
        candidates = self._candidates
        places: Sequence[int] = range(len(candidates))
        if exclude:
            places = [place for place in places if candidates[place] not in exclude]
        count = len(places)
        if not count:
            raise NoEndpoints
        first = int(self._random.random() * count)
        if count > 1:
            # Any of the others, each as likely.
            second = places[(first + 1 + int(self._random.random() * (count - 1))) % count]
            if self._burden(second) < self._burden(places[first]):
                return candidates[second]
        return candidates[places[first]]

    def _burden(self, place: int) -> float:
        load = self._load(self._candidates[place])
        # The request to come counts too, or a slow starter without load would get everything.
        return load if self._weights is None else (load + 1) / self._weights[place]


class LeastLoad(Generic[T]):
    """The candidate with the least load for its weight; among equals, each in turn. A choice looks at all of them."""

    __slots__ = ("_candidates", "_load", "_next", "_weights")

    def __init__(
        self, candidates: Sequence[T], start: int, load: Callable[[T], float], weights: Sequence[float] | None = None
    ) -> None:
        self._candidates = tuple(candidates)
        self._next = start
        self._load = load
        self._weights = weights

    @property
    def last(self) -> T | None:
        """The candidate that was chosen last, or that this began behind."""
        return self._candidates[self._next % len(self._candidates)] if self._candidates else None

    def choose(self, exclude: Collection[T] = ()) -> T:
        """Return the candidate with the least load that is not in `exclude`; raises `NoEndpoints` without one."""
        candidates, weights, load = self._candidates, self._weights, self._load
        count = len(candidates)
        best, least = -1, 0.0
        for step in range(1, count + 1):
            place = (self._next + step) % count
            candidate = candidates[place]
            if exclude and candidate in exclude:
                continue
            burden = load(candidate) if weights is None else (load(candidate) + 1) / weights[place]
            if best < 0 or burden < least:
                best, least = place, burden
                if not burden:
                    break
        if best < 0:
            raise NoEndpoints
        self._next = best
        return candidates[best]


class Ring(Generic[T]):
    """A consistent hash (ketama): equal keys get equal candidates, and few keys move when a candidate comes or goes.

    The places of a candidate depend on its name alone, so that all workers of all proxies agree. A point is a place
    whose lowest bits are the number of the candidate. 1,000 candidates take about 0.1 s.
    """

    __slots__ = ("_candidates", "_points")

    def __init__(self, candidates: Sequence[T], name: Callable[[T], bytes]) -> None:
        self._candidates = tuple(candidates)
        points: list[int] = []
        for number, candidate in enumerate(self._candidates):
            points += [place & _PLACE | number for place in _places(name(candidate))]
        points.sort()
        self._points = points

    def choose(self, key: bytes, exclude: Collection[T] = ()) -> T:
        """Return the candidate for `key`, or if it is in `exclude` the next one; raises `NoEndpoints` without one."""
        points, candidates = self._points, self._candidates
        (place,) = _FIRST.unpack(blake2b(key, digest_size=8).digest())
        start = bisect(points, place)
        refused: set[int] = set()
        for step in range(len(points)):
            number = points[start + step - len(points)] & _NUMBER
            if number in refused:
                continue
            candidate = candidates[number]
            if not exclude or candidate not in exclude:
                return candidate
            refused.add(number)
            if len(refused) == len(candidates):
                break
        raise NoEndpoints


def _places(name: bytes) -> Iterator[int]:
    for number in range(_DIGESTS):
        yield from _EIGHT.unpack(blake2b(b"%b-%d" % (name, number)).digest())


def balancer(
    kind: Balance,
    candidates: Sequence[T],
    source: random.Random,
    load: Callable[[T], float] = lambda _: 0,
    weights: Sequence[float] | None = None,
    before: Balancer[T] | None = None,
) -> Balancer[T]:
    """Return a new balancer of this kind over `candidates` that goes on where `before` was.

    `load` says how many requests a candidate has in flight, or how long it takes; equal `weights` are none. For a
    consistent hash it is the one for requests that lack what the hash is taken of.
    """
    match kind:
        case Balance.RANDOM:
            return Random(candidates, source, weights)
        case Balance.POWER_OF_TWO | Balance.EWMA:
            return PowerOfTwo(candidates, source, load, weights)
        case Balance.LEAST_CONNECTIONS:
            return LeastLoad(candidates, _start(candidates, source, before), load, weights)
    if weights is not None:
        return SmoothRoundRobin(candidates, weights, before if isinstance(before, SmoothRoundRobin) else None)
    return RoundRobin(candidates, _start(candidates, source, before))


def _start(candidates: Sequence[T], source: random.Random, before: Balancer[T] | None) -> int:
    """Return the place behind which to begin: where `before` was, or anywhere."""
    last = before.last if isinstance(before, RoundRobin | SmoothRoundRobin | LeastLoad) else None
    if last is not None and last in candidates:
        return candidates.index(last)
    return source.randrange(len(candidates) or 1)
