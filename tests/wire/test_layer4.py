"""Layer 4 by whole processes: ports that come and go under load, UDP, and the table of flows."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, cast

import aiohttp
import msgspec
import pytest

from eventually import eventually
from portway_proxy.flows import FlowPage, FlowQuery
from portway_proxy.snapshot import (
    Balance,
    Endpoint,
    Listener,
    ListenerPolicy,
    Origin,
    Protocol,
    Snapshot,
    Transport,
    Upstream,
)
from portway_proxy.supervisor import Supervisor
from wire.parts import echoes, free_port, metrics, pids, running, serve_echo, settings

ORIGIN: Final = Origin("Service", "shop", "echo")
TCP: Final = "shop/echo:7/tcp"
UDP: Final = "shop/echo:7/udp"
PATIENCE: Final = 15.0


def passing(
    endpoint: int,
    *ports: int,
    udp: tuple[int, ...] = (),
    balance: Balance = Balance.ROUND_ROBIN,
    policy: ListenerPolicy | None = None,
) -> Snapshot:
    """Return a snapshot of these TCP and UDP ports, which all lead to one port of this host."""
    endpoints = (Endpoint("127.0.0.1", endpoint),)
    listeners = [Listener(port, TCP, ORIGIN, policy=policy) for port in ports]
    listeners += [Listener(port, UDP, ORIGIN, Transport.UDP, policy=policy) for port in udp]
    return Snapshot(
        upstreams=tuple(Upstream(name, Protocol.OPAQUE, balance, endpoints) for name in (TCP, UDP)),
        listeners=tuple(sorted(listeners, key=lambda listener: (listener.port, listener.transport))),
    )


class Echo(asyncio.DatagramProtocol):
    """Sends datagrams back; `peers` are those who sent one."""

    def __init__(self) -> None:
        self.peers: list[tuple[str, int]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.peers.append(addr)
        self.transport.sendto(data, addr)


@asynccontextmanager
async def serve_udp() -> AsyncIterator[tuple[int, Echo]]:
    transport, echo = await asyncio.get_running_loop().create_datagram_endpoint(Echo, ("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1], echo
    finally:
        transport.close()


def udp_client(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(0)
    sock.connect(("127.0.0.1", port))
    return sock


async def ask(sock: socket.socket, data: bytes = b"x") -> bool:
    """Return whether a datagram comes back; one that is lost while a port is opened is sent again."""
    loop = asyncio.get_running_loop()
    for _ in range(20):
        with suppress(TimeoutError, ConnectionRefusedError):
            sock.send(data)
            async with asyncio.timeout(PATIENCE / 20):
                return await loop.sock_recv(sock, 65536) == data
    return False


@pytest.fixture
async def proxy() -> AsyncIterator[Supervisor]:
    async with running(settings()) as supervisor:
        yield supervisor


def descriptors_of(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def talk(port: int, number: int) -> str:
    """Connect and say something; return what came of it: `served`, `refused` or what was lost."""
    said = b"this is number %d" % number
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return "refused"
    except ConnectionResetError:
        return "lost while connecting"
    try:
        writer.write(said)
        writer.write_eof()
        return "served" if await reader.read() == said else "lost"
    except ConnectionResetError:
        return "lost"
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_port_opened_and_closed_a_thousand_times_loses_nobody_and_no_descriptor(proxy: Supervisor) -> None:
    steady, fickle = free_port(), free_port()
    outcomes: dict[int, Counter[str]] = {steady: Counter(), fickle: Counter()}
    over = asyncio.Event()

    async def load(port: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            outcomes[port][await talk(port, number)] += 1

    async def kept(port: int) -> int:
        """Hold one connection all the time, and return how often it was asked and answered."""
        turns = 0
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not over.is_set():
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
            turns += 1
        writer.close()
        await writer.wait_closed()
        return turns

    async with serve_echo() as echo:
        both, one = passing(echo, *sorted((steady, fickle))), passing(echo, steady)
        await proxy.apply(both)
        assert await echoes(steady)
        before = [descriptors_of(pid) for pid in (*pids(proxy), os.getpid())]
        async with asyncio.TaskGroup() as tasks:
            held = [tasks.create_task(kept(port)) for port in (steady, fickle)]
            for port in (steady, steady, *[fickle] * 16):
                tasks.create_task(load(port))
            for _ in range(1000):
                await proxy.apply(one)
                await proxy.apply(both)
            over.set()
        assert set(outcomes[steady]) == {"served"}
        assert set(outcomes[fickle]) <= {"served", "refused"}
        # Who comes while the port is about to close is asked by its own kernel to wait for a second.
        assert outcomes[fickle]["served"] > 30
        assert all(task.result() > 100 for task in held)

        def leaked() -> list[int]:
            # Pipes are kept for the next relays, two descriptors each.
            now = [descriptors_of(pid) for pid in (*pids(proxy), os.getpid())]
            return [after - earlier for after, earlier in zip(now, before, strict=True)]

        await eventually(lambda: max(leaked()) <= 8, PATIENCE, what=f"descriptors are given back: {leaked()}")


async def test_udp_passes_through_workers_and_a_client_outlives_the_death_of_its_own(proxy: Supervisor) -> None:
    port = free_port()
    async with serve_udp() as (target, echo):
        await proxy.apply(passing(target, udp=(port,)))
        with ExitStack() as stack:
            clients = [stack.enter_context(udp_client(port)) for _ in range(16)]
            for client in clients:
                assert await ask(client, b"x" * 1400)
            assert len(set(echo.peers)) == 16
            before = pids(proxy)
            shares = await share_of_workers(proxy)
            assert sum(shares) == 16
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            for client in clients:
                assert await ask(client)
            await eventually(lambda: len(pids(proxy)) == 2 and not set(pids(proxy)) & set(before))
            # The kernel gives a client to the same socket as before, and that to the successor of its worker.
            assert sum(await share_of_workers(proxy)) == 16
            assert await share_of_workers(proxy) == shares


async def share_of_workers(proxy: Supervisor) -> list[int]:
    """Return how many flows each worker has, by its slot."""
    processes = sorted(proxy._serving.items())
    return [len((await process.flows(FlowQuery(), PATIENCE)).flows) for _, process in processes]


async def test_udp_ports_open_and_close_live_beside_tcp_ports_of_their_number(proxy: Supervisor) -> None:
    port = free_port()
    async with serve_udp() as (target, _), serve_echo() as echo:
        with udp_client(port) as client:
            for _ in range(10):
                await proxy.apply(passing(target, udp=(port,)))
                assert await ask(client)
                await proxy.apply(passing(echo, port))
                assert await echoes(port)
            assert not list(udp_sockets(port))


def udp_sockets(port: int) -> Iterator[str]:
    lines = Path("/proc/net/udp").read_text("ascii").splitlines()[1:]
    return (line for line in lines if line.split()[1].endswith(f":{port:04X}"))


async def test_a_udp_port_that_somebody_has_is_a_problem_that_costs_itself_only(proxy: Supervisor) -> None:
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        number = taken.getsockname()[1]
        async with serve_udp() as (target, _):
            await proxy.apply(passing(target, udp=tuple(sorted((port, number)))))
            assert [problem.code for problem in proxy.problems] == ["port_unavailable"]
            with udp_client(port) as client:
                assert await ask(client)


async def test_flows_of_all_workers_are_one_table_live_filtered_and_bounded(proxy: Supervisor) -> None:
    port, other = free_port(), free_port()
    url = f"http://127.0.0.1:{proxy.admin_port}/flows"
    async with serve_echo() as echo, aiohttp.ClientSession() as session:

        async def flows(**asked: str) -> FlowPage:
            async with session.get(url, params=asked | {"format": "json"}) as response:
                assert response.status == 200
                return msgspec.json.decode(await response.read(), type=FlowPage)

        await proxy.apply(passing(echo, *sorted((port, other))))
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        connections.append(await asyncio.open_connection("127.0.0.1", other))
        for reader, writer in connections:
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
        found = await flows()
        assert (len(found.flows), found.more) == (21, 0)
        assert all(flow.bytes_in == flow.bytes_out == 5 for flow in found.flows)
        assert {flow.upstream for flow in found.flows} == {TCP}
        assert len((await flows(listener=str(other))).flows) == 1
        name = "{}:{}".format(*connections[3][1].get_extra_info("sockname"))
        assert [flow.client for flow in (await flows(client=name)).flows] == [name]
        few = await flows(limit="5", service="shop/echo")
        assert (len(few.flows), few.more) == (5, 16)
        ages = [flow.seconds for flow in few.flows]
        assert ages == sorted(ages, reverse=True)
        assert not (await flows(service="shop/other")).flows
        for _, writer in connections:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(PATIENCE):
            while (await flows()).flows:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)


async def test_each_endpoint_has_its_counts(proxy: Supervisor) -> None:
    port = free_port()
    async with serve_echo() as echo:
        await proxy.apply(passing(echo, port))
        for _ in range(6):
            assert await echoes(port)
        found = await metrics(proxy)
        assert found["portway_endpoint_connections_total", f"127.0.0.1:{echo}", f"tcp/{port}", TCP] == 6


async def test_a_limit_of_clients_holds_for_all_workers_together() -> None:
    port = free_port()
    async with running(settings(workers=2)) as proxy, serve_echo() as echo:
        await proxy.apply(passing(echo, port, policy=ListenerPolicy(clients=4)))
        connections = []
        served = 0
        for _ in range(24):
            with suppress(ConnectionError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                connections.append(writer)
                writer.write(b"x")
                served += len(await reader.read(1))
        assert 2 <= served <= 4
        for writer in connections:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
