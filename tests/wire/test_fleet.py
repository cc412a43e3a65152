"""The operator's dashboard: the figures of the whole fleet, over real sockets, while somebody looks and not else."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import msgspec
import pytest
from aiohttp import web

import portway_proxy.reports
from eventually import eventually
from portway_operator import fleet as fleet_module
from portway_operator import subscription
from portway_operator.fleet import Fleet
from portway_proxy import feed
from portway_proxy.admin_site import AdminSite
from portway_proxy.dashboard import board
from portway_proxy.dashboard.board import Board
from portway_proxy.dashboard.feed import Generation, Hello, Proxies, Role, Table, Traffic
from portway_proxy.dashboard.figures import Depth
from portway_proxy.dashboard.pages import DashboardPages
from portway_proxy.endpoint_states import EndpointPage
from portway_proxy.explain.explanation import EndpointState
from portway_proxy.pages import add_upstreams
from portway_proxy.stream import Report
from portway_proxy.supervisor import Supervisor
from wire.parts import WEB, Web, fetch, port_of, serve_web, snapshot
from wire.streams import Cluster, Operator, following, operator

KINDS = {kind.__name__.lower(): kind for kind in (Hello, Generation, Proxies, Traffic)}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_LINGER", 0.1)
    # Everything runs in this one thread: by its time, nobody could afford to look.
    monkeypatch.setattr(board, "_SHARE", 1)
    monkeypatch.setattr(portway_proxy.reports, "_SHARE", 1)


@dataclass
class Looking:
    """Somebody who looks at an operator's dashboard, and what was sent of each kind."""

    events: dict[type, list[object]] = field(default_factory=lambda: {kind: [] for kind in KINDS.values()})

    async def read(self, content: aiohttp.StreamReader) -> None:
        kind: type | None = None
        async for line in content:
            name, _, value = line.rstrip(b"\n").partition(b": ")
            if name == b"event":
                kind = KINDS.get(value.decode())
            elif name == b"data" and kind is not None:
                self.events[kind].append(msgspec.json.decode(value, type=kind))

    @property
    def traffic(self) -> list[Traffic]:
        return [one for one in self.events[Traffic] if isinstance(one, Traffic)]

    @property
    def proxies(self) -> dict[str, tuple[str, str, int]]:
        """Return the state, the version and the generation of each proxy, as was said last."""
        last = self.events[Proxies][-1]
        assert isinstance(last, Proxies)
        return {row.name: (row.state, row.version, row.generation) for row in last.proxies}

    def counted(self) -> float:
        """Return all requests that the figures stand for."""
        return sum(one.total.requests * one.seconds for one in self.traffic)


@asynccontextmanager
async def dashboard(op: Operator) -> AsyncIterator[str]:
    """Run the pages of an operator's fleet, and yield their URL."""
    app = web.Application()
    fleet = Fleet(op.publisher, "operator-0")
    DashboardPages(Board(fleet)).add_to(app)
    add_upstreams(app, fleet)
    site = AdminSite(app)
    port = await site.start("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await site.close()


@asynccontextmanager
async def looking(url: str) -> AsyncIterator[Looking]:
    """Look at the dashboard until the first figures are there, and on."""
    found = Looking()
    async with aiohttp.ClientSession() as session, session.get(f"{url}/dashboard/stream") as response:
        reading = asyncio.get_running_loop().create_task(found.read(response.content))
        try:
            await eventually(lambda: found.traffic, what="the first figures")
            yield found
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def reports(op: Operator, monkeypatch: pytest.MonkeyPatch) -> list[Report]:
    """Return the list of all reports that come to an operator from now on."""
    found: list[Report] = []
    take: Callable[[Report], None] = op.publisher.take

    def note(report: Report) -> None:
        found.append(report)
        take(report)

    monkeypatch.setattr(op.publisher, "take", note)
    return found


async def ask(proxy: Supervisor, times: int) -> None:
    for _ in range(times):
        await fetch(port_of(proxy), "/")


async def test_the_figures_of_all_proxies_are_added_up_and_each_is_told_of(shared: Cluster, op: Operator) -> None:
    async with (
        serve_web() as endpoint,
        following(shared.credentials(), op.address, node="proxy-0") as one,
        following(shared.credentials(), op.address, node="proxy-1") as two,
        dashboard(op) as url,
    ):
        await op.publish(snapshot(endpoint.port))
        await eventually(lambda: one.digest == two.digest == op.digest, what="both serve it")
        async with looking(url) as found:
            await eventually(lambda: len(op.publisher.reported.tellers) == 2, what="both report")
            await asyncio.gather(ask(one, 30), ask(two, 12))
            await eventually(lambda: found.counted() > 41.5, what="all requests are in the figures")
            assert round(found.counted(), 1) == 42
            total = next(one.total for one in found.traffic if one.total.requests)
            assert total.p50 is not None
            rows = [figure for one in found.traffic for figure in one.upstreams.values() if figure.requests]
            assert rows
            assert round(sum(one.over * one.upstreams[WEB].requests for one in found.traffic if one.upstreams)) == 42
            assert {name for one in found.traffic for name in one.upstreams} == {WEB}
            (hello,) = found.events[Hello]
            assert isinstance(hello, Hello)
            assert (hello.role, hello.node) == (Role.OPERATOR, "operator-0")
            version = hello.version
            assert found.proxies == {"proxy-0": ("current", version, 1), "proxy-1": ("current", version, 1)}
            await op.publish(snapshot(endpoint.port, certificates=[]))
            await eventually(lambda: {row[0] for row in found.proxies.values()} == {"current"})
        async with aiohttp.ClientSession() as session, session.get(f"{url}/dashboard/routes") as response:
            table = msgspec.json.decode(await response.read(), type=Table)
        assert [(row.host, row.path, row.upstream) for row in table.routes] == [("*", "/", "shop/web:80")]


async def test_how_endpoints_fare_is_asked_of_all_proxies(
    shared: Cluster, op: Operator, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "_WATCH", 1.0)
    sent = reports(op, monkeypatch)
    await op.publish(snapshot(web.port))
    async with (
        following(shared.credentials(), op.address, node="proxy-0") as one,
        following(shared.credentials(), op.address, node="proxy-1") as two,
        dashboard(op) as url,
        aiohttp.ClientSession() as session,
    ):
        await eventually(lambda: one.digest == two.digest == op.digest, what="both serve it")
        await ask(one, 1)
        await ask(two, 1)

        async def page(**query: str) -> EndpointPage:
            async with session.get(f"{url}/upstreams", params={"format": "json", **query}) as response:
                return msgspec.json.decode(await response.read(), type=EndpointPage)

        (row,) = (await page(name=WEB)).endpoints
        assert (row.address, row.state, row.workers) == (f"127.0.0.1:{web.port}", EndpointState.READY, 4)
        assert row.connections == 2
        assert (await page(name=WEB, state="ejected")).endpoints == ()
        assert (await page(name="shop/web")).endpoints == (row,)
        assert (await page()).endpoints == (await page(name="no,no")).endpoints == ()
        await eventually(lambda: not (one.looks.asked or two.looks.asked), what="they report no more")
        assert {report.node for report in sent} == {"proxy-0", "proxy-1"}


async def test_nothing_is_sent_while_nobody_looks(
    shared: Cluster, op: Operator, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = reports(op, monkeypatch)
    monkeypatch.setattr(subscription, "PING", 0.1)
    await op.publish(snapshot(web.port))
    async with following(shared.credentials(), op.address) as proxy, dashboard(op) as url:
        await op.applied()
        await ask(proxy, 5)
        seen = op.publisher.proxies["proxy-0"].seen
        # It says again and again what it serves meanwhile, and hears that nobody looks.
        await eventually(lambda: op.publisher.proxies["proxy-0"].seen > seen + 1)
        assert not sent
        assert not proxy.looks.asked
        async with looking(url):
            await eventually(lambda: sent, what="it reports")
            assert proxy.looks.asked
        await eventually(lambda: not op.publisher.reported.watch.seconds, what="nobody looks any more")
        await eventually(lambda: not proxy.looks.asked, what="workers count nothing any more")
        before = len(sent)
        seen = op.publisher.proxies["proxy-0"].seen
        await eventually(lambda: op.publisher.proxies["proxy-0"].seen > seen + 1)
        assert len(sent) == before


async def test_a_replica_that_a_proxy_does_not_follow_hears_of_its_traffic_too(
    shared: Cluster, op: Operator, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "PING", 0.1)
    monkeypatch.setattr(feed, "_LOOK", 0.1)
    async with operator(shared) as other:
        for each in (op, other):
            await each.publish(snapshot(web.port))
        async with following(shared.credentials(), op.address, other.address) as proxy:
            await eventually(lambda: op.publisher.proxies and other.publisher.proxies, what="both hear of it")
            silent = other if op.publisher.subscriptions else op
            assert not silent.publisher.subscriptions
            async with dashboard(silent) as url, looking(url) as found:
                await eventually(lambda: silent.publisher.reported.tellers, what="it reports")
                await ask(proxy, 7)
                await eventually(lambda: found.counted() > 6.5, what="all requests are in the figures")
                assert round(found.counted(), 1) == 7


async def test_two_who_look_at_one_proxy_each_get_all_figures(shared: Cluster, op: Operator, web: Web) -> None:
    await op.publish(snapshot(web.port))
    async with following(shared.credentials(), op.address) as proxy, dashboard(op) as url:
        await op.applied()
        own = f"http://127.0.0.1:{proxy.admin_port}"
        async with looking(url) as fleet, looking(own) as alone:
            await eventually(lambda: op.publisher.reported.tellers, what="it reports")
            await ask(proxy, 9)
            await eventually(lambda: min(fleet.counted(), alone.counted()) > 8.5, what="both have them")
            assert (round(fleet.counted(), 1), round(alone.counted(), 1)) == (9, 9)


async def test_a_report_that_cannot_be_true_is_left_out(shared: Cluster, op: Operator, web: Web) -> None:
    await op.publish(snapshot(web.port))
    async with following(shared.credentials(), op.address):
        await op.applied()
        op.publisher.watch(10)
        gathered = msgspec.msgpack.encode(
            {"seconds": 2.0, "over": 2.0, "moved": [[["", "", "", "", ""], 1, 0, 0, {999: 1}]]}
        )
        raw = msgspec.Raw(gathered)
        body = msgspec.msgpack.encode({"node": "proxy-0", "place": "", "version": "", "gathered": raw})
        assert await post(shared, op, body) == 204
        assert not op.publisher.reported.look(Depth.ROWS).moved
        assert await post(shared, op, b"nonsense") == 400
        assert await post(shared, op, b"a" * (5 << 20)) == 413
        assert await post(shared, op, body.replace(b"proxy-0", b"proxy-9")) in (204, 403)
        assert op.publisher.reported.tellers.keys() <= {"proxy-0"}


async def post(shared: Cluster, op: Operator, body: bytes) -> int:
    context = shared.credentials().context()
    fields = {"Authorization": f"Bearer {shared.token_file.read_text()}"}
    url = f"{op.address}/v1/report"
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data=b"", ssl=context) as response:
            assert response.status == 401
        async with session.post(url, data=io.BytesIO(body), ssl=context, headers=fields) as response:
            return response.status
