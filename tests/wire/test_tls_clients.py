"""Clients and endpoints over TLS: the same as in the clear, but for the end of one half."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
import websockets.asyncio.client
import websockets.asyncio.server
from websockets.asyncio.server import ServerConnection

from certs import issue
from eventually import eventually
from portway_proxy.snapshot import Policy, Protocol
from wire.peers import OK, Endpoint, Peer, Script, TlsClient, Truncated, answering, echoing, reply
from wire.site import Net, Site, everything_to

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    """A server's context with a certificate for `a`."""
    chain, key = issue("a")
    pem = tmp_path / "tls.pem"
    pem.write_bytes(chain + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def connect(net: Net, site: Site, window: int = 0) -> TlsClient:
    loop = asyncio.get_running_loop()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    sock = socket.socket()
    sock.setblocking(False)
    if window:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    await loop.sock_connect(sock, ("127.0.0.1", site.tls_port))
    _, client = await loop.create_connection(TlsClient, sock=sock, ssl=trusting, server_hostname="a")
    net.stack.callback(client.transport.abort)
    return client


async def pair(
    net: Net, context: ssl.SSLContext, script: Script = echoing, window: int = 0
) -> tuple[Site, Endpoint, TlsClient]:
    endpoint = await net.endpoint(script)
    site = await net.site(everything_to(endpoint.port))
    await site.start_tls(context, window)
    return site, endpoint, await connect(net, site, window)


async def test_a_request_over_tls_is_forwarded_in_the_clear_and_says_so(net: Net, context: ssl.SSLContext) -> None:
    site, endpoint, client = await pair(net, context)
    for number in range(3):
        assert (await client.get(f"/{number}")).body == f"/{number}".encode()
    assert b"\r\nX-Forwarded-Proto: https\r\n" in endpoint.received[0]
    assert b"\r\nX-Forwarded-Scheme: https\r\nX-Scheme: https\r\n" in endpoint.received[0]
    # What clients see as our port is a setting, or the real one.
    assert b"\r\nX-Forwarded-Port: %d\r\n" % site.tls_port in endpoint.received[0]
    assert len(endpoint.peers) == 1
    assert site.counters.handshakes == 1


async def test_a_route_that_wants_tls_is_served_over_it(net: Net, context: ssl.SSLContext) -> None:
    site, endpoint, client = await pair(net, context)
    site.serve(everything_to(endpoint.port, policy=Policy(https_redirect=True)))
    assert (await client.get()).status == 200
    plain = await net.client(site)
    assert (await plain.get()).status == 308


async def test_pipelined_requests_over_tls_are_answered_in_their_order(net: Net, context: ssl.SSLContext) -> None:
    _, _, client = await pair(net, context)
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(50)))
    assert [(await client.response()).body for _ in range(50)] == [b"/%d" % number for number in range(50)]


async def test_a_body_over_tls_arrives_whole(net: Net, context: ssl.SSLContext) -> None:
    _, _, client = await pair(net, context)
    body = bytes(range(256)) * 10_000
    for _ in range(2):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert (await client.response()).body == b"/" + body


async def test_a_slow_reader_over_tls_holds_up_the_endpoint(net: Net, context: ssl.SSLContext) -> None:
    body = bytes(range(256)) * 40_000
    site, endpoint, client = await pair(net, context, answering(reply(body)), window=8192)
    for _ in range(2):
        client.hold()
        client.send(GET)
        await eventually(lambda: any(some.write_paused for some in site.clients), what="the client does not keep up")
        [connection] = site.clients
        assert connection._transport.get_write_buffer_size() < 65536 + 262_144 + 16384
        client.go_on()
        assert (await client.response()).body == body
    assert len(endpoint.peers) == 1


async def test_a_slow_reader_over_tls_gets_the_last_bytes_before_the_end(net: Net, context: ssl.SSLContext) -> None:
    body = b"x" * 60_000
    site, _, client = await pair(net, context, answering(reply(body)), window=8192)
    client.hold()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await eventually(lambda: any(some._lingering for some in site.clients), what="the response is complete")
    client.go_on()
    response = await client.response()
    assert (response.closes, response.body) == (True, body)
    assert await client.rest() == b""


async def test_a_refused_request_over_tls_is_answered_and_ended(net: Net, context: ssl.SSLContext) -> None:
    site, endpoint, client = await pair(net, context)
    client.send(b"nonsense\r\n\r\n")
    assert (await client.response()).status == 400
    assert await client.rest() == b""
    await eventually(lambda: not site.clients)
    assert endpoint.peers == []


async def test_a_response_over_tls_that_is_cut_off_has_no_good_end(net: Net, context: ssl.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await eventually(lambda: client.size > 0)
        peer.close()

    site, _, client = await pair(net, context, script)
    client.send(GET)
    with pytest.raises(Truncated):
        await client.response()
    assert not client.received.endswith(b"0\r\n\r\n")
    await eventually(lambda: not site.clients)


@pytest.mark.parametrize(
    "request_", [GET, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf", b"GET / HT", b""]
)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_over_tls_that_leaves_leaves_nothing(
    net: Net, context: ssl.SSLContext, request_: bytes, how: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.end()

    site, endpoint, client = await pair(net, context, script)
    client.send(request_)
    await eventually(lambda: site.counters.received == len(request_))
    getattr(client, how)()
    await eventually(lambda: not site.clients and len(site.tasks) == 0, what="no client is left")
    await eventually(lambda: endpoint.open == 0 or site.pooled() == 1, what="the endpoint sees the end")


@pytest.mark.parametrize("by_client", [True, False])
async def test_a_tunnel_over_tls_passes_bytes_and_ends_with_either_side(
    net: Net, context: ssl.SSLContext, by_client: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")

    site, endpoint, client = await pair(net, context, script)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await client.head()).status == 101
    peer = endpoint.peers[0]
    client.send(b"x" * 1_000_000)
    assert await peer.exactly(1_000_000) == b"x" * 1_000_000
    peer.send(b"y" * 1_000_000)
    assert await client.exactly(1_000_000) == b"y" * 1_000_000
    if by_client:
        client.close()
        assert await peer.end()
        peer.close()
    else:
        peer.send(b"bye")
        peer.close()
        assert await client.rest() == b"bye"
    await eventually(lambda: not site.clients and not site.upstreams, what="both connections end")


async def test_a_client_that_speaks_no_tls_is_let_go(net: Net, context: ssl.SSLContext) -> None:
    site, endpoint, _ = await pair(net, context)
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(Peer, "127.0.0.1", site.tls_port)
    client.send(GET)
    assert await client.end()
    client.close()
    assert endpoint.peers == []


# --- TLS to the endpoint


async def test_an_endpoint_over_tls_serves_and_keeps_its_connection(net: Net, context: ssl.SSLContext) -> None:
    endpoint = Endpoint(echoing)
    await endpoint.start(tls=context)
    net.stack.push_async_callback(endpoint.close)
    site = await net.site(everything_to(endpoint.port, protocol=Protocol.HTTPS))
    client = await net.client(site)
    body = bytes(range(256)) * 1000
    for _ in range(5):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert (await client.response()).body == b"/" + body
    assert len(endpoint.peers) == site.pooled() == 1


async def test_a_change_of_protocol_lets_go_of_the_connections_in_the_other(net: Net, context: ssl.SSLContext) -> None:
    endpoint = await net.endpoint(answering(OK))
    site = await net.site(everything_to(endpoint.port))
    client = await net.client(site)
    assert (await client.get()).status == 200
    site.serve(everything_to(endpoint.port, protocol=Protocol.HTTPS))
    await eventually(lambda: endpoint.open == 0)
    assert site.pooled() == 0


async def test_a_websocket_over_tls_passes_messages_of_every_size(net: Net, context: ssl.SSLContext) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    server = await websockets.asyncio.server.serve(echo, "127.0.0.1", 0, max_size=None)
    net.stack.push_async_callback(server.wait_closed)
    net.stack.callback(server.close)
    site = await net.site(everything_to(next(iter(server.sockets)).getsockname()[1]))
    await site.start_tls(context)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    url = f"wss://127.0.0.1:{site.tls_port}/"
    async with websockets.asyncio.client.connect(url, ssl=trusting, max_size=None) as client:
        for size in (0, 125, 70_000, 3_000_000):
            await client.send(b"x" * size)
            assert await client.recv() == b"x" * size
        assert site.tunnels == 1
    await eventually(lambda: not site.clients and not site.tunnels, what="both connections end")
    assert (await site.line())["reason"] == ""


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_over_tls_that_leaves_ends_its_request_at_once(
    net: Net, context: ssl.SSLContext, how: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.end()

    site, endpoint, client = await pair(net, context, script)
    client.send(GET)
    await eventually(lambda: endpoint.peers and endpoint.peers[0].received)
    getattr(client, how)()
    await eventually(lambda: endpoint.open == 0 and not site.clients, what="everybody knows")
    line = await site.line()
    assert (line["status"], line["reason"]) == (499, "client_gone")
