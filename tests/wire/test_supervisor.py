"""A real supervisor with real workers: what it applies, rejects and patches, and the ports it opens."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest

from eventually import eventually
from portway_proxy import codec, deltas
from portway_proxy.errors import BadSnapshot
from portway_proxy.listeners import PortUnavailable
from portway_proxy.snapshot import Endpoint, Host, Listener, PathMatch, Route, Upstream
from portway_proxy.supervisor import Supervisor
from wire.parts import (
    ECHO,
    ORIGIN,
    WEB,
    Web,
    admin,
    connect,
    echoes,
    fetch,
    free_port,
    metrics,
    on_every_worker,
    pids,
    port_of,
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


async def test_changes_under_load_fail_no_request(proxy: Supervisor, web: Web) -> None:
    bodies: list[str] = []
    enough = asyncio.Event()

    async def load() -> None:
        async with connect(port_of(proxy)) as client:
            while not enough.is_set():
                bodies.append(await client.get())

    async with serve_web("other") as other, asyncio.TaskGroup() as group:
        await proxy.apply(snapshot(web.port))
        for _ in range(6):
            group.create_task(load())
        for change in range(60):
            served = len(bodies)
            await proxy.apply(snapshot((web, other)[change % 2].port, ports=[free_port()]))
            await eventually(lambda: len(bodies) > served + 5, what="the load goes on")  # noqa: B023 - awaited here
        enough.set()
    assert set(bodies) == {"sent by web", "sent by other"}


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
        after = deltas.patch(before, (new,))
        delta = deltas.Delta(codec.digest(before), codec.digest(after), (new,))
        assert await proxy.patch(delta) == 2
        await on_every_worker(proxy, "sent by other")
        assert (proxy.snapshot, proxy.digest) == (after, codec.digest(after))
        with pytest.raises(BadSnapshot, match=f"the delta is for the snapshot {delta.base}"):
            await proxy.patch(delta)
        await on_every_worker(proxy, "sent by other")
        # A worker that starts later gets the patched snapshot, with the digest that the delta said.
        os.kill(victim := pids(proxy)[0], signal.SIGKILL)
        await eventually(lambda: len(pids(proxy)) == 2 and victim not in pids(proxy), what="the victim is replaced")
        await on_every_worker(proxy, "sent by other")


async def test_a_patch_with_a_digest_that_is_not_its_content_changes_nothing(proxy: Supervisor, web: Web) -> None:
    before = snapshot(web.port)
    await proxy.apply(before)
    gone = Upstream(WEB, reason="no_endpoints")
    with pytest.raises(BadSnapshot, match="it was sent as wrong"):
        await proxy.patch(deltas.Delta(codec.digest(before), "wrong", (gone,)))
    with pytest.raises(BadSnapshot, match="upstreams that the snapshot does not have: shop/none:1"):
        await proxy.patch(deltas.Delta(codec.digest(before), "wrong", (Upstream("shop/none:1"),)))
    await on_every_worker(proxy, "sent by web")


async def test_a_wide_patch_changes_routes_upstreams_and_ports_on_every_worker(proxy: Supervisor, web: Web) -> None:
    opened, closed = free_port(), free_port()
    async with serve_web("other") as other, serve_echo() as echo:
        before = snapshot(web.port, echo_port=echo, ports=[closed])
        await proxy.apply(before)
        fresh = Upstream("shop/fresh:80", endpoints=(Endpoint("127.0.0.1", other.port),))
        route = Route("/", PathMatch.PREFIX, fresh.name, ORIGIN)
        after = msgspec.structs.replace(
            snapshot(web.port, echo_port=echo, ports=[opened]),
            hosts=(Host("", (route,)),),
            upstreams=(before.upstreams[0], fresh),
        )
        assert await proxy.patch(deltas.diff(before, after, codec.digest(before), codec.digest(after))) == 2
        await on_every_worker(proxy, "sent by other")
        assert await echoes(opened)
        assert await refused(closed)
        assert (proxy.snapshot, proxy.digest) == (after, codec.digest(after))
        # And a narrow one after it.
        back = Upstream(fresh.name, endpoints=(Endpoint("127.0.0.1", web.port),))
        last = deltas.patch(after, (back,))
        await proxy.patch(deltas.Delta(codec.digest(after), codec.digest(last), (back,)))
        await on_every_worker(proxy, "sent by web")


async def test_a_wide_patch_that_a_worker_cannot_apply_leaves_what_was_before(proxy: Supervisor, web: Web) -> None:
    kept, dropped = free_port(), free_port()
    async with serve_echo() as echo:
        good = snapshot(web.port, echo_port=echo, ports=[kept])
        await proxy.apply(good)
        bad = msgspec.structs.replace(good, upstreams=good.upstreams[:1], listeners=(Listener(dropped, ECHO, ORIGIN),))
        with pytest.raises(BadSnapshot, match="which the snapshot does not have"):
            await proxy.patch(deltas.diff(good, bad, codec.digest(good), codec.digest(bad)))
        assert (proxy.generation, proxy.snapshot, proxy.digest) == (1, good, codec.digest(good))
        await on_every_worker(proxy, "sent by web")
        assert await echoes(kept)
        assert await refused(dropped)


async def test_a_listener_follows_its_upstream_to_another_one(proxy: Supervisor, web: Web) -> None:
    port = free_port()
    async with serve_echo() as echo:
        first = snapshot(web.port, echo_port=echo, ports=[port])
        await proxy.apply(first)
        assert await echoes(port)
        await proxy.apply(msgspec.structs.replace(first, listeners=(Listener(port, WEB, ORIGIN),)))
        assert {await fetch(port) for _ in range(8)} == {"sent by web"}


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
            # The port may come back meanwhile.
            await proxy.apply(snapshot(web.port, echo_port=echo, ports=[port]))
            assert proxy.problems == ()
            assert await echoes(port)
            client.writer.write(b"still")
            assert await client.reader.readexactly(5) == b"still"


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
