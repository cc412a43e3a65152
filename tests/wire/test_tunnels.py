"""What carries bytes after an upgrade: spliced between bare sockets, copied where TLS is on either side."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from pathlib import Path

import pytest

from certs import issue
from eventually import eventually
from portway_proxy.l4.relay import Relay
from portway_proxy.l7.copier import Copier
from portway_proxy.l7.tunnel import Tunnel
from portway_proxy.settings import Timeouts
from portway_proxy.snapshot import Protocol
from wire.peers import OK, Client, Endpoint, Peer, Script, TlsClient, reply
from wire.site import WEB, Net, Site, everything_to, waits

UPGRADE = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
BLOCK = os.urandom(65536)
SIDES = ["bare", "tls client", "tls endpoint", "tls both"]
both_ways = pytest.mark.parametrize("by_client", [True, False])
all_sides = pytest.mark.parametrize("sides", SIDES)


async def switching(peer: Peer) -> None:
    """Switch protocols and leave the connection to the test."""
    await peer.head()
    peer.send(SWITCHED)


class Stage:
    """Makes tunnels between one client and one endpoint, with TLS on either side or none."""

    def __init__(self, net: Net, context: ssl.SSLContext) -> None:
        self.net = net
        self.context = context

    async def open(
        self, sides: str, script: Script = switching, early: bytes = b"", timeouts: Timeouts | None = None
    ) -> tuple[Site, Peer, Client]:
        """Return a site and the two ends of a tunnel through it, with the head of its 101 read."""
        secure = sides in ("tls endpoint", "tls both")
        endpoint = Endpoint(script)
        await endpoint.start(tls=self.context if secure else None)
        self.net.stack.push_async_callback(endpoint.close)
        snapshot = everything_to(endpoint.port, protocol=Protocol.HTTPS if secure else Protocol.HTTP)
        site = await self.net.site(snapshot, timeouts=timeouts or Timeouts())
        client: Client
        if sides in ("tls client", "tls both"):
            await site.start_tls(self.context)
            client = await self._secure_client(site)
        else:
            client = await self.net.client(site)
        client.send(UPGRADE + early)
        assert (await client.head()).status == 101
        [peer] = endpoint.peers
        return site, peer, client

    async def _secure_client(self, site: Site) -> TlsClient:
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        _, client = await asyncio.get_running_loop().create_connection(
            TlsClient, "127.0.0.1", site.tls_port, ssl=trusting, server_hostname="a"
        )
        self.net.stack.callback(client.transport.abort)
        return client


@pytest.fixture
def stage(net: Net, tmp_path: Path) -> Stage:
    chain, key = issue("a")
    pem = tmp_path / "tls.pem"
    pem.write_bytes(chain + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return Stage(net, context)


def only_tunnel(site: Site) -> Tunnel:
    [tunnel] = site.counters.tunnels
    assert isinstance(tunnel, Tunnel)
    return tunnel


async def closed(site: Site) -> None:
    await eventually(lambda: not site.clients, what="the client's connection is closed")
    await eventually(lambda: site.live.upstreams[WEB].pools[0].load == 0, what="the endpoint's connection is closed")
    assert site.tunnels == 0
    assert site.counters.active == 0
    await eventually(lambda: len(site.splicer) == 0, what="no descriptor is watched")


# --- what carries


@all_sides
async def test_bare_sockets_are_spliced_and_everything_else_is_copied(stage: Stage, sides: str) -> None:
    site, peer, client = await stage.open(sides)
    assert type(only_tunnel(site)._carrier) is (Relay if sides == "bare" else Copier)
    client.send(b"ping")
    assert await peer.exactly(4) == b"ping"
    peer.send(b"pong")
    assert await client.exactly(4) == b"pong"


@all_sides
@both_ways
async def test_what_was_read_before_the_tunnel_arrives_first_and_once(
    stage: Stage, sides: str, by_client: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(SWITCHED + b"said" * (not by_client))

    site, peer, client = await stage.open(sides, script, b"early" * by_client)
    first, second = (client, peer) if by_client else (peer, client)
    first.send(b"more")
    expected = (b"early" if by_client else b"said") + b"more"
    assert await second.exactly(len(expected)) == expected
    second.send(b"back")
    assert await first.exactly(4) == b"back"
    assert second.unread == b""
    assert site.tunnels == 1


@all_sides
@both_ways
async def test_many_bytes_arrive_exactly_though_the_reader_stops(stage: Stage, sides: str, by_client: bool) -> None:
    site, peer, client = await stage.open(sides)
    fast, slow = (client, peer) if by_client else (peer, client)
    digest, expected = hashlib.sha256(), hashlib.sha256()
    slow.sink = digest.update
    slow.size = 0
    slow.hold()
    blocks = 320
    for _ in range(blocks):
        fast.send(BLOCK)
        expected.update(BLOCK)
    tunnel = only_tunnel(site)
    before = -1
    while before != (before := tunnel.bytes_in + tunnel.bytes_out):  # noqa: ASYNC110 - stillness is no event
        await asyncio.sleep(0.05)
    assert before < blocks * len(BLOCK), "somebody bought 20 MB for a reader that does not read"
    slow.go_on()
    await eventually(lambda: slow.size == blocks * len(BLOCK), what="all bytes arrive")
    assert digest.hexdigest() == expected.hexdigest()


# --- its end


@both_ways
async def test_a_bare_side_that_ends_leaves_the_other_direction_open(stage: Stage, by_client: bool) -> None:
    site, peer, client = await stage.open("bare")
    first, second = (client, peer) if by_client else (peer, client)
    first.send(b"last words")
    first.half_close()
    assert await second.rest() == b"last words"
    assert site.tunnels == 1
    second.send(BLOCK)
    second.half_close()
    assert await first.rest() == BLOCK
    await closed(site)
    assert (await site.line())["reason"] == ""


@pytest.mark.parametrize("sides", SIDES[1:])
@both_ways
async def test_a_side_that_ends_where_tls_is_involved_ends_both_and_loses_nothing(
    stage: Stage, sides: str, by_client: bool
) -> None:
    site, peer, client = await stage.open(sides)
    first, second = (client, peer) if by_client else (peer, client)
    first.send(BLOCK * 10)
    first.close()
    assert len(await second.rest()) == 10 * len(BLOCK)
    second.close()
    await closed(site)
    assert (await site.line())["reason"] == ""


@all_sides
@both_ways
async def test_a_reset_is_passed_on_as_a_reset(stage: Stage, sides: str, by_client: bool) -> None:
    site, peer, client = await stage.open(sides)
    first, second = (client, peer) if by_client else (peer, client)
    first.reset()
    secure = not second.transport.can_write_eof()  # TLS hides from its user how TCP ended.
    assert await second.end() == "reset" or secure
    await closed(site)
    line = await site.line()
    assert (line["status"], line["reason"]) == (101, "client_reset" if by_client else "upstream_reset")


@all_sides
async def test_silence_in_both_directions_ends_it_and_traffic_in_one_does_not(stage: Stage, sides: str) -> None:
    site, peer, client = await stage.open(sides, timeouts=waits(tunnel=100.0))
    for _ in range(4):
        site.later(80)
        peer.send(b"tick")
        assert await client.exactly(4) == b"tick"
    for _ in range(4):
        site.later(80)
        client.send(b"tock")
        assert await peer.exactly(4) == b"tock"
    site.later(103)
    await client.end()
    await peer.end()
    await closed(site)
    assert (await site.line())["reason"] == "idle"


@pytest.mark.parametrize("sides", ["tls client", "tls both"])
async def test_a_peer_that_never_reads_the_last_bytes_is_given_up(stage: Stage, sides: str) -> None:
    site, peer, client = await stage.open(sides)
    client.hold()
    carried = only_tunnel(site)._carrier
    assert isinstance(carried, Copier)
    while not carried._client.transport.get_write_buffer_size():
        peer.send(BLOCK[:1000])
        await peer.flush()
        await asyncio.sleep(0)
    peer.close()
    await eventually(lambda: carried.reason, what="the endpoint's end is heard")
    assert site.tunnels == 1
    site.later(33)
    await closed(site)


@all_sides
async def test_the_proxys_own_end_cuts_it_off_and_says_so(stage: Stage, sides: str) -> None:
    site, peer, client = await stage.open(sides)
    for some in tuple(site.clients):
        some.abort()
    await client.end()
    await peer.end()
    await closed(site)
    assert (await site.line())["reason"] == "closed"


@all_sides
async def test_a_drain_leaves_it_alone(stage: Stage, sides: str) -> None:
    site, peer, client = await stage.open(sides)
    site.draining = True
    for some in tuple(site.clients):
        some.drain()
    client.send(b"ping")
    assert await peer.exactly(4) == b"ping"
    assert len(site.clients) == site.tunnels == 1


@all_sides
async def test_an_endpoint_that_was_removed_keeps_it_for_the_time_to_drain(stage: Stage, sides: str) -> None:
    site, peer, client = await stage.open(sides)
    pool = site.live.upstreams[WEB].pools[0]
    site.serve(everything_to())
    client.send(b"ping")
    assert await peer.exactly(4) == b"ping"
    site.later(33)
    await client.end()
    await peer.end()
    await eventually(lambda: not site.clients and pool.load == 0, what="both connections are closed")
    assert (await site.line())["reason"] == "endpoint_removed"


# --- what is counted


@all_sides
async def test_its_bytes_are_in_the_access_line_and_at_any_time_in_the_counts(stage: Stage, sides: str) -> None:
    site, peer, client = await stage.open(sides, early=b"e" * 100)
    head = len(client.received)
    await peer.exactly(100)
    client.send(b"i" * 900)
    await peer.exactly(900)
    peer.send(b"o" * 5000)
    await client.exactly(5000)

    def counted() -> dict[tuple[str, ...], float]:
        return {(sample.name, *sample.labels): sample.value for sample in site.counters.samples()}

    running = counted()
    assert running["portway_bytes_total", "http", "in"] == len(UPGRADE) + 1000
    assert running["portway_bytes_total", "http", "out"] == head + 5000
    assert running["portway_relays_active", "http"] == 1
    client.close()
    peer.close()
    await closed(site)
    ended = counted()
    assert {name: ended[name] for name in running if name[0] == "portway_bytes_total"} == {
        name: value for name, value in running.items() if name[0] == "portway_bytes_total"
    }
    assert (ended["portway_relays_active", "http"], ended["portway_relays_total", "http", "done"]) == (0, 1)
    line = await site.line()
    assert (line["status"], line["request_size"], line["response_size"]) == (101, 1000, 5000)


# --- in need


async def test_a_tunnel_that_finds_no_descriptor_is_copied(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(_: int) -> int:
        raise OSError(24, "Too many open files")

    site, endpoint, client = await net.pair(switching)
    monkeypatch.setattr("portway_proxy.l7.tunnel.os.dup", exhausted)
    client.send(UPGRADE)
    assert (await client.head()).status == 101
    assert type(only_tunnel(site)._carrier) is Copier
    client.send(b"ping")
    await eventually(lambda: endpoint.received[0].endswith(b"ping"), what="bytes pass")
    client.half_close()
    assert await endpoint.peers[0].end() == "eof"
    endpoint.peers[0].send(b"pong")
    assert await client.exactly(4) == b"pong"
    endpoint.peers[0].half_close()
    assert await client.rest() == b""
    await closed(site)


async def test_an_answer_that_is_still_on_its_way_is_not_overtaken_by_a_tunnel(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(reply(BLOCK * 300))
        await switching(peer)
        peer.send(b"said")

    site, _, client = await net.pair(script)
    client.hold()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + UPGRADE)
    await asyncio.sleep(0.1)
    client.go_on()
    response = await client.response()
    assert len(response.body) == 300 * len(BLOCK)
    assert (await client.head()).status == 101
    assert await client.exactly(4) == b"said"
    assert site.tunnels == 1


async def test_the_next_request_of_another_client_is_served_beside_a_tunnel(net: Net) -> None:
    async def script(peer: Peer) -> None:
        while True:
            head = await peer.head()
            peer.send(SWITCHED if head.get(b"upgrade") else OK)

    site, endpoint, client = await net.pair(script)
    client.send(UPGRADE)
    await client.head()
    other = await net.client(site)
    assert (await other.get()).status == 200
    assert len(endpoint.peers) == 2


@all_sides
async def test_a_client_that_was_held_up_before_its_tunnel_is_read_again(stage: Stage, sides: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await asyncio.sleep(0.1)
        peer.send(SWITCHED)

    early = BLOCK * 100
    _, peer, client = await stage.open(sides, script, early)
    assert await peer.exactly(len(early)) == early
    client.send(b"ping")
    assert await peer.exactly(4) == b"ping"
