"""More than a worker can bear: who is turned away, who waits, and that those who are served go on being served."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from eventually import eventually
from portway_proxy.descriptors import TooFewDescriptors
from portway_proxy.errors import LoopLate
from portway_proxy.l7 import flow
from portway_proxy.overload import Overload
from portway_proxy.pressure import Pressure
from portway_proxy.settings import Limits
from portway_proxy.supervisor import Supervisor
from wire.limited import confined, limited
from wire.parts import (
    Client,
    Web,
    admin,
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
    until_answered,
)
from wire.site import Net

DOWNLOAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def until_accepted(proxy: Supervisor, clients: int) -> None:
    """Wait until so many clients of HTTPS, who have connected, were accepted too."""
    async with asyncio.timeout(10):
        while True:
            if (await metrics(proxy))["portway_connections_total", "https"] == clients:
                return
            await asyncio.sleep(0.01)


# --- connections


async def test_beyond_the_limit_clients_are_answered_503_at_once_and_those_inside_are_served(web: Web) -> None:
    async with limited(web, connections=10) as proxy:
        inside = [await Client.to(port_of(proxy)) for _ in range(10)]
        for client in inside:
            assert await client.get() == "sent by web"
        for _ in range(200):
            async with connect(port_of(proxy)) as client:
                client.send()
                status, head, _ = await client.take()
                assert status == 503
                assert "retry-after: 1\r\n" in head.lower()
                assert "connection: close\r\n" in head.lower()
                assert await client.ended()
        # hostile-world 2, row 4: what operators ask is not theirs to wait for.
        assert (await admin(proxy, "/healthz"))[0] == 200
        assert (await admin(proxy, "/readyz"))[0] == 200
        for client in inside:
            assert await client.get() == "sent by web"
        assert (await metrics(proxy))["portway_connections_refused_total", "too_many_connections"] == 200
        await inside.pop().close()
        await until_answered(port_of(proxy))
        for client in inside:
            await client.close()


async def test_beyond_the_limit_a_tls_client_costs_no_handshake(web: Web) -> None:
    async with limited(web, connections=1) as proxy, connect(port_of(proxy)) as inside:
        assert await inside.get() == "sent by web"
        assert proxy.https_port is not None
        async with connect(proxy.https_port) as client:
            assert await client.ended()
        assert (await metrics(proxy))["portway_tls_handshakes_total",] == 0


async def test_a_tls_client_that_never_shakes_hands_has_a_place_until_it_leaves(web: Web) -> None:
    async with limited(web, connections=2) as proxy:
        assert proxy.https_port is not None
        silent = [await Client.to(proxy.https_port) for _ in range(2)]
        await until_accepted(proxy, 2)
        async with connect(port_of(proxy)) as client:
            client.send()
            assert (await client.take())[0] == 503
        for one in silent:
            await one.close()
        await until_answered(port_of(proxy))


async def test_relays_count_too_and_one_too_many_is_reset(web: Web) -> None:
    port = free_port()
    chosen = msgspec.structs.replace(settings(workers=1), limits=Limits(connections=1))
    async with serve_echo() as echo, running(chosen) as proxy:
        await proxy.apply(snapshot(web.port, echo_port=echo, ports=[port]))
        async with connect(port) as relay:
            relay.writer.write(b"x")
            assert await relay.reader.readexactly(1) == b"x"
            with pytest.raises(ConnectionResetError):
                async with connect(port) as other:
                    await other.ended()
            async with connect(port_of(proxy)) as client:
                client.send()
                assert (await client.take())[0] == 503
        await until_answered(port_of(proxy))


async def test_each_address_has_its_own_limit(web: Web) -> None:
    async with limited(web, connections_per_address=2) as proxy:
        one = [await Client.to(port_of(proxy)) for _ in range(2)]
        for client in one:
            assert await client.get() == "sent by web"
        async with connect(port_of(proxy)) as client:
            client.send()
            status, head, _ = await client.take()
            assert (status, "retry-after: 1\r\n" in head.lower()) == (503, True)
        other = Client(*await asyncio.open_connection("127.0.0.1", port_of(proxy), local_addr=("127.0.0.2", 0)))
        assert await other.get() == "sent by web"
        assert (await metrics(proxy))["portway_connections_refused_total", "too_many_from_address"] == 1
        await one.pop().close()
        await until_answered(port_of(proxy))
        for client in (*one, other):
            await client.close()


async def test_a_limit_that_the_descriptors_do_not_allow_stops_the_start_with_a_sentence() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard  # Each needs two.
    chosen = msgspec.structs.replace(settings(workers=1), limits=Limits(connections=wanted))
    with pytest.raises(TooFewDescriptors, match=f"{wanted} connections for each worker need .* raise the limit"):
        await Supervisor(chosen).start()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == hard
    assert soft <= hard


# --- descriptors


async def outcomes(port: int, clients: int) -> Counter[str]:
    """Return what so many clients that come at once and stay get: a status, or `cut`."""
    gone = asyncio.Event()
    found: Counter[str] = Counter()

    async def one() -> None:
        try:
            async with connect(port) as client:
                client.send()
                found[str((await client.take())[0])] += 1
                await gone.wait()
        except (ConnectionError, asyncio.IncompleteReadError):
            found["cut"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(one())
        await eventually(lambda: found.total() == clients, what=f"{found} of {clients}")
        gone.set()
    return found


async def test_three_hundred_clients_and_128_descriptors_are_served_or_answered_503(web: Web, tmp_path: Path) -> None:
    async with confined(web.port, tmp_path, 128) as (port, _, pid):
        found = await outcomes(port, 300)
        assert found["200"] == 16  # What is left of the 128, by two.
        assert found["200"] + found["503"] == 300
        await until_answered(port)
        os.kill(pid, 0)


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def used(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_without_a_descriptor_clients_wait_nothing_spins_and_all_are_served_in_the_end(
    web: Web, tmp_path: Path
) -> None:
    async with confined(web.port, tmp_path, 400) as (port, _, pid):
        assert await fetch(port) == "sent by web"
        # As if others had taken what there was: the worker's own accounts say that there is plenty.
        have = descriptors(pid)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (have, 400))
        clients = [await Client.to(port) for _ in range(20)]
        before = used(pid)
        for client in clients:
            client.send()
        await asyncio.sleep(0.5)
        spent = used(pid) - before
        assert spent < 0.25, "it spins"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (400, 400))
        statuses = Counter([(await client.take())[0] for client in clients])
        assert statuses[200] + statuses[503] == 20
        assert statuses[200] >= 19  # One may have got the last descriptor, and none was left for its endpoint.
        for client in clients:
            await client.close()
        assert await fetch(port) == "sent by web"


# --- a loop that is late


async def test_a_loop_that_is_late_refuses_what_has_waited_too_long_says_so_and_recovers(web: Web) -> None:
    async with limited(web, loop_lag=0.01) as proxy, asyncio.TaskGroup() as crowd:
        (pid,) = pids(proxy)
        refused: list[str] = []
        served = 0

        async def insist() -> None:
            nonlocal served
            async with connect(port_of(proxy)) as client:
                while not refused:
                    client.send()
                    status, head, _ = await client.take()
                    if status == 503:
                        refused.append(head.lower())
                    else:
                        served += 1

        for _ in range(50):
            crowd.create_task(insist())
        async with asyncio.timeout(60):
            while not refused:
                # What stops the process in the middle of a turn makes the rest of it late, as too much work would.
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(0.15)
                os.kill(pid, signal.SIGCONT)
                await asyncio.sleep(0.02)
        assert served
        assert "retry-after: 1\r\n" in refused[0]
        assert "connection: close" not in refused[0]
        found = await metrics(proxy)
        assert found["portway_replies_total", "loop_late"] >= 1
        assert found["portway_loop_lag_seconds", "0"] > 0.01
        await until_answered(port_of(proxy))


async def test_in_a_late_turn_who_comes_in_time_is_served(net: Net) -> None:
    site, _, client = await net.pair()
    site.http.shedding = LoopLate
    site.http.late_from = time.monotonic() + 60
    assert (await client.get()).status == 200
    assert not site.http.refused


async def test_a_refusal_is_said_after_a_moment_and_the_connection_serves_again(net: Net) -> None:
    site, _, client = await net.pair()
    site.http.shedding = LoopLate
    client.send(DOWNLOAD)
    await eventually(lambda: bool(site.http.refused), what="it is refused")
    overload = Overload(site.http, Pressure(0, None), lambda _: None)
    begun = time.monotonic()
    overload.start()
    assert (await client.response()).status == 503
    assert time.monotonic() - begun > 0.29
    site.http.shedding = None
    assert (await client.get()).status == 200
    overload.stop()


async def test_a_client_that_leaves_before_it_is_refused_leaves_nothing(net: Net) -> None:
    site, _, client = await net.pair()
    site.http.shedding = LoopLate
    client.send(DOWNLOAD)
    await eventually(lambda: bool(site.http.refused), what="it is refused")
    client.transport.abort()
    await eventually(lambda: not site.clients, what="it is gone")
    [exchange] = site.http.refused
    flow.fail(exchange, LoopLate())
    assert (await site.line())["reason"] == "client_gone"
