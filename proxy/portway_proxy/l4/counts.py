"""What a layer 4 listener counts: clients, how they ended, and bytes, all together and for each endpoint."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Protocol

from portway_proxy.l7.pool import Pool
from portway_proxy.metrics import (
    BYTES,
    CONNECTIONS,
    ENDPOINT_BYTES,
    ENDPOINT_CONNECTIONS,
    RELAYS,
    RELAYS_ACTIVE,
    Sample,
)

__all__ = ["Carried", "Counts"]


class Carried(Protocol):
    """A connection, or a UDP client, that has passed through or does so now.

    `pool` is that of its endpoint, None while there is none.
    """

    upstream: str
    pool: Pool | None

    @property
    def bytes_in(self) -> int:
        """The bytes that went from the client to the endpoint so far."""

    @property
    def bytes_out(self) -> int:
        """The bytes that went from the endpoint to the client so far."""


class _Sum:
    """What has passed through to one endpoint and has ended."""

    __slots__ = ("bytes_in", "bytes_out", "connections")

    def __init__(self) -> None:
        self.connections = 0
        self.bytes_in = 0
        self.bytes_out = 0

    def add(self, bytes_in: int, bytes_out: int) -> None:
        self.connections += 1
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out


class Counts:
    """The counts of the listener `name`. Those of an endpoint that is gone end with its last connection."""

    __slots__ = ("_accepted", "_all", "_by_endpoint", "_ended", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._accepted = 0
        self._all = _Sum()
        self._ended: defaultdict[str, int] = defaultdict(int)
        self._by_endpoint: dict[tuple[str, Pool], _Sum] = {}

    def accept(self) -> None:
        """Count a client that came."""
        self._accepted += 1

    def refuse(self, reason: str) -> None:
        """Count a client that was turned away at once."""
        self._ended[reason] += 1

    def end(self, carried: Carried, reason: str) -> None:
        """Count a client that has ended."""
        self._ended[reason] += 1
        bytes_in, bytes_out = carried.bytes_in, carried.bytes_out
        self._all.add(bytes_in, bytes_out)
        if carried.pool is not None:
            key = carried.upstream, carried.pool
            counts = self._by_endpoint.get(key)
            if counts is None:
                counts = self._by_endpoint[key] = _Sum()
            counts.add(bytes_in, bytes_out)

    def samples(self, present: Collection[Carried]) -> Iterator[Sample]:
        """Return a sample for each count; what those that are `present` have passed on so far is in them."""
        name = self.name
        yield CONNECTIONS.sample(self._accepted, name)
        yield RELAYS_ACTIVE.sample(len(present), name)
        yield BYTES.sample(self._all.bytes_in + sum(one.bytes_in for one in present), name, "in")
        yield BYTES.sample(self._all.bytes_out + sum(one.bytes_out for one in present), name, "out")
        for reason, count in self._ended.items():
            yield RELAYS.sample(count, name, reason)
        yield from self._endpoint_samples(present)

    def _endpoint_samples(self, present: Collection[Carried]) -> Iterator[Sample]:
        sums: defaultdict[tuple[str, Pool], _Sum] = defaultdict(_Sum)
        for one in present:
            if one.pool is not None:
                sums[one.upstream, one.pool].add(one.bytes_in, one.bytes_out)
        for key in [key for key in self._by_endpoint if key[1].retired and key not in sums]:
            del self._by_endpoint[key]
        for key in {**self._by_endpoint, **sums}:
            upstream, pool = key
            ended, running = self._by_endpoint.get(key) or _Sum(), sums.get(key) or _Sum()
            labels = (self.name, upstream, str(pool.endpoint))
            yield ENDPOINT_CONNECTIONS.sample(ended.connections + running.connections, *labels)
            yield ENDPOINT_BYTES.sample(ended.bytes_in + running.bytes_in, *labels, "in")
            yield ENDPOINT_BYTES.sample(ended.bytes_out + running.bytes_out, *labels, "out")
