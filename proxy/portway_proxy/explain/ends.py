"""Upstreams at the end of a rehearsal: an endpoint is chosen as for any request, and never connected to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway_proxy.errors import NoEndpoints
from portway_proxy.explain.props import Transport
from portway_proxy.explain.scenario import Arrival, Rehearsal, Scenario
from portway_proxy.l7 import flow
from portway_proxy.l7.errand import Errand
from portway_proxy.l7.mirror import Copy
from portway_proxy.l7.response import ResponseHead
from portway_proxy.l7.upstream import UpstreamConnection
from portway_proxy.snapshot import Balance, Endpoint, UpstreamPolicy
from portway_proxy.upstreams import LiveUpstream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portway_proxy.endpoint_states import EndpointRow
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.http import Http
    from portway_proxy.l7.pool import Pool

__all__ = ["RehearsedUpstream"]

_ORDINARY = UpstreamPolicy()
_WAYS = {
    Balance.ROUND_ROBIN: "one after the other",
    Balance.RANDOM: "any, by chance",
    Balance.POWER_OF_TWO: "the less busy one of two that chance names",
    Balance.LEAST_CONNECTIONS: "the one with the fewest requests under way",
    Balance.EWMA: "the one of two that answers faster, by what they took lately",
    Balance.HASH: "one after the other: the request lacks what the hash is taken of",
}


class _Line(UpstreamConnection):
    """A connection to an endpoint, on a transport that leads nowhere."""

    def __init__(self, http: Http, pool: Pool, transport: Transport) -> None:
        super().__init__(http, pool)
        self._transport = transport


class RehearsedUpstream(LiveUpstream):
    """An upstream whose endpoints get nothing; `rehearse` comes before anything else."""

    __slots__ = ("_found", "_scenario")

    def rehearse(self, found: Rehearsal, scenario: Scenario, rows: Iterable[EndpointRow]) -> None:
        """Write down what comes here; `rows` say how endpoints fare."""
        self._found = found
        self._scenario = scenario
        if self.upstream.external_name:
            # Whatever addresses it has: each proxy looks them up again and again.
            self.resolved((Endpoint(self.upstream.external_name, self.upstream.external_port),), NoEndpoints)
        states = {row.address: row for row in rows}
        for pool in self.pools:
            row = states.get(str(pool.endpoint))
            # One that some workers use may get the request.
            if row is not None and not row.ready:
                pool.health.ejected = True
                pool.health.until = max(row.retry, 1.0)
        self.refresh()

    def _settle(self) -> None:
        self.plain = False  # So that requests come to `assign`.

    def assign(self, exchange: Exchange) -> None:
        """Keep what an endpoint would get; raises the reason why there is none."""
        client, found = exchange.client, self._found
        passage = exchange.passage
        if not isinstance(client, Errand) and (passage is None or passage.instead is None):
            found.trace.arrived = True
        arrival = self._arrive(exchange)
        if isinstance(client, Copy):
            found.copies.append(arrival)
        elif isinstance(client, Errand):
            found.asked.append(arrival)
            self._answer(exchange, client)
        else:
            found.arrival = arrival
            found.exchange = exchange

    def relay(self, client: str) -> Arrival:
        """Return the endpoint for a connection that passes through; raises the reason why there is none."""
        pool = self.reach(client.encode())
        hashed = self.upstream.balance is Balance.HASH
        candidates = len(self._selection.candidates)
        why = "the hash of the client's address leads to it" if hashed else self._any(candidates)
        fixed = hashed or candidates == 1 or bool(self.upstream.external_name)
        return Arrival(self.upstream.name, str(pool.endpoint) if fixed else "", why)

    def _any(self, candidates: int) -> str:
        """Return how one of them is chosen, where nothing of the client decides it."""
        if self.upstream.external_name:
            return "whatever addresses the name has: each proxy looks them up again and again"
        if candidates == 1:
            others = "that is well" if any(pool.health.out for pool in self.pools) else "of this proxy's zone"
            return "the only one" if len(self.pools) == 1 else f"the only one {others}"
        return f"any of {candidates}, {_WAYS[self.upstream.balance]}"

    def _arrive(self, exchange: Exchange) -> Arrival:
        pool = self._place(exchange, self._tie_of(exchange))
        if pool is None:  # All are full: of requests that nobody rehearses.
            raise NoEndpoints
        fixed, why = self._choice(exchange)
        transport = Transport()
        exchange.pool = pool
        _Line(exchange.client.http, pool, transport).start(exchange)
        head = bytes(transport.written)
        if pool.speech.shared:
            head = head.replace(b" HTTP/1.1\r\n", b" HTTP/2\r\n", 1)
        return Arrival(self.upstream.name, str(pool.endpoint) if fixed else "", why, head)

    def _choice(self, exchange: Exchange) -> tuple[bool, str]:
        """Return whether no other endpoint can be chosen for the request now, and how one is."""
        policy = self.upstream.policy or _ORDINARY
        candidates = len(self._selection.candidates)
        if self.upstream.external_name:
            return True, self._any(candidates)
        if self._tie_of(exchange) is not None:
            return True, f"the cookie {policy.affinity.cookie if policy.affinity else ''} ties the client to it"
        key = None if self._terms is None else self._terms.key(exchange)
        spreads = policy.affinity is not None and policy.affinity.spreads
        if key is not None and not (spreads and not self.knows(exchange)):
            subset = policy.hash_on.subset if policy.hash_on else 0
            what = f"the cookie {policy.affinity.cookie}" if spreads and policy.affinity else _hashed(policy)
            one = f"one of the {subset} that" if subset else "the one that"
            return candidates == 1 or not subset, f"{one} the hash of {what} leads to"
        if spreads and candidates > 1:
            return False, f"any of {candidates}, by the hash of a new cookie"
        return candidates == 1, self._any(candidates)

    def _answer(self, exchange: Exchange, client: Errand) -> None:
        """Have the service answer that was asked who may pass."""
        if not self._scenario.verdict:
            client.abort()
            return
        exchange.response = ResponseHead(1, self._scenario.verdict, b"")
        flow.complete(exchange, keeps=True)


def _hashed(policy: UpstreamPolicy) -> str:
    return "the client's address" if policy.hash_on is None else str(policy.hash_on)
