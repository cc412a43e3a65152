"""What a proxy does about a snapshot that it cannot apply, and about operators that talk nonsense or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web as http

from eventually import eventually
from portway_operator.publish import Rejection
from portway_operator.rebuild import Rebuild, Update
from portway_operator.rejections import exclude_rejected
from portway_operator.settings import CompileSettings
from portway_proxy import codec, deltas, dial, feed
from portway_proxy.dial import Address, Credentials
from portway_proxy.snapshot import Endpoint, Host, Origin, PathMatch, Route, Snapshot, Upstream
from portway_proxy.stream import DeltaMessage, Hello, SnapshotMessage, Verdict, decode_ack, encode
from portway_proxy.supervisor import Supervisor
from scenes import CLASS, INGRESS, SERVICE, SLICE, objects, store_of
from wire.parts import WEB, Web, connect, metrics, on_every_worker, port_of, serve_web, snapshot
from wire.streams import Cluster, Operator, following, until_served

BLAMED = Origin("Ingress", "shop", "broken", "spec.rules[0].http.paths[0]")


def broken(good: Snapshot) -> Snapshot:
    """Return a snapshot that no proxy can apply, because an Ingress names an upstream that it does not have."""
    route = Route("/", PathMatch.PREFIX, "shop/nowhere:80", BLAMED)
    return msgspec.structs.replace(good, hosts=(*good.hosts, Host("broken.example", (route,))))


def ingress(name: str) -> str:
    return INGRESS.replace("name: web, namespace", f"name: {name}, namespace").replace(
        "shop.example", f"{name}.example"
    )


def at(port: int) -> Upstream:
    return Upstream(WEB, endpoints=(Endpoint("127.0.0.1", port),))


async def test_a_snapshot_that_cannot_be_applied_is_rejected_with_its_reason_and_the_old_one_stays(
    shared: Cluster, op: Operator, web: Web
) -> None:
    rejections: list[Rejection] = []
    op.publisher.on_rejection.append(rejections.append)
    good = snapshot(web.port)
    await op.publish(good)
    async with following(shared.credentials(), op.address, node="proxy-3") as proxy:
        await op.applied()
        await op.publish(broken(good))
        await eventually(lambda: rejections)
        [said] = rejections
        assert (said.node, said.resource, said.digest) == ("proxy-3", "Ingress shop/broken", op.digest)
        assert "refers to the upstream shop/nowhere:80, which the snapshot does not have" in said.error
        state = op.publisher.proxies["proxy-3"]
        assert (state.version, state.rejected, state.resource) == (1, 2, "Ingress shop/broken")
        assert [late.node for late in op.publisher.behind(2)] == ["proxy-3"]
        await on_every_worker(proxy, "sent by web")
        assert (await metrics(proxy))["portway_config_stale",] == 1
        async with serve_web("mended") as mended:
            await op.publish(snapshot(mended.port))
            await op.applied()
            await on_every_worker(proxy, "sent by mended")
            assert not op.publisher.proxies["proxy-3"].error


async def test_changes_after_a_rejected_snapshot_reach_the_proxy_with_the_next_attempt(
    shared: Cluster, op: Operator, web: Web
) -> None:
    good = snapshot(web.port)
    await op.publish(good)
    async with following(shared.credentials(), op.address) as proxy, serve_web("other") as other:
        await op.applied()
        # A hundred deltas on the way behind it: none of them makes the proxy ask again and again.
        await op.publish(broken(good))
        for number in range(1, 100):
            await op.patch(at(number))
        await eventually(lambda: op.publisher.counts.rejections)
        nowhere = Upstream("shop/nowhere:80", reason="no_endpoints")
        whole = msgspec.structs.replace(broken(good), upstreams=(*good.upstreams[:1], nowhere, at(other.port)))
        digest = codec.digest(whole)
        # As a delta it is nothing that the proxy could use; the snapshot that is sent in its place is.
        delta = deltas.Delta(op.digest, digest, (at(other.port),))
        await op.publisher.publish(Update(whole, digest, delta))
        await op.applied()
        await on_every_worker(proxy, "sent by other")
        assert op.publisher.counts.streams == 1
        assert op.publisher.counts.snapshots <= 4


async def test_the_blamed_ingress_is_left_out_and_all_others_are_served(
    shared: Cluster, op: Operator, web: Web
) -> None:
    """The whole chain: objects, compile, publish, rejection, problem, compile without it."""
    here = "[127.0.0.1]"
    slices = SLICE.replace("8080", str(web.port)).replace("[10.0.0.1]", here).replace("[10.0.0.2]", here)
    store = store_of(CLASS, SERVICE, slices, ingress("good"), ingress("broken"))

    async def publish(update: Update) -> None:
        """Publish as an operator does that is newer than its proxies."""
        hosts = tuple(host if host.name != "broken.example" else unknown(host) for host in update.snapshot.hosts)
        await op.publish(msgspec.structs.replace(update.snapshot, hosts=hosts))

    rebuild = Rebuild(store, CompileSettings(standalone=True), publish)
    op.publisher.on_rejection.append(exclude_rejected(store, rebuild.poke_for))
    async with following(shared.credentials(), op.address) as proxy, asyncio.TaskGroup() as group:
        running = group.create_task(rebuild.run())
        rebuild.ready()
        await op.applied(2)
        assert rebuild.compiled is not None
        [problem] = rebuild.compiled.problems
        assert (problem.code, str(problem.origin)) == ("rejected_by_proxy", "Ingress shop/broken")
        assert await status(proxy, "good.example") == 200
        assert await status(proxy, "broken.example") == 404
        # It is given another chance once it has changed.
        [mended] = objects(ingress("broken").replace("broken.example", "mended.example"))
        store.put(mended)
        rebuild.poke()
        await op.applied(3)
        assert await status(proxy, "mended.example") == 200
        running.cancel()


def unknown(host: Host) -> Host:
    """Return a host whose routes lead to an upstream that the snapshot does not have."""
    return Host(host.name, tuple(msgspec.structs.replace(one, upstream="shop/nowhere:80") for one in host.routes))


async def status(proxy: Supervisor, host: str) -> int:
    async with connect(port_of(proxy)) as client:
        client.send(host=host)
        return (await client.take())[0]


async def test_a_delta_that_does_not_follow_from_what_is_published_is_sent_as_a_snapshot(
    shared: Cluster, op: Operator, web: Web
) -> None:
    await op.publish(snapshot(web.port))
    async with following(shared.credentials(), op.address) as proxy, serve_web("other") as other:
        await op.applied()
        after = snapshot(other.port)
        wrong = deltas.Delta("f" * 32, codec.digest(after), (at(other.port),))
        await op.publisher.publish(Update(after, codec.digest(after), wrong))
        await op.applied()
        await on_every_worker(proxy, "sent by other")
        assert (op.publisher.counts.streams, op.publisher.counts.rejections) == (1, 0)


async def test_a_snapshot_with_another_digest_than_it_says_is_rejected(shared: Cluster, op: Operator, web: Web) -> None:
    await op.publish(snapshot(web.port))
    async with following(shared.credentials(), op.address) as proxy:
        await op.applied()
        await op.publisher.publish(Update(Snapshot(), "a" * 32))
        await eventually(lambda: op.publisher.counts.rejections)
        assert "it was sent as aaaa" in op.publisher.proxies["proxy-0"].error
        await on_every_worker(proxy, "sent by web")


# --- operators that are none


class Impostor:
    """A server on plain HTTP that answers the stream with whatever it is told to."""

    def __init__(self) -> None:
        self.port = 0
        self.asked = 0
        self.positions: list[str] = []
        self.acks: list[bytes] = []
        self.say: Callable[[http.Request], Awaitable[http.StreamResponse]] = nothing

    @property
    def address(self) -> Address:
        return Address("http", "127.0.0.1", self.port)

    async def answer(self, request: http.Request) -> http.StreamResponse:
        if request.path == "/v1/ack":
            self.acks.append(await request.read())
            return http.Response(status=204)
        self.asked += 1
        self.positions.append(request.headers["If-None-Match"])
        return await self.say(request)


async def nothing(request: http.Request) -> http.StreamResponse:
    """Answer, and then say nothing until the proxy has gone."""
    response = http.StreamResponse()
    await response.prepare(request)
    await asyncio.sleep(3600)
    return response


def lines(*parts: bytes) -> Callable[[http.Request], Awaitable[http.StreamResponse]]:
    """Return an answer that says these, and then nothing until the proxy has gone."""

    async def say(request: http.Request) -> http.StreamResponse:
        response = http.StreamResponse()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        await asyncio.sleep(3600)
        return response

    return say


@asynccontextmanager
async def impostor() -> AsyncIterator[Impostor]:
    found = Impostor()
    app = http.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = http.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await http.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


def hello(digest: str, schema: int = codec.SCHEMA) -> bytes:
    return encode(Hello("ab", schema, "portway/9", 1, digest))


GOOD = snapshot(9)
DIGEST = codec.digest(GOOD)
WHOLE = encode(SnapshotMessage(1, DIGEST, GOOD))


@pytest.mark.parametrize(
    "parts",
    [
        (b"garbage\n",),
        (b"\x00\xff\xfe" * 1000 + b"\n",),
        (b"{}\n",),
        (b"[]\n",),
        (b"null\n",),
        (WHOLE,),
        (hello(DIGEST), b'{"type":"snapshot","v":1,"hash":"x"}\n'),
        (hello(DIGEST), b'{"type":"snapshot","v":1,"hash":"x","snapshot":{"hosts":7}}\n'),
        (hello(DIGEST), b'{"type":"delta","base":7}\n'),
        (hello(DIGEST), WHOLE.replace(b'"endpoints"', b'"end\npoints"')),
        (hello(DIGEST), b"<html>\n"),
        (hello("x", schema=codec.SCHEMA + 1),),
        (b'{"type":"refusal","error":"not today"}\n',),
    ],
    ids=lambda parts: repr(parts[-1][:30]),
)
async def test_nonsense_changes_nothing_and_the_proxy_asks_again(parts: tuple[bytes, ...], web: Web) -> None:
    async with impostor() as fake:
        fake.say = lines(*parts)
        async with following(Credentials(), fake.address) as proxy:
            await proxy.apply(snapshot(web.port))
            await eventually(lambda: fake.asked >= 2)
            assert proxy.digest == codec.digest(snapshot(web.port))
            assert proxy.stale
            await on_every_worker(proxy, "sent by web")
            fake.say = lines(hello(DIGEST), WHOLE)
            await eventually(lambda: proxy.digest == DIGEST)
            assert not proxy.stale


async def test_a_schema_that_the_proxy_does_not_know_is_named_in_its_log(caplog: pytest.LogCaptureFixture) -> None:
    async with impostor() as fake:
        fake.say = lines(hello(DIGEST, schema=7))
        async with following(Credentials(), fake.address):
            await eventually(lambda: fake.asked >= 3)
    assert caplog.text.count(f"it speaks schema version 7, this proxy knows {codec.SCHEMA}") == 1


async def test_a_schema_that_the_operator_does_not_know_is_refused_in_a_line(shared: Cluster, op: Operator) -> None:
    async with op.raw("future", schema="7") as client, asyncio.timeout(10):
        said = (await client.reader.readline()).decode()
    assert f"schema version '7' is asked for, this operator knows {codec.SCHEMA}" in said


async def test_a_proxy_of_another_schema_serves_on_and_says_once_why_it_follows_nobody(
    shared: Cluster, op: Operator, web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await op.publish(Snapshot())
    monkeypatch.setattr(dial, "SCHEMA", 7)
    async with following(shared.credentials(), op.address) as proxy:
        await proxy.apply(snapshot(web.port))
        said = f"schema version '7' is asked for, this operator knows {codec.SCHEMA}"
        await eventually(lambda: said in caplog.text)
        await on_every_worker(proxy, "sent by web")
        assert proxy.stale
        # Once one of them is what the other is, all goes on.
        monkeypatch.setattr(dial, "SCHEMA", codec.SCHEMA)
        await eventually(lambda: not proxy.stale)
        assert proxy.digest == codec.digest(Snapshot())
    assert caplog.text.count("no operator to follow") == 1


async def test_a_part_that_only_newer_proxies_know_is_not_served_without_it(web: Web) -> None:
    newer = "9" * 32
    known, more = b'"upstreams":[{', b'"upstreams":[{"guarded":true,'
    assert known in WHOLE
    async with impostor() as fake:
        fake.say = lines(hello(newer), WHOLE.replace(DIGEST.encode(), newer.encode()).replace(known, more))
        async with following(Credentials(), fake.address) as proxy:
            await proxy.apply(snapshot(web.port))
            await eventually(lambda: fake.acks)
            ack = decode_ack(fake.acks[0])
            assert (ack.status, ack.hash) == (Verdict.REJECTED, newer)
            assert "it asks for what this version of the proxy does not know" in ack.error
            assert proxy.digest == codec.digest(snapshot(web.port))
            await on_every_worker(proxy, "sent by web")


async def test_a_change_that_only_newer_proxies_know_all_of_is_not_served_without_the_rest(web: Web) -> None:
    served, newer = snapshot(web.port), "9" * 32
    page = Host("page.example", (Route("/", PathMatch.PREFIX, WEB, BLAMED),))
    after = msgspec.structs.replace(served, hosts=(*served.hosts, page))
    line = encode(DeltaMessage.of(deltas.diff(served, after, codec.digest(served), newer), 2))
    known, more = b'"hosts":[{', b'"hosts":[{"guarded":true,'
    assert known in line
    async with impostor() as fake:
        fake.say = lines(hello(newer), line.replace(known, more))
        async with following(Credentials(), fake.address) as proxy:
            await proxy.apply(served)
            await eventually(lambda: fake.acks)
            ack = decode_ack(fake.acks[0])
            assert (ack.status, ack.hash) == (Verdict.REJECTED, newer)
            assert "it asks for what this version of the proxy does not know" in ack.error
            assert proxy.digest == codec.digest(served)


async def test_a_message_of_a_kind_that_only_newer_proxies_know_is_passed_over() -> None:
    async with impostor() as fake:
        fake.say = lines(b'{"type":"weather","rain":true}\n', hello(DIGEST), b'{"type":"x"}\n', WHOLE)
        async with following(Credentials(), fake.address) as proxy:
            await until_served(proxy)
            assert (proxy.digest, fake.asked) == (DIGEST, 1)


async def test_messages_may_be_cut_anywhere_on_their_way() -> None:
    data = hello(DIGEST) + WHOLE
    async with impostor() as fake:
        fake.say = lines(*(data[start : start + 7] for start in range(0, len(data), 7)))
        async with following(Credentials(), fake.address) as proxy:
            await until_served(proxy)
            assert proxy.digest == DIGEST


async def test_an_operator_that_says_nothing_is_left_for_one_that_does(
    shared: Cluster, op: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_GREETING", 0.2)
    await op.publish(Snapshot())
    async with impostor() as fake, following(shared.credentials(), fake.address, op.address) as proxy:
        await until_served(proxy)
        assert op.publisher.subscriptions == 1


async def test_an_operator_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "_SILENCE", 0.3)
    async with impostor() as fake:
        fake.say = lines(hello(DIGEST), WHOLE)
        async with following(Credentials(), fake.address) as proxy:
            await until_served(proxy)
            await eventually(lambda: fake.asked >= 3)
            # It says where it is, so that nothing need be sent twice.
            assert fake.positions[-1] == f'"ab:1:{DIGEST}"'


async def test_after_a_gap_a_proxy_says_that_it_is_nowhere() -> None:
    async with impostor() as fake:
        fake.say = lines(hello(DIGEST), WHOLE, encode(DeltaMessage("e" * 32, 2, "d" * 32, ())))
        async with following(Credentials(), fake.address):
            await eventually(lambda: fake.asked >= 2)
            assert fake.positions[1] == f'"0:0:{"0" * 32}"'


async def test_a_redirect_is_not_followed(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    async def away(_: http.Request) -> http.StreamResponse:
        raise http.HTTPTemporaryRedirect(f"http://127.0.0.1:{web.port}/")

    async with impostor() as fake:
        fake.say = away
        async with following(Credentials(), fake.address):
            await eventually(lambda: "307" in caplog.text)
    assert not web.slow


async def test_an_address_where_nobody_listens_costs_nothing_but_a_line(caplog: pytest.LogCaptureFixture) -> None:
    async with impostor() as fake:
        nobody = fake.address
    async with following(Credentials(), nobody, Address("https", "no-such-host.invalid")) as proxy:
        await eventually(lambda: "no operator to follow" in caplog.text)
        await proxy.apply(Snapshot())
    assert "Traceback" not in caplog.text
