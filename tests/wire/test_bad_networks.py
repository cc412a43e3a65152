"""Endpoints and clients beyond a network that loses, swallows, resets or slows what it carries (nft and tc)."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket

import pytest

from eventually import eventually
from network import Network
from portway_proxy.l4 import connect
from portway_proxy.l7 import sockets
from portway_proxy.l7.client import ClientConnection
from portway_proxy.listeners import KEEP_ALIVE
from portway_proxy.snapshot import Endpoint as SnapshotEndpoint
from portway_proxy.snapshot import Snapshot, Upstream
from wire.peers import Client, Endpoint, Peer, Script, Truncated, answering, reply
from wire.site import WEB, Net, Site, prefix, table, waits

GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\nbody"
MIB = 1 << 20
_UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
_SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Far:
    """A site whose endpoints are inside of `network`, at addresses 0, 1, ...; `door` is a port for clients there."""

    def __init__(self, net: Net, network: Network) -> None:
        self.net = net
        self.network = network
        self.endpoints: list[Endpoint] = []
        self.site: Site
        self.door = 0

    async def start(self, *scripts: Script, **timeouts: float) -> Far:
        for number, script in enumerate(scripts):
            endpoint = Endpoint(script)
            await endpoint.start(sock=self.network.listen(self.network.address(number), 80))
            self.net.stack.push_async_callback(endpoint.close)
            self.endpoints.append(endpoint)
        self.site = await self.net.site(self._snapshot(), timeouts=waits(**timeouts))
        sock = socket.create_server((self.network.outer, 0))
        # The kernel may keep megabytes for a slow peer, and two of them would hold nobody up.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        server = await self.site.loop.create_server(lambda: ClientConnection(self.site.http, tls=False), sock=sock)
        self.net.stack.callback(server.close)
        self.door = sock.getsockname()[1]
        return self

    def _snapshot(self) -> Snapshot:
        addresses = (self.network.address(number) for number in range(len(self.endpoints)))
        one = Upstream(WEB, endpoints=tuple(SnapshotEndpoint(address, 80) for address in addresses))
        return table({"": [prefix("/")]}, one)

    async def client(self) -> Client:
        return await self.net.client(self.site)

    async def far_client(self) -> Client:
        """Connect a client from inside of the network."""
        address = (self.network.outer, self.door)
        sock = self.network.made(lambda: socket.create_connection(address))
        sock.setblocking(False)
        _, client = await self.site.loop.create_connection(Client, sock=sock)
        self.net.stack.callback(client.transport.abort)
        return client

    def to(self, number: int) -> str:
        """Return what nft calls packets to an endpoint."""
        return f"ip daddr {self.network.address(number)}"


@pytest.fixture
async def far(net: Net, network: Network) -> Far:
    return Far(net, network)


def saying(letter: bytes) -> Script:
    return answering(reply(letter))


# --- nothing comes through


@pytest.mark.parametrize("request_", [GET, POST], ids=["get", "post"])
async def test_a_black_hole_in_the_place_of_an_endpoint_costs_the_connect_timeout_and_no_request(
    far: Far, request_: bytes
) -> None:
    await far.start(saying(b"a"), saying(b"b"), connect=5)
    clients = [await far.client() for _ in range(4)]
    pools = far.site.live.upstreams[WEB].pools
    with far.network.failing(f"{far.to(0)} drop"):
        for client in clients:
            client.send(request_)
        # The others are served meanwhile, by the endpoint that is there.
        await eventually(lambda: sum(client.size > 0 for client in clients) == 2)
        assert sorted(pool.connecting for pool in pools) == [0, 2]
        far.site.later(6)
        assert [(await client.response()).body for client in clients] == [b"b"] * 4
        assert far.endpoints[0].received == []


async def test_when_every_endpoint_is_behind_a_black_hole_the_client_hears_of_it_in_time(far: Far) -> None:
    await far.start(saying(b"a"), connect=5)
    client = await far.client()
    with far.network.failing("drop"):
        client.send(GET)
        await eventually(lambda: far.site.live.upstreams[WEB].pools[0].connecting)
        far.site.later(6)
        assert (await client.response()).status == 504
    assert (await far.site.line())["reason"] == "connect_timeout"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"], ids=["before", "within"])
async def test_an_endpoint_that_vanishes_before_or_within_its_response_is_given_up_in_time(
    far: Far, said: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(said)

    await far.start(script, response=60)
    client = await far.client()
    client.send(GET)
    if said:
        await client.until(b"half")
    else:
        await eventually(lambda: far.endpoints[0].received == [b""] or far.endpoints[0].received)
    with far.network.failing("drop"):
        far.site.later(61)
        if said:
            with pytest.raises(Truncated):
                await client.response()
            assert client.how == "reset"
        else:
            assert (await client.response()).status == 504
        assert (await far.site.line())["reason"] == "upstream_timeout"
        await eventually(lambda: not far.site.upstreams, what="the connection is ended")


async def test_a_client_that_vanishes_within_its_response_is_given_up_in_time(far: Far) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while not peer.how and not peer.lost:
            peer.send(bytes(65536))
            await peer.flush()

    await far.start(script, send=60)
    client = await far.far_client()
    client.send(GET)
    await client.until(b"\r\n\r\n")
    with far.network.failing("tcp sport != 80 tcp dport != 80 drop"):
        await eventually(lambda: any(some.write_paused for some in far.site.clients), what="nothing more is taken")
        for _ in range(3):
            far.site.later(31)
        await eventually(lambda: not far.site.clients and not far.site.upstreams, what="both are ended")


@pytest.mark.parametrize("hops", ["endpoint", "client"])
async def test_a_quiet_tunnel_to_a_peer_that_vanished_is_ended_by_keepalive(
    far: Far, monkeypatch: pytest.MonkeyPatch, hops: str
) -> None:
    # The same options in seconds that a test can wait for; the idle timeout of an hour does not come into it.
    soon = tuple((level, option, 1) for level, option, _ in KEEP_ALIVE)
    monkeypatch.setattr(sockets, "KEEP_ALIVE", soon)
    monkeypatch.setattr(connect, "_OPTIONS", soon)

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(_SWITCHED)

    # Where it is set, TCP_USER_TIMEOUT decides how many probes there are.
    await far.start(script, unacknowledged=1)
    client = await (far.client() if hops == "endpoint" else far.far_client())
    if hops == "client":
        [ours] = far.site.clients
        sockets.keep_alive(ours._transport)  # A worker's listening sockets have it.
    client.send(_UPGRADE)
    await client.until(b"\r\n\r\n")
    rule = f"{far.to(0)} drop" if hops == "endpoint" else f"ip saddr {far.network.outer} tcp sport {far.door} drop"
    with far.network.failing(rule):
        await eventually(lambda: not far.site.clients and not far.site.upstreams, what="both ends are closed")
        if hops == "endpoint":
            await client.end()


# --- resets


async def test_a_reset_by_the_network_within_a_response_is_visible_to_the_client(far: Far) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await gate.wait()
        peer.send(b"more")

    gate = asyncio.Event()
    await far.start(script)
    client = await far.client()
    client.send(GET)
    await client.until(b"half")
    with far.network.failing("ip protocol tcp reject with tcp reset"):
        gate.set()
        with pytest.raises(Truncated):
            await client.exactly(6)
    assert client.how == "reset"
    assert (await far.site.line())["reason"] == "upstream_reset"


async def test_endpoints_whose_network_resets_every_connection_are_passed_over(far: Far) -> None:
    await far.start(saying(b"a"), saying(b"b"))
    client = await far.client()
    with far.network.failing(f"{far.to(0)} ip protocol tcp reject with tcp reset"):
        for _ in range(20):
            for request in (GET, POST):
                client.send(request)
                assert (await client.response()).body == b"b"
    assert far.endpoints[0].received == []


async def test_a_client_that_the_network_resets_ends_its_request_at_the_endpoint(far: Far) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await gate.wait()
        peer.send(b"more")

    gate = asyncio.Event()
    await far.start(script)
    client = await far.far_client()
    client.send(GET)
    await client.until(b"half")
    with far.network.failing(f"tcp sport {far.door} reject with tcp reset"):
        gate.set()
        await eventually(lambda: not far.site.clients and not far.site.upstreams, what="both are ended")
    assert (await far.site.line())["reason"] == "client_gone"


# --- loss and slowness


async def test_a_network_that_loses_five_in_a_hundred_packets_fails_no_request(far: Far) -> None:
    await far.start(saying(b"x" * 3000), saying(b"x" * 3000))
    lossy = "numgen random mod 100 < 5 drop"

    async def ask() -> None:
        client = await far.client()
        for number in range(30):
            client.send(POST if number % 2 else GET)
            response = await client.response()
            assert (response.status, len(response.body)) == (200, 3000)

    with far.network.failing(lossy, leaving=(lossy,)):
        await asyncio.gather(*(ask() for _ in range(8)))


async def test_large_bodies_pass_a_slow_network_whole_and_wait_where_they_come_from(far: Far) -> None:
    body = random.Random(4).randbytes(MIB)
    digest = hashlib.sha256(body).hexdigest().encode()

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            assert hashlib.sha256(request.body).hexdigest().encode() == digest
            peer.send(reply(body))

    await far.start(script)
    client = await far.client()
    most = 0
    with far.network.slow(kilobits=16_000):
        for _ in range(2):
            client.send(b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            response = far.site.tasks.spawn(client.response(), "response")
            while not response.done():
                most = max([most, *(some._transport.get_write_buffer_size() for some in far.site.upstreams)])
                await asyncio.sleep(0.002)
            assert hashlib.sha256((await response).body).hexdigest().encode() == digest
    # What may wait for the endpoint (64 KiB) and the one read that passed it (libuv's are 256 KiB), of the 1 MiB.
    assert 0 < most <= far.site.settings.limits.buffer + (256 << 10)


async def test_a_client_behind_a_slow_network_holds_its_endpoint_up(far: Far) -> None:
    body = random.Random(5).randbytes(2 * MIB)
    await far.start(answering(reply(body)))
    client = await far.far_client()
    with far.network.slow(kilobits=16_000):
        client.send(GET)
        response = far.site.tasks.spawn(client.response(), "response")
        await eventually(lambda: any(some.write_paused for some in far.site.clients), what="it is held up")
        assert (await response).body == body
