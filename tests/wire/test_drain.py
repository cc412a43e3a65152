"""A proxy as a process of its own, told to end by signals."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import msgspec
import pytest
import websockets.asyncio.client
import websockets.asyncio.server
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from eventually import eventually
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Snapshot
from wire.parts import Web, connect, fetch, free_port, refused, serve_echo, settings, snapshot, until_refused


class Process:
    """A proxy that runs by itself."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []
        self.ports: dict[str, int] = {}

    async def read(self) -> None:
        """Collect what it logs until it ends."""
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.lines.append(text := line.decode().rstrip())
            if found := re.search(r"(http|https|admin) on \S+ port (\d+)", text):
                self.ports[found[1]] = int(found[2])

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def status(self) -> int:
        """Return the exit status, once it ended."""
        async with asyncio.timeout(20):
            return await self._process.wait()

    async def ready(self) -> int:
        """Return the status of /readyz, or 0 when nobody answers."""
        url = f"http://127.0.0.1:{self.ports['admin']}/readyz"
        try:
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                return response.status
        except aiohttp.ClientConnectionError:
            return 0

    @property
    def http(self) -> int:
        return self.ports["http"]

    @property
    def pid(self) -> int:
        return self._process.pid


@asynccontextmanager
async def proxy(chosen: ProxySettings, served: Snapshot, directory: Path) -> AsyncIterator[Process]:
    file, with_settings = directory / "snapshot.json", directory / "settings.json"
    file.write_bytes(msgspec.json.encode(served))
    with_settings.write_bytes(msgspec.json.encode(chosen))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "portway_proxy", str(file), "--settings", f"@{with_settings}"),
        stderr=asyncio.subprocess.PIPE,
    )
    run = Process(process)
    async with asyncio.TaskGroup() as group:
        group.create_task(run.read())
        try:
            await eventually(lambda: len(run.ports) == 3, what="the proxy says its ports")
            async with asyncio.timeout(10):
                while await run.ready() != 200:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.01)
            yield run
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    assert not [line for line in run.lines if "Traceback" in line]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").split()[2] != "Z"
    except FileNotFoundError:
        return False


async def test_sigterm_ends_an_idle_proxy_with_status_0(web: Web, tmp_path: Path) -> None:
    async with proxy(settings(), snapshot(web.port), tmp_path) as run:
        assert await fetch(run.http) == "sent by web"
        run.signal(signal.SIGTERM)
        assert await run.status() == 0
        assert run.lines[-1].endswith("drained")


async def test_a_request_in_flight_completes_and_its_connection_is_told_to_close(web: Web, tmp_path: Path) -> None:
    async with proxy(settings(), snapshot(web.port), tmp_path) as run, connect(run.http) as client:
        client.send("/slow")
        await eventually(lambda: web.slow, what="the endpoint has the request")
        run.signal(signal.SIGTERM)
        await until_refused(run.http)
        web.release.set()
        status, head, body = await client.take()
        assert (status, body) == (200, "sent by web")
        assert "connection: close" in head.lower()
        assert await client.ended()
        assert await run.status() == 0


async def test_an_idle_client_is_let_go(web: Web, tmp_path: Path) -> None:
    async with proxy(settings(), snapshot(web.port), tmp_path) as run, connect(run.http) as idle:
        await idle.get()
        run.signal(signal.SIGTERM)
        assert await idle.ended()
        assert await run.status() == 0


async def test_a_relay_finishes(web: Web, tmp_path: Path) -> None:
    port = free_port()
    async with (
        serve_echo() as echo,
        proxy(settings(), snapshot(web.port, echo_port=echo, ports=[port]), tmp_path) as run,
        connect(port) as client,
    ):
        client.writer.write(b"before")
        assert await client.reader.readexactly(6) == b"before"
        run.signal(signal.SIGTERM)
        await until_refused(port)
        client.writer.write(b"after")
        client.writer.write_eof()
        assert await client.reader.read() == b"after"
        assert await run.status() == 0


async def websocket_echo(connection: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


@pytest.mark.parametrize("finishes", [True, False])
async def test_a_websocket_lives_until_it_ends_or_the_deadline_comes(tmp_path: Path, finishes: bool) -> None:
    async with websockets.asyncio.server.serve(websocket_echo, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with proxy(settings(drain=30.0 if finishes else 1.5), snapshot(port), tmp_path) as run:
            async with websockets.asyncio.client.connect(f"ws://127.0.0.1:{run.http}/") as socket:
                await socket.send("before")
                assert await socket.recv() == "before"
                run.signal(signal.SIGTERM)
                await until_refused(run.http)
                await asyncio.sleep(0.6)  # Idle clients are let go half a second later.
                await socket.send("after")
                assert await socket.recv() == "after"
                if not finishes:
                    assert await run.status() == 0
                    with pytest.raises(ConnectionClosed):
                        await socket.recv()
            assert await run.status() == 0


async def test_what_does_not_finish_is_cut_off_at_the_deadline(web: Web, tmp_path: Path) -> None:
    port = free_port()
    async with (
        serve_echo() as echo,
        proxy(settings(drain=0.3), snapshot(web.port, echo_port=echo, ports=[port]), tmp_path) as run,
        connect(run.http) as client,
        connect(port) as relayed,
    ):
        client.send("/slow")
        relayed.writer.write(b"x")
        assert await relayed.reader.readexactly(1) == b"x"
        await eventually(lambda: web.slow, what="the endpoint has the request")
        run.signal(signal.SIGTERM)
        assert await run.status() == 0
        # A clean end could pass for a whole response.
        with pytest.raises(ConnectionResetError):
            await client.ended()
        with pytest.raises(ConnectionResetError):
            await relayed.ended()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_everything_at_once(web: Web, tmp_path: Path, number: signal.Signals) -> None:
    async with (
        proxy(settings(grace=60, drain=60), snapshot(web.port), tmp_path) as run,
        connect(run.http) as client,
    ):
        workers = children(run.pid)
        client.send("/slow")
        await eventually(lambda: web.slow, what="the endpoint has the request")
        run.signal(number)
        await eventually(lambda: any("draining" in line for line in run.lines), what="it drains")
        run.signal(number)
        assert await run.status() == 0
        assert not any(alive(pid) for pid in workers)


async def test_during_the_grace_readiness_fails_and_everything_is_still_served(web: Web, tmp_path: Path) -> None:
    async with (
        proxy(settings(grace=60), snapshot(web.port), tmp_path) as run,
        connect(run.http) as client,
    ):
        await client.get()
        run.signal(signal.SIGTERM)
        await eventually(lambda: any("draining" in line for line in run.lines), what="it drains")
        assert await run.ready() == 503
        assert await fetch(run.http) == "sent by web"
        assert await client.get() == "sent by web"


async def test_a_proxy_told_to_end_under_load_fails_no_request(web: Web, tmp_path: Path) -> None:
    served = 0

    async def load(run: Process) -> None:
        nonlocal served
        async with connect(run.http) as client:
            while True:
                client.send()
                status, head, body = await client.take()
                assert (status, body) == (200, "sent by web")
                served += 1
                if "connection: close" in head.lower():
                    return

    async with proxy(settings(), snapshot(web.port), tmp_path) as run:
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(load(run))
            await eventually(lambda: served > 200, what="the load runs")
            run.signal(signal.SIGTERM)
        assert await run.status() == 0


async def test_sighup_renews_the_workers_by_the_file_with_settings_and_fails_nobody(web: Web, tmp_path: Path) -> None:
    async with proxy(settings(), snapshot(web.port), tmp_path) as run, connect(run.http) as client:
        client.send("/slow")
        await eventually(lambda: web.slow, what="the endpoint has the request")
        before = set(children(run.pid))
        (tmp_path / "settings.json").write_bytes(msgspec.json.encode(settings(head=0.1)))
        run.signal(signal.SIGHUP)
        while not any("renewed" in line for line in run.lines):
            assert await fetch(run.http) == "sent by web"
        web.release.set()
        status, _, body = await client.take()
        assert (status, body) == (200, "sent by web")
        await eventually(lambda: len(children(run.pid)) == 2, what="the workers before end")
        assert not before & set(children(run.pid))
        async with connect(run.http) as idle:
            assert await idle.ended()  # Their patience with a head is the new one.


async def test_sighup_with_a_file_that_cannot_be_read_leaves_everything_as_it_is(web: Web, tmp_path: Path) -> None:
    async with proxy(settings(), snapshot(web.port), tmp_path) as run:
        before = set(children(run.pid))
        (tmp_path / "settings.json").write_text("{")
        run.signal(signal.SIGHUP)
        await eventually(lambda: any("the workers that serve stay" in line for line in run.lines), what="it says so")
        assert await fetch(run.http) == "sent by web"
        assert set(children(run.pid)) == before


async def test_workers_end_when_their_supervisor_is_killed(web: Web, tmp_path: Path) -> None:
    async with proxy(settings(), snapshot(web.port), tmp_path) as run:
        workers = children(run.pid)
        assert len(workers) == 2
        os.kill(run.pid, signal.SIGKILL)
        await run.status()
        await eventually(lambda: not any(alive(pid) for pid in workers), what="the workers end too")
        assert await refused(run.http)


async def test_a_snapshot_that_cannot_be_served_is_a_sentence_and_status_1(web: Web, tmp_path: Path) -> None:
    file = tmp_path / "snapshot.json"
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(snapshot(web.port), upstreams=())))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "portway_proxy", str(file), "--settings", msgspec.json.encode(settings()).decode()),
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert b"refers to the upstream shop/web:80, which the snapshot does not have" in err
    assert b"Traceback" not in err
