"""An upstream in service: its endpoints' pools, which of them gets a request, and what becomes of those that wait."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from secrets import token_bytes

from portway_proxy.clock import NEVER, Still, Watch
from portway_proxy.endpoint_contexts import EndpointContexts
from portway_proxy.endpoint_tls import EndpointTls
from portway_proxy.errors import AddressRefused, NoEndpoints, ProxyError
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import Exchange
from portway_proxy.l7.pool import Pool, Speech
from portway_proxy.l7.queue import Queue
from portway_proxy.l7.shared_pool import SharedPool
from portway_proxy.l7.terms import Terms
from portway_proxy.metrics import QUEUED, Sample
from portway_proxy.retries import Budget, rules
from portway_proxy.selection import Selection
from portway_proxy.snapshot import Balance, Ejection, Endpoint, Protocol, Upstream, UpstreamPolicy
from portway_proxy.tally import Tally

__all__ = ["LiveUpstream", "Surroundings"]

_log = logging.getLogger(__name__)

_ORDINARY = UpstreamPolicy()
_EJECTION = Ejection()
_TLS = EndpointTls()
_ALWAYS = float("-inf")


@dataclass(slots=True)
class Surroundings:
    """What upstreams need of their worker, which may change `drain` at any time.

    Requests at an endpoint that is removed get `drain` seconds. `key` signs affinity cookies where the snapshot brings
    no key.
    """

    clock: Watch = field(default_factory=Still)
    workers: int = 1
    zone: str = ""
    drain: float = 30.0
    key: bytes = field(default_factory=lambda: token_bytes(32), repr=False)
    contexts: EndpointContexts = field(default_factory=EndpointContexts, repr=False)


class LiveUpstream:
    """An upstream in service.

    `label` is the name for access lines; `requests` counts those that ended. While the first addresses of an external
    name are looked up, `parked` holds the exchanges that wait for them; later None. While it is `plain` all requests
    are alike to it: `next_pool` says where the next one goes. Else `assign` does. `deadline` is when time alone changes
    which endpoints get requests. It is `timed` when they are chosen by how long they take.
    """

    __slots__ = (
        "_around",
        "_balancer",
        "_budget",
        "_ejection",
        "_failure",
        "_key",
        "_queue",
        "_selection",
        "_terms",
        "deadline",
        "label",
        "parked",
        "plain",
        "pools",
        "requests",
        "retries",
        "tally",
        "timed",
        "upstream",
    )

    def __init__(self, upstream: Upstream, around: Surroundings | None = None, key: bytes = b"") -> None:
        self.upstream = upstream
        self.label = upstream.name.encode()
        self.requests = 0
        self.tally = Tally()
        self.pools: tuple[Pool, ...] = ()
        self.deadline = NEVER
        self.plain = False
        self.parked: list[Exchange] | None = [] if upstream.external_name else None
        self._around = around or Surroundings()
        self._key = key or self._around.key
        self._queue: Queue | None = None
        self._budget: Budget | None = None
        self._failure: Callable[[], ProxyError] = partial(NoEndpoints, upstream.reason)
        self._configure(upstream)
        self.serve(upstream.endpoints)

    @property
    def contexts(self) -> EndpointContexts:
        """What TLS connections to endpoints are made with."""
        return self._around.contexts

    @property
    def shares(self) -> dict[Pool, float]:
        """What each endpoint that gets requests gets of them beside an ordinary one."""
        return self._selection.shares

    # --- content

    def update(self, upstream: Upstream, key: bytes = b"") -> None:
        """Take new content; pools of endpoints that stay keep their connections."""
        before, self.upstream = self.upstream, upstream
        key = key or self._around.key
        if (upstream.policy, upstream.balance, key) != (before.policy, before.balance, self._key):
            self._key = key
            self._configure(upstream)
        named = (upstream.external_name, upstream.external_port)
        if upstream.external_name and named == (before.external_name, before.external_port):
            self.serve(tuple(pool.endpoint for pool in self.pools))
            return
        if upstream.external_name and self.parked is None:
            self.parked = []
        self._failure = partial(NoEndpoints, upstream.reason)
        self.serve(upstream.endpoints)
        if not upstream.external_name:
            self._unpark()

    def resolved(self, endpoints: Collection[Endpoint], failure: type[ProxyError]) -> None:
        """Take what the external name resolves to; with nothing, earlier endpoints stay, or requests get `failure`."""
        self._failure = failure
        if endpoints or failure is AddressRefused:
            self.serve(endpoints)
        self._unpark()

    def serve(self, endpoints: Collection[Endpoint]) -> None:
        """Send new requests to these endpoints; idle connections to others end, busy ones have a time to finish."""
        speech = _speech(self.upstream)
        make = SharedPool if speech.shared else Pool
        kept = {(pool.endpoint.address, pool.endpoint.port): pool for pool in self.pools if pool.speech == speech}
        # The first endpoints have nobody who could take their share meanwhile.
        since = self._around.clock.now if self.pools else _ALWAYS
        pools = []
        for endpoint in endpoints:
            pool = kept.get((endpoint.address, endpoint.port)) or make(endpoint, self, since, speech)
            pool.endpoint = endpoint
            pools.append(pool)
        gone = set(self.pools).difference(pools)
        self.pools = tuple(pools)
        if self._terms is not None:
            self._terms.tie(pools)
        for pool in pools:
            self._attend(pool)
        self.refresh()
        at_once = (self.upstream.policy or _ORDINARY).close_on_removal
        for pool in gone:
            pool.retire(self._around.clock, self._around.drain)
            self.tally.retire(pool)
            if at_once:
                pool.expire()
        self.freed()

    def close(self) -> None:
        """End idle connections, and answer what waits; the upstream is gone from the snapshot."""
        self.serve(())
        self._unpark()

    def _unpark(self) -> None:
        parked, self.parked = self.parked, None
        self._settle()
        for exchange in parked or ():
            flow.attempt_or_fail(exchange)

    def _configure(self, upstream: Upstream) -> None:
        """Take what the policy says; `serve` has to follow."""
        policy = upstream.policy or _ORDINARY
        around = self._around
        self._selection: Selection[Pool] = Selection(upstream.balance, policy, around.zone, lambda: around.clock.now)
        self._ejection = policy.ejection or _EJECTION
        self.retries = rules(policy.retries)
        self._budget = None
        self.timed = upstream.balance is Balance.EWMA
        self._terms = Terms.of(upstream, self._key, around.workers)
        if self._terms is not None and self._terms.capacity is not None:
            self._queue = self._queue or Queue(around.clock, self._find)
            self._queue.most = self._terms.capacity.queue
            self._queue.timeout = self._terms.capacity.timeout
        for pool in self.pools:
            if not self._ejection.failures:
                pool.health.pardon()
            if policy.check is None:
                pool.health.unchecked()

    # --- the choice

    def next_pool(self, exclude: Collection[Pool] = ()) -> Pool:
        """Return the pool of the next endpoint; raises the reason why there is none (as a rule `NoEndpoints`)."""
        try:
            return self._balancer.choose(exclude)
        except NoEndpoints:
            raise self._failure() from None

    def reach(self, client: bytes, tried: Collection[Pool] = ()) -> Pool:
        """Return the endpoint for a connection of `client`, its address, that is passed through, but none of `tried`.

        Raises like `next_pool`.
        """
        probe = self._selection.probe
        if probe is not None and probe not in tried:
            # Whom it does not accept goes on to another endpoint.
            probe.health.probe(self._around.clock.now)
            self.refresh()
            return probe
        key = client if self.upstream.balance is Balance.HASH else None
        try:
            if tried:
                return self._selection.another(tried, key)
            return self._balancer.choose() if key is None else self._selection.of_key(key)
        except NoEndpoints:
            raise self._failure() from None

    def assign(self, exchange: Exchange) -> Pool | None:
        """Return the pool for a request, or None: it waits, and is sent later. Raises a `ProxyError` for neither."""
        if self.parked is not None:
            self.parked.append(exchange)
            return None
        queue = self._queue
        tie = self._tie_of(exchange)
        pool = self._probed_by(exchange, tie)
        if pool is None and not (queue and queue.holds_up(tie)):
            pool = self._place(exchange, tie)
        if pool is None and queue is not None:
            queue.add(exchange, tie)
        return pool

    def another(self, exchange: Exchange, cause: str) -> Pool | None:
        """Return the pool for one more attempt at a request, or None when there is none or the budget refuses.

        An attempt that was refused cost nobody anything. One that did not connect is no more of a load to another
        endpoint, if that is well, than it would have been at first. The budget is for everything else.
        """
        terms = self._terms
        key, full = (None, []) if terms is None else (terms.key(exchange), terms.full(self.pools))
        try:
            pool = self._selection.another((*exchange.tried, *full), key)
        except NoEndpoints:
            return None
        well = not pool.health.failures and not pool.health.out
        if cause != "refused" and not (cause == "connect" and well) and not self._spend():
            self.tally.refused += 1
            return None
        self.tally.repeat(cause)
        return pool

    def _spend(self) -> bool:
        requests, now = self.requests, self._around.clock.now
        if self._budget is None:
            self._budget = self.retries.budget(self._around.workers, requests, now)
        return self._budget.take(requests, now)

    def cookie_for(self, exchange: Exchange, pool: Pool) -> bytes:
        """Return the line that ties the client to the endpoint of `pool`; empty when it is, or need not be."""
        if self._terms is None or pool.retired:
            return b""
        # Whose request only asked whether another endpoint is well again has not lost its own.
        tie = self._terms.pinned(exchange)
        keeps = tie in self._selection.candidates and tie not in exchange.tried
        return b"" if tie is not None and (keeps or self._terms.stays) else self._terms.cookie_for(exchange, pool)

    def knows(self, exchange: Exchange) -> bool:
        """Return whether an affinity cookie ties the client to this upstream."""
        return self._terms is not None and self._terms.knows(exchange)

    def _find(self, exchange: Exchange) -> Pool | None:
        return self._place(exchange, self._tie_of(exchange))

    def _place(self, exchange: Exchange, tie: Pool | None) -> Pool | None:
        """Return the pool for a request of a client that is tied to `tie`, or None when there is no room."""
        terms = self._terms
        if terms is None:
            return self.next_pool()
        full = terms.full(self.pools)
        if tie is not None:
            return None if tie in full else tie
        key = terms.key(exchange)
        try:
            return self._balancer.choose(full) if key is None else self._selection.of_key(key, full)
        except NoEndpoints:
            if full:
                return None
            raise self._failure() from None

    def _tie_of(self, exchange: Exchange) -> Pool | None:
        """Return the endpoint that the client is tied to, if requests go there now."""
        pinned = None if self._terms is None else self._terms.pinned(exchange)
        return pinned if pinned is not None and pinned in self._selection.candidates else None

    def _probed_by(self, exchange: Exchange, tie: Pool | None) -> Pool | None:
        """Return the endpoint that was ejected, when its time is over and this request may ask it."""
        pool = self._selection.probe
        if pool is None:
            return None
        now = self._around.clock.now
        head = exchange.head
        # A request that may be repeated costs its client nothing when the endpoint is still ill.
        harmless = tie is None and self.retries.repeatable(head.method, bodiless=head.bodiless)
        if not harmless and not pool.health.takes_any(now):
            return None
        pool.health.probe(now)
        self.refresh()
        return pool

    # --- how endpoints fare

    def failed(self, pool: Pool) -> None:
        """Note that the endpoint of `pool` failed a request or a connection."""
        if pool.retired:
            return
        now = self._around.clock.now
        health = pool.health
        if health.fail(self._ejection, now):
            self.tally.ejections += 1
            self.refresh()
            if pool not in self._selection.candidates:
                wait = health.until - now
                _log.info("%s of %s failed and is left alone for %g s", pool.endpoint, self.upstream.name, wait)
        self._attend(pool)

    def succeeded(self, pool: Pool) -> None:
        """Note that the endpoint of `pool` answered."""
        if pool.retired:
            return
        if pool.health.succeed(self._around.clock.now):
            self.refresh()
        self._attend(pool)

    def checked(self, pool: Pool, *, passed: bool) -> None:
        """Note what a check of the endpoint of `pool` found."""
        if passed:
            self.tally.checks_passed += 1
        else:
            self.tally.checks_failed += 1
        check = (self.upstream.policy or _ORDINARY).check
        if check is not None and pool.health.checked(check, self._around.clock.now, passed=passed):
            self.refresh()

    def freed(self) -> None:
        """Note that an endpoint may have room for a request that waits."""
        if self._queue is not None:
            self._queue.freed()

    def expire(self) -> None:
        """Look again, because time changed something: an ejection is over, or shares grow."""
        self.refresh()

    def refresh(self) -> None:
        """Decide anew which endpoints get requests."""
        clock = self._around.clock
        self._selection.refresh(self.pools, clock.now)
        self._balancer = self._selection.balancer
        self.deadline = self._selection.wake
        if self.deadline == NEVER:
            clock.unwatch(self)
        else:
            clock.watch(self)
        self._settle()

    def _settle(self) -> None:
        self.plain = self.parked is None and self._terms is None and self._selection.probe is None

    def _attend(self, pool: Pool) -> None:
        terms = self._terms
        pool.announce = (self.upstream.policy or _ORDINARY).announce
        pool.limited = terms is not None and terms.capacity is not None
        sticky = terms is not None and terms.sticky
        pool.attentive = sticky or self.timed or pool.health.failures > 0 or pool.health.ejected

    # --- counts

    def samples(self) -> Iterator[Sample]:
        """Return a sample for each count."""
        opaque = self.upstream.protocol is Protocol.OPAQUE  # Without requests, and all the same not idle.
        if not opaque and not self.requests and self.tally.quiet and self._queue is None:
            return  # As most of 10,000 upstreams do.
        name = self.upstream.name
        yield from self.tally.samples(name, self.pools)
        if self._queue is not None:
            yield QUEUED.sample(len(self._queue), name)


def _speech(upstream: Upstream) -> Speech:
    protocol = upstream.protocol
    shared = protocol in (Protocol.H2C, Protocol.H2)
    if protocol not in (Protocol.HTTPS, Protocol.H2):
        return Speech(shared=shared)
    tls = upstream.tls or _TLS
    # The server of an external name may have many.
    return Speech(tls, tls.name if tls.told else upstream.external_name, shared)
