"""The connections to one endpoint: idle ones wait here for the next request, new ones are made here."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from portway_proxy.clock import NEVER, Watch
from portway_proxy.errors import ConnectFailed, EndpointRemoved, ProxyError
from portway_proxy.health import Health
from portway_proxy.l7 import flow
from portway_proxy.l7.connecting import Attempt
from portway_proxy.l7.exchange import PENDING, Exchange
from portway_proxy.l7.trail import trail_of
from portway_proxy.l7.upstream import UpstreamConnection

if TYPE_CHECKING:
    from portway_proxy.endpoint_contexts import EndpointContext, EndpointContexts, Kept
    from portway_proxy.endpoint_tls import EndpointTls
    from portway_proxy.l7.http import Http
    from portway_proxy.snapshot import Endpoint, ProxyVersion

__all__ = ["PLAIN", "Occupant", "Owner", "Pool", "Speech"]

# A cluster has many thousands of endpoints that nobody asks for anything: an empty set for each would be megabytes.
_NOTHING: frozenset[Occupant] = frozenset()


class Occupant(Protocol):
    """What counts as load of an endpoint: a connection, or a relay of layer 4."""

    def cut(self, error: ProxyError) -> None:
        """End at once."""


class Speech(NamedTuple):
    """How endpoints are spoken to: over TLS by `tls`, in clear without it. `name` is what they are told (SNI).

    Where connections are `shared`, it is HTTP/2.
    """

    tls: EndpointTls | None = None
    name: str = ""
    shared: bool = False


_HTTP2 = ("h2",)

PLAIN = Speech()
"""HTTP/1.1 in clear."""


class Line(Protocol):
    """What a request is sent on."""

    def start(self, exchange: Exchange) -> None:
        """Send the head of a request, and its body as the client delivers it."""


class Owner(Protocol):
    """The upstream that a pool belongs to."""

    @property
    def contexts(self) -> EndpointContexts:
        """What TLS connections are made with."""

    def failed(self, pool: Pool) -> None:
        """Note that the endpoint failed a request or a connection."""

    def succeeded(self, pool: Pool) -> None:
        """Note that the endpoint answered."""

    def freed(self) -> None:
        """Note that an endpoint may have room for a request that waits."""


class Pool:
    """The connections of one worker to one endpoint.

    Of the idle ones that which was used last is taken first, so that spare ones grow old and end. `label` is the
    endpoint for access lines. `connected` and `failed` count attempts, `connecting` those under way. Where it is to
    `announce` clients, connections are for one request each. While `attentive` the owner wants to hear of every
    response, while `limited` of every place that becomes free. `deadline` is when an endpoint that was removed has
    had its time.
    """

    __slots__ = (
        "_clock",
        "_idle",
        "_open",
        "announce",
        "attentive",
        "connected",
        "connecting",
        "deadline",
        "endpoint",
        "failed",
        "health",
        "label",
        "limited",
        "owner",
        "retired",
        "secure",
        "session",
        "speech",
    )

    def __init__(self, endpoint: Endpoint, owner: Owner, since: float, speech: Speech = PLAIN) -> None:
        self.endpoint = endpoint
        self.owner = owner
        self.health = Health(since)
        self.speech = speech
        self.secure = speech.tls is not None
        self.session: Kept | None = None
        self.label = str(endpoint).encode()
        self.retired = False
        self.announce: ProxyVersion | None = None
        self.attentive = False
        self.limited = False
        self.connected = 0
        self.connecting = 0
        self.failed = 0
        self.deadline = NEVER
        self._idle: list[UpstreamConnection] = []
        self._open: set[Occupant] | frozenset[Occupant] = _NOTHING

    def __len__(self) -> int:
        return len(self._idle)

    def __bool__(self) -> bool:
        """Return True: a pool without idle connections is a pool."""
        return True

    def __contains__(self, connection: UpstreamConnection) -> bool:
        return connection in self._open

    @property
    def load(self) -> int:
        """How many requests are in flight: a connection has one, or is idle."""
        return len(self._open) + self.connecting - len(self._idle)

    @property
    def connections(self) -> int:
        """How many are open, or being made."""
        return len(self._open) + self.connecting

    def context(self) -> EndpointContext | None:
        """Return what makes TLS connections, or None where they are in clear; raises `EndpointUnreadable`."""
        tls = self.speech.tls
        return None if tls is None else self.owner.contexts.context((tls, _HTTP2 if self.speech.shared else ()))

    def has_room(self, connections: int, requests: int) -> bool:
        """Return whether one more request would keep to these limits; 0 is none."""
        if requests and self.load >= requests:
            return False
        return bool(self._idle) or not connections or len(self._open) + self.connecting < connections

    def take(self) -> Line | None:
        """Return an idle connection that has neither ended nor said anything since, or None."""
        while self._idle:
            connection = self._idle.pop()
            if connection.quiet():
                connection.reused = True
                return connection
            connection.close()
        return None

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose response ended exactly where it should, or end it when there are enough."""
        http = connection.http
        if self.secure and not connection.reused:
            self.session = connection.session() or self.session
        full = len(self._idle) >= http.limits.pool
        if self.retired or full or self.announce is not None or http.worker.draining:
            connection.close()
        else:
            connection.deadline = http.clock.now + http.timeouts.upstream_idle
            self._idle.append(connection)
            if self.limited:
                self.owner.freed()

    def opened(self, occupant: Occupant) -> None:
        """Count a connection from its beginning."""
        if isinstance(self._open, frozenset):
            self._open = set()
        self._open.add(occupant)

    def left(self, occupant: Occupant) -> None:
        """Count a relay no longer; harmless when it was not counted."""
        if isinstance(self._open, set):
            self._open.discard(occupant)

    def forget(self, connection: UpstreamConnection) -> None:
        """Drop a connection that ended; harmless when it was dropped before."""
        if isinstance(self._open, set):
            self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self.limited:
            self.owner.freed()

    def empty(self) -> None:
        """End the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def retire(self, clock: Watch, drain: float) -> None:
        """End the idle connections and keep no others: the endpoint is gone; what runs has `drain` seconds."""
        self.retired = True
        self.attentive = self.limited = False
        self.empty()
        self._clock = clock
        if self._open or self.connecting:
            self.deadline = clock.now + drain
            clock.watch(self)

    def expire(self) -> None:
        """Cut what is left when the time to drain is over."""
        self._clock.unwatch(self)
        for connection in tuple(self._open):
            connection.cut(EndpointRemoved(f"{self.endpoint} was removed and did not finish in time"))

    def connect(self, http: Http, exchange: Exchange) -> None:
        """Make a connection and start `exchange` on it, or fail the exchange."""
        connection = UpstreamConnection(http, self)
        Attempt(self, exchange, partial(self._reached, connection, exchange), partial(self._missed, exchange)).begin(
            connection
        )

    def _reached(self, connection: UpstreamConnection, exchange: Exchange, seconds: float) -> None:
        """Start an exchange; it may have ended meanwhile, then the connection waits for another one."""
        if connection not in self:
            self.failed += 1
            self.owner.failed(self)
            self._missed(exchange, ConnectFailed(f"{self.endpoint} hung up at once"))
        elif self.awaited(exchange):
            trail_of(exchange).connect = seconds
            connection.start(exchange)
        else:
            self.release(connection)

    def _missed(self, exchange: Exchange, error: ProxyError) -> None:
        if self.awaited(exchange):
            flow.fail(exchange, error)

    def awaited(self, exchange: Exchange) -> bool:
        """Return whether an exchange still waits for a connection of this pool."""
        return exchange.state is PENDING and exchange.pool is self
