"""Clients that hang up anywhere: the endpoint sees it at once, and nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from pathlib import Path

import pytest

from eventually import eventually
from wire.peers import OK, Client, Peer, Truncated, answering, echoing, reply
from wire.site import Net, Site, everything_to, table

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LONG = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
RESET = struct.pack("ii", 1, 0)


async def nothing_left(site: Site) -> None:
    await eventually(lambda: not site.clients, what="no client is left")
    await eventually(lambda: len(site.upstreams) == site.pooled(), what="only idle connections are left")
    await eventually(lambda: len(site.tasks) == 0, what="no task is left")


HALF_REQUESTS = [
    LONG,
    LONG + b"x" * 999,
    CHUNKED,
    CHUNKED + b"5\r\nhel",
    CHUNKED + b"5\r\nhello\r\n",
    CHUNKED + b"0\r\n",
]


@pytest.mark.parametrize("request_", HALF_REQUESTS)
@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_an_endpoint_sees_at_once_that_the_client_left_within_its_request(
    net: Net, request_: bytes, how: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.end()

    site, endpoint, client = await net.pair(script)
    client.send(request_)
    await eventually(lambda: endpoint.peers and endpoint.peers[0].received)
    getattr(client, how)()
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")
    await nothing_left(site)
    line = await site.line()
    assert (line["status"], line["reason"]) == (499, "client_gone")
    assert not endpoint.received[0].endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (GET, b""),
        (GET, b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (GET, b"HTTP/1.1 200 OK\r\nContent-"),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"),
        (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        (GET, b"HTTP/1.1 200 OK\r\n\r\nhalf"),
        (LONG, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"),
        (UPGRADE, b""),
        (UPGRADE, SWITCHED),
        (UPGRADE, SWITCHED + b"hello"),
    ],
)
async def test_an_endpoint_sees_at_once_that_the_client_reset_its_connection(
    net: Net, request_: bytes, said: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(said)
        await peer.end()

    site, endpoint, client = await net.pair(script)
    client.send(request_)
    await eventually(lambda: endpoint.peers and endpoint.peers[0].received)
    await eventually(lambda: client.received or b"\r\n\r\n" not in said, what="the client has what was said")
    client.reset()
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")
    await nothing_left(site)
    assert site.pooled() == 0
    assert len(await site.lines()) == 1


@pytest.mark.parametrize("part", [b"", b"G", b"GET / HTTP/1.1\r\nHo", b"\r\n"])
@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_a_client_that_leaves_before_its_request_leaves_nothing(net: Net, part: bytes, how: str) -> None:
    site, endpoint, client = await net.pair()
    client.send(part)
    await eventually(lambda: site.clients and site.counters.received == len(part))
    getattr(client, how)()
    await nothing_left(site)
    assert endpoint.peers == []
    assert site.counters.active == 0


ANSWERS = [
    b"",
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nhalf",
]


@pytest.mark.parametrize("request_", [GET, LONG + b"x" * 1000, CHUNKED + b"0\r\n\r\n"])
@pytest.mark.parametrize("said", ANSWERS)
@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_an_endpoint_sees_at_once_that_nobody_waits_for_its_response_any_more(
    net: Net, request_: bytes, said: bytes, how: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(said)
        await peer.end()

    site, endpoint, client = await net.pair(script)
    client.send(request_)
    await eventually(lambda: endpoint.peers and endpoint.peers[0].received)
    await eventually(lambda: client.received or b"\r\n\r\n" not in said, what="the client has what was said")
    getattr(client, how)()
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")
    await nothing_left(site)
    assert site.pooled() == 0
    line = await site.line()
    assert (line["status"], line["reason"]) == (200 if b"half" in said else 499, "client_gone")


async def test_a_client_that_ends_its_half_while_requests_of_it_wait_gets_all_answers(net: Net) -> None:
    async def script(peer: Peer) -> None:
        for number in range(3):
            await peer.request()
            if not number:
                await eventually(lambda: any(some.ended for some in site.clients), what="the proxy knows")
            peer.send(reply(b"%d" % number))

    site, _, client = await net.pair(script)
    client.send(GET * 3)
    client.half_close()
    assert [(await client.response()).body for _ in range(3)] == [b"0", b"1", b"2"]
    assert await client.rest() == b""
    await nothing_left(site)
    assert {line["reason"] for line in await site.lines(3)} == {""}


async def test_nobody_is_asked_for_a_client_that_left_before_an_endpoint_was_reached(net: Net) -> None:
    site, endpoint, client = await net.pair()
    client.send(LONG + b"x" * 1000)
    client.half_close()
    await nothing_left(site)
    assert (await site.line())["reason"] == "client_gone"
    assert endpoint.received in ([], [b""])


async def test_a_client_that_closes_while_its_endpoint_streams_is_noticed_by_the_next_bytes(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not peer.how:
            peer.send(b"4\r\ntick\r\n")
            await asyncio.sleep(0.01)

    site, endpoint, client = await net.pair(script)
    client.send(GET)
    await client.until(b"tick")
    client.close()
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")
    await nothing_left(site)


async def test_a_client_that_resets_before_it_is_looked_at_leaves_nothing(net: Net) -> None:
    site, _, client = await net.pair()
    for _ in range(20):
        # In one turn of the loop: the proxy finds a connection that has ended.
        with socket.create_connection(("127.0.0.1", site.port)) as sock:
            sock.sendall(GET)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    assert (await client.get()).status == 200
    client.close()
    await nothing_left(site)
    assert site.counters.active == 0


# --- a thousand of them


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def wave(net: Net, site: Site) -> None:
    """Have 100 clients come, get to different points, and go in different ways."""
    loop = asyncio.get_running_loop()
    requests = (GET, LONG, LONG + b"x" * 500, CHUNKED + b"5\r\nhello\r\n", GET * 5, b"GET / HT", UPGRADE)
    clients: list[Client] = []
    for number in range(100):
        _, client = await loop.create_connection(Client, "127.0.0.1", site.port)
        client.send(requests[number % len(requests)])
        clients.append(client)
        if number % 5 == 0:
            size = site.counters.sent
            await eventually(lambda: site.counters.sent > size or not site.tasks)  # noqa: B023 - awaited at once
    for number, client in enumerate(clients):
        if number % 3:
            client.reset()
        else:
            client.close()


async def mixed(peer: Peer) -> None:
    """Answer, half answer or say nothing, by the number of the head, and hang up when the other side does."""
    number = 0
    while not peer.how:
        try:
            head = await peer.head()
        except Truncated:
            break
        number += 1
        if head.get(b"upgrade"):
            peer.send(SWITCHED)
        elif number % 3 == 0:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        elif number % 3 == 1 and head.start.startswith(b"GET"):
            peer.send(OK)
    peer.close()


async def waited_for(site: Site) -> None:
    """Wait as long as the proxy does for what silent endpoints owe to clients whose further requests wait."""
    for _ in range(20):
        site.later(61)
        await asyncio.sleep(0.005)
    await nothing_left(site)


async def test_a_thousand_clients_that_leave_leave_nothing_behind(net: Net) -> None:
    endpoint = await net.endpoint(mixed)
    site = await net.site(everything_to(endpoint.port))
    await wave(net, site)
    await waited_for(site)
    await eventually(lambda: all(peer.lost for peer in endpoint.peers), what="the endpoint has nothing either")
    before = descriptors()
    for _ in range(10):
        await wave(net, site)
    await waited_for(site)
    await eventually(lambda: all(peer.lost for peer in endpoint.peers), what="the endpoint has nothing either")
    await eventually(lambda: descriptors() == before, what="every descriptor is closed")
    assert site.counters.active == 0
    assert site.pooled() == 0
    assert len(site.clock._watched) == 1  # The access log, whose deadline is each tick.
    endpoint.script = echoing
    client = await net.client(site)
    assert (await client.get("/still")).body == b"/still"


async def test_clients_that_left_are_not_kept_alive_by_anything(net: Net) -> None:
    site, _, _ = await net.pair(answering(OK))
    clients = [await net.client(site) for _ in range(20)]
    for client in clients:
        await client.get()
    for client in clients:
        client.reset()
    await eventually(lambda: len(site.clients) == 1)
    gc.collect()
    held = [some for some in gc.get_objects() if type(some).__name__ == "ClientConnection"]
    assert len(held) <= 2


async def test_an_empty_table_serves_a_thousand_aborted_clients_too(net: Net) -> None:
    site = await net.site(table({}))
    for _ in range(1000):
        with socket.create_connection(("127.0.0.1", site.port)) as sock:
            sock.sendall(GET)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await asyncio.sleep(0)
    await eventually(lambda: not site.clients)
    assert site.counters.active == 0


async def deaf(peer: Peer) -> None:
    """Read nothing behind the head until the other side is gone."""
    await peer.head()
    peer.hold()
    await asyncio.sleep(0.5)
    peer.go_on()


@pytest.mark.parametrize("request_", [LONG.replace(b"1000", b"100000000") + b"x" * 20_000_000, GET * 200_000])
async def test_a_client_that_breaks_off_while_nobody_reads_from_it_is_noticed_all_the_same(
    net: Net, request_: bytes
) -> None:
    site, endpoint, client = await net.pair(deaf)
    client.send(request_)
    await eventually(lambda: any(some._paused for some in site.clients), what="the client is held up")
    client.reset()
    for _ in range(3):
        await asyncio.sleep(0.01)
        site.later(1.1)
    await nothing_left(site)
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")
    assert (await site.line())["reason"] == "client_gone"


async def test_a_client_that_ends_while_nobody_reads_from_it_is_noticed_all_the_same(net: Net) -> None:
    site, endpoint, client = await net.pair(deaf)
    client.send(LONG)
    await eventually(lambda: site.upstreams and endpoint.peers and endpoint.peers[0].received)
    [connection] = site.clients
    connection.pause()
    client.send(b"x" * 1000)
    site.later(3)
    assert site.clients == {connection}
    client.close()
    for _ in range(3):
        await asyncio.sleep(0.01)
        site.later(1.1)
    await nothing_left(site)
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")
    assert (await site.line())["reason"] == "client_gone"
