"""A layer 4 listener: every connection that it accepts becomes a relay to one endpoint of its upstream."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Protocol

import msgspec

from portway_proxy.accepting import Acceptor
from portway_proxy.errors import NoDescriptors, NoEndpoints, ProxyError
from portway_proxy.gate import Gate
from portway_proxy.l4.connect import Chooser, Dial, prepare
from portway_proxy.l4.relay import CLOSED, Relay, reset
from portway_proxy.l4.splicer import Splicer
from portway_proxy.listeners import key_of
from portway_proxy.metrics import BYTES, CONNECTIONS, RELAYS, RELAYS_ACTIVE, UPSTREAM_CONNECTS, Sample
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Endpoint, Listener

__all__ = ["Passthrough", "RelayLog", "RelayRecord", "RelayWorker", "Served"]


class RelayRecord(msgspec.Struct, frozen=True):
    """What the access log says of a connection that has ended.

    `client` is the address without the port; `endpoint` is empty when none was reached. `bytes_in` came from the client
    and went to the endpoint, `bytes_out` the other way. `reason` is `done`, or why it ended otherwise.
    """

    port: int
    client: str
    endpoint: str
    bytes_in: int
    bytes_out: int
    seconds: float
    reason: str


class RelayLog(Protocol):
    """Where records go."""

    def relay(self, record: RelayRecord) -> None:
        """Note a connection that has ended."""


class Served(Protocol):
    """What is served now; another object takes its place when the configuration changes."""

    @property
    def upstreams(self) -> Mapping[str, Chooser]:
        """The upstreams by name."""


class RelayWorker(Protocol):
    """What a listener needs of its worker."""

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

    @property
    def gate(self) -> Gate:
        """Who may come in."""


class Passage:
    """One accepted connection: first on its way to an endpoint, then relayed."""

    __slots__ = ("_began", "_client", "_dial", "_endpoint", "_owner", "_peer", "_relay", "_upstream", "origin")

    def __init__(self, owner: Passthrough, client: socket.socket, peer: str, origin: bytes) -> None:
        self._owner = owner
        self._client = client
        self._peer = peer
        self.origin = origin
        self._began = owner.worker.loop.time()
        self._upstream = owner.listener.upstream
        self._dial: Dial | None = None
        self._endpoint: Endpoint | None = None
        self._relay: Relay | None = None

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint that it leads to, or that it tries."""
        return self._dial.endpoint if self._dial is not None else self._endpoint

    @property
    def bytes_in(self) -> int:
        """The bytes that went from the client to the endpoint so far."""
        return self._relay.sent if self._relay is not None else 0

    @property
    def bytes_out(self) -> int:
        """The bytes that went from the endpoint to the client so far."""
        return self._relay.received if self._relay is not None else 0

    def start(self) -> None:
        """Choose an endpoint and connect to it."""
        worker = self._owner.worker
        upstream = worker.live.upstreams.get(self._upstream)
        if upstream is None:
            self._refuse(NoEndpoints.reason)
            return
        self._dial = dial = Dial(worker.splicer, upstream, worker.settings.timeouts.connect, self._dialled)
        dial.start()

    def close(self) -> None:
        """End at once, wherever it is on its way."""
        if self._relay is not None:
            self._relay.abort()
        elif self._dial is not None:
            self._dial.cancel()
            self._refuse(CLOSED)

    def record(self, reason: str) -> RelayRecord:
        """Return what the access log says of it at its end."""
        owner = self._owner
        endpoint = self.endpoint
        return RelayRecord(
            port=owner.listener.port,
            client=self._peer,
            endpoint=str(endpoint) if endpoint is not None else "",
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            seconds=owner.worker.loop.time() - self._began,
            reason=reason,
        )

    def _dialled(self, outcome: socket.socket | ProxyError) -> None:
        owner = self._owner
        dial, self._dial = self._dial, None
        if dial is not None:
            self._endpoint = dial.endpoint
            if dial.failed:
                owner.count_connects(self._upstream, "failed", dial.failed)
        if isinstance(outcome, ProxyError):
            if isinstance(outcome, NoDescriptors):
                owner.pause()
            self._refuse(outcome.code if isinstance(outcome, NoEndpoints) else outcome.reason)
            return
        owner.count_connects(self._upstream, "connected")
        idle = owner.worker.settings.timeouts.tunnel
        self._relay = Relay(owner.worker.splicer, self._client, outcome, idle=idle, on_done=self._relayed)
        self._relay.start()

    def _refuse(self, reason: str) -> None:
        reset(self._client)
        self._owner.finish(self, reason)

    def _relayed(self, relay: Relay) -> None:
        self._owner.finish(self, relay.reason)
        # They know each other: parted, they need no garbage collector.
        self._relay = None


class Passthrough:
    """Accepts on a listening socket, which belongs to it, and keeps the relays that came of it (`relays`).

    `listener` may be replaced by one of the same port: what is accepted later goes to its upstream, relays run on.
    """

    __slots__ = (
        "_accepted",
        "_acceptor",
        "_bytes_in",
        "_bytes_out",
        "_connects",
        "_ended",
        "_sock",
        "listener",
        "relays",
        "worker",
    )

    def __init__(self, worker: RelayWorker, listener: Listener, sock: socket.socket) -> None:
        self.worker = worker
        self.listener = listener
        self.relays: set[Passage] = set()
        self._sock = sock
        self._acceptor = Acceptor(worker.loop, sock, key_of(listener), self._take)
        self._accepted = 0
        self._bytes_in = 0
        self._bytes_out = 0
        self._ended: defaultdict[str, int] = defaultdict(int)
        self._connects: defaultdict[tuple[str, str], int] = defaultdict(int)

    def start(self) -> None:
        """Begin to accept."""
        prepare(self._sock)
        self._acceptor.start()

    def stop(self) -> None:
        """Accept no more and close the listening socket; relays run on. Harmless when it has stopped."""
        self._acceptor.stop()

    def last_call(self) -> None:
        """Stop, once who has connected already is accepted."""
        self._acceptor.last_call()

    def close(self) -> None:
        """Stop, and end all relays at once."""
        self.stop()
        for passage in tuple(self.relays):
            passage.close()

    def pause(self) -> None:
        """Stop accepting for a moment, because descriptors have run out; clients wait in the backlog meanwhile."""
        self._acceptor.pause()

    def hold(self) -> None:
        """Accept nothing until `release`."""
        self._acceptor.hold()

    def release(self) -> None:
        """Accept again."""
        self._acceptor.release()

    def count_connects(self, upstream: str, result: str, count: int = 1) -> None:
        """Count attempts to reach an endpoint: `connected` or `failed`."""
        self._connects[upstream, result] += count

    def finish(self, passage: Passage, reason: str) -> None:
        """Count and log a connection that has ended, and forget it."""
        self.relays.discard(passage)
        self.worker.gate.leave(passage.origin)
        self._ended[reason] += 1
        self._bytes_in += passage.bytes_in
        self._bytes_out += passage.bytes_out
        self.worker.access.relay(passage.record(reason))

    def load(self) -> Counter[Endpoint]:
        """Return how many connections each endpoint has now."""
        return Counter(passage.endpoint for passage in self.relays if passage.endpoint is not None)

    def samples(self) -> Iterator[Sample]:
        """Return a sample for each count; bytes of connections that run still are in them."""
        name = key_of(self.listener)
        yield CONNECTIONS.sample(self._accepted, name)
        yield RELAYS_ACTIVE.sample(len(self.relays), name)
        yield BYTES.sample(self._bytes_in + sum(passage.bytes_in for passage in self.relays), name, "in")
        yield BYTES.sample(self._bytes_out + sum(passage.bytes_out for passage in self.relays), name, "out")
        for reason, count in self._ended.items():
            yield RELAYS.sample(count, name, reason)
        for (upstream, result), count in self._connects.items():
            yield UPSTREAM_CONNECTS.sample(count, upstream, result)

    def _take(self, client: socket.socket, peer: str) -> None:
        try:
            origin = self.worker.gate.enter(peer)
        except ProxyError as error:
            self._ended[error.reason] += 1
            reset(client)
            return
        client.settimeout(0)
        self._accepted += 1
        passage = Passage(self, client, peer, origin)
        self.relays.add(passage)
        passage.start()
