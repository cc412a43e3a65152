"""Which endpoints of an upstream get requests now: by zone, by how they fare, and in which shares.

All that is decided here is decided when something changes, so that a request only asks a balancer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, Protocol, TypeVar

from portway_proxy.balance import Balancer, Ring, RoundRobin, balancer
from portway_proxy.clock import NEVER
from portway_proxy.errors import NoEndpoints
from portway_proxy.health import Health, ramp, too_many_out
from portway_proxy.snapshot import Balance, Ejection, Endpoint, UpstreamPolicy

__all__ = ["Candidate", "Selection"]

_RANDOM = random.Random()  # noqa: S311 - it spreads load, it guards nothing
_EJECTION = Ejection()
_ORDINARY = UpstreamPolicy()
_NOBODY: frozenset[Any] = frozenset()


class Candidate(Protocol):
    """What is known here of an endpoint."""

    endpoint: Endpoint
    health: Health
    label: bytes

    @property
    def load(self) -> int:
        """How many requests are in flight."""


C = TypeVar("C", bound=Candidate)


def _load(candidate: Candidate) -> float:
    return candidate.load


class Selection(Generic[C]):
    """The choice among the endpoints of one upstream.

    `balancer` chooses among the `candidates`. `probe` is an endpoint that was ejected and is due to be asked again.
    `wake` is the time of the coarse clock at which time alone changes something.
    """

    __slots__ = (
        "_all",
        "_balance",
        "_groups",
        "_hashes",
        "_measure",
        "_ring",
        "_second",
        "_share",
        "_slow_start",
        "_subset",
        "_unfit",
        "_weights",
        "_zone",
        "balancer",
        "candidates",
        "probe",
        "wake",
    )

    def __init__(
        self, balance: Balance, policy: UpstreamPolicy | None, zone: str, now: Callable[[], float] = float
    ) -> None:
        policy = policy or _ORDINARY
        self._balance = balance
        self._measure = (lambda one: one.health.latency.score(now())) if balance is Balance.EWMA else _load
        self._hashes = balance is Balance.HASH or (policy.affinity is not None and policy.affinity.spreads)
        self._subset = policy.hash_on.subset if policy.hash_on is not None else 0
        self._groups: dict[C, tuple[C, ...]] = {}
        self._slow_start = policy.slow_start
        self._share = (policy.ejection or _EJECTION).share
        self._zone = zone
        self._all: tuple[C, ...] = ()
        self._weights: Sequence[float] | None = None
        self._ring: Ring[C] | None = None
        self._unfit: frozenset[C] = frozenset()
        self.candidates: tuple[C, ...] = ()
        self.balancer: Balancer[C] = RoundRobin((), 0)
        self._second: Balancer[C] | None = None
        self.probe: C | None = None
        self.wake = NEVER

    def refresh(self, everyone: tuple[C, ...], now: float) -> None:
        """Take the endpoints as they are, and how they fare at `now`."""
        candidates = self._fit(everyone)
        weights = ramp([one.health for one in candidates], self._slow_start, now)
        if candidates != self.candidates or weights != self._weights:
            self.balancer = balancer(self._balance, candidates, _RANDOM, self._measure, weights, self.balancer)
            self._second = None
            self.candidates, self._weights = candidates, weights
        if everyone != self._all:
            self._all = everyone
            if self._hashes:
                self._ring = Ring(everyone, lambda one: one.label)
                self._groups = _groups(everyone, self._subset) if self._subset else {}
        self._unfit = _NOBODY if candidates is everyone else frozenset(everyone).difference(candidates)
        self.probe = next((one for one in self._unfit if one.health.due(now)), None)
        self.wake = now if weights is not None else NEVER
        for one in everyone:
            if one.health.ejected and now < one.health.until < self.wake:
                self.wake = one.health.until

    @property
    def shares(self) -> dict[C, float]:
        """What each candidate gets beside an ordinary one: 1, or less while it starts slowly."""
        return dict(zip(self.candidates, self._weights or [1.0] * len(self.candidates), strict=True))

    def of_key(self, key: bytes, exclude: Collection[C] = ()) -> C:
        """Return the candidate for the hash of `key`; raises `NoEndpoints` when all are in `exclude`."""
        if self._ring is None:
            return self.balancer.choose(exclude)
        unwanted = self._unfit.union(exclude) if exclude else self._unfit
        if not self._groups:
            return self._ring.choose(key, unwanted)
        group = [one for one in self._groups[self._ring.choose(key)] if one not in unwanted]
        if not group:  # Its key's group has nobody left.
            group = [one for one in self._groups[self._ring.choose(key, unwanted)] if one not in unwanted]
        return _RANDOM.choice(group)

    def another(self, exclude: Collection[C], key: bytes | None = None) -> C:
        """Return somebody for a request that those in `exclude` failed or cannot take: one that is well, or anyone.

        Raises `NoEndpoints` when there is nobody else.
        """
        ill = [one for one in self._all if one.health.out or one in exclude]
        for unwanted in (ill, exclude):
            try:
                return self._others().choose(unwanted) if key is None else self.of_key(key, unwanted)
            except NoEndpoints:
                pass
        # Nobody of this zone, or of those that are well, is left.
        others = [one for one in self._all if one not in exclude]
        others = [one for one in others if not one.health.out] or others
        if not others:
            raise NoEndpoints
        return _RANDOM.choice(others)

    def _others(self) -> Balancer[C]:
        # With a turn of its own: if two endpoints took turns, every request would begin with the one that fails.
        if self._second is None:
            self._second = balancer(self._balance, self.candidates, _RANDOM, self._measure, self._weights)
        return self._second

    def _fit(self, everyone: tuple[C, ...]) -> tuple[C, ...]:
        """Return those of this zone that are well, or those of all zones; when too few are well, all."""
        local = self._local(everyone)
        if local is everyone and not any(one.health.out for one in everyone):
            return everyone
        for some in (local, everyone):
            well = tuple(one for one in some if not one.health.out)
            if well and not too_many_out([one.health for one in some], self._share):
                return well
        return everyone

    def _local(self, everyone: tuple[C, ...]) -> tuple[C, ...]:
        # As kube-proxy: hints count when every endpoint has some and one of them names our zone.
        if not self._zone or not all(one.endpoint.for_zones for one in everyone):
            return everyone
        return tuple(one for one in everyone if self._zone in one.endpoint.for_zones) or everyone


def _groups(everyone: tuple[C, ...], size: int) -> dict[C, tuple[C, ...]]:
    """Return the group of each: `size` neighbours, the last ones filled up with the first."""
    found: dict[C, tuple[C, ...]] = {}
    for start in range(0, len(everyone), size):
        own = everyone[start : start + size]
        group = own + everyone[: min(size, len(everyone)) - len(own)]
        found |= dict.fromkeys(own, group)
    return found
