"""A real supervisor with real workers: they die, are replaced, reject, and report."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from eventually import eventually
from portway_proxy import codec, process
from portway_proxy.errors import BadSnapshot
from portway_proxy.listeners import PortUnavailable
from portway_proxy.process import WorkerEnded
from portway_proxy.snapshot import Endpoint, Listener, Snapshot, Upstream
from portway_proxy.supervisor import Supervisor
from wire.parts import (
    ORIGIN,
    WEB,
    Web,
    connect,
    echoes,
    fetch,
    free_port,
    refused,
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


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with serve_web() as endpoint:
        yield endpoint


def port_of(supervisor: Supervisor) -> int:
    assert supervisor.http_port is not None
    return supervisor.http_port


def pids(supervisor: Supervisor) -> list[int]:
    return [worker.pid for worker in supervisor._serving.values()]


def open_fds() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def admin(supervisor: Supervisor, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{supervisor.admin_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def metrics(supervisor: Supervisor) -> dict[tuple[str, ...], float]:
    _, text = await admin(supervisor, "/metrics")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def on_every_worker(supervisor: Supervisor, expected: str) -> None:
    """Fetch often enough for every worker to have had its share of connections."""
    assert {await fetch(port_of(supervisor)) for _ in range(20)} == {expected}


# --- applying


async def test_what_is_applied_is_served_and_readiness_says_so(proxy: Supervisor, web: Web) -> None:
    assert await admin(proxy, "/readyz") == (503, "no snapshot yet\n")
    assert await proxy.apply(snapshot(web.port)) == 1
    assert await admin(proxy, "/readyz") == (200, "ready\n")
    await on_every_worker(proxy, "sent by web")
    assert proxy.digest == codec.digest(snapshot(web.port))


async def test_a_client_that_comes_before_the_first_snapshot_waits_for_it(proxy: Supervisor, web: Web) -> None:
    async with connect(port_of(proxy)) as client:
        client.send()
        await proxy.apply(snapshot(web.port))
        assert (await client.take())[2] == "sent by web"


async def test_once_apply_returns_every_worker_serves_the_new_snapshot(proxy: Supervisor, web: Web) -> None:
    async with serve_web("other") as other:
        for generation in range(1, 7):
            endpoint = (web, other)[generation % 2]
            assert await proxy.apply(snapshot(endpoint.port)) == generation
            await on_every_worker(proxy, f"sent by {endpoint.name}")


async def test_applies_at_the_same_time_happen_one_after_another(proxy: Supervisor, web: Web) -> None:
    ports = [free_port() for _ in range(8)]
    applies = [proxy.apply(snapshot(web.port, ports=[port])) for port in ports]
    assert await asyncio.gather(*applies) == list(range(1, 9))
    assert not await refused(ports[-1])
    assert all([await refused(port) for port in ports[:-1]])


async def test_a_snapshot_that_a_worker_cannot_apply_leaves_the_one_before(
    proxy: Supervisor, web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    kept, dropped = free_port(), free_port()
    async with serve_echo() as echo:
        good = snapshot(web.port, echo_port=echo, ports=[kept])
        await proxy.apply(good)
        bad = msgspec.structs.replace(good, upstreams=(), listeners=(Listener(dropped, "shop/none:1", ORIGIN),))
        with pytest.raises(BadSnapshot, match="which the snapshot does not have"):
            await proxy.apply(bad)
        assert (proxy.generation, proxy.snapshot) == (1, good)
        await on_every_worker(proxy, "sent by web")
        assert await echoes(kept)
        assert await refused(dropped)
        # The port of the rejected snapshot is free again, in the workers too.
        assert await proxy.apply(snapshot(web.port, echo_port=echo, ports=[dropped])) == 3
        assert await echoes(dropped)
    assert proxy.problems == ()
    assert (await metrics(proxy))["portway_snapshot_rejected_total",] == 1
    assert "a snapshot is rejected, the one before stays" in caplog.text


async def test_a_first_snapshot_that_is_rejected_leaves_the_proxy_unready(proxy: Supervisor, web: Web) -> None:
    bad = msgspec.structs.replace(snapshot(web.port), upstreams=())
    with pytest.raises(BadSnapshot):
        await proxy.apply(bad)
    assert (await admin(proxy, "/readyz"))[0] == 503
    await proxy.apply(snapshot(web.port))
    await on_every_worker(proxy, "sent by web")


async def test_a_patch_changes_one_upstream_on_every_worker(proxy: Supervisor, web: Web) -> None:
    async with serve_web("other") as other:
        before = snapshot(web.port)
        await proxy.apply(before)
        new = Upstream(WEB, endpoints=(Endpoint("127.0.0.1", other.port),))
        after = codec.patch(before, (new,))
        delta = codec.Delta(codec.digest(before), codec.digest(after), (new,))
        assert await proxy.patch(delta) == 2
        await on_every_worker(proxy, "sent by other")
        assert (proxy.snapshot, proxy.digest) == (after, codec.digest(after))
        with pytest.raises(BadSnapshot, match=f"the delta is for the snapshot {delta.base}"):
            await proxy.patch(delta)
        await on_every_worker(proxy, "sent by other")


async def test_a_hundred_listeners_open_serve_and_close(proxy: Supervisor, web: Web) -> None:
    async with serve_echo() as echo:
        with_ports = [free_port() for _ in range(130)]
        ports = sorted(set(with_ports))[:100]
        await proxy.apply(snapshot(web.port, echo_port=echo, ports=ports))
        assert proxy.problems == ()
        for port in ports:
            assert await echoes(port)
        await proxy.apply(snapshot(web.port, echo_port=echo, ports=ports[:1]))
        assert await echoes(ports[0])
        assert all([await refused(port) for port in ports[1:]])


async def test_a_relay_goes_on_when_its_listener_goes(proxy: Supervisor, web: Web) -> None:
    port = free_port()
    async with serve_echo() as echo:
        await proxy.apply(snapshot(web.port, echo_port=echo, ports=[port]))
        async with connect(port) as client, asyncio.timeout(15):
            client.writer.write(b"before")
            assert await client.reader.readexactly(6) == b"before"
            await proxy.apply(snapshot(web.port))
            assert await refused(port)
            client.writer.write(b"after")
            assert await client.reader.readexactly(5) == b"after"


# --- ports


async def test_an_http_port_that_is_taken_stops_the_start_with_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        chosen = msgspec.structs.replace(settings(), http_port=taken)
        with pytest.raises(PortUnavailable, match=f"Port {taken} of 127.0.0.1 cannot be opened: another program"):
            await Supervisor(chosen).start()


async def test_a_listener_port_that_is_taken_costs_itself_only(proxy: Supervisor, web: Web) -> None:
    async with serve_echo() as echo:
        free = free_port()
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            wanted = snapshot(web.port, echo_port=echo, ports=[free, taken])
            await proxy.apply(wanted)
            assert f"Port {taken} of 127.0.0.1 cannot be opened" in (await admin(proxy, "/problems"))[1]
            assert (await metrics(proxy))["portway_problems", "error"] == 1
            assert await echoes(free)
            await on_every_worker(proxy, "sent by web")
        await proxy.apply(wanted)
        assert await admin(proxy, "/problems") == (200, "")
        assert await echoes(taken)


async def test_two_proxies_of_one_user_never_share_a_port(proxy: Supervisor) -> None:
    with pytest.raises(PortUnavailable):
        await Supervisor(msgspec.structs.replace(settings(), http_port=proxy.http_port)).start()


async def test_ports_that_are_not_wanted_are_not_opened(web: Web) -> None:
    chosen = msgspec.structs.replace(settings(1), https_port=None)
    async with running(chosen) as supervisor:
        assert supervisor.https_port is None
        await supervisor.apply(snapshot(web.port))
        await on_every_worker(supervisor, "sent by web")


# --- workers that die


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


async def test_counters_never_fall_when_a_worker_dies(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port))
    for _ in range(20):
        await fetch(port_of(proxy))
    before = await metrics(proxy)
    assert before["portway_requests_total", "200", WEB] == 20
    assert before["portway_connections_total", "http"] == 20
    for pid in pids(proxy):
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not pids(proxy), what="both have died")
    during = await metrics(proxy)
    assert during["portway_requests_total", "200", WEB] == 20
    assert during["portway_workers",] == 0
    await eventually(lambda: len(pids(proxy)) == 2, what="both are replaced")
    await fetch(port_of(proxy))
    after = await metrics(proxy)
    assert after["portway_requests_total", "200", WEB] == 21
    assert after["portway_connections_total", "http"] == 21
    assert after["portway_workers",] == 2


async def test_a_scrape_does_not_wait_for_a_worker_that_hangs(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port))
    for _ in range(10):
        await fetch(port_of(proxy))
    assert (await metrics(proxy))["portway_requests_total", "200", WEB] == 10
    stopped = pids(proxy)[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        async with asyncio.timeout(8):
            assert (await metrics(proxy))["portway_requests_total", "200", WEB] == 10
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
