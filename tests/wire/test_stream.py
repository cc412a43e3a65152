"""Proxies that follow operators over real sockets: what is published is served, whatever happens in between."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from certs import certificate
from eventually import eventually
from portway_proxy import feed
from portway_proxy.dial import Operators, Target
from portway_proxy.history import Generation
from portway_proxy.snapshot import Endpoint, Host, PathMatch, Route, Snapshot, Source, Sources, Upstream
from portway_proxy.stream import Hello, Position, SnapshotMessage
from portway_proxy.supervisor import Supervisor
from wire.parts import (
    ORIGIN,
    WEB,
    Web,
    admin,
    connect,
    metrics,
    on_every_worker,
    port_of,
    serve_web,
    settings,
    snapshot,
)
from wire.streams import Cluster, Operator, following, messages, operator
from wire.test_handshakes import served


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory that is in memory, as an emptyDir of medium Memory is."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


def at(port: int) -> Upstream:
    return Upstream(WEB, endpoints=(Endpoint("127.0.0.1", port),))


def modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


async def stale(proxy: Supervisor) -> float:
    return (await metrics(proxy))["portway_config_stale",]


async def test_what_is_published_is_served_and_a_change_of_endpoints_is_sent_alone(
    shared: Cluster, op: Operator, web: Web
) -> None:
    await op.publish(snapshot(web.port))
    async with following(shared.credentials(), op.address) as proxy, serve_web("other") as other:
        await op.applied()
        await on_every_worker(proxy, "sent by web")
        await op.patch(at(other.port))
        await op.applied()
        await on_every_worker(proxy, "sent by other")
        assert (op.publisher.counts.snapshots, op.publisher.counts.deltas) == (1, 1)
        assert await stale(proxy) == 0


async def test_a_change_of_routes_is_sent_alone_and_an_older_proxy_gets_a_snapshot(
    shared: Cluster, op: Operator, web: Web
) -> None:
    before = snapshot(web.port)
    await op.publish(before)
    # It says nothing of deltas when it asks for the stream, as proxies did that know those of upstreams alone.
    async with following(shared.credentials(), op.address) as proxy, op.raw("older") as older:
        await eventually(lambda: proxy.digest == op.digest, what="the proxy serves it")
        page = Host("page.example", (Route("/", PathMatch.PREFIX, WEB, ORIGIN),))
        after = msgspec.structs.replace(before, hosts=(*before.hosts, page), listeners=(), problems=())
        last = await op.change(after)
        await eventually(lambda: proxy.snapshot == after, what="the proxy serves the change")
        sent = [message async for message in messages(older.reader, last)]
        assert [type(message) for message in sent] == [Hello, SnapshotMessage, SnapshotMessage]
        assert op.publisher.counts.deltas == 1
        assert op.publisher.counts.snapshots == 3


async def test_where_values_came_from_reaches_proxies_and_no_worker(shared: Cluster, op: Operator, web: Web) -> None:
    told = Sources("Ingress shop/web", (Source("body_size", ("annotation portway.dev/body-size",)),))
    before = msgspec.structs.replace(snapshot(web.port), sources=(told,))
    await op.publish(before)
    async with following(shared.credentials(), op.address) as proxy:
        await op.applied()
        assert proxy.snapshot == before
        generation = proxy.generation
        other = Sources("Ingress shop/web", (Source("body_size", ("ConfigMap a/b key proxy-body-size",)),))
        alone = msgspec.structs.replace(before, sources=(other,))
        await op.change(alone)
        await op.applied()
        assert proxy.snapshot == alone
        whole = msgspec.structs.replace(before, sources=())
        await op.publish(whole)
        await op.applied()
        assert proxy.snapshot == whole
        assert (proxy.generation, proxy.digest) == (generation, op.digest)
        page = Host("page.example", (Route("/", PathMatch.PREFIX, WEB, ORIGIN),))
        both = msgspec.structs.replace(before, hosts=(*before.hosts, page))
        await op.change(both)
        await op.applied()
        assert proxy.snapshot == both
        assert proxy.generation > generation


async def test_a_proxy_whose_last_good_snapshot_tells_no_sources_is_told_them(
    shared: Cluster, op: Operator, web: Web, memory: Path
) -> None:
    before = snapshot(web.port)
    await op.publish(before)
    async with following(shared.credentials(), op.address, state_dir=memory):
        await op.applied()
    told = msgspec.structs.replace(before, sources=(Sources("", ()),))
    await op.publish(told)
    async with following(shared.credentials(), op.address, state_dir=memory) as proxy:
        await eventually(lambda: proxy.snapshot == told, what="it knows where values came from")
        assert proxy.generation == 1
        snapshots = op.publisher.counts.snapshots
        await op.hang_up()
        await op.start()
        await op.applied()
        assert op.publisher.counts.snapshots == snapshots


async def test_a_proxy_that_comes_before_the_first_snapshot_waits_for_it(
    shared: Cluster, op: Operator, web: Web
) -> None:
    async with following(shared.credentials(), op.address) as proxy:
        await eventually(lambda: op.publisher.subscriptions)
        assert await admin(proxy, "/readyz") == (503, "no snapshot yet\n")
        await op.publish(snapshot(web.port))
        await op.applied()
        assert await admin(proxy, "/readyz") == (200, "ready\n")


async def test_a_thousand_changes_at_once_cost_a_few_applies_and_end_in_the_last(
    shared: Cluster, op: Operator, web: Web
) -> None:
    await op.publish(snapshot(web.port))
    async with following(shared.credentials(), op.address) as proxy, serve_web("last") as last:
        await op.applied()
        for number in range(1, 1001):
            await op.patch(at(last.port if number == 1000 else number))
        await op.applied()
        await on_every_worker(proxy, "sent by last")
        assert proxy.generation < 200
        assert proxy.digest == op.digest


async def test_whoever_was_away_for_a_moment_gets_the_deltas_that_it_missed(
    shared: Cluster, op: Operator, web: Web
) -> None:
    await op.publish(snapshot(web.port))
    async with following(shared.credentials(), op.address) as proxy, serve_web("other") as other:
        await op.applied()
        await op.hang_up()
        await op.patch(at(1))
        await op.patch(at(other.port))
        await op.start()
        await op.applied()
        await on_every_worker(proxy, "sent by other")
        assert op.publisher.counts.snapshots == 1


async def test_whoever_was_away_for_a_new_snapshot_gets_that(shared: Cluster, op: Operator, web: Web) -> None:
    await op.publish(snapshot(web.port))
    async with following(shared.credentials(), op.address) as proxy, serve_web("other") as other:
        await op.applied()
        await op.hang_up()
        await op.publish(Snapshot())
        await op.publish(snapshot(other.port))
        await op.start()
        await op.applied()
        await on_every_worker(proxy, "sent by other")


async def test_without_its_operator_a_proxy_serves_on_and_says_so(shared: Cluster, op: Operator, web: Web) -> None:
    await op.publish(snapshot(web.port))
    async with following(shared.credentials(), op.address) as proxy:
        await op.applied()
        await op.stop()
        await eventually(lambda: proxy.stale)
        assert await stale(proxy) == 1
        assert await admin(proxy, "/readyz") == (200, "ready\n")
        await on_every_worker(proxy, "sent by web")
        # Another process, with another epoch, that has come to the same content.
        await op.restart()
        await op.publish(snapshot(web.port))
        await op.applied()
        assert op.publisher.counts.snapshots == 0
        assert (proxy.generation, await stale(proxy)) == (1, 0)


async def test_a_move_to_a_replica_with_equal_content_sends_nothing_and_drops_no_connection(
    shared: Cluster, op: Operator, web: Web
) -> None:
    async with operator(shared) as twin, asyncio.TaskGroup() as group:
        for replica in (op, twin):
            await replica.publish(snapshot(web.port))
        async with following(shared.credentials(), op.address, twin.address) as proxy:
            await op.applied()
            served: list[str] = []
            enough = asyncio.Event()

            async def load() -> None:
                async with connect(port_of(proxy)) as client:
                    while not enough.is_set():
                        served.append(await client.get())

            for _ in range(4):
                group.create_task(load())
            await eventually(lambda: len(served) > 20)
            first, second = (op, twin) if op.publisher.subscriptions else (twin, op)
            await first.stop()
            await eventually(lambda: second.publisher.subscriptions)
            before = len(served)
            await eventually(lambda: len(served) > before + 20)
            enough.set()
            assert second.publisher.counts.snapshots == 0
            assert (proxy.generation, set(served)) == (1, {"sent by web"})
            assert (await metrics(proxy))["portway_connections_total", "http"] == 4


async def test_every_operator_hears_what_a_proxy_serves_and_not_only_the_one_it_follows(
    shared: Cluster, op: Operator, web: Web
) -> None:
    async with operator(shared) as twin:
        for replica in (op, twin):
            await replica.publish(Snapshot())
            await replica.publish(snapshot(web.port))
        async with following(shared.credentials(), op.address, twin.address, node="far"):
            for replica in (op, twin):
                await replica.applied(2)
            assert sorted(replica.publisher.subscriptions for replica in (op, twin)) == [0, 1]
        # And that it is gone: nobody waits for it.
        for replica in (op, twin):
            assert not replica.publisher.proxies


async def test_an_operator_that_starts_later_hears_what_is_served_though_nobody_follows_it(
    shared: Cluster, op: Operator, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_LOOK", 0.05)
    known = [op]

    async def resolve(_: Operators) -> list[Target]:
        return [Target(replica.address, "127.0.0.1") for replica in known]

    monkeypatch.setattr(Operators, "resolve", resolve)
    await op.publish(snapshot(web.port))
    async with following(shared.credentials(), op.address):
        await op.applied()
        async with operator(shared) as late:
            await late.publish(snapshot(web.port))
            known.append(late)
            await late.applied()
            assert late.publisher.subscriptions == 0
            # One that goes is not asked for any more.
            known.remove(late)


async def test_a_proxy_that_reads_nothing_holds_up_nobody_and_is_sent_one_snapshot_later(
    shared: Cluster, op: Operator, web: Web
) -> None:
    await op.publish(snapshot(web.port))
    async with following(shared.credentials(), op.address), op.raw("sleeper") as sleeper:
        await eventually(lambda: op.publisher.subscriptions == 2)
        # Kilobytes of endpoints, until neither the sockets between us nor the queue hold them all.
        wide = tuple(Endpoint(f"10.0.{number // 250}.{number % 250}", 80) for number in range(2000))
        for number in range(400):
            await op.patch(Upstream(WEB, endpoints=wide[: 1500 + number]))
            await asyncio.sleep(0)
        await eventually(lambda: not [late for late in op.publisher.behind(401) if late.node != "sleeper"], 30)
        last = await op.patch(at(web.port))
        async with asyncio.timeout(30):
            received = [message async for message in messages(sleeper.reader, last)]
        assert isinstance(received[-1], SnapshotMessage)
        assert received[-1].snapshot == snapshot(web.port)
        assert op.publisher.counts.resyncs >= 1
        assert len(received) < 400


async def test_a_restarted_proxy_serves_what_it_served_though_no_operator_answers(
    shared: Cluster, op: Operator, web: Web, memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = certificate("shop/web", "shop.example")
    await op.publish(snapshot(web.port, certificates=[shop]))
    async with following(shared.credentials(), op.address, state_dir=memory) as proxy:
        await op.applied()
        assert await served(proxy, "shop.example") == "shop.example"
    await op.stop()
    async with following(shared.credentials(), op.address, state_dir=memory) as proxy:
        assert await admin(proxy, "/readyz") == (200, "ready\n")
        assert await stale(proxy) == 1
        await on_every_worker(proxy, "sent by web")
        assert await served(proxy, "shop.example") == "shop.example"
        # And once one answers that has nothing else to say, it need not say anything.
        await op.restart()
        await op.publish(snapshot(web.port, certificates=[shop]))
        await op.applied()
        assert op.publisher.counts.snapshots == 0
        assert await stale(proxy) == 0
    assert modes(memory) == {"keys": 0o600, "snapshot": 0o600}
    assert "PRIVATE KEY" not in caplog.text
    assert b"PRIVATE KEY" not in (memory / "snapshot").read_bytes()


async def test_keys_never_reach_a_disk_and_a_restart_says_what_that_costs(
    shared: Cluster, op: Operator, web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await op.publish(snapshot(web.port, certificates=[certificate("shop/web", "shop.example")]))
    state = tmp_path / "state"
    async with following(shared.credentials(), op.address, state_dir=state):
        await op.applied()
    await op.stop()
    assert [path.name for path in state.iterdir()] == ["snapshot"]
    assert caplog.text.count("private keys are not kept") == 1
    async with following(shared.credentials(), op.address, state_dir=state) as proxy:
        await on_every_worker(proxy, "sent by web")
        assert await served(proxy, "shop.example") == "Portway default certificate"
        await op.start()
        await op.applied()
        assert await served(proxy, "shop.example") == "shop.example"


async def test_a_thousand_changes_under_load_fail_no_request(shared: Cluster, op: Operator, web: Web) -> None:
    await op.publish(snapshot(web.port))
    async with (
        following(shared.credentials(), op.address) as proxy,
        serve_web("other") as other,
        asyncio.TaskGroup() as group,
    ):
        await op.applied()
        bodies: list[str] = []
        enough = asyncio.Event()

        async def load() -> None:
            async with connect(port_of(proxy)) as client:
                while not enough.is_set():
                    bodies.append(await client.get())

        for _ in range(4):
            group.create_task(load())
        for number in range(1000):
            endpoint = (web, other)[number % 2]
            publish = {0: op.publish, 25: op.change}.get(number % 50)
            await (publish(snapshot(endpoint.port)) if publish is not None else op.patch(at(endpoint.port)))
            await asyncio.sleep(0.002)
        await op.applied()
        enough.set()
    assert set(bodies) == {"sent by web", "sent by other"}


async def test_the_position_that_a_proxy_sends_is_the_one_that_it_acknowledged(
    shared: Cluster, op: Operator, web: Web
) -> None:
    version = await op.publish(snapshot(web.port))
    position = Position(op.publisher.epoch, version, op.digest)
    async with op.raw("reader", str(position)) as reader, asyncio.timeout(10):
        hello = await anext(messages(reader.reader))
    assert isinstance(hello, Hello)
    assert (hello.same, hello.v) == (True, version)


async def test_more_workers_than_one_serve_the_same_digest_after_a_worker_died(
    shared: Cluster, op: Operator, web: Web
) -> None:
    await op.publish(snapshot(web.port))
    chosen = settings(workers=3)
    async with following(shared.credentials(), op.address, settings=chosen) as proxy, serve_web("other") as other:
        await op.applied()
        for worker in list(proxy._serving.values())[:2]:
            worker.kill()
        await op.patch(at(other.port))
        await op.applied()
        await eventually(lambda: len(proxy._serving) == 3)
        await on_every_worker(proxy, "sent by other")


async def test_a_proxy_remembers_what_it_applied_and_how_long_it_took(shared: Cluster, op: Operator, web: Web) -> None:
    before = snapshot(web.port)
    await op.publish(before)
    async with following(shared.credentials(), op.address) as proxy:
        await op.applied()
        for port in (1, 2, web.port):
            await op.patch(at(port))
            await op.applied()
        page = Host("page.example", (Route("/", PathMatch.PREFIX, WEB, ORIGIN),))
        await op.change(msgspec.structs.replace(before, hosts=(*before.hosts, page)))
        await op.applied()
        _, told = await admin(proxy, "/history?format=json")
        rows = msgspec.json.decode(told, type=list[Generation])
        assert [(row.number, row.summary.partition(",")[0]) for row in rows] == [
            ("5", "1 route new"),
            ("2-4", f"endpoints of {WEB}"),
            ("1", "the first: 1 route"),
        ]
        assert all(row.took > 0 and row.causes == () for row in rows)
        assert rows[0].digest == op.digest
        assert (await admin(proxy, "/history/5"))[1].startswith(f"generation 5 at {rows[0].at:%Y-%m-%d %H:%M:%S} UTC: ")
