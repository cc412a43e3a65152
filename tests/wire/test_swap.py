"""Swaps of the snapshot: nobody notices, and what is gone is let go."""

from __future__ import annotations

import asyncio

import msgspec

from eventually import eventually
from portway_proxy.snapshot import Snapshot, Upstream
from wire.peers import OK, Client, Peer, Truncated, answering, reply
from wire.site import WEB, Net, Site, everything_to, prefix, table, upstream

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def load(client: Client, enough: asyncio.Event, statuses: list[int]) -> None:
    """Send requests one after another, every third with a body, until there are enough."""
    number = 0
    while not enough.is_set():
        number += 1
        if number % 3:
            client.send(GET)
        else:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        statuses.append((await client.response()).status)


async def under_load(net: Net, site: Site, snapshots: list[Snapshot], swaps: int) -> list[int]:
    """Swap `swaps` times between `snapshots` under load and return the statuses that clients got."""
    enough = asyncio.Event()
    statuses: list[int] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(load(await net.client(site), enough, statuses))
        for number in range(swaps):
            site.serve(snapshots[number % len(snapshots)])
            before = len(statuses)
            await eventually(lambda: len(statuses) > before + 5, what="the load goes on")  # noqa: B023 - at once
        enough.set()
    return statuses


async def test_a_hundred_and_fifty_swaps_under_load_fail_no_request(net: Net) -> None:
    endpoints = [await net.endpoint() for _ in range(3)]
    ports = [endpoint.port for endpoint in endpoints]
    snapshots = [
        everything_to(ports[0]),
        everything_to(*ports),
        everything_to(ports[1], ports[2]),
        table({"": [prefix("/", "other/web:80")]}, upstream("other/web:80", ports[2])),
    ]
    site = await net.site(snapshots[0])
    statuses = await under_load(net, site, snapshots, 150)
    assert set(statuses) == {200}
    assert len(statuses) > 750


async def test_endpoint_changes_by_patch_under_load_fail_no_request(net: Net) -> None:
    endpoints = [await net.endpoint() for _ in range(2)]
    site = await net.site(everything_to(endpoints[0].port))
    enough = asyncio.Event()
    statuses: list[int] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(load(await net.client(site), enough, statuses))
        for number in range(100):
            new = upstream(WEB, endpoints[number % 2].port)
            site.live = site.live.patch((new,), site.live.generation + 1, "")
            before = len(statuses)
            await eventually(lambda: len(statuses) > before + 5)  # noqa: B023 - awaited at once
        enough.set()
    assert set(statuses) == {200}


async def test_a_swap_that_changes_nothing_keeps_connections(net: Net) -> None:
    site, endpoint, client = await net.pair()
    for _ in range(5):
        assert (await client.get()).status == 200
        site.serve(everything_to(endpoint.port))
    assert len(endpoint.peers) == 1


async def test_connections_of_endpoints_that_stay_survive_a_change_of_others(net: Net) -> None:
    site, endpoint, client = await net.pair()
    other = await net.endpoint()
    await client.get()
    site.serve(everything_to(endpoint.port, other.port))
    for _ in range(4):
        await client.get()
    site.serve(everything_to(endpoint.port))
    await client.get()
    assert len(endpoint.peers) == len(other.peers) == 1
    await eventually(lambda: other.open == 0, what="idle connections to the removed endpoint end")
    assert endpoint.open == 1


async def test_a_removed_endpoint_finishes_what_it_has_and_gets_nothing_more(net: Net) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await gate.wait()
        peer.send(b"world")
        await peer.end()

    site, old, busy = await net.pair(script)
    busy.send(GET)
    await busy.until(b"hello")
    new = await net.endpoint(answering(reply(b"new")))
    site.serve(everything_to(new.port))
    other = await net.client(site)
    assert (await other.get()).body == b"new"
    gate.set()
    assert await busy.exactly(5) == b"world"
    await eventually(lambda: old.open == 0, what="its connection ends with the response")
    assert len(old.peers) == 1
    assert (await busy.get()).body == b"new"


async def test_a_request_that_waits_for_its_removed_endpoint_is_answered_by_it(net: Net) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await gate.wait()
        peer.send(reply(b"late"))

    site, endpoint, client = await net.pair(script)
    client.send(GET)
    await eventually(lambda: endpoint.received and endpoint.received[0])
    site.serve(table({}))
    assert site.live.upstreams == {}
    gate.set()
    assert (await client.response()).body == b"late"
    assert (await client.get()).status == 404
    await eventually(lambda: endpoint.open == 0, what="the connection is not kept")


async def test_an_upload_that_began_before_a_swap_ends_after_it(net: Net) -> None:
    site, endpoint, client = await net.pair()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    await eventually(lambda: endpoint.received and endpoint.received[0].endswith(b"hello"))
    site.serve(table({}))
    client.send(b"world")
    assert (await client.response()).body == b"/helloworld"


async def test_a_tunnel_outlives_its_route(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")

    site, endpoint, client = await net.pair(script)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await client.head()).status == 101
    site.serve(table({}))
    client.send(b"ping")
    assert await endpoint.peers[0].exactly(4) == b"ping"
    endpoint.peers[0].send(b"pong")
    assert await client.exactly(4) == b"pong"


async def test_counts_survive_a_swap_and_never_fall(net: Net) -> None:
    site, endpoint, client = await net.pair()

    def connects() -> float:
        return sum(sample.value for sample in site.live.upstreams[WEB].samples() if sample.labels[1] == "connected")

    def requests() -> int:
        return site.live.upstreams[WEB].requests

    await client.get()
    assert (connects(), requests()) == (1, 1)
    other = await net.endpoint()
    site.serve(everything_to(other.port))
    assert (connects(), requests()) == (1, 1)
    await client.get()
    site.serve(everything_to(endpoint.port))
    await client.get()
    assert (connects(), requests()) == (3, 3)


async def test_what_waits_for_a_name_is_answered_when_its_upstream_goes(net: Net) -> None:
    named = Upstream(WEB, external_name="shop.invalid", external_port=80)
    before = table({"": [prefix("/")]}, named)
    site = await net.site(before)
    client = await net.client(site)
    client.send(GET)
    await eventually(lambda: site.live.upstreams[WEB].parked)
    site.serve(msgspec.structs.replace(before, hosts=(), upstreams=()))
    assert (await client.response()).status == 503


async def test_what_waits_for_a_name_is_sent_once_there_are_endpoints(net: Net) -> None:
    endpoint = await net.endpoint(answering(OK))
    site = await net.site(table({"": [prefix("/")]}, Upstream(WEB, external_name="shop.invalid", external_port=80)))
    clients = [await net.client(site) for _ in range(3)]
    for client in clients:
        client.send(GET)
    await eventually(lambda: len(site.live.upstreams[WEB].parked or ()) == 3)
    clients[0].reset()
    await eventually(lambda: len(site.clients) == 2)
    site.serve(everything_to(endpoint.port))
    for client in clients[1:]:
        assert (await client.response()).status == 200
    assert sum(data.count(b"GET / ") for data in endpoint.received) == 2


async def test_truncation_is_seen_by_nobody_when_all_endpoints_are_replaced(net: Net) -> None:
    body = b"x" * 300_000
    old = await net.endpoint(answering(reply(body)))
    new = await net.endpoint(answering(reply(body)))
    site = await net.site(everything_to(old.port))
    clients = [await net.client(site) for _ in range(10)]
    try:
        for number in range(20):
            for client in clients:
                client.send(GET)
            site.serve(everything_to((old, new)[number % 2].port))
            for client in clients:
                assert (await client.response()).body == body
    except Truncated as cut:
        raise AssertionError(f"a response was cut off in swap {number}") from cut
