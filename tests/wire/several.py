"""Several endpoints of one upstream, each answering with its own letter, and a site that serves them by a policy."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable

import msgspec

from portway_proxy.settings import Timeouts
from portway_proxy.snapshot import Balance, Snapshot, UpstreamPolicy
from portway_proxy.snapshot import Endpoint as SnapshotEndpoint
from portway_proxy.upstreams import LiveUpstream
from wire.peers import Client, Endpoint, Peer, Script, answering, reply
from wire.site import WEB, Net, Site, prefix, table, upstream, waits

__all__ = ["Several", "breaking", "requests_at", "saying", "several", "unused_port"]

GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"


def saying(letter: str, status: bytes = b"200 OK") -> Script:
    """Return a script that answers every request with a letter."""
    return answering(reply(letter.encode(), status))


async def breaking(peer: Peer) -> None:
    """Read a request and reset the connection."""
    await peer.request()
    peer.reset()


def unused_port() -> int:
    """Return a port that refuses connections, for a moment at least."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def requests_at(*endpoints: Endpoint) -> int:
    """Return how many requests reached these endpoints."""
    return sum(received.count(b" HTTP/1.1\r\n") for endpoint in endpoints for received in endpoint.received)


class Several:
    """A site and the endpoints of its one upstream, in the order of their ports and letters."""

    def __init__(self, net: Net, endpoints: list[Endpoint], balance: Balance, policy: UpstreamPolicy | None) -> None:
        self.net = net
        self.endpoints = endpoints
        self.balance = balance
        self.policy = policy
        self.site: Site

    def snapshot(self, ports: Iterable[int] | None = None) -> Snapshot:
        """Return what the site serves when the endpoints are at `ports`; its own ones if that is not said."""
        ports = [endpoint.port for endpoint in self.endpoints] if ports is None else ports
        one = msgspec.structs.replace(upstream(WEB, *ports), balance=self.balance, policy=self.policy)
        return table({"": [prefix("/")]}, one)

    def serve(self, ports: Iterable[int] | None = None) -> None:
        self.site.serve(self.snapshot(ports))

    def zoned(self, *hints: tuple[str, ...]) -> Snapshot:
        """Return what the site serves when its endpoints have these zone hints."""
        endpoints = tuple(
            SnapshotEndpoint("127.0.0.1", endpoint.port, "", zones)
            for endpoint, zones in zip(self.endpoints, hints, strict=True)
        )
        one = msgspec.structs.replace(upstream(WEB), endpoints=endpoints, balance=self.balance, policy=self.policy)
        return table({"": [prefix("/")]}, one)

    @property
    def live(self) -> LiveUpstream:
        return self.site.live.upstreams[WEB]

    async def client(self) -> Client:
        return await self.net.client(self.site)

    async def bodies(self, count: int, *fields: str, client: Client | None = None) -> str:
        """Return the letters of as many responses, each of which has to be a 200."""
        client = client or await self.client()
        letters = []
        for _ in range(count):
            response = await client.get("/", "shop.example", *fields)
            assert response.status == 200, response
            letters.append(response.body.decode())
        return "".join(letters)

    async def shares(self, count: int, *fields: str) -> Counter[str]:
        """Return how many of as many responses came from each endpoint."""
        return Counter(await self.bodies(count, *fields))


_TIMEOUTS = waits()


async def several(
    net: Net,
    scripts: Iterable[Script] | str,
    policy: UpstreamPolicy | None = None,
    balance: Balance = Balance.ROUND_ROBIN,
    *,
    timeouts: Timeouts = _TIMEOUTS,
    zone: str = "",
) -> Several:
    """Run an endpoint for each of the scripts, or for each letter of a text, and a site that serves them."""
    if isinstance(scripts, str):
        scripts = [saying(letter) for letter in scripts]
    scripts = tuple(scripts)
    endpoints = sorted([await net.endpoint() for _ in scripts], key=lambda endpoint: endpoint.port)
    for endpoint, script in zip(endpoints, scripts, strict=True):
        endpoint.script = script
    some = Several(net, endpoints, balance, policy)
    some.site = await net.site(some.snapshot(), timeouts=timeouts, zone=zone)
    return some
