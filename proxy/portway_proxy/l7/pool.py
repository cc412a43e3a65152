"""The connections to one endpoint: idle ones wait here for the next request, new ones are made here."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple, Protocol

from portway_proxy.clock import NEVER, Watch
from portway_proxy.endpoint_contexts import RESUMED, Kept
from portway_proxy.errors import (
    ConnectFailed,
    ConnectTimeout,
    EndpointRemoved,
    EndpointUnreadable,
    EndpointUnverified,
    NoDescriptors,
    ProxyError,
)
from portway_proxy.health import Health
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import PENDING, Exchange
from portway_proxy.l7.passage import timeouts_of
from portway_proxy.l7.trail import trail_of
from portway_proxy.l7.upstream import UpstreamConnection

if TYPE_CHECKING:
    from portway_proxy.endpoint_contexts import EndpointContext, EndpointContexts
    from portway_proxy.endpoint_tls import EndpointTls
    from portway_proxy.l7.http import Http
    from portway_proxy.snapshot import Endpoint, ProxyVersion

__all__ = ["PLAIN", "Occupant", "Owner", "Pool", "Speech"]

# What this machine lacks, not what the endpoint did: the last is a port for our side of the connection.
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)

# A cluster has many thousands of endpoints that nobody asks for anything: an empty set for each would be megabytes.
_NOTHING: frozenset[Occupant] = frozenset()


class Occupant(Protocol):
    """What counts as load of an endpoint: a connection, or a relay of layer 4."""

    def cut(self, error: ProxyError) -> None:
        """End at once."""


class Speech(NamedTuple):
    """How endpoints are spoken to: over TLS by `tls`, in clear without it. `name` is what they are told (SNI)."""

    tls: EndpointTls | None = None
    name: str = ""


PLAIN = Speech()
"""HTTP/1.1 in clear."""


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

    def context(self) -> EndpointContext | None:
        """Return what makes TLS connections, or None where they are in clear; raises `EndpointUnreadable`."""
        tls = self.speech.tls
        return None if tls is None else self.owner.contexts.context((tls, ()))

    def has_room(self, connections: int, requests: int) -> bool:
        """Return whether one more request would keep to these limits; 0 is none."""
        if requests and self.load >= requests:
            return False
        return bool(self._idle) or not connections or len(self._open) + self.connecting < connections

    def take(self) -> UpstreamConnection | None:
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
        self.connecting += 1
        attempt = _Attempt(self, http, exchange)
        attempt.task = http.tasks.spawn(attempt.run(), f"connect {self.endpoint}")


class _Attempt:
    """One attempt to connect, with its deadline."""

    __slots__ = ("_began", "_exchange", "_http", "_pool", "deadline", "task")

    def __init__(self, pool: Pool, http: Http, exchange: Exchange) -> None:
        self._pool = pool
        self._http = http
        self._exchange = exchange
        self._began = http.loop.time()
        self.deadline = self._began + timeouts_of(exchange).connect
        self.task: asyncio.Task[None] | None = None

    def expire(self) -> None:
        """Give up."""
        self.deadline = NEVER
        if self.task is not None:
            self.task.cancel()
        self._fail(ConnectTimeout(f"{self._pool.endpoint} did not accept the connection in time"))

    async def run(self) -> None:
        """Connect; the exchange may have ended meanwhile, then the connection waits for another one."""
        pool, http = self._pool, self._http
        connection = UpstreamConnection(http, pool)
        http.clock.watch(self)
        try:
            await self._connect(connection)
        except (OSError, EndpointUnreadable) as error:
            self._fail(_failure(error, pool.endpoint))
            return
        except asyncio.CancelledError:
            # Given up just when it connected, it is closed without being told.
            http.clock.unwatch(connection)
            pool.forget(connection)
            raise
        finally:
            self._settle()
        pool.connected += 1
        if connection not in pool:
            self._fail(ConnectFailed(f"{pool.endpoint} hung up at once"))
        elif self._wanted():
            trail_of(self._exchange).connect = http.loop.time() - self._began
            connection.start(self._exchange)
        else:
            pool.release(connection)

    async def _connect(self, connection: UpstreamConnection) -> None:
        pool, loop = self._pool, self._http.loop
        tls = pool.context()
        name = None if tls is None else pool.speech.name
        RESUMED.set(pool.session)
        if pool.announce is None:
            endpoint = pool.endpoint
            await loop.create_connection(
                lambda: connection, endpoint.address, endpoint.port, ssl=tls, server_hostname=name
            )
        else:
            sock = await self._introduce(pool.announce)
            await loop.create_connection(lambda: connection, sock=sock, ssl=tls, server_hostname=name)

    async def _introduce(self, version: ProxyVersion) -> socket.socket:
        """Return a socket that is connected to the endpoint, and has told it who the client is."""
        endpoint, loop = self._pool.endpoint, self._http.loop
        sock = socket.socket(socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET)
        try:
            sock.settimeout(0)
            await loop.sock_connect(sock, (endpoint.address, endpoint.port))
            await loop.sock_sendall(sock, self._exchange.client.announcement(version))
        except BaseException:
            sock.close()
            raise
        return sock

    def _settle(self) -> None:
        """Count this attempt no longer among those under way."""
        self._http.clock.unwatch(self)
        self._pool.connecting -= 1
        if self._pool.limited:
            self._pool.owner.freed()

    def _wanted(self) -> bool:
        exchange = self._exchange
        return exchange.state is PENDING and exchange.pool is self._pool

    def _fail(self, error: ProxyError) -> None:
        self._pool.failed += 1
        if not isinstance(error, NoDescriptors):
            self._pool.owner.failed(self._pool)
        elif self._http.exhausted is not None:
            self._http.exhausted()
        if self._wanted():
            flow.fail(self._exchange, error)


def _failure(error: OSError | EndpointUnreadable, endpoint: Endpoint) -> ProxyError:
    """Return why there is no connection."""
    if isinstance(error, EndpointUnreadable):
        return error
    text = f"{endpoint}: {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return EndpointUnverified(text)
    if isinstance(error, ssl.SSLError):
        return EndpointUnreadable(text)
    if error.errno in _OURS:
        return NoDescriptors(text)
    return ConnectFailed(text, refused=isinstance(error, ConnectionRefusedError))
