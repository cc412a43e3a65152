"""How long an endpoint is waited for: every wait ends, not before its time, with the blame where it belongs.

The clock is put forward, so that the usual timeouts cost no time. Every wait is checked on both sides of its end.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from eventually import eventually
from wire.peers import OK, Client, Peer, Truncated, answering, echoing, reply
from wire.site import WEB, Net, everything_to, limits, waits

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"


async def silent(peer: Peer) -> None:
    """Take a request and say nothing."""
    await peer.request()


@pytest.mark.parametrize("request_", [GET, POST + b"x" * 100], ids=["get", "post"])
async def test_an_endpoint_that_says_nothing_is_504_and_sees_the_end(net: Net, request_: bytes) -> None:
    site, endpoint, client = await net.pair(silent)
    client.send(request_)
    await eventually(lambda: endpoint.received and endpoint.received[0].endswith(request_[-4:]))
    site.later(59)
    assert site.counters.replies == {}
    site.later(2)
    response = await client.response()
    assert (response.status, response.closes) == (504, False)
    assert (await site.line())["reason"] == "upstream_timeout"
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")
    assert site.pooled() == 0
    assert len(endpoint.peers) == 1
    endpoint.script = echoing
    assert (await client.get()).status == 200


async def test_an_endpoint_that_trickles_its_head_has_no_more_time(net: Net) -> None:
    site, endpoint, client = await net.pair(silent)
    client.send(GET)
    await eventually(lambda: endpoint.peers and endpoint.peers[0].received)
    for octet in OK[:6]:
        endpoint.peers[0].send(bytes([octet]))
        await eventually(lambda: site.upstreams[0]._held.endswith(bytes([octet])))  # noqa: B023 - awaited at once
        site.later(11)
    assert (await client.response()).status == 504
    assert (await site.line())["reason"] == "upstream_timeout"


async def test_an_endpoint_that_trickles_its_body_has_time(net: Net) -> None:
    site, endpoint, client = await net.pair(silent)
    client.send(GET)
    await eventually(lambda: endpoint.peers and endpoint.peers[0].received)
    endpoint.peers[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
    await client.until(b"\r\n\r\n")
    for octet in b"abcdef":
        site.later(55)
        endpoint.peers[0].send(bytes([octet]))
        assert await client.exactly(1) == bytes([octet])


async def test_an_endpoint_that_stops_in_its_body_is_cut_off(net: Net) -> None:
    site, endpoint, client = await net.pair(silent)
    client.send(GET)
    await eventually(lambda: endpoint.peers and endpoint.peers[0].received)
    endpoint.peers[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await client.until(b"half")
    site.later(61)
    with pytest.raises(Truncated):
        await client.rest()
    line = await site.line()
    assert (line["status"], line["reason"]) == (200, "upstream_timeout")
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")


async def test_a_slow_client_is_not_blamed_on_its_endpoint(net: Net) -> None:
    body = b"x" * 10_000_000
    endpoint = await net.endpoint(answering(reply(body)))
    site = await net.site(everything_to(endpoint.port), limits(), window=4096)
    client = await net.client(site, window=4096)
    client.hold()
    client.send(GET)
    await eventually(lambda: any(some.write_paused for some in site.clients))
    [connection] = site.clients
    upstream = site.upstreams[0]
    assert connection.deadline < upstream.deadline
    site.later(29)
    client.go_on()
    assert (await client.response()).body == body


async def test_an_idle_connection_to_an_endpoint_is_ended(net: Net) -> None:
    site, endpoint, client = await net.pair()
    await client.get()
    site.later(54)
    assert site.pooled() == 1
    site.later(2)
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")
    assert site.pooled() == 0
    assert (await client.get()).status == 200
    assert len(endpoint.peers) == 2


# --- connecting


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port whose backlog is full: the kernel drops further SYNs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        yield port
        for client in waiting:
            client.close()


async def test_an_endpoint_that_does_not_accept_is_504(net: Net, deaf_port: int) -> None:
    site = await net.site(everything_to(deaf_port))
    client = await net.client(site)
    client.send(GET)
    await eventually(lambda: len(site.tasks) == 1)
    site.later(4)
    assert site.counters.replies == {}
    site.later(2)
    response = await client.response()
    assert (response.status, response.closes) == (504, False)
    line = await site.line()
    assert (line["reason"], line["endpoint"]) == ("connect_timeout", f"127.0.0.1:{deaf_port}")
    await eventually(lambda: len(site.tasks) == 0)


@pytest.mark.parametrize("request_", [GET, POST + b"x" * 100], ids=["get", "post"])
async def test_another_endpoint_is_tried_when_one_does_not_accept(net: Net, deaf_port: int, request_: bytes) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(deaf_port, endpoint.port), timeouts=waits(connect=0.1))
    client = await net.client(site)
    for _ in range(4):
        client.send(request_)
        assert (await client.response()).status == 200
    assert {line["endpoint"] for line in await site.lines(4)} == {f"127.0.0.1:{endpoint.port}"}
    assert sum(pool.failed for pool in site.live.upstreams[WEB].pools) >= 2


async def test_a_client_that_goes_while_nobody_accepts_leaves_nothing_behind(net: Net, deaf_port: int) -> None:
    site = await net.site(everything_to(deaf_port))
    clients: list[Client] = [await net.client(site) for _ in range(10)]
    for client in clients:
        client.send(GET)
    await eventually(lambda: len(site.tasks) == 10, what="all connect")
    for client in clients:
        client.reset()
    await eventually(lambda: not site.clients, what="all are gone")
    site.later(6)
    await eventually(lambda: len(site.tasks) == 0, what="the attempts end")
    assert {line["reason"] for line in await site.lines(10)} == {"client_gone"}


async def test_a_connection_that_comes_when_its_client_is_gone_serves_another(net: Net) -> None:
    site, endpoint, _ = await net.pair()
    client = await net.client(site)
    await eventually(lambda: len(site.clients) == 2)
    connection = next(some for some in site.clients if some.peer)
    # As if the client's RST came in the turn of the loop between the connect and its end.
    connection.data_received(GET)
    connection.abort()
    await eventually(lambda: site.pooled() == 1, what="the connection waits")
    assert site.upstreams[0].reused is False
    survivor = await net.client(site)
    assert (await survivor.get()).status == 200
    assert len(endpoint.peers) == 1
    client.close()


async def test_a_client_that_pipelines_without_end_is_not_read_while_its_endpoint_is_slow(net: Net) -> None:
    endpoint = await net.endpoint(silent)
    site = await net.site(everything_to(endpoint.port), limits(buffer=10_000))
    client = await net.client(site)
    client.send(GET * 200_000)
    await eventually(lambda: any(some._paused for some in site.clients), what="the proxy stops reading")
    [connection] = site.clients
    assert len(connection._ahead.held) <= 10_000 + 262_144
