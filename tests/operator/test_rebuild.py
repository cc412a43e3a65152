"""`rebuild.py`: when a compile happens, and what is published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeAlias

import pytest

from certs import Authority
from portway_operator.batches import BURST, PAUSE
from portway_operator.compile import Compiled
from portway_operator.decode import decode
from portway_operator.objects import Ingress, Meta, Object, Secret
from portway_operator.rebuild import LIMIT, QUIET, Rebuild, Update
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy import codec, deltas
from portway_proxy.deltas import Changes, Delta
from portway_proxy.errors import BadSnapshot
from portway_proxy.snapshot import Endpoint, Source

pytestmark = pytest.mark.looptime

SETTINGS = CompileSettings(standalone=True)
DAY = 86_400

Work: TypeAlias = Callable[[], tuple[Compiled, codec.Digest]]


def made(raw: dict[str, object]) -> Object:
    found = decode(raw)
    assert found is not None
    return found


def ingress(name: str, service: str = "web", host: str = "") -> Object:
    port = {"service": {"name": service, "port": {"number": 80}}}
    rule = {"http": {"paths": [{"path": f"/{name}", "pathType": "Prefix", "backend": port}]}}
    return made(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": name},
            "spec": {"rules": [rule | ({"host": host} if host else {})]},
        }
    )


def service(name: str = "web") -> Object:
    ports = [{"port": 80, "targetPort": 8080}]
    return made({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports}})


def endpoints(*addresses: str, name: str = "web") -> Object:
    return made(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address]} for address in addresses],
            "ports": [{"name": "", "port": 8080}],
        }
    )


class Published:
    """What was published, and when (seconds of the loop's time since the first poke)."""

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self.times: list[float] = []
        self.refusals: list[str] = []
        self.refuse = ""
        self.crash = False
        self.seconds = 0.0
        self.compiling = 0.0
        self.store = ObjectStore()
        self.wall = 0.0
        self.rebuild = Rebuild(self.store, SETTINGS, self.publish, apart=self.apart, wall=self.now)

    def now(self) -> float:
        return self.wall + asyncio.get_running_loop().time()

    async def apart(self, work: Work) -> tuple[Compiled, codec.Digest]:
        """Do what is done in a thread here, after `compiling` seconds of this loop's time."""
        done = work()
        await asyncio.sleep(self.compiling)
        return done

    async def publish(self, update: Update) -> None:
        self.times.append(round(asyncio.get_running_loop().time(), 3))
        await asyncio.sleep(self.seconds)
        if self.crash:
            raise RuntimeError("a fault of ours")
        if self.refuse:
            self.refusals.append(update.digest)
            raise BadSnapshot(self.refuse)
        self.updates.append(update)

    def put(self, *objects: Object) -> None:
        for found in objects:
            self.store.put(found)

    @property
    def paths(self) -> list[str]:
        return [route.path for host in self.updates[-1].snapshot.hosts for route in host.routes]

    @asynccontextmanager
    async def running(self, *, ready: bool = True) -> AsyncIterator[Published]:
        task = asyncio.get_running_loop().create_task(self.rebuild.run())
        try:
            if ready:
                self.rebuild.ready()
                await asyncio.sleep(0)
                await asyncio.sleep(1 - asyncio.get_running_loop().time())
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()


async def test_nothing_is_published_before_every_source_was_listed() -> None:
    async with Published().running(ready=False) as published:
        published.put(ingress("a"))
        published.rebuild.poke()
        published.rebuild.endpoint_changed("default", "web")
        await asyncio.sleep(10)
        assert published.updates == []
        assert published.rebuild.compiled is None
        published.rebuild.ready()
        await asyncio.sleep(0.001)
        assert published.times == [10.0]
        assert published.paths == ["/a"]


async def test_an_empty_store_is_published_too() -> None:
    async with Published().running() as published:
        assert len(published.updates) == 1
        assert published.updates[0].snapshot.hosts == ()


async def test_each_day_is_compiled_for_as_certificates_expire() -> None:
    published = Published()
    published.wall = 19_999.5 * DAY
    async with published.running():
        assert published.rebuild.compiled is not None
        assert published.rebuild.compiled.settings.today == 19_999
        await asyncio.sleep(DAY / 2)
        assert published.rebuild.compiled.settings.today == 20_000
        await asyncio.sleep(DAY * 2)
        assert published.rebuild.compiled.settings.today == 20_002
        assert len(published.updates) == 1


async def test_a_change_is_published_once_it_was_quiet() -> None:
    async with Published().running() as published:
        published.put(ingress("a"))
        published.rebuild.poke()
        await asyncio.sleep(QUIET - 0.01)
        assert len(published.updates) == 1
        published.put(ingress("b"))
        published.rebuild.poke()
        await asyncio.sleep(1)
        assert published.times[1:] == [round(1 + QUIET - 0.01 + QUIET, 3)]
        assert published.paths == ["/a", "/b"]


async def test_changes_without_pause_are_published_within_the_limit() -> None:
    async with Published().running() as published:
        for number in range(100):
            published.put(ingress(f"n{number}"))
            published.rebuild.poke()
            await asyncio.sleep(0.02)
        await asyncio.sleep(1)
        gaps = [after - before for before, after in zip([1.0, *published.times[1:]], published.times[1:], strict=False)]
        assert max(gaps) <= LIMIT + 0.02 + 1e-6
        assert len(published.times[1:]) == 4
        assert len(published.paths) == 100


async def test_what_compiles_to_the_same_is_not_published_again() -> None:
    async with Published().running() as published:
        published.put(service())
        published.rebuild.poke()
        await asyncio.sleep(1)
        assert len(published.updates) == 1


async def test_another_source_of_the_same_values_is_published_under_the_same_digest() -> None:
    def limited(name: str) -> Object:
        found = ingress("web")
        assert isinstance(found, Ingress)
        return replace(found, meta=replace(found.meta, annotations={name: "8m"}))

    published = Published()
    published.put(service(), endpoints("10.0.0.1"), limited("nginx.ingress.kubernetes.io/proxy-body-size"))
    async with published.running():
        published.put(limited("portway.dev/body-size"))
        published.rebuild.poke()
        await asyncio.sleep(1)
        first, second = published.updates
        _, told = second.snapshot.sources
        assert told.fields == (Source("body_size", ("annotation portway.dev/body-size",)),)
        assert first.digest == second.digest == codec.digest(second.snapshot)
        assert second.delta == Delta(first.digest, first.digest, (), Changes(sources=(told,)))
        published.rebuild.poke()
        await asyncio.sleep(1)
        assert len(published.updates) == 2


async def test_a_change_during_a_publish_is_published_after_it() -> None:
    async with Published().running() as published:
        published.seconds = 5.0
        published.put(ingress("a"))
        published.rebuild.poke()
        await asyncio.sleep(1)
        published.put(ingress("b"))
        published.rebuild.poke()
        await asyncio.sleep(20)
        assert published.times[1:] == [1.05, 6.05]
        assert published.paths == ["/a", "/b"]


async def test_endpoints_are_published_at_once_as_a_delta() -> None:
    published = Published()
    published.put(ingress("a"), service(), endpoints("10.0.0.1"))
    async with published.running():
        base = published.updates[0]
        published.put(endpoints("10.0.0.1", "10.0.0.2"))
        published.rebuild.endpoint_changed("default", "web")
        await asyncio.sleep(0.001)
        assert published.times[1:] == [1.0]
        update = published.updates[1]
        assert update.delta is not None
        assert update.delta.base == base.digest
        (upstream,) = update.delta.upstreams
        assert upstream.endpoints == (Endpoint("10.0.0.1", 8080), Endpoint("10.0.0.2", 8080))
        assert deltas.patch(base.snapshot, update.delta.upstreams) == update.snapshot
        assert codec.digest(update.snapshot) == update.digest == update.delta.digest


async def test_a_delta_and_a_whole_compile_come_to_the_same() -> None:
    published = Published()
    published.put(ingress("a"), service(), endpoints("10.0.0.1"))
    async with published.running():
        published.put(endpoints("10.0.0.2"))
        published.rebuild.endpoint_changed("default", "web")
        published.rebuild.poke()
        await asyncio.sleep(1)
        assert len(published.updates) == 2


async def test_deltas_follow_one_another() -> None:
    published = Published()
    published.put(ingress("a"), service(), endpoints("10.0.0.1"))
    async with published.running():
        for number in range(2, 5):
            published.put(endpoints(f"10.0.0.{number}"))
            published.rebuild.endpoint_changed("default", "web")
            await asyncio.sleep(0.001)
        bases = [update.delta.base for update in published.updates[1:] if update.delta]
        assert bases == [update.digest for update in published.updates[:3]]


async def test_routes_are_published_as_a_delta_of_what_changed() -> None:
    published = Published()
    published.put(ingress("a"), ingress("b", host="b.example"), service(), endpoints("10.0.0.1"))
    async with published.running():
        before = published.updates[0]
        assert before.delta is None
        published.put(ingress("c", host="b.example"))
        published.rebuild.poke()
        await asyncio.sleep(1)
        update = published.updates[1]
        assert update.delta is not None
        assert update.delta.changes is not None
        assert (update.delta.base, update.delta.digest) == (before.digest, update.digest)
        assert [host.name for host in update.delta.changes.hosts] == ["b.example"]
        assert update.delta.size == 1
        patched = deltas.patch(before.snapshot, update.delta.upstreams, update.delta.changes)
        assert patched == update.snapshot
        assert codec.digest(patched) == update.digest


async def test_deltas_of_routes_and_of_endpoints_follow_one_another() -> None:
    published = Published()
    published.put(ingress("a"), service(), endpoints("10.0.0.1"))
    async with published.running():
        published.compiling = 0.1
        served = published.updates[0].snapshot
        for number in range(2, 5):
            published.put(ingress(f"a{number}"))
            published.rebuild.poke()
            await asyncio.sleep(QUIET + 0.05)
            published.put(endpoints(f"10.0.0.{number}"))
            published.rebuild.endpoint_changed("default", "web")
            await asyncio.sleep(1)
        for update in published.updates[1:]:
            assert update.delta is not None
            served = deltas.patch(served, update.delta.upstreams, update.delta.changes)
            assert codec.digest(served) == update.digest
        assert served == published.updates[-1].snapshot
        assert [update.delta.wide for update in published.updates[1:] if update.delta] == [False, True] * 3


async def test_what_changes_in_very_many_places_is_published_whole() -> None:
    published = Published()
    async with published.running():
        published.put(*(ingress(f"i{number}", host=f"h{number}.example") for number in range(1100)))
        published.rebuild.poke()
        await asyncio.sleep(1)
        assert published.updates[1].delta is None


async def test_endpoints_of_a_service_that_nothing_refers_to_are_not_published() -> None:
    published = Published()
    published.put(ingress("a"), service(), endpoints("10.0.0.1"))
    async with published.running():
        published.put(endpoints("10.0.0.9", name="other"))
        published.rebuild.endpoint_changed("default", "other")
        await asyncio.sleep(1)
        assert len(published.updates) == 1


async def test_the_last_endpoint_gone_is_published_at_once_and_its_problem_after_it() -> None:
    published = Published()
    published.put(ingress("a"), service(), endpoints("10.0.0.1"))
    async with published.running():
        assert published.updates[0].snapshot.problems == ()
        published.put(endpoints())
        published.rebuild.endpoint_changed("default", "web")
        await asyncio.sleep(1)
        assert published.times[1:] == [1.0, 1.0 + QUIET]
        assert [update.delta.wide for update in published.updates[1:] if update.delta] == [False, True]
        assert [problem.code for problem in published.updates[2].snapshot.problems] == ["no_endpoints"]


async def test_endpoints_before_the_routes_that_need_them_wait_for_the_compile() -> None:
    async with Published().running() as published:
        published.put(ingress("a"), service(), endpoints("10.0.0.1"))
        published.rebuild.poke()
        published.rebuild.endpoint_changed("default", "web")
        await asyncio.sleep(1)
        assert published.times[1:] == [1.0 + QUIET]


async def test_a_snapshot_that_is_refused_is_not_sent_again_until_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    async with Published().running() as published:
        base = published.updates[0]
        published.refuse = "too good"
        published.put(ingress("a"))
        for _ in range(3):
            published.rebuild.poke()
            await asyncio.sleep(1)
        assert len(published.refusals) == 1
        assert "the proxies refused the snapshot, the one before stays: too good" in caplog.text
        published.refuse = ""
        published.put(ingress("b"))
        published.rebuild.poke()
        await asyncio.sleep(1)
        assert published.updates[0] is base
        assert published.paths == ["/a", "/b"]


async def test_a_fault_of_ours_is_logged_and_the_next_change_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    async with Published().running() as published:
        published.crash = True
        published.put(ingress("a"))
        published.rebuild.poke()
        await asyncio.sleep(1)
        assert "a fault of ours" in caplog.text
        published.crash = False
        published.rebuild.poke()
        await asyncio.sleep(1)
        assert published.paths == ["/a"]


async def test_endpoints_that_change_during_a_compile_wait_neither_for_it_nor_are_undone_by_it() -> None:
    published = Published()
    published.put(ingress("a"), service(), endpoints("10.0.0.1"))
    async with published.running():
        published.compiling = 0.3
        published.put(ingress("b"))
        published.rebuild.poke()
        await asyncio.sleep(QUIET + 0.1)
        published.put(endpoints("10.0.0.2"))
        published.rebuild.endpoint_changed("default", "web")
        await asyncio.sleep(1)
        assert published.times[1:] == [1.15, 1.35]
        assert published.updates[1].delta is not None
        assert published.paths == ["/a", "/b"]
        for update in published.updates[1:]:
            (upstream,) = update.snapshot.upstreams
            assert upstream.endpoints == (Endpoint("10.0.0.2", 8080),)
            assert codec.digest(update.snapshot) == update.digest


async def test_routes_that_change_during_a_compile_are_compiled_after_it() -> None:
    async with Published().running() as published:
        published.compiling = 0.3
        for name in ("a", "b"):
            published.put(ingress(name))
            published.rebuild.poke()
            await asyncio.sleep(QUIET + 0.1)
        await asyncio.sleep(1)
        assert published.times[1:] == [round(1.0 + QUIET + 0.3, 3), round(1.0 + QUIET + 0.6, 3)]
        assert published.paths == ["/a", "/b"]


async def storm(published: Published, changes: int, every: float) -> None:
    """Change the endpoints of `web` so often, `every` so many seconds."""
    for number in range(changes):
        published.put(endpoints(f"10.1.{number // 250}.{number % 250 + 1}"))
        published.rebuild.endpoint_changed("default", "web")
        await asyncio.sleep(every)


async def test_a_storm_is_published_fewer_than_ten_times_a_second_and_its_last_state_wins() -> None:
    published = Published()
    published.put(ingress("a"), service(), endpoints("10.0.0.1"))
    async with published.running():
        await storm(published, 5000, 0.002)
        assert len(published.updates) - 1 <= 10 * 10
        await asyncio.sleep(PAUSE)
        (upstream,) = published.updates[-1].snapshot.upstreams
        assert upstream.endpoints == (Endpoint("10.1.19.250", 8080),)


async def test_fifty_changes_a_second_are_no_storm_and_each_is_published_at_once() -> None:
    published = Published()
    published.put(ingress("a"), service(), endpoints("10.0.0.1"))
    async with published.running():
        await storm(published, 500, 0.02)
        assert len(published.updates) - 1 == 500
        assert published.times[1:] == [round(1 + number * 0.02, 3) for number in range(500)]


async def test_after_a_storm_a_change_is_published_at_once_again() -> None:
    published = Published()
    published.put(ingress("a"), service(), endpoints("10.0.0.1"))
    async with published.running():
        await storm(published, 1000, 0.0)
        assert len(published.updates) - 1 <= BURST + 1
        await asyncio.sleep(1.0)
        now = asyncio.get_running_loop().time()
        await storm(published, 1, 0.001)
        assert published.times[-1] == round(now, 3)


async def test_a_changed_secret_for_endpoints_waits_for_the_compile_and_no_endpoint_for_it() -> None:
    published = Published()
    web = ingress("a")
    assert isinstance(web, Ingress)
    asking = {
        "nginx.ingress.kubernetes.io/backend-protocol": "HTTPS",
        "nginx.ingress.kubernetes.io/proxy-ssl-secret": "keys",
    }
    web = replace(web, meta=replace(web.meta, annotations=asking))
    published.put(web, service(), endpoints("10.0.0.1"), keys())
    async with published.running():
        [keyring] = published.updates[0].snapshot.keyrings
        published.put(endpoints("10.0.0.1", "10.0.0.2"), keys())
        published.rebuild.endpoint_changed("default", "web")
        await asyncio.sleep(0.001)
        assert published.updates[1].delta is not None
        (upstream,) = published.updates[1].delta.upstreams
        assert len(upstream.endpoints) == 2
        assert upstream.tls is not None
        assert upstream.tls.keyring == keyring.name
        await asyncio.sleep(5)
        last = published.updates[-1].snapshot
        assert last.keyrings[0].name != keyring.name
        assert [one.tls.keyring for one in last.upstreams if one.tls is not None] == [last.keyrings[0].name]


def keys() -> Secret:
    """Return a Secret with an authority that no other has."""
    return Secret(Meta("default", "keys"), "Opaque", {"ca.crt": Authority().pem})
