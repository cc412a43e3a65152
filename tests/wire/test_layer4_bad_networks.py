"""Layer 4 endpoints beyond a network that swallows, resets or stalls what it carries (nft)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from eventually import eventually
from layer4 import DB, Greeter, Site
from network import Network
from portway_proxy.clock import Clock
from portway_proxy.l4.splicer import Splicer
from portway_proxy.settings import Timeouts
from portway_proxy.snapshot import Endpoint, Protocol, Upstream
from tcp import End, connect


@pytest.fixture
async def splicer() -> AsyncIterator[Splicer]:
    loop = asyncio.get_running_loop()
    splicer = Splicer(loop, Clock(loop))
    yield splicer
    splicer.clock.stop()
    splicer.close()


class Far:
    """A listener whose endpoints are inside of `network`, at addresses 0, 1, ...; each greets with its number."""

    def __init__(self, splicer: Splicer, network: Network, timeouts: Timeouts) -> None:
        self.network = network
        self._splicer = splicer
        self._timeouts = timeouts
        self._servers: list[asyncio.Server] = []
        self._present: set[Greeter] = set()
        self.site: Site

    async def start(self, number: int) -> Site:
        addresses = [self.network.address(each) for each in range(number)]
        for each, address in enumerate(addresses):
            sock = self.network.listen(address, 5432)
            make = partial(Greeter, b"%d" % each, self._present)
            self._servers.append(await asyncio.get_running_loop().create_server(make, sock=sock))
        endpoints = tuple(Endpoint(address, 5432) for address in addresses)
        self.site = Site(self._splicer, Upstream(DB, Protocol.OPAQUE, endpoints=endpoints), timeouts=self._timeouts)
        self.site.passthrough.start()
        return self.site

    async def close(self) -> None:
        self.site.passthrough.close()
        for server in self._servers:
            server.close()
        for one in tuple(self._present):
            one.transport.abort()
        await eventually(lambda: not self._present)


async def gone(client: End) -> bool:
    """Return whether the client is reset, or told of the end."""
    try:
        return await client.receive() == b""
    except ConnectionResetError:
        return True


async def test_a_black_hole_in_the_place_of_an_endpoint_costs_the_connect_timeout_and_no_client(
    splicer: Splicer, network: Network
) -> None:
    far = Far(splicer, network, Timeouts(connect=1.0))
    site = await far.start(2)
    splicer.clock.start()
    with network.failing(f"ip daddr {network.address(0)} drop"):
        clients = [await connect(site.port) for _ in range(4)]
        assert [await client.exactly(1) for client in clients] == [b"1"] * 4
        failed = sum(pool.failed for pool in site.live.upstreams[DB].pools)
        assert failed == 2
    for client in clients:
        client.close()
    await far.close()


async def test_an_endpoint_that_vanishes_under_a_relay_is_noticed_once_bytes_for_it_wait(
    splicer: Splicer, network: Network
) -> None:
    far = Far(splicer, network, Timeouts(unacknowledged=1.0))
    site = await far.start(1)
    client = await connect(site.port)
    assert await client.exactly(1) == b"0"
    with network.failing(f"ip daddr {network.address(0)} drop"):
        await client.send(b"is anybody there?")
        assert await gone(client)
    await site.ended()
    assert site.access.reasons() == {"upstream_reset": 1}
    client.close()
    await far.close()


async def test_an_endpoint_that_a_firewall_resets_is_a_reset_for_its_client(splicer: Splicer, network: Network) -> None:
    far = Far(splicer, network, Timeouts())
    site = await far.start(1)
    client = await connect(site.port)
    assert await client.exactly(1) == b"0"
    with network.failing("tcp dport 5432 reject with tcp reset"):
        await client.send(b"hello")
        with pytest.raises(ConnectionResetError):
            await client.receive()
    await site.ended()
    assert site.access.reasons() == {"upstream_reset": 1}
    client.close()
    await far.close()


async def test_a_relay_that_stalls_for_a_while_goes_on_without_a_byte_lost(splicer: Splicer, network: Network) -> None:
    far = Far(splicer, network, Timeouts())
    site = await far.start(1)
    client = await connect(site.port)
    assert await client.exactly(1) == b"0"
    said = bytes(range(256)) * 1000
    with network.failing(f"ip daddr {network.address(0)} drop"):
        await client.send(said)
        await eventually(lambda: site.passthrough.relays)
    assert await client.exactly(len(said)) == said
    client.finish()
    assert await client.rest() == b""
    await site.ended()
    assert site.access.reasons() == {"done": 1}
    client.close()
    await far.close()
