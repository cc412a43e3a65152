"""The connections of one port that pass through, whoever accepted them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Protocol

from portway_proxy.flows import Flow
from portway_proxy.gate import Gate
from portway_proxy.l4.counts import Counts
from portway_proxy.l4.passage import Passage, RelayWorker, Terms
from portway_proxy.l4.records import RelayRecord
from portway_proxy.l4.relay import reset
from portway_proxy.metrics import Sample
from portway_proxy.proxy_protocol import ProxyHeader

__all__ = ["Passages", "PassagesWorker"]


class PassagesWorker(RelayWorker, Protocol):
    """What a port needs of its worker beyond what its connections do."""

    @property
    def gate(self) -> Gate:
        """Who may come in."""


class Passages:
    """The connections that pass through now (`relays`), and the counts of all that did.

    `name` is the port's in logs and metrics, `terms` hold for connections that come from now on, and `exhausted` is
    called when descriptors have run out.
    """

    __slots__ = ("_exhausted", "counts", "name", "relays", "terms", "worker")

    def __init__(self, worker: PassagesWorker, name: str, terms: Terms, exhausted: Callable[[], None]) -> None:
        self.worker = worker
        self.name = name
        self.terms = terms
        self.relays: set[Passage] = set()
        self.counts = Counts(name)
        self._exhausted = exhausted

    def enter(
        self, client: socket.socket, peer: str, upstream: str, origin: bytes, told: ProxyHeader | None = None
    ) -> Passage:
        """Take in a connection, whose non-blocking socket belongs to it, and return what it is to be sent on by."""
        self.counts.accept()
        passage = Passage(self, client, peer, upstream, origin, told)
        self.relays.add(passage)
        return passage

    def turn_away(self, client: socket.socket, peer: str, upstream: str, reason: str) -> None:
        """Reset a connection for which there is no room, count it and log it."""
        reset(client)
        self.counts.refuse(reason)
        self.worker.access.relay(RelayRecord(self.name, peer, upstream, "", 0, 0, 0.0, reason))

    def pause(self) -> None:
        """Accept nothing for a moment, because descriptors have run out."""
        self._exhausted()

    def finish(self, passage: Passage, reason: str) -> None:
        """Count and log a connection that has ended, and forget it."""
        self.relays.discard(passage)
        self.worker.gate.leave(passage.origin)
        self.counts.end(passage, reason)
        self.worker.access.relay(passage.record(reason))

    def close(self) -> None:
        """End all of them at once."""
        for passage in tuple(self.relays):
            passage.close()

    def flows(self, now: float) -> Iterator[Flow]:
        """Return what a table of flows says of each at `now`, a time of the loop."""
        return (passage.flow(now) for passage in self.relays)

    def samples(self) -> Iterator[Sample]:
        """Return a sample for each count; bytes of connections that run still are in them."""
        return self.counts.samples(self.relays)
