"""Whole proxies on networks that fail: layer 4, and the names of ExternalName services."""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import msgspec
import pytest

from eventually import eventually
from network import Network
from portway_proxy.clock import Clock
from portway_proxy.l4 import connect as relays
from portway_proxy.l4.relay import UPSTREAM_RESET, Relay
from portway_proxy.l4.splicer import Splicer
from portway_proxy.listeners import KEEP_ALIVE
from portway_proxy.snapshot import Endpoint, Listener, Protocol, Snapshot, Upstream
from tcp import End, pair
from wire.command import portway
from wire.parts import ECHO, ORIGIN, fetch, free_port, running, settings, until_answered

_ADDRESS = 5


def snapshot(port: int, *addresses: str) -> Snapshot:
    """Return a snapshot that passes `port` through to port 7 of these addresses."""
    endpoints = tuple(Endpoint(address, 7) for address in addresses)
    return Snapshot(
        upstreams=(Upstream(ECHO, protocol=Protocol.OPAQUE, endpoints=endpoints),),
        listeners=(Listener(port, ECHO, ORIGIN),),
    )


async def dial(address: str, port: int, network: Network | None = None) -> End:
    """Connect from here, or from inside of `network`."""

    def make() -> socket.socket:
        return socket.create_connection((address, port), 10)

    return End(make() if network is None else network.made(make))


class Accepting:
    """A socket inside of a network whose connections the test holds in its hands."""

    def __init__(self, network: Network, number: int) -> None:
        self.address = network.address(number)
        self.sock = network.listen(self.address, 7)
        self.sock.setblocking(False)

    async def accept(self) -> End:
        async with asyncio.timeout(20):
            sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        return End(sock)


@asynccontextmanager
async def accepting(network: Network, *numbers: int) -> AsyncIterator[list[Accepting]]:
    some = [Accepting(network, number) for number in numbers]
    try:
        yield some
    finally:
        for one in some:
            one.sock.close()


async def test_layer_4_passes_over_an_endpoint_in_a_black_hole(network: Network) -> None:
    chosen = settings(workers=1, connect=1.0)
    async with accepting(network, 10, 11) as (lost, there), running(chosen) as supervisor:
        port = free_port()
        await supervisor.apply(snapshot(port, lost.address, there.address))
        with network.failing(f"ip daddr {lost.address} drop"):
            for number in range(3):
                client = await dial("127.0.0.1", port)
                await client.send(b"hello %d" % number)
                end = await there.accept()
                assert await end.receive() == b"hello %d" % number
                end.close()
                client.close()


async def test_layer_4_resets_a_client_whose_every_endpoint_is_in_a_black_hole(network: Network) -> None:
    chosen = settings(workers=1, connect=1.0)
    async with running(chosen) as supervisor:
        port = free_port()
        await supervisor.apply(snapshot(port, network.address(10)))
        with network.failing("drop"):
            client = await dial("127.0.0.1", port)
            with pytest.raises(ConnectionResetError):
                await client.receive()
            client.close()


async def test_a_reset_by_the_network_passes_through_layer_4_as_one_either_way(network: Network) -> None:
    chosen = msgspec.structs.replace(settings(workers=1), address=network.outer)
    async with accepting(network, 10) as (endpoint,), running(chosen) as supervisor:
        port = free_port()
        await supervisor.apply(snapshot(port, endpoint.address))
        for client_fails in (False, True):
            client = await dial(network.outer, port, network if client_fails else None)
            await client.send(b"hello")
            end = await endpoint.accept()
            assert await end.receive() == b"hello"
            rule = f"tcp sport {port}" if client_fails else f"ip daddr {endpoint.address}"
            with network.failing(f"{rule} ip protocol tcp reject with tcp reset"):
                # What is sent to the side that fails has the answer.
                heard = end if client_fails else client
                await heard.send(b"more")
                with pytest.raises(ConnectionResetError):
                    await heard.receive()
            client.close()
            end.close()


@pytest.mark.parametrize("waiting", [b"", b"for nobody"], ids=["idle", "with bytes for it"])
async def test_a_relay_to_a_peer_that_vanished_is_ended_though_its_idle_time_is_not_over(
    network: Network, monkeypatch: pytest.MonkeyPatch, waiting: bytes
) -> None:
    # The same options in seconds that a test can wait for.
    monkeypatch.setattr(relays, "_OPTIONS", tuple((level, option, 1) for level, option, _ in KEEP_ALIVE))
    loop = asyncio.get_running_loop()
    splicer = Splicer(loop, Clock(loop))
    client, inner = pair()
    async with accepting(network, 10) as (endpoint,):
        upstream = socket.create_connection((endpoint.address, 7), 10)
        upstream.settimeout(0)
        end = await endpoint.accept()
        relays.prepare(upstream, 1.0)
        ended: list[Relay] = []
        relay = Relay(splicer, inner, upstream, idle=3600, on_done=ended.append)
        relay.start()
        await client.send(b"hello")
        assert await end.receive() == b"hello"
        with network.failing("drop"):
            if waiting:
                await client.send(waiting)
            await eventually(lambda: ended, 20, "the relay is ended")
            assert relay.reason == UPSTREAM_RESET
            with pytest.raises(ConnectionResetError):
                await client.receive()
        client.close()
        end.close()
    splicer.close()


async def test_relays_run_on_when_the_network_is_away_for_a_moment(network: Network) -> None:
    async with accepting(network, 10) as (endpoint,), running(settings(workers=1)) as supervisor:
        port = free_port()
        await supervisor.apply(snapshot(port, endpoint.address))
        client = await dial("127.0.0.1", port)
        await client.send(b"before")
        end = await endpoint.accept()
        assert await end.receive() == b"before"
        with network.failing("drop"):
            await client.send(b"meanwhile")
            await asyncio.sleep(0.3)  # So that it is sent and lost.
        assert await end.exactly(9) == b"meanwhile"
        client.close()
        end.close()


# --- names

_OBJECTS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: portway}
spec: {controller: portway.dev/ingress-controller}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {type: ExternalName, externalName: api.example, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: api, namespace: shop}
spec:
  ingressClassName: portway
  defaultBackend: {service: {name: api, port: {number: 80}}}
"""


class Names(asyncio.DatagramProtocol):
    """A name server that knows one address, which every name of type A has (RFC 1035, 4)."""

    def __init__(self, address: str) -> None:
        self.address = address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = data[12 : data.index(b"\0", 12) + 5]
        is_address = question[-4:-2] == b"\0\1"
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, int(is_address), 0, 0)
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 1, 4) + socket.inet_aton(self.address)
        self.transport.sendto(head + question + (record if is_address else b""), addr)


@asynccontextmanager
async def answering(network: Network) -> AsyncIterator[None]:
    """Run an HTTP endpoint that closes after each response."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async with await asyncio.start_server(serve, sock=network.listen(network.address(_ADDRESS), 80)):
        yield


async def test_while_the_name_server_is_in_a_black_hole_the_last_addresses_serve(
    network: Network, tmp_path: Path
) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("a resolv.conf of its own needs unshare of util-linux")
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "all.yaml").write_text(_OBJECTS)
    server = network.address(4)
    (tmp_path / "resolv.conf").write_text(f"nameserver {server}\noptions timeout:1 attempts:1\n")
    mount = f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && " + 'exec "$@"'
    within = ["unshare", "--mount", "sh", "-c", mount, "sh"]

    def bound() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((server, 53))
        return sock

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Names(network.address(_ADDRESS)), sock=network.made(bound)
    )
    ports = ("--http-port", "0", "--https-port", "0", "--admin-port", "0", "--workers", "1")
    async with answering(network), portway("run", "-f", tmp_path / "objects", *ports, within=within) as command:
        port = await (await command.serving()).port("http")
        await until_answered(port)
        with network.failing("udp dport 53 drop"):
            # It asks every ten seconds.
            await command.until("api.example does not resolve")
            for _ in range(5):
                assert await fetch(port) == "ok"
        assert await command.stop() == 0
    transport.close()
