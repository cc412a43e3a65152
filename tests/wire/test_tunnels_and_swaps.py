"""Tunnels and changes of the configuration: many of either leave each other alone."""

from __future__ import annotations

from pathlib import Path

from eventually import eventually
from wire.peers import Client, Peer
from wire.site import WEB, Net, prefix, table, upstream

UPGRADE = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_a_thousand_tunnels_outlive_a_thousand_swaps_and_the_endpoints_of_others(net: Net) -> None:
    async def echo(peer: Peer) -> None:
        await peer.head()
        peer.send(SWITCHED)
        while True:
            peer.send(await peer.exactly(4))

    endpoint, other = await net.endpoint(echo), await net.endpoint()
    hosts = {"": [prefix("/")], "other.example": [prefix("/", "shop/other:80")]}
    site = await net.site(table(hosts, upstream(WEB, endpoint.port), upstream("shop/other:80", other.port)))
    before = descriptors()
    clients: list[Client] = []
    while len(clients) < 1000:
        wave = [await net.client(site) for _ in range(50)]  # More at once would not fit into the endpoint's backlog.
        for client in wave:
            client.send(UPGRADE)
        for client in wave:
            assert (await client.head()).status == 101
        clients += wave
    # One for the client, one for the endpoint, two for the proxy; a turn of the loop may still close others.
    assert descriptors() - before < 4100
    for number in range(1000):
        spare = [other.port, 1] if number % 2 else [other.port]
        site.serve(table(hosts, upstream(WEB, endpoint.port), upstream("shop/other:80", *spare)))
        if number % 100 == 0:
            site.later(31)
    site.serve(table({"": [prefix("/")]}, upstream(WEB, endpoint.port)))
    site.later(31)
    for client in clients:
        client.send(b"ping")
    for client in clients:
        assert await client.exactly(4) == b"ping"
    assert (site.tunnels, len(site.clients), len(site.clock._watched)) == (1000, 1000, 1001)
    for client in clients:
        client.reset()
    await eventually(lambda: not site.clients, what="every tunnel ends")
