"""Workers that are replaced by others while they serve: SIGHUP, and settings that need it."""

from __future__ import annotations

import asyncio
import os
import signal

import msgspec
import pytest

from eventually import eventually
from portway_proxy.process import WorkerEnded, WorkerProcess
from portway_proxy.settings import Limits
from portway_proxy.supervisor import Supervisor
from wire.parts import (
    Web,
    connect,
    fetch,
    free_port,
    metrics,
    pids,
    port_of,
    running,
    serve_echo,
    settings,
    snapshot,
)
from wire.peers import Client, Endpoint, Peer

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def websocket(peer: Peer) -> None:
    """Switch protocols, then send back what comes."""
    await peer.head()
    peer.sink = peer.send
    peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")


async def load(proxy: Supervisor, served: list[int], *, until: asyncio.Event) -> None:
    """Ask again and again over connections that are kept as long as they may be; every request must be answered."""
    while not until.is_set():
        async with connect(port_of(proxy)) as client:
            while not until.is_set():
                client.send()
                status, head, body = await client.take()
                assert (status, body) == (200, "sent by web")
                served.append(status)
                if "connection: close" in head.lower():
                    break


async def test_a_renewal_under_load_fails_no_request_and_replaces_every_worker(web: Web) -> None:
    async with running(settings()) as proxy:
        await proxy.apply(snapshot(web.port))
        served: list[int] = []
        until = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(load(proxy, served, until=until))
            await eventually(lambda: len(served) > 100, what="the load runs")
            for _ in range(2):
                before, count = pids(proxy), len(served)
                await proxy.renew(proxy.settings)
                assert not set(before) & set(pids(proxy))
                await eventually(lambda: len(served) > count + 100, what="the load runs on")  # noqa: B023 - at once
            until.set()
        found = await metrics(proxy)
        assert found["portway_worker_restarts_total",] == 0
        assert found["portway_workers",] == 2


async def test_new_connections_all_the_time_are_served_through_a_renewal(web: Web) -> None:
    async with running(settings()) as proxy:
        await proxy.apply(snapshot(web.port))
        async with asyncio.TaskGroup() as group:
            renewal = group.create_task(proxy.renew(proxy.settings))
            served = 0
            while not renewal.done() or served < 50:
                assert await fetch(port_of(proxy)) == "sent by web"
                served += 1


async def test_relays_and_websockets_live_on_in_the_worker_before_until_the_drain_time() -> None:
    endpoint = Endpoint(websocket)
    await endpoint.start()
    port = free_port()
    async with serve_echo() as echo, running(settings(workers=1, drain=3.0)) as proxy:
        await proxy.apply(snapshot(endpoint.port, echo_port=echo, ports=[port]))
        loop = asyncio.get_running_loop()
        _, socket = await loop.create_connection(Client, "127.0.0.1", port_of(proxy))
        socket.send(UPGRADE)
        assert (await socket.head()).status == 101
        async with connect(port) as relay:
            relay.writer.write(b"before")
            assert await relay.reader.readexactly(6) == b"before"
            (before,) = pids(proxy)
            await proxy.renew(proxy.settings)
            assert pids(proxy) != [before]
            for word in (b"one", b"two"):
                socket.send(word)
                assert await socket.exactly(3) == word
                relay.writer.write(word)
                assert await relay.reader.readexactly(3) == word
            assert await socket.end() == "reset"
            with pytest.raises(ConnectionResetError):
                await relay.ended()
        with pytest.raises(ProcessLookupError):
            await eventually(lambda: os.kill(before, 0), what="the worker before ends")
        socket.close()
    await endpoint.close()


async def test_other_settings_reach_the_new_workers_and_ports_stay(web: Web) -> None:
    async with running(settings()) as proxy:
        await proxy.apply(snapshot(web.port))
        port = port_of(proxy)
        chosen = settings(workers=5, head=7.0)
        await proxy.renew(chosen)
        assert (port_of(proxy), len(pids(proxy))) == (port, 2)
        assert proxy.settings.timeouts.head == 7.0
        assert await fetch(port) == "sent by web"


async def test_settings_that_the_machine_cannot_bear_leave_the_workers_that_serve(web: Web) -> None:
    async with running(settings()) as proxy:
        await proxy.apply(snapshot(web.port))
        before = pids(proxy)
        with pytest.raises(OSError, match="1000000 connections for each worker need 2000096 descriptors"):
            await proxy.renew(msgspec.structs.replace(settings(), limits=Limits(connections=1_000_000)))
        assert pids(proxy) == before
        assert await fetch(port_of(proxy)) == "sent by web"


async def test_a_successor_that_cannot_start_leaves_the_workers_that_serve(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings()) as proxy:
        await proxy.apply(snapshot(web.port))
        before = pids(proxy)
        monkeypatch.setenv("PYTHONHOME", "/nowhere")
        with pytest.raises(WorkerEnded):
            await proxy.renew(proxy.settings)
        assert pids(proxy) == before
        assert await fetch(port_of(proxy)) == "sent by web"


async def test_a_worker_that_dies_while_its_successor_comes_leaves_one_that_serves(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings(workers=1)) as proxy:
        await proxy.apply(snapshot(web.port))
        (before,) = pids(proxy)
        started = WorkerProcess.ready

        async def ready(process: WorkerProcess) -> None:
            os.kill(before, signal.SIGKILL)
            monkeypatch.setattr(WorkerProcess, "ready", started)
            await started(process)

        monkeypatch.setattr(WorkerProcess, "ready", ready)
        await proxy.renew(proxy.settings)
        await eventually(lambda: len(proxy._crew.processes) == 1, what="one worker is left")
        assert pids(proxy) == [process.pid for process in proxy._crew.processes]
        assert await fetch(port_of(proxy)) == "sent by web"
        os.kill(pids(proxy)[0], signal.SIGKILL)
        assert await fetch(port_of(proxy)) == "sent by web"
