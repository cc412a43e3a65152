"""Limits and timeouts that a ConfigMap sets: in effect at once on every worker, whoever is connected stays."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from portway_proxy.errors import BadSnapshot
from portway_proxy.snapshot import Snapshot
from portway_proxy.supervisor import Supervisor
from portway_proxy.tuning import Setting
from wire.parts import Client, Web, admin, connect, fetch, pids, port_of, running, settings, snapshot


@pytest.fixture
async def proxy() -> AsyncIterator[Supervisor]:
    async with running(settings(head=3000.0)) as supervisor:
        yield supervisor


def with_settings(port: int, **values: float) -> Snapshot:
    changes = sorted(Setting(name.replace("_", "-"), value) for name, value in values.items())
    return msgspec.structs.replace(snapshot(port), settings=tuple(changes))


async def statuses(proxy: Supervisor, count: int, head: bytes) -> set[int]:
    """Return the statuses that so many new clients get for a head."""
    found = set()
    for _ in range(count):
        async with connect(port_of(proxy)) as client:
            client.writer.write(head)
            found.add((await client.take())[0])
    return found


async def test_a_setting_counts_over_the_flag_at_once_and_without_new_workers(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port))
    before = pids(proxy)
    async with connect(port_of(proxy)) as kept:
        await kept.get()
        await proxy.apply(with_settings(web.port, client_header_timeout=0.1))
        for _ in range(4):
            async with connect(port_of(proxy)) as idle:
                assert await idle.ended()
        assert await kept.get() == "sent by web"
        await proxy.apply(snapshot(web.port))
        idle = await Client.to(port_of(proxy))
        assert await fetch(port_of(proxy)) == "sent by web"
        assert await idle.get() == "sent by web"
        await idle.close()
    assert pids(proxy) == before


async def test_the_sizes_of_a_head_are_those_of_the_snapshot(proxy: Supervisor, web: Web) -> None:
    long = b"GET /%b HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * 500, b"y" * 500)
    await proxy.apply(snapshot(web.port))
    assert await statuses(proxy, 6, long) == {200}
    await proxy.apply(with_settings(web.port, request_line_size=400))
    assert await statuses(proxy, 6, long) == {414}
    await proxy.apply(with_settings(web.port, field_size=400))
    assert await statuses(proxy, 6, long) == {431}
    await proxy.apply(snapshot(web.port))
    assert await statuses(proxy, 6, long) == {200}


async def test_a_limit_of_connections_holds_for_those_who_come_later(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port))
    inside = [await Client.to(port_of(proxy)) for _ in range(20)]
    for client in inside:
        await client.get()
    await proxy.apply(with_settings(web.port, max_worker_connections=1))
    assert await statuses(proxy, 6, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == {503}
    for client in inside:
        assert await client.get() == "sent by web"
        await client.close()


async def test_a_setting_that_no_proxy_knows_is_refused_and_what_is_served_stays(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port))
    with pytest.raises(BadSnapshot, match="there is no setting called patience"):
        await proxy.apply(with_settings(web.port, patience=1))
    assert await fetch(port_of(proxy)) == "sent by web"


async def test_readiness_tells_how_late_each_loop_was_when_asked(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port))
    assert await admin(proxy, "/readyz") == (200, "ready\n")
    status, text = await admin(proxy, "/readyz?verbose")
    lines = text.splitlines()
    assert (status, lines[0]) == (200, "ready")
    assert [line.split(" s late")[0].rpartition(" ")[0] for line in lines if "late" in line] == [
        "worker 0: its loop was up to",
        "worker 1: its loop was up to",
    ]
    assert sum("of its memory" in line for line in lines) == 2
