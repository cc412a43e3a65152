"""What is published, in versions, and how far proxies have come by what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from portway_operator.publish import Proxy, Publisher, Rejection
from portway_operator.rebuild import Update
from portway_operator.subscription import Subscription
from portway_proxy import codec, deltas
from portway_proxy.snapshot import Endpoint, Snapshot, Upstream
from portway_proxy.stream import Ack, DeltaMessage, Hello, Message, Position, SnapshotMessage, Verdict, decode

pytestmark = pytest.mark.looptime

WEB = "shop/web:80"


def snapshot(port: int) -> Snapshot:
    return Snapshot(upstreams=(at(port),))


def at(port: int) -> Upstream:
    return Upstream(WEB, endpoints=(Endpoint("10.0.0.1", port),))


async def publish(publisher: Publisher, port: int) -> str:
    """Publish a whole snapshot and return its digest."""
    digest = codec.digest(snapshot(port))
    await publisher.publish(Update(snapshot(port), digest))
    return digest


async def patch(publisher: Publisher, port: int) -> str:
    """Publish a delta and return the digest of what it leads to."""
    before = publisher.published
    assert before is not None
    digest = codec.digest(snapshot(port))
    await publisher.publish(Update(snapshot(port), digest, deltas.Delta(before.digest, digest, (at(port),))))
    return digest


async def change(publisher: Publisher, port: int) -> str:
    """Publish a wide delta and return the digest of what it leads to."""
    before = publisher.published
    assert before is not None
    digest = codec.digest(snapshot(port))
    delta = deltas.diff(before.snapshot, snapshot(port), before.digest, digest)
    await publisher.publish(Update(snapshot(port), digest, delta))
    return digest


async def sent(subscription: Subscription) -> list[Message]:
    """Return the messages that are sent next."""
    lines = await subscription.next()
    assert lines is not None
    return [message for line in lines if (message := decode(line)) is not None]


async def follower(publisher: Publisher, node: str = "proxy-0") -> Subscription:
    """Return a subscription that has its opening."""
    subscription = publisher.subscribe(node, None)
    await sent(subscription)
    return subscription


def ack(publisher: Publisher, version: int, digest: str, node: str = "proxy-0", epoch: str = "") -> None:
    publisher.acknowledge(Ack(node, epoch or publisher.epoch, version, digest, Verdict.APPLIED, took_ms=2.5))


def nack(publisher: Publisher, version: int, error: str = "Ingress shop/web is odd", node: str = "proxy-0") -> None:
    said = Ack(node, publisher.epoch, version, "", Verdict.REJECTED, error, "Ingress shop/web")
    publisher.acknowledge(said)


async def opening(publisher: Publisher, position: Position | None) -> Sequence[Message]:
    subscription = publisher.subscribe("proxy-0", position)
    messages = await sent(subscription)
    publisher.unsubscribe(subscription)
    return messages


# --- publishing


async def test_every_run_has_an_epoch_of_its_own() -> None:
    assert Publisher().epoch != Publisher().epoch


async def test_whoever_is_new_gets_the_snapshot() -> None:
    publisher = Publisher()
    digest = await publish(publisher, 1)
    hello, whole = await opening(publisher, None)
    assert hello == Hello(publisher.epoch, codec.SCHEMA, "portway/0.1.0", 1, digest)
    assert whole == SnapshotMessage(1, digest, snapshot(1))


async def test_whoever_has_the_same_content_gets_nothing_whatever_epoch_it_is_from() -> None:
    publisher = Publisher()
    digest = await publish(publisher, 1)
    [hello] = await opening(publisher, Position("another", 77, digest))
    assert isinstance(hello, Hello)
    assert hello.same
    assert publisher.counts.snapshots == 0


async def test_whoever_has_the_base_of_a_delta_that_is_kept_gets_deltas_whatever_epoch_it_is_from() -> None:
    publisher = Publisher()
    first = await publish(publisher, 1)
    second = await patch(publisher, 2)
    third = await patch(publisher, 3)
    for position in (Position(publisher.epoch, 1, first), Position("another", 9, first)):
        hello, one, two = await opening(publisher, position)
        assert isinstance(hello, Hello)
        assert (hello.v, hello.same) == (3, False)
        assert one == DeltaMessage(first, 2, second, (at(2),))
        assert two == DeltaMessage(second, 3, third, (at(3),))


async def test_a_snapshot_in_between_breaks_the_chain_of_deltas() -> None:
    publisher = Publisher()
    first = await publish(publisher, 1)
    await patch(publisher, 2)
    await publish(publisher, 3)
    _, whole = await opening(publisher, Position(publisher.epoch, 1, first))
    assert isinstance(whole, SnapshotMessage)


async def test_the_snapshot_of_the_moment_holds_all_deltas_and_is_encoded_once() -> None:
    publisher = Publisher()
    await publish(publisher, 1)
    digest = await patch(publisher, 2)
    assert publisher.snapshot() is publisher.snapshot()
    assert decode(publisher.snapshot()) == SnapshotMessage(2, digest, snapshot(2))


async def test_who_takes_wide_deltas_gets_them_and_whoever_does_not_a_snapshot() -> None:
    publisher = Publisher()
    first = await publish(publisher, 1)
    new, old = await follower(publisher), publisher.subscribe("old", None, wide=False)
    await sent(old)
    second = await change(publisher, 2)
    assert await sent(new) == [DeltaMessage(first, 2, second, (at(2),), deltas.Changes())]
    assert await sent(old) == [SnapshotMessage(2, second, snapshot(2))]
    await patch(publisher, 3)
    assert await sent(new) == await sent(old)
    # And so when they come back.
    position = Position(publisher.epoch, 1, first)
    assert [type(message) for message in await opening(publisher, position)] == [Hello, DeltaMessage, DeltaMessage]
    back = publisher.subscribe("old", position, wide=False)
    assert [type(message) for message in await sent(back)] == [Hello, SnapshotMessage]


async def test_a_delta_is_one_object_for_all_streams() -> None:
    publisher = Publisher()
    await publish(publisher, 1)
    followers = [await follower(publisher, f"proxy-{number}") for number in range(3)]
    await patch(publisher, 2)
    lines = [await one.next() for one in followers]
    assert all(line is not None and line[0] is (lines[0] or ())[0] for line in lines)


async def test_a_second_stream_of_a_proxy_ends_the_first() -> None:
    publisher = Publisher()
    await publish(publisher, 1)
    first = await follower(publisher)
    second = publisher.subscribe("proxy-0", None)
    assert await first.next() is None
    publisher.unsubscribe(first)
    assert publisher.subscriptions == 1
    assert publisher.proxies["proxy-0"].streaming
    publisher.unsubscribe(second)
    assert publisher.subscriptions == 0
    assert not publisher.proxies["proxy-0"].streaming


# --- what proxies say


async def test_an_acknowledgement_says_what_a_proxy_serves() -> None:
    publisher = Publisher()
    seen: list[tuple[str, int]] = []
    publisher.on_ack.append(lambda proxy: seen.append((proxy.node, proxy.version)))
    await publish(publisher, 1)
    await follower(publisher)
    digest = await patch(publisher, 2)
    for version in (1, 2, 2, 2):
        ack(publisher, version, digest)
    assert seen == [("proxy-0", 1), ("proxy-0", 2)]
    assert publisher.proxies["proxy-0"] == Proxy("proxy-0", 2, digest, streaming=True, seen=0.0, took_ms=2.5)


async def test_lag_is_for_how_long_there_has_been_something_newer() -> None:
    publisher = Publisher()
    digest = await publish(publisher, 1)
    await follower(publisher)
    proxy = publisher.proxies["proxy-0"]
    await asyncio.sleep(2)
    assert publisher.lag(proxy) == pytest.approx(2)
    ack(publisher, 1, digest)
    assert publisher.lag(proxy) == 0
    await patch(publisher, 2)
    await asyncio.sleep(3)
    await patch(publisher, 3)
    await asyncio.sleep(4)
    assert publisher.lag(proxy) == pytest.approx(7)
    ack(publisher, 2, digest)
    assert publisher.lag(proxy) == pytest.approx(4)


async def test_content_of_another_epoch_counts_by_its_digest() -> None:
    publisher = Publisher()
    await publish(publisher, 1)
    digest = await publish(publisher, 2)
    ack(publisher, 55, digest, node="far", epoch="another")
    assert publisher.proxies["far"].version == 2
    ack(publisher, 56, "unknown", node="far", epoch="another")
    assert publisher.proxies["far"].version == 0


async def test_content_that_a_proxy_got_elsewhere_first_counts_once_it_is_published_here() -> None:
    publisher = Publisher()
    seen: list[int] = []
    publisher.on_ack.append(lambda proxy: seen.append(proxy.version))
    await publish(publisher, 1)
    ack(publisher, 9, codec.digest(snapshot(2)), node="far", epoch="another")
    assert publisher.proxies["far"].version == 0
    await publish(publisher, 2)
    assert (publisher.proxies["far"].version, seen) == (2, [2])


async def test_a_version_that_was_never_published_is_not_believed() -> None:
    publisher = Publisher()
    await publish(publisher, 1)
    ack(publisher, 1000, "x")
    assert publisher.proxies["proxy-0"].version == 0


async def test_a_rejection_is_told_with_the_object_and_stays_until_something_is_applied() -> None:
    publisher = Publisher()
    rejections: list[Rejection] = []
    publisher.on_rejection.append(rejections.append)
    digest = await publish(publisher, 1)
    await follower(publisher)
    nack(publisher, 1)
    assert rejections == [Rejection("proxy-0", "", "Ingress shop/web is odd", "Ingress shop/web")]
    proxy = publisher.proxies["proxy-0"]
    assert (proxy.version, proxy.rejected, proxy.error) == (0, 1, "Ingress shop/web is odd")
    ack(publisher, 1, digest)
    assert (proxy.version, proxy.rejected, proxy.error, proxy.resource) == (1, 0, "", "")


async def test_a_rejected_snapshot_is_sent_again_later_and_its_successor_at_once() -> None:
    publisher = Publisher()
    loop = asyncio.get_running_loop()
    await publish(publisher, 1)
    subscription = await follower(publisher)
    nack(publisher, 1)
    [again] = await sent(subscription)
    assert isinstance(again, SnapshotMessage)
    assert loop.time() == pytest.approx(1)
    await publish(publisher, 2)
    nack(publisher, 1)
    [successor] = await sent(subscription)
    assert isinstance(successor, SnapshotMessage)
    assert successor.v == 2
    assert loop.time() == pytest.approx(1)


async def test_what_mends_a_rejected_delta_is_sent_at_once_and_whole() -> None:
    publisher = Publisher()
    await publish(publisher, 1)
    subscription = await follower(publisher)
    await change(publisher, 2)
    await sent(subscription)
    nack(publisher, 2)
    await change(publisher, 3)
    [mended] = await sent(subscription)
    assert isinstance(mended, SnapshotMessage)
    assert mended.v == 3
    # Also when it was published before the rejection came: the proxy has no use for it as a delta.
    await change(publisher, 4)
    await change(publisher, 5)
    assert [type(message) for message in await sent(subscription)] == [DeltaMessage, DeltaMessage]
    nack(publisher, 4)
    [again] = await sent(subscription)
    assert isinstance(again, SnapshotMessage)
    assert (again.v, asyncio.get_running_loop().time()) == (5, 0)
    nack(publisher, 5)
    await sent(subscription)
    assert asyncio.get_running_loop().time() == pytest.approx(2)


async def test_applied_waits_for_every_proxy_that_is_there() -> None:
    publisher = Publisher()
    digest = await publish(publisher, 1)
    for node in ("a", "b"):
        await follower(publisher, node)
    waiting = asyncio.get_running_loop().create_task(publisher.applied(1))
    ack(publisher, 1, digest, node="a")
    await asyncio.sleep(0)
    assert [proxy.node for proxy in publisher.behind(1)] == ["b"]
    assert not waiting.done()
    ack(publisher, 1, digest, node="b")
    async with asyncio.timeout(0.1):
        await waiting
    # An older version is served by whoever serves a newer one.
    await publisher.applied(1)


async def test_nobody_waits_for_a_proxy_that_has_said_goodbye() -> None:
    publisher = Publisher()
    await publish(publisher, 1)
    subscription = await follower(publisher)
    publisher.unsubscribe(subscription)
    assert publisher.behind(1)
    publisher.acknowledge(Ack("proxy-0", "0", 0, "", Verdict.LEAVING))
    assert not publisher.behind(1)
    assert not publisher.proxies


async def test_a_proxy_that_vanished_counts_for_half_a_minute_more() -> None:
    publisher = Publisher()
    await publish(publisher, 1)
    subscription = await follower(publisher)
    await asyncio.sleep(100)
    assert publisher.behind(1)
    publisher.unsubscribe(subscription)
    began = asyncio.get_running_loop().time()
    await publisher.applied(1)
    assert 34 < asyncio.get_running_loop().time() - began < 37
    assert not publisher.proxies


async def test_where_no_proxy_is_there_nothing_is_waited_for() -> None:
    publisher = Publisher()
    await publish(publisher, 1)
    await publisher.applied(1)


async def test_names_that_somebody_makes_up_do_not_fill_the_memory() -> None:
    publisher = Publisher()
    digest = await publish(publisher, 1)
    for number in range(3000):
        ack(publisher, 1, digest, node=f"made-up-{number}")
    assert len(publisher.proxies) == 2048


async def test_only_the_last_thousand_versions_are_remembered() -> None:
    publisher = Publisher()
    first = await publish(publisher, 1)
    for port in range(2, 1102):
        await patch(publisher, port)
    ack(publisher, 1, first, node="far", epoch="another")
    assert publisher.proxies["far"].version == 0
    assert publisher.lag(publisher.proxies["far"]) == 0  # Everything here happened in one instant.
