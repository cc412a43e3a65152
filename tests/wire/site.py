"""Layer 7 of a worker in this process, on real sockets, with time that tests can shorten."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import uvloop

from eventually import eventually
from portway_proxy.access_log import AccessLog
from portway_proxy.clock import Clock
from portway_proxy.journal import Journal
from portway_proxy.l4.splicer import Splicer
from portway_proxy.l7.client import ClientConnection
from portway_proxy.l7.http import Http
from portway_proxy.l7.identity import Trusted
from portway_proxy.l7.upstream import UpstreamConnection
from portway_proxy.live import Live
from portway_proxy.metrics import Counters
from portway_proxy.observing import AccessLogSettings
from portway_proxy.settings import Limits, ProxySettings, Timeouts
from portway_proxy.snapshot import Endpoint as SnapshotEndpoint
from portway_proxy.snapshot import Host, Origin, PathMatch, Policy, Protocol, Route, Snapshot, Upstream
from portway_proxy.tasks import Tasks
from portway_proxy.traffic import Traffic
from portway_proxy.upstreams import Surroundings
from wire.peers import PATIENCE, Client, Endpoint, Script, echoing

__all__ = [
    "ORIGIN",
    "WEB",
    "Loop",
    "Net",
    "Site",
    "everything_to",
    "exact",
    "limits",
    "prefix",
    "table",
    "upstream",
    "waits",
]

ORIGIN = Origin("Ingress", "shop", "web", "spec.rules[0]")
WEB = "shop/web:80"
_LIMITS = Limits()
_TIMEOUTS = Timeouts()
_TICK = 0.005  # Seconds between two looks at deadlines: 200 times as often as in a worker.


def prefix(path: str, name: str = WEB, policy: Policy | None = None) -> Route:
    return Route(path, PathMatch.PREFIX, name, ORIGIN, policy)


def exact(path: str, name: str = WEB, policy: Policy | None = None) -> Route:
    return Route(path, PathMatch.EXACT, name, ORIGIN, policy)


def upstream(name: str, *ports: int, protocol: Protocol = Protocol.HTTP, reason: str = "") -> Upstream:
    endpoints = tuple(SnapshotEndpoint("127.0.0.1", port) for port in sorted(ports))
    return Upstream(name, protocol, endpoints=endpoints, reason=reason)


def table(hosts: Mapping[str, Sequence[Route]], *upstreams: Upstream, default: Route | None = None) -> Snapshot:
    return Snapshot(
        hosts=tuple(Host(name, tuple(routes)) for name, routes in sorted(hosts.items())),
        default=default,
        upstreams=tuple(sorted(upstreams, key=lambda some: some.name)),
    )


def everything_to(*ports: int, policy: Policy | None = None, protocol: Protocol = Protocol.HTTP) -> Snapshot:
    """Return a snapshot that sends every request to one upstream with endpoints at `ports`."""
    return table({"": [prefix("/", policy=policy)]}, upstream(WEB, *ports, protocol=protocol))


class Loop(uvloop.Loop):
    """The loop of workers, with a clock that a test can put forward."""

    forward = 0.0

    def time(self) -> float:
        return super().time() + self.forward


class Site:
    """What `l7.http.Worker` asks for, and a listening socket."""

    def __init__(self, settings: ProxySettings) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        self.loop: asyncio.AbstractEventLoop = loop
        self._time = loop
        self.settings = settings
        self.clock = Clock(self.loop)
        self.splicer = Splicer(self.loop, self.clock)
        self.tasks = Tasks()
        self.counters = Counters()
        self._log = os.memfd_create("access-log")
        access = AccessLog(self.clock, AccessLogSettings(format="json"), descriptor=self._log)
        self.journal = Journal(self, self.clock, access, Traffic(1000))
        self.clients: set[Any] = set()  # Tests look into them, and know what is spoken.
        self.live = Live.empty(Surroundings(self.clock, 1, settings.zone, settings.timeouts.drain, b"key"))
        self.draining = False
        self.port = 0
        self.tls_port = 0
        self.http = Http(self)
        self._ticking: asyncio.TimerHandle | None = None
        self._server: asyncio.AbstractServer | None = None
        self._tls_server: asyncio.AbstractServer | None = None

    async def start(self, window: int = 0) -> None:
        self.journal.start()
        self._tick()
        sock = _listen(window)
        self._server = await self.loop.create_server(lambda: ClientConnection(self.http, tls=False), sock=sock)
        self.port = sock.getsockname()[1]

    async def start_tls(self, context: ssl.SSLContext, window: int = 0) -> None:
        """Listen on `tls_port` too."""
        sock = _listen(window)
        self._tls_server = await self.loop.create_server(
            lambda: ClientConnection(self.http, tls=True), sock=sock, ssl=context, ssl_shutdown_timeout=1.0
        )
        self.tls_port = sock.getsockname()[1]

    async def close(self) -> None:
        for server in (self._server, self._tls_server):
            if server is not None:
                server.close()
        for client in tuple(self.clients):
            client.abort()
        for some in self.live.upstreams.values():
            some.close()
        await self.tasks.close()
        for _ in range(10):
            await asyncio.sleep(0)  # As a rule all have left within a few turns.
        await eventually(lambda: not self.clients, what="every client connection leaves")
        self.splicer.close()
        if self._ticking is not None:
            self._ticking.cancel()
        self.journal.close()
        os.close(self._log)

    def serve(self, snapshot: Snapshot) -> None:
        """Swap the snapshot, as a worker does."""
        self.live = Live.build(snapshot, self.live.generation + 1, "", self.live)
        self.http.believe(Trusted(snapshot.trust, self.settings.limits), request_ids=snapshot.request_ids)
        self.http.sign(signed=snapshot.signed)

    def later(self, seconds: float) -> None:
        """Be `seconds` later, with all that happens until then because nothing else did."""
        self._time.forward += seconds
        # The second tick acts on what had its time at the first.
        for _ in range(2):
            self.clock._tick()
            self.clock.stop()

    def pooled(self, name: str = WEB) -> int:
        """Return how many idle connections wait for requests to this upstream."""
        return sum(map(len, self.live.upstreams[name].pools))

    @property
    def upstreams(self) -> list[UpstreamConnection]:
        """The connections to endpoints, idle or not, those of tunnels left out."""
        return [timed for timed in self.clock._watched if isinstance(timed, UpstreamConnection)]

    @property
    def tunnels(self) -> int:
        """How many tunnels are open."""
        return len(self.counters.tunnels)

    async def lines(self, count: int = 1) -> list[dict[str, object]]:
        """Return the access lines once there are `count` of them."""
        self.journal.expire()
        await eventually(lambda: self._written().count(b"\n") >= count, what=f"{count} access lines")
        lines = [json.loads(line) for line in self._written().splitlines()]
        assert len(lines) == count, lines
        return lines

    async def line(self) -> dict[str, object]:
        """Return the access line of the only exchange so far."""
        return (await self.lines())[0]

    def _written(self) -> bytes:
        return os.pread(self._log, 1 << 24, 0)

    def _tick(self) -> None:
        self.clock._tick()
        self.clock.stop()  # Its own next tick would be a second away.
        self._ticking = self.loop.call_later(_TICK, self._tick)


def _listen(window: int) -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0))
    if window:
        # What is accepted inherits this.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, window)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    return sock


class _Faults(logging.Handler):
    """Keeps what is logged as a warning or worse: no peer may cause any of it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


class Net:
    """Sites, endpoints and clients of one test; all end with it, and nothing that went wrong stays unseen."""

    def __init__(self) -> None:
        self.stack = AsyncExitStack()
        self._faults = _Faults()
        self._endpoints: list[Endpoint] = []

    async def __aenter__(self) -> Net:
        logging.getLogger().addHandler(self._faults)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stack.aclose()
        logging.getLogger().removeHandler(self._faults)
        assert self._faults.messages == []
        assert [endpoint.faults for endpoint in self._endpoints if endpoint.faults] == []

    async def site(
        self,
        snapshot: Snapshot,
        limits: Limits = _LIMITS,
        timeouts: Timeouts = _TIMEOUTS,
        window: int = 0,
        zone: str = "",
    ) -> Site:
        """Run a site; `window` bounds what the kernel takes for each of its clients."""
        site = Site(ProxySettings(http_port=0, https_port=8443, limits=limits, timeouts=timeouts, zone=zone))
        await site.start(window)
        self.stack.push_async_callback(site.close)
        site.serve(snapshot)
        return site

    async def endpoint(self, script: Script = echoing) -> Endpoint:
        return await self.run(Endpoint(script))

    async def run(self, endpoint: Endpoint) -> Endpoint:
        await endpoint.start()
        self._endpoints.append(endpoint)
        self.stack.push_async_callback(endpoint.close)
        return endpoint

    async def client(self, site: Site, window: int = 0) -> Client:
        """Connect a client; `window` bounds what the kernel takes for it while it reads nothing."""
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        if window:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        async with asyncio.timeout(PATIENCE):
            await loop.sock_connect(sock, ("127.0.0.1", site.port))
            _, client = await loop.create_connection(Client, sock=sock)
        self.stack.callback(client.transport.abort)
        return client

    async def pair(
        self, script: Script = echoing, limits: Limits = _LIMITS, timeouts: Timeouts = _TIMEOUTS
    ) -> tuple[Site, Endpoint, Client]:
        """Return a site that sends everything to an endpoint that runs `script`, and a client of that site."""
        endpoint = await self.endpoint(script)
        site = await self.site(everything_to(endpoint.port), limits, timeouts)
        return site, endpoint, await self.client(site)


def limits(**changes: int) -> Limits:
    """Return the usual limits with some changed."""
    return msgspec.structs.replace(_LIMITS, **changes)


def waits(**changes: float) -> Timeouts:
    """Return the usual timeouts with some changed."""
    return msgspec.structs.replace(_TIMEOUTS, **changes)


async def by_the_byte(site: Site, client: Client, data: bytes) -> None:
    """Have `data` arrive in reads of one byte each, until the proxy answers or ends the connection."""
    for octet in data:
        before = site.counters.received
        client.send(bytes([octet]))
        async with asyncio.timeout(PATIENCE):
            while site.counters.received == before and not client.how:  # noqa: ASYNC110 - one turn of the loop, mostly
                await asyncio.sleep(0)
