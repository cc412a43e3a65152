"""Endpoints that refuse, lie or die: who is tried again, what is sent twice (nothing), what the client sees."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from eventually import eventually
from portway_proxy.snapshot import Protocol
from wire.peers import OK, Client, Peer, Truncated, answering, echoing, reply
from wire.site import WEB, Net, Site, everything_to, limits, table, upstream

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken and refuses connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def other_closed_port() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


# --- connecting


@pytest.mark.parametrize("request_", [GET, POST], ids=["get", "post"])
async def test_an_endpoint_that_refuses_is_502_at_once(net: Net, closed_port: int, request_: bytes) -> None:
    site = await net.site(everything_to(closed_port))
    client = await net.client(site)
    client.send(request_)
    response = await client.response()
    assert response.status == 502
    line = await site.line()
    assert (line["reason"], line["upstream"]) == ("connect_failed", WEB)
    assert line["endpoint"] == f"127.0.0.1:{closed_port}"


@pytest.mark.parametrize("request_", [GET, POST, CHUNKED], ids=["get", "post", "chunked"])
async def test_with_one_of_three_endpoints_closed_nobody_sees_an_error(
    net: Net, closed_port: int, request_: bytes
) -> None:
    endpoints = [await net.endpoint() for _ in range(2)]
    site = await net.site(everything_to(closed_port, *(endpoint.port for endpoint in endpoints)))
    clients = [await net.client(site) for _ in range(5)]
    for _ in range(12):
        for client in clients:
            client.send(request_)
        for client in clients:
            response = await client.response()
            assert response.status == 200
            assert response.body in (b"/", b"/xhello")
    assert sum(data.count(b" HTTP/1.1\r\n") for endpoint in endpoints for data in endpoint.received) == 60
    assert all(endpoint.peers for endpoint in endpoints)


async def test_at_most_three_endpoints_are_tried(net: Net) -> None:
    with socket.socket() as one, socket.socket() as two, socket.socket() as three, socket.socket() as four:
        ports = []
        for sock in (one, two, three, four):
            sock.bind(("127.0.0.1", 0))
            ports.append(sock.getsockname()[1])
        site = await net.site(everything_to(*ports))
        client = await net.client(site)
        assert (await client.get()).status == 502
        assert sum(pool.failed for pool in site.live.upstreams[WEB].pools) == 3


async def test_an_endpoint_that_comes_back_is_used_at_once(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(endpoint.port))
    client = await net.client(site)
    port = endpoint.port
    endpoint.refuse()
    assert (await client.get()).status == 502
    await endpoint.start(port)
    assert (await client.get()).status == 200


async def test_a_body_that_came_during_a_failed_attempt_goes_to_the_next_endpoint(
    net: Net, closed_port: int, other_closed_port: int
) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(closed_port, other_closed_port, endpoint.port))
    client = await net.client(site)
    body = b"x" * 300_000
    for _ in range(3):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        response = await client.response()
        assert (response.status, response.body) == (200, b"/" + body)


# --- fresh connections that break


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("request_", [GET, POST, CHUNKED], ids=["get", "post", "chunked"])
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"])
async def test_a_fresh_connection_that_ends_before_its_response_is_502_and_nothing_is_sent_twice(
    net: Net, how: str, request_: bytes, said: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(said)
        if said:
            await eventually(lambda: all(some._held for some in site.upstreams))
        getattr(peer, how)()

    site, endpoint, client = await net.pair(script)
    client.send(request_)
    response = await client.response()
    assert (response.status, response.closes) == (502, False)
    assert (await site.line())["reason"] == "upstream_reset"
    assert len(endpoint.peers) == 1
    endpoint.script = echoing
    assert (await client.get("/next")).body == b"/next"


async def test_an_endpoint_that_hangs_up_within_the_request_is_502(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.reset()

    site, endpoint, client = await net.pair(script)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf")
    response = await client.response()
    assert (response.status, response.closes) == (502, True)
    client.send(b"x" * 996)
    assert await client.rest() == b""
    assert len(endpoint.peers) == 1
    assert site.pooled() == 0


async def test_an_endpoint_that_accepts_and_resets_at_once_is_502(net: Net) -> None:
    async def script(peer: Peer) -> None:
        peer.reset()

    site, _, client = await net.pair(script)
    for _ in range(10):
        assert (await client.get()).status == 502
    assert {line["reason"] for line in await site.lines(10)} <= {"upstream_reset", "connect_failed"}


# --- pooled connections that have ended


class Dying:
    """A script: each connection answers `count` requests and dies under the next, before or after it was read."""

    def __init__(self, count: int, how: str) -> None:
        self.count = count
        self.how = how
        self.requests: list[bytes] = []

    async def __call__(self, peer: Peer) -> None:
        for _ in range(self.count):
            request = await peer.request()
            self.requests.append(request.target + request.body)
            peer.send(OK)
        if self.how == "idle":
            peer.close()
            return
        request = await peer.request()
        self.requests.append(request.target + request.body)
        getattr(peer, self.how)()


@pytest.mark.parametrize("how", ["idle", "close", "reset"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
async def test_thirty_requests_that_change_nothing_all_succeed_on_connections_that_die_under_them(
    net: Net, how: str, method: str
) -> None:
    dying = Dying(1, how)
    _, endpoint, client = await net.pair(dying)
    for number in range(30):
        client.send(f"{method} /{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        response = await client.response(method.encode())
        assert response.status == 200
    assert len(endpoint.peers) >= 15
    assert set(dying.requests) == {b"/%d" % number for number in range(30)}


@pytest.mark.parametrize("how", ["idle", "close", "reset"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_no_request_that_may_change_something_is_ever_sent_twice(net: Net, how: str, method: str) -> None:
    dying = Dying(1, how)
    site, _, client = await net.pair(dying)
    statuses = []
    for number in range(30):
        client.send(f"{method} /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx".encode())
        statuses.append((await client.response()).status)
        if how == "idle":
            await eventually(lambda: not site.upstreams, what="the proxy sees the end of the idle connection")
    assert len(dying.requests) == len(set(dying.requests)) == 30
    assert statuses == ([200] * 30 if how == "idle" else [200, 502] * 15)


async def test_an_idle_connection_that_ended_is_noticed_even_before_the_loop_tells(net: Net) -> None:
    # The end is in the kernel; the loop that would report it has not turned since.
    site, endpoint, client = await net.pair()
    await client.get()
    [connection] = site.upstreams
    assert connection.quiet()
    endpoint.peers[0].transport.abort()
    with socket.socket(fileno=endpoint.peers[0].transport.get_extra_info("socket").fileno()) as sock:
        sock.shutdown(socket.SHUT_RDWR)
        sock.detach()
    assert not connection.quiet()
    client.send(POST)
    assert (await client.response()).status == 200
    assert len(endpoint.peers) == 2


@pytest.mark.parametrize("stray", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong", b"\r\n", OK])
async def test_an_idle_connection_that_says_something_is_not_used_again(net: Net, stray: bytes) -> None:
    site, endpoint, client = await net.pair()
    assert (await client.get("/one")).body == b"/one"
    endpoint.peers[0].send(stray)
    await eventually(lambda: site.pooled() == 0, what="the connection is given up")
    assert (await client.get("/two")).body == b"/two"
    assert len(endpoint.peers) == 2
    assert await endpoint.peers[0].end()


@pytest.mark.parametrize("stray", [b"x", b"\r\n", OK, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"])
async def test_bytes_behind_a_response_never_become_another_ones_response(net: Net, stray: bytes) -> None:
    site, endpoint, client = await net.pair(answering(reply(b"right") + stray))
    for _ in range(3):
        assert (await client.get()).body == b"right"
    assert len(endpoint.peers) == 3
    assert site.pooled() == 0


async def test_a_response_that_comes_before_its_request_is_not_taken_for_one(net: Net) -> None:
    async def script(peer: Peer) -> None:
        peer.send(reply(b"wrong"))
        await peer.request()
        peer.send(reply(b"right"))

    site, _, client = await net.pair(script)
    response = await client.get()
    # It came on a connection that was made for this request; nobody else can get it.
    assert response.body in (b"wrong", b"502 Bad Gateway\n")
    assert site.pooled() == 0
    assert (await client.get()).body in (b"wrong", b"502 Bad Gateway\n")


# --- TLS to the endpoint


async def test_an_endpoint_that_speaks_no_tls_where_tls_is_wanted_is_502(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.exactly(1)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.close()

    endpoint = await net.endpoint(script)
    site = await net.site(everything_to(endpoint.port, protocol=Protocol.HTTPS))
    client = await net.client(site)
    assert (await client.get()).status == 502
    assert (await site.line())["reason"] == "endpoint_tls"
    await eventually(lambda: endpoint.open == 0 and not site.upstreams)


# --- many endpoints


async def test_requests_are_spread_evenly(net: Net) -> None:
    endpoints = [await net.endpoint() for _ in range(3)]
    site = await net.site(everything_to(*(endpoint.port for endpoint in endpoints)))
    client = await net.client(site)
    for _ in range(30):
        assert (await client.get()).status == 200
    counts = [sum(data.count(b"GET / ") for data in endpoint.received) for endpoint in endpoints]
    assert counts == [10, 10, 10]


async def test_only_as_many_idle_connections_are_kept_as_allowed(net: Net) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await gate.wait()
            peer.send(OK)

    endpoint = await net.endpoint(script)
    site = await net.site(everything_to(endpoint.port), limits(pool=3))
    clients: list[Client] = [await net.client(site) for _ in range(10)]
    for client in clients:
        client.send(GET)
    await eventually(lambda: sum(bool(peer.received) for peer in endpoint.peers) == 10)
    gate.set()
    for client in clients:
        assert (await client.response()).status == 200
    assert site.pooled() == 3
    await eventually(lambda: endpoint.open == 3, what="the others end")


async def test_the_reason_of_an_upstream_whose_endpoints_all_went_is_503(net: Net) -> None:
    site: Site
    site, _, client = await net.pair()
    assert (await client.get()).status == 200
    site.serve(table({"": list(site.live.snapshot.hosts[0].routes)}, upstream(WEB, reason="no_endpoints")))
    assert (await client.get()).status == 503


async def test_a_response_that_is_cut_off_is_never_tried_again(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await eventually(lambda: client.size > 0)
        peer.close()

    _, endpoint, client = await net.pair(script)
    client.send(GET)
    with pytest.raises(Truncated):
        await client.response()
    assert len(endpoint.peers) == 1
