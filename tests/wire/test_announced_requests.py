"""The PROXY protocol out, for HTTP: each request has a connection of its own, which begins with who its client is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest

from portway_proxy.proxy_protocol import Address, ProxyHeader, header_v1, read_header
from portway_proxy.snapshot import Belief, ProxyVersion, Snapshot, Trust, UpstreamPolicy
from portway_proxy.supervisor import Supervisor
from wire.parts import WEB, connect, port_of, running, settings, snapshot


@dataclass
class Told:
    """An HTTP endpoint that reads a PROXY header first, and what it was told."""

    port: int = 0
    headers: list[ProxyHeader] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        with contextlib.closing(writer), contextlib.suppress(OSError):
            while (header := read_header(data)) is None:
                data += await reader.read(4096)
            self.headers.append(header)
            data = data[header.size :]
            while True:
                while b"\r\n\r\n" not in data:
                    if not (more := await reader.read(4096)):
                        return
                    data += more
                data = data.partition(b"\r\n\r\n")[2]
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture
async def endpoint() -> AsyncIterator[Told]:
    told = Told()
    server = await asyncio.start_server(told.serve, "127.0.0.1", 0)
    told.port = server.sockets[0].getsockname()[1]
    yield told
    server.close()


def announcing(endpoint: Told, version: ProxyVersion, trust: Trust | None = None) -> Snapshot:
    served = snapshot(endpoint.port)
    policy = UpstreamPolicy(announce=version)
    upstreams = tuple(
        msgspec.structs.replace(one, policy=policy) if one.name == WEB else one for one in served.upstreams
    )
    return msgspec.structs.replace(served, upstreams=upstreams, trust=trust)


@pytest.fixture
async def proxy() -> AsyncIterator[Supervisor]:
    async with running(settings()) as supervisor:
        yield supervisor


@pytest.mark.parametrize("version", list(ProxyVersion))
async def test_each_request_comes_on_a_connection_that_says_whose_it_is(
    proxy: Supervisor, endpoint: Told, version: ProxyVersion
) -> None:
    await proxy.apply(announcing(endpoint, version))
    async with connect(port_of(proxy)) as one, connect(port_of(proxy)) as other:
        clients = [one, other, one]
        for client in clients:
            assert await client.get() == "ok"
        ends = [Address(*client.writer.get_extra_info("sockname")) for client in clients]
    assert [header.source for header in endpoint.headers] == ends
    assert {header.destination for header in endpoint.headers} == {Address("127.0.0.1", port_of(proxy))}


async def test_a_client_that_was_announced_to_us_is_announced_on(proxy: Supervisor, endpoint: Told) -> None:
    source, destination = Address("192.0.2.7", 4711), Address("198.51.100.1", 80)
    await proxy.apply(announcing(endpoint, ProxyVersion.V2, Trust(("127.0.0.0/8",), proxy_protocol=True)))
    async with connect(port_of(proxy)) as client:
        client.writer.write(header_v1(source, destination))
        assert await client.get() == "ok"
    assert [(header.source, header.destination) for header in endpoint.headers] == [(source, destination)]


async def test_a_client_that_a_trusted_field_names_is_announced_without_a_port(
    proxy: Supervisor, endpoint: Told
) -> None:
    await proxy.apply(announcing(endpoint, ProxyVersion.V1, Trust(("127.0.0.0/8",), Belief.REQUEST)))
    async with connect(port_of(proxy)) as client:
        client.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n")
        assert (await client.take())[2] == "ok"
    assert [header.source for header in endpoint.headers] == [Address("192.0.2.9", 0)]
