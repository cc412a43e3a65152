"""One client of a layer 4 port: told of perhaps, on its way to an endpoint, then relayed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from portway_proxy.announced import HeaderWait
from portway_proxy.errors import NoDescriptors, NoEndpoints, ProxyError
from portway_proxy.flows import Flow
from portway_proxy.l4.connect import Chooser, Dial
from portway_proxy.l4.postgres import TlsWish
from portway_proxy.l4.records import RelayLog, RelayRecord
from portway_proxy.l4.relay import CLOSED, Relay, reset
from portway_proxy.l4.splicer import Splicer
from portway_proxy.l7.pool import Pool
from portway_proxy.proxy_protocol import HEADERS, Address, ProxyHeader
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import ListenerPolicy, ProxyVersion

__all__ = ["Owner", "Passage", "RelayWorker", "Served", "Terms"]

_ORDINARY = ListenerPolicy()


class Served(Protocol):
    """What is served now; another object takes its place when the configuration changes."""

    @property
    def upstreams(self) -> Mapping[str, Chooser]:
        """The upstreams by name."""


class RelayWorker(Protocol):
    """What layer 4 needs of its worker."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""

    @property
    def splicer(self) -> Splicer:
        """What all relays share."""

    @property
    def settings(self) -> ProxySettings:
        """The proxy's settings."""

    @property
    def live(self) -> Served:
        """What is served now."""

    @property
    def access(self) -> RelayLog:
        """The access log."""


class Terms(NamedTuple):
    """What a listener's policy and the settings come to; times are seconds.

    `timeouts` are as a dial takes them. `clients` is this worker's part of all that may come; 0 is no limit.
    """

    timeouts: tuple[float, float]
    idle: float
    lifetime: float
    announce: ProxyVersion | None
    accept_proxy: bool
    clients: int

    @classmethod
    def of(cls, policy: ListenerPolicy | None, settings: ProxySettings, idle: float) -> Terms:
        """Return the terms; `idle` is for a policy that says none."""
        policy = policy or _ORDINARY
        timeouts = settings.timeouts
        return cls(
            timeouts=(timeouts.connect if policy.connect is None else policy.connect, timeouts.unacknowledged),
            idle=idle if policy.idle is None else policy.idle,
            lifetime=timeouts.lifetime if policy.lifetime is None else policy.lifetime,
            announce=policy.announce,
            accept_proxy=policy.accept_proxy,
            clients=max(1, policy.clients // settings.workers) if policy.clients else 0,
        )


class Owner(Protocol):
    """Who accepted a connection."""

    @property
    def worker(self) -> RelayWorker:
        """Its worker."""

    @property
    def name(self) -> str:
        """The listener's name in logs and metrics."""

    @property
    def terms(self) -> Terms:
        """What holds for its connections."""

    def pause(self) -> None:
        """Accept nothing for a moment, because descriptors have run out."""

    def finish(self, passage: Passage, reason: str) -> None:
        """Take note that a connection has ended."""


class Passage:
    """An accepted connection, whose non-blocking socket `client` belongs to it, and its way to the upstream's endpoint.

    `peer` is the address of the client, without the port; `origin` is for its owner to remember, and `told` what a
    PROXY header said that was read before. Whoever looks at its first bytes leaves them in the socket.
    """

    __slots__ = (
        "_client",
        "_dial",
        "_owner",
        "_relay",
        "_told",
        "_wait",
        "_wish",
        "began",
        "origin",
        "peer",
        "pool",
        "upstream",
    )

    def __init__(
        self,
        owner: Owner,
        client: socket.socket,
        peer: str,
        upstream: str,
        origin: bytes = b"",
        told: ProxyHeader | None = None,
    ) -> None:
        self._owner = owner
        self._client = client
        self._wait: HeaderWait | None = None
        self._dial: Dial | None = None
        self._relay: Relay | None = None
        self._told = told
        self._wish: TlsWish | None = None
        self.peer = peer
        self.upstream = upstream
        self.origin = origin
        self.began = owner.worker.loop.time()
        self.pool: Pool | None = None

    @property
    def bytes_in(self) -> int:
        """The bytes that went from the client to the endpoint so far."""
        return self._relay.sent if self._relay is not None else 0

    @property
    def bytes_out(self) -> int:
        """The bytes that went from the endpoint to the client so far."""
        return self._relay.received if self._relay is not None else 0

    def greet(self, seconds: float) -> None:
        """Read the peer's PROXY header within `seconds`, then connect."""
        worker = self._owner.worker
        self._wait = wait = HeaderWait(worker.loop, worker.splicer.clock, self._client, seconds, self._greeted)
        wait.start()

    def connect_for_tls(self) -> None:
        """Connect to an endpoint of PostgreSQL, and relay once that begins TLS."""
        self._wish = TlsWish(self._owner.worker.splicer, self._owner.terms.timeouts[0], self._wished)
        self.connect()

    def connect(self) -> None:
        """Choose an endpoint and connect to it."""
        worker = self._owner.worker
        upstream = worker.live.upstreams.get(self.upstream)
        if upstream is None:
            self.refuse(NoEndpoints.reason)
            return
        timeouts = self._owner.terms.timeouts
        self._dial = dial = Dial(worker.splicer, upstream, self.peer.encode(), timeouts, self._dialled)
        dial.start()

    def close(self, reason: str = CLOSED) -> None:
        """End at once, wherever it is on its way."""
        if self._relay is not None:
            self._relay.abort(reason)
        elif self._dial is not None:
            self._dial.cancel()
            self.refuse(reason)
        elif self._wait is not None:
            self._wait.cancel()
            self.refuse(reason)
        elif self._wish is not None:
            self._wish.cancel()
            self.refuse(reason)

    def cut(self, error: ProxyError) -> None:
        """End, because the endpoint is gone and the time to drain is over."""
        self.close(error.reason)

    def refuse(self, reason: str) -> None:
        """End before there is a relay: the client is reset."""
        self._dial = self._wait = self._wish = None
        reset(self._client)
        self._owner.finish(self, reason)

    def record(self, reason: str) -> RelayRecord:
        """Return what the access log says of it at its end."""
        return RelayRecord(
            listener=self._owner.name,
            client=self.peer,
            upstream=self.upstream,
            endpoint=self.pool.label.decode() if self.pool is not None else "",
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            seconds=self._owner.worker.loop.time() - self.began,
            reason=reason,
        )

    def flow(self, now: float) -> Flow:
        """Return what a table of flows says of it at `now`, a time of the loop."""
        pool = self.pool or (self._dial.pool if self._dial is not None else None)
        return Flow(
            listener=self._owner.name,
            client=self._source(),
            upstream=self.upstream,
            endpoint=str(pool.endpoint) if pool is not None else "",
            seconds=now - self.began,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
        )

    def _source(self) -> str:
        told = self._told.source if self._told is not None else None
        host, port = told or self._client.getpeername()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _greeted(self, outcome: ProxyHeader | ProxyError) -> None:
        if isinstance(outcome, ProxyError):
            self.refuse(outcome.reason)
            return
        self._wait = None
        self._told = outcome
        if outcome.source is not None:
            self.peer = outcome.source.host
        self.connect()

    def _dialled(self, outcome: socket.socket | ProxyError) -> None:
        owner = self._owner
        dial = self._dial
        assert dial is not None  # noqa: S101 - tells the type: a dial answers once
        # They know each other: parted, they need no garbage collector.
        self._dial = None
        self.pool = dial.pool
        if isinstance(outcome, ProxyError):
            if isinstance(outcome, NoDescriptors):
                owner.pause()
            self.refuse(outcome.code if isinstance(outcome, NoEndpoints) else outcome.reason)
            return
        if self._wish is None:
            self._begin(outcome)
        else:
            self._wish.start(outcome)

    def _wished(self, outcome: socket.socket | ProxyError) -> None:
        self._wish = None
        if isinstance(outcome, ProxyError):
            self.refuse(outcome.reason)
        else:
            self._begin(outcome)

    def _begin(self, endpoint: socket.socket) -> None:
        """Relay between the client and its endpoint, which is connected."""
        owner, pool = self._owner, self.pool
        assert pool is not None  # noqa: S101 - tells the type: it was reached
        pool.opened(self)
        terms = owner.terms
        head = b"" if terms.announce is None else self._announcement(terms.announce)
        relay = self._relay = Relay(
            owner.worker.splicer,
            self._client,
            endpoint,
            idle=terms.idle,
            lifetime=terms.lifetime,
            on_done=self._relayed,
        )
        relay.start(head)

    def _announcement(self, version: ProxyVersion) -> bytes:
        """Return the header that tells the endpoint who its client is."""
        if self._told is not None and self._told.source is not None:
            return HEADERS[version](self._told.source, self._told.destination)
        try:
            source, destination = self._client.getpeername(), self._client.getsockname()
        except OSError:
            # The client has hung up meanwhile.
            return HEADERS[version](None, None)
        return HEADERS[version](Address(*source[:2]), Address(*destination[:2]))

    def _relayed(self, relay: Relay) -> None:
        pool = self.pool
        assert pool is not None  # noqa: S101 - tells the type: a relay has its endpoint
        pool.left(self)
        self._owner.finish(self, relay.reason)
        self._relay = None
