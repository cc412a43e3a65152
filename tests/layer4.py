"""Layer 4 as tests of its modules see it: a listener in this process, its endpoints and its clients."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from eventually import eventually
from portway_proxy.codec import digest
from portway_proxy.gate import Gate
from portway_proxy.l4.passthrough import Introductions, Passthrough
from portway_proxy.l4.records import RelayRecord
from portway_proxy.l4.splicer import Splicer
from portway_proxy.live import Live
from portway_proxy.settings import ProxySettings, Timeouts
from portway_proxy.snapshot import (
    Balance,
    Endpoint,
    Listener,
    ListenerPolicy,
    Origin,
    Protocol,
    Snapshot,
    Upstream,
    UpstreamPolicy,
)
from portway_proxy.upstreams import Surroundings
from tcp import PATIENCE, End, connect

__all__ = [
    "DB",
    "ORIGIN",
    "Endpoints",
    "Greeter",
    "Records",
    "Site",
    "greeter",
    "is_reset",
    "refusing",
    "site",
    "upstream",
]


DB = "shop/db:5432"
ORIGIN = Origin("Service", "shop", "db")


def upstream(
    *ports: int,
    name: str = DB,
    reason: str = "",
    balance: Balance = Balance.ROUND_ROBIN,
    policy: UpstreamPolicy | None = None,
) -> Upstream:
    endpoints = tuple(sorted(Endpoint("127.0.0.1", port) for port in ports))
    return Upstream(name, Protocol.OPAQUE, balance, endpoints, reason=reason, policy=policy)


@dataclass
class Records:
    """The access log of a test."""

    lines: list[RelayRecord] = field(default_factory=list)

    def relay(self, record: RelayRecord) -> None:
        self.lines.append(record)

    def reasons(self) -> Counter[str]:
        return Counter(record.reason for record in self.lines)


class Site:
    """A listener with all that it needs of a worker."""

    def __init__(
        self,
        splicer: Splicer,
        *upstreams: Upstream,
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.splicer = splicer
        self.settings = ProxySettings(workers=1, timeouts=timeouts or Timeouts())
        self.access = Records()
        self.gate = Gate(1000)
        self.introductions = Introductions()
        self.live = Live.empty(Surroundings(splicer.clock))
        self.serve(*upstreams)
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self.sock.getsockname()[1]
        self.passthrough = Passthrough(self, Listener(self.port, DB, ORIGIN, policy=policy), self.sock)

    def serve(self, *upstreams: Upstream) -> None:
        """Swap what is served, as a worker does."""
        snapshot = Snapshot(upstreams=upstreams)
        self.live = Live.build(snapshot, self.live.generation + 1, digest(snapshot), self.live)

    async def ended(self, count: int = 1) -> None:
        await eventually(lambda: len(self.access.lines) >= count, PATIENCE)

    def sample(self, name: str, *labels: str) -> float:
        upstreams = [sample for upstream in self.live.upstreams.values() for sample in upstream.samples()]
        samples = [*self.passthrough.samples(), *upstreams]
        (value,) = [some.value for some in samples if (some.name, some.labels) == (name, labels)]
        return value


@asynccontextmanager
async def site(
    splicer: Splicer,
    *upstreams: Upstream,
    timeouts: Timeouts | None = None,
    policy: ListenerPolicy | None = None,
) -> AsyncIterator[Site]:
    """Open a listener that accepts, and end it with all its relays."""
    site = Site(splicer, *upstreams, timeouts=timeouts, policy=policy)
    site.passthrough.start()
    try:
        yield site
    finally:
        site.passthrough.close()


class Greeter(asyncio.Protocol):
    """Greets with a name, then sends back what it gets; `present` holds those whose connection is open."""

    def __init__(self, name: bytes, present: set[Greeter]) -> None:
        self._name = name
        self._present = present

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._present.add(self)
        self.transport.write(self._name)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._present.discard(self)


@asynccontextmanager
async def greeter(name: bytes = b"") -> AsyncIterator[int]:
    """Serve on a port."""
    present: set[Greeter] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Greeter(name, present), "127.0.0.1", 0, backlog=1024)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for one in tuple(present):
            one.transport.abort()
        await eventually(lambda: not present)


class Endpoints:
    """An endpoint whose connections the test holds in its hands."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.sock.settimeout(0)
        self.port: int = self.sock.getsockname()[1]

    async def accept(self) -> End:
        async with asyncio.timeout(PATIENCE):
            sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        return End(sock)

    def close(self) -> None:
        self.sock.close()


async def is_reset(port: int) -> bool:
    """Return whether a client that connects is reset at once."""
    try:
        client = await connect(port)
    except ConnectionResetError:
        return True
    try:
        await client.receive()
    except ConnectionResetError:
        return True
    finally:
        client.close()
    return False


def refusing() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port
