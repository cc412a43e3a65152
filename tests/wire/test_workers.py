"""Real workers that die, hang or cannot start, and what their supervisor makes of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventually import eventually
from portway_proxy import process
from portway_proxy.errors import BadSnapshot
from portway_proxy.process import WorkerEnded
from portway_proxy.snapshot import Snapshot
from portway_proxy.supervisor import Supervisor
from wire.parts import (
    Web,
    echoes,
    fetch,
    free_port,
    metrics,
    on_every_worker,
    open_fds,
    pids,
    port_of,
    running,
    serve_echo,
    serve_web,
    settings,
    snapshot,
)


@pytest.fixture
async def proxy() -> AsyncIterator[Supervisor]:
    async with running(settings()) as supervisor:
        yield supervisor


async def test_a_dead_worker_is_replaced_and_its_successor_serves_the_current_snapshot(
    proxy: Supervisor, web: Web
) -> None:
    async with serve_echo() as echo:
        port = free_port()
        await proxy.apply(snapshot(web.port, echo_port=echo, ports=[port]))
        before = pids(proxy)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: len(pids(proxy)) == 2 and not set(pids(proxy)) & set(before), what="both are replaced")
        await on_every_worker(proxy, "sent by web")
        assert await echoes(port)
        assert (await metrics(proxy))["portway_worker_restarts_total",] == 2


async def test_the_backlog_of_a_worker_that_dies_is_served_by_its_successor(web: Web) -> None:
    async with running(settings(workers=1)) as supervisor, serve_echo() as echo:
        port = free_port()
        await supervisor.apply(snapshot(web.port, echo_port=echo, ports=[port]))
        [pid] = pids(supervisor)
        os.kill(pid, signal.SIGSTOP)
        waiting = [asyncio.create_task(fetch(port_of(supervisor))) for _ in range(50)]  # noqa: TID251 - gathered below
        relays = [asyncio.create_task(echoes(port)) for _ in range(20)]  # noqa: TID251 - gathered below
        await eventually(
            lambda: backlog(port_of(supervisor)) == 50 and backlog(port) == 20, what="all wait in the backlog"
        )
        os.kill(pid, signal.SIGKILL)
        assert set(await asyncio.gather(*waiting)) == {"sent by web"}
        assert all(await asyncio.gather(*relays))


def backlog(port: int) -> int:
    """Return how many connections to 127.0.0.1:`port` are established and not yet accepted."""
    entry = f" 0100007F:{port:04X} 00000000:0000 0A "
    lines = Path("/proc/net/tcp").read_text("ascii").splitlines()
    # The receive queue of a listening socket is the length of its backlog.
    return sum(int(line.split(entry)[1].split(" ")[0].split(":")[1], 16) for line in lines if entry in line)


async def test_killing_workers_under_load_refuses_nobody(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port))
    outcomes: list[str] = []
    enough = asyncio.Event()

    async def load() -> None:
        while not enough.is_set():
            try:
                outcomes.append(await fetch(port_of(proxy)))
            except (ConnectionResetError, asyncio.IncompleteReadError):
                outcomes.append("cut off")

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(load())
        for _ in range(3):
            served = len(outcomes)
            victim = pids(proxy)[0]
            os.kill(victim, signal.SIGKILL)
            await eventually(lambda: len(pids(proxy)) == 2 and victim not in pids(proxy), what="the victim is replaced")  # noqa: B023
            await eventually(lambda: len(outcomes) > served + 50, what="the load goes on")  # noqa: B023
        enough.set()
    # A refused connection would have ended the load. Only what a victim had in hand may be cut off.
    assert set(outcomes) <= {"sent by web", "cut off"}
    assert outcomes.count("cut off") <= 3 * 8


# The labels are in the order of their names: host, ingress, method, namespace, service, status.
REQUESTS = ("portway_requests_total", "*", "web", "GET", "shop", "web", "2xx")


async def test_counters_never_fall_when_a_worker_dies(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port))
    for _ in range(20):
        await fetch(port_of(proxy))
    before = await metrics(proxy)
    assert before[REQUESTS] == 20
    assert before["portway_connections_total", "http"] == 20
    for pid in pids(proxy):
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not pids(proxy), what="both have died")
    during = await metrics(proxy)
    assert during[REQUESTS] == 20
    assert during["portway_workers",] == 0
    await eventually(lambda: len(pids(proxy)) == 2, what="both are replaced")
    await fetch(port_of(proxy))
    after = await metrics(proxy)
    assert after[REQUESTS] == 21
    assert after["portway_connections_total", "http"] == 21
    assert after["portway_workers",] == 2


async def test_a_scrape_does_not_wait_for_a_worker_that_hangs(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port))
    for _ in range(10):
        await fetch(port_of(proxy))
    assert (await metrics(proxy))[REQUESTS] == 10
    stopped = pids(proxy)[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        async with asyncio.timeout(8):
            assert (await metrics(proxy))[REQUESTS] == 10
    finally:
        os.kill(stopped, signal.SIGCONT)


async def test_a_worker_that_hangs_does_not_hold_up_a_change(
    proxy: Supervisor, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    await proxy.apply(snapshot(web.port))
    monkeypatch.setattr(process, "ACK_TIMEOUT", 0.5)
    stopped = pids(proxy)[0]
    os.kill(stopped, signal.SIGSTOP)
    async with serve_web("other") as other:
        assert await proxy.apply(snapshot(other.port)) == 2
        monkeypatch.undo()
        await eventually(lambda: len(pids(proxy)) == 2 and stopped not in pids(proxy), what="it is replaced")
        await on_every_worker(proxy, "sent by other")


async def test_workers_ignore_signals_meant_for_the_whole_group(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port))
    before = pids(proxy)
    for pid in before:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    await on_every_worker(proxy, "sent by web")
    assert pids(proxy) == before


async def test_a_worker_that_cannot_start_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with pytest.raises(WorkerEnded, match=r"worker \d \(pid \d+\) ended with status 1"):
        await Supervisor(settings()).start()


async def test_everything_is_closed_in_the_end(web: Web) -> None:
    before = open_fds()
    async with running(settings()) as supervisor:
        await supervisor.apply(snapshot(web.port, ports=[free_port()]))
        await fetch(port_of(supervisor))
        workers = pids(supervisor)
    await asyncio.sleep(0)
    assert open_fds() <= before + 1  # the endpoint's side of a pooled connection
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_an_idle_worker_is_small(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port))
    found = await metrics(proxy)
    for slot in ("0", "1"):
        assert 0 < found["portway_worker_resident_bytes", slot] <= 60e6


async def test_a_change_during_shutdown_is_refused(web: Web) -> None:
    async with running(settings(1)) as supervisor:
        await supervisor.apply(snapshot(web.port))
    with pytest.raises(BadSnapshot, match="shutting down"):
        await supervisor.apply(Snapshot())


async def test_no_traceback_is_logged_when_workers_die(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, web: Web
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(settings()) as proxy:
        await proxy.apply(snapshot(web.port))
        before = pids(proxy)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: len(pids(proxy)) == 2 and not set(pids(proxy)) & set(before), what="both are replaced")
        assert await fetch(port_of(proxy)) == "sent by web"
    assert all(record.exc_info is None for record in caplog.records)
    assert "Traceback" not in capfd.readouterr().err
