"""Upgrades, to WebSocket and to anything else: what is asked for, what is switched to, and what is refused."""

from __future__ import annotations

import pytest
import websockets.asyncio.client
import websockets.asyncio.server
from websockets.exceptions import ConnectionClosed

from eventually import eventually
from portway_proxy.settings import Timeouts
from wire.peers import OK, Client, Endpoint, Peer, answering, reply
from wire.site import Net, Site, everything_to

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


async def switching(peer: Peer) -> None:
    """Switch protocols and leave the connection to the test."""
    await peer.head()
    peer.send(SWITCHED)


async def tunnel(net: Net, timeouts: Timeouts | None = None) -> tuple[Site, Peer, Client]:
    """Return a site, and the two ends of a tunnel through it."""
    site, endpoint, client = await net.pair(switching, timeouts=timeouts or Timeouts())
    client.send(UPGRADE)
    head = await client.head()
    assert head.status == 101
    [peer] = endpoint.peers
    return site, peer, client


# --- with a real implementation on either side


async def websocket_site(net: Net) -> tuple[Site, websockets.asyncio.server.Server]:
    async def echo(connection: websockets.asyncio.server.ServerConnection) -> None:
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            pass

    server = await websockets.asyncio.server.serve(echo, "127.0.0.1", 0, max_size=None)
    net.stack.push_async_callback(server.wait_closed)
    net.stack.callback(server.close)
    return await net.site(everything_to(next(iter(server.sockets)).getsockname()[1])), server


async def test_messages_of_every_size_pass_both_ways(net: Net) -> None:
    site, _ = await websocket_site(net)
    messages: list[str | bytes] = ["hello", b"", b"x" * 125, b"x" * 126, b"x" * 70_000, b"x" * 3_000_000]
    async with websockets.asyncio.client.connect(f"ws://127.0.0.1:{site.port}/", max_size=None) as socket:
        for message in messages:
            await socket.send(message)
            assert await socket.recv() == message
        pong = await socket.ping()
        await pong


@pytest.mark.parametrize("count", [1, 20])
async def test_a_websocket_that_closes_leaves_nothing_behind(net: Net, count: int) -> None:
    site, _ = await websocket_site(net)
    for _ in range(count):
        async with websockets.asyncio.client.connect(f"ws://127.0.0.1:{site.port}/") as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
    await eventually(lambda: not site.clients and not site.upstreams, what="both connections end")
    lines = await site.lines(count)
    assert {(line["status"], line["reason"]) for line in lines} == {(101, "")}


async def test_a_server_that_closes_is_heard_and_leaves_nothing_behind(net: Net) -> None:
    site, server = await websocket_site(net)
    async with websockets.asyncio.client.connect(f"ws://127.0.0.1:{site.port}/") as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
        server.close()
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    await eventually(lambda: not site.clients and not site.upstreams, what="both connections end")


# --- byte by byte


async def test_the_upgrade_passes_with_the_fields_that_it_needs_and_no_others(net: Net) -> None:
    site, peer, client = await tunnel(net)
    sent = bytes(peer.received)
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" in sent
    assert b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" in sent
    got = bytes(client.received)
    assert got.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in got
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in got
    assert b"Content-Length" not in got
    assert b"chunked" not in got
    assert site.pooled() == 0


async def test_what_the_endpoint_sends_right_behind_its_101_arrives(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(SWITCHED + b"first words")

    _, _, client = await net.pair(script)
    client.send(UPGRADE)
    await client.head()
    assert await client.exactly(11) == b"first words"


async def test_what_the_client_sends_before_the_101_waits_for_it(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await eventually(lambda: site.counters.received == len(UPGRADE) + 5, what="the proxy has the early bytes")
        assert peer.unread == b""
        peer.send(SWITCHED)
        assert await peer.exactly(5) == b"early"
        peer.send(b"heard")

    site, _, client = await net.pair(script)
    client.send(UPGRADE + b"early")
    await client.head()
    assert await client.exactly(5) == b"heard"


@pytest.mark.parametrize("by_client", [True, False])
async def test_the_end_of_one_direction_leaves_the_other_open(net: Net, by_client: bool) -> None:
    site, peer, client = await tunnel(net)
    first, second = (client, peer) if by_client else (peer, client)
    first.send(b"last words")
    first.half_close()
    assert (await second.rest())[-10:] == b"last words"
    second.send(b"x" * 1_000_000)
    assert await first.exactly(1_000_000) == b"x" * 1_000_000
    assert site.tunnels == len(site.clients) == 1
    second.send(b"y" * 1_000_000)
    second.half_close()
    assert await first.rest() == b"y" * 1_000_000
    await eventually(lambda: not site.clients and not site.upstreams, what="both connections end")
    line = await site.line()
    assert (line["status"], line["reason"]) == (101, "")
    assert line["request_size" if by_client else "response_size"] == 10
    assert line["response_size" if by_client else "request_size"] == 2_000_000


@pytest.mark.parametrize("by_client", [True, False])
async def test_a_reset_of_one_side_ends_the_other(net: Net, by_client: bool) -> None:
    site, peer, client = await tunnel(net)
    first, second = (client, peer) if by_client else (peer, client)
    first.reset()
    await second.end()
    second.close()
    await eventually(lambda: not site.clients and not site.upstreams, what="both connections end")


async def test_a_client_that_half_closes_before_the_101_is_heard_after_it(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await eventually(lambda: any(some.ended for some in site.clients), what="the proxy knows")
        peer.send(SWITCHED)
        assert await peer.rest() == b"early"
        peer.send(b"heard")
        peer.half_close()

    site, _, client = await net.pair(script)
    client.send(UPGRADE + b"early")
    client.half_close()
    await client.head()
    assert await client.rest() == b"heard"
    await eventually(lambda: not site.clients and not site.upstreams, what="both connections end")


async def test_a_tunnel_without_a_byte_is_ended_by_its_timeout(net: Net) -> None:
    site, peer, client = await tunnel(net)
    site.later(3599)
    assert len(site.clients) == 1
    site.later(2)
    assert await client.end()
    assert await peer.end()
    client.close()
    peer.close()
    await eventually(lambda: not site.clients and not site.upstreams, what="both connections end")


@pytest.mark.parametrize("by_client", [True, False])
async def test_a_tunnel_with_traffic_in_one_direction_outlives_its_timeout(net: Net, by_client: bool) -> None:
    site, peer, client = await tunnel(net)
    first, second = (client, peer) if by_client else (peer, client)
    await eventually(lambda: peer.unread == b"")
    for _ in range(3):
        site.later(3000)
        first.send(b"ping")
        assert await second.exactly(4) == b"ping"
    assert client.how == ""
    assert peer.how == ""


@pytest.mark.parametrize(
    ("method", "asked", "forwarded", "taken"),
    [
        (b"POST", b"SPDY/3.1", b"SPDY/3.1", b"SPDY/3.1"),  # kubectl exec.
        (b"POST", b"tcp", b"tcp", b"TCP"),  # docker attach.
        (b"GET", b"websocket, spdy/3.1", b"websocket, spdy/3.1", b"spdy/3.1"),
        (b"GET", b"h2c, WebSocket,TLS/1.0, HTTP/3.0", b"websocket", b"WebSocket"),
        (b"OPTIONS", b"a/1,\tb/2", b"a/1, b/2", b"b/2, a/1"),
    ],
)
async def test_any_protocol_may_be_switched_to_that_is_not_another_http(
    net: Net, method: bytes, asked: bytes, forwarded: bytes, taken: bytes
) -> None:
    async def script(peer: Peer) -> None:
        assert (await peer.head()).get(b"upgrade") == forwarded
        peer.send(SWITCHED.replace(b"websocket", taken))
        assert await peer.exactly(4) == b"ping"
        peer.send(b"pong")

    site, _, client = await net.pair(script)
    client.send(b"%b / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % (method, asked))
    head = await client.head()
    assert (head.status, head.get(b"upgrade"), head.get(b"connection")) == (101, taken, b"Upgrade")
    client.send(b"ping")
    assert await client.exactly(4) == b"pong"
    assert site.tunnels == 1


# --- refused


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request", b"426 Upgrade Required"])
async def test_a_refused_upgrade_is_answered_and_its_connection_not_used_again(net: Net, status: bytes) -> None:
    site, endpoint, client = await net.pair(answering(reply(b"no", status)))
    client.send(UPGRADE)
    response = await client.response()
    assert (response.status, response.body) == (int(status[:3]), b"no")
    await eventually(lambda: endpoint.open == 0, what="the connection to the endpoint ends")
    assert site.pooled() == 0
    assert (await client.get()).status == int(status[:3])
    assert len(endpoint.peers) == 2


async def test_bytes_behind_a_refused_upgrade_are_the_clients_next_request(net: Net) -> None:
    _, endpoint, client = await net.pair(answering(reply(b"no", b"403 Forbidden"), OK))
    client.send(UPGRADE + b"\x81\x85\x00\x00\x00\x00hello\r\n\r\n")
    assert (await client.response()).status == 403
    assert (await client.response()).status == 400
    assert await client.rest() == b""
    assert len(endpoint.peers) == 1
    assert b"hello" not in endpoint.received[0]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: HTTP/2.0, H2C\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket;q=1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: spdy/3.1\r\nContent-Length: 2\r\n\r\nhi",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: TLS/1.0\r\n\r\n",
    ],
)
async def test_what_asks_for_no_other_protocol_is_forwarded_as_an_ordinary_request(net: Net, request_: bytes) -> None:
    _, endpoint, client = await net.pair(answering(OK))
    client.send(request_)
    assert (await client.response()).status == 200
    sent = endpoint.received[0].lower()
    assert b"upgrade" not in sent
    assert b"http2-settings" not in sent


@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"]
)
async def test_a_101_that_nobody_asked_for_is_502(net: Net, request_: bytes) -> None:
    site, endpoint, client = await net.pair(answering(SWITCHED))
    client.send(request_)
    assert (await client.response()).status == 502
    assert (await site.line())["reason"] == "upstream_bad_response"
    await eventually(lambda: endpoint.open == 0, what="the connection to the endpoint ends")


@pytest.mark.parametrize("taken", [b"h2c", b"spdy/3.1", b"websocket, spdy/3.1", b"websocket/1", b"web socket", b""])
async def test_a_101_to_another_protocol_is_502(net: Net, taken: bytes) -> None:
    _, endpoint, client = await net.pair(answering(SWITCHED.replace(b"websocket", taken)))
    client.send(UPGRADE)
    assert (await client.response()).status == 502
    await eventually(lambda: endpoint.open == 0, what="the connection to the endpoint ends")


async def test_an_endpoint_that_hangs_up_instead_of_a_101_is_502(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.close()

    endpoint: Endpoint
    _, endpoint, client = await net.pair(script)
    client.send(UPGRADE)
    assert (await client.response()).status == 502
    assert len(endpoint.peers) == 1
