"""What a request meets when endpoints fail: another attempt where that is safe, and never more than the budget."""

from __future__ import annotations

import asyncio

import pytest

from eventually import eventually
from portway_proxy.metrics import RETRIES, RETRIES_REFUSED
from portway_proxy.snapshot import Ejection, Retries, UpstreamPolicy
from wire.peers import OK, Client, Message, Peer, answering, reply
from wire.several import Several, breaking, requests_at, saying, several, unused_port
from wire.site import WEB, Net, waits

POST = b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\nbody"
NEVER = Ejection(failures=0)
"""So that only what is tested hides a failure."""


async def post(client: Client) -> Message:
    client.send(POST)
    return await client.response(b"POST")


async def silent(peer: Peer) -> None:
    """Read a request and hang up without a word."""
    await peer.request()
    peer.close()


async def statuses(some: Several, count: int, request: bytes = b"") -> list[int]:
    """Return the statuses of as many requests, each on a connection of its own if the last one ended."""
    found: list[int] = []
    client = await some.client()
    for _ in range(count):
        client.send(request or b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        response = await client.response()
        found.append(response.status)
        if response.closes:
            client = await some.client()
    return found


async def retried(some: Several) -> dict[str, float]:
    return {sample.labels[1]: sample.value for sample in some.live.samples() if sample.name == RETRIES.name}


# --- no connection


@pytest.mark.parametrize("request_", [b"", POST])
async def test_an_endpoint_that_refuses_costs_no_request_whatever_its_method(net: Net, request_: bytes) -> None:
    some = await several(net, "abc", UpstreamPolicy(ejection=NEVER))
    some.endpoints[1].refuse()
    assert await statuses(some, 60, request_) == [200] * 60
    assert (await retried(some))["refused"] > 10


async def test_many_requests_at_once_lose_nothing_to_one_endpoint_that_refuses(net: Net) -> None:
    some = await several(net, "abc")
    some.endpoints[1].refuse()
    clients = [await some.client() for _ in range(150)]
    responses = await asyncio.gather(*(post(client) for client in clients))
    assert {response.status for response in responses} == {200}


async def test_an_endpoint_that_hangs_up_before_it_is_asked_is_one_that_did_not_connect(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slamming(peer: Peer) -> None:
        peer.reset()

    some = await several(net, [slamming, saying("b")], UpstreamPolicy(ejection=NEVER))
    client = await some.client()
    connect = some.site.loop.create_connection

    async def late(*arguments: object, **more: object) -> object:
        made = await connect(*arguments, **more)  # type: ignore[call-overload] # whatever it was called with
        await asyncio.sleep(0.02)  # A loop that is busy resumes who waited this late.
        return made

    monkeypatch.setattr(some.site.loop, "create_connection", late)
    for _ in range(4):
        assert (await post(client)).status == 200
    assert requests_at(some.endpoints[0]) == 0
    assert (await retried(some)).keys() == {"connect"}


async def test_when_every_endpoint_refuses_each_is_tried_once_and_the_client_is_told_at_once(net: Net) -> None:
    some = await several(net, "", UpstreamPolicy(ejection=NEVER))
    some.serve([unused_port() for _ in range(3)])
    assert await statuses(some, 1) == [502]
    assert (await some.site.line())["reason"] == "connect_failed"
    assert sum(pool.failed for pool in some.live.pools) == 3


async def test_no_more_endpoints_are_tried_than_asked_for(net: Net) -> None:
    some = await several(net, "", UpstreamPolicy(ejection=NEVER, retries=Retries(tries=2)))
    some.serve([unused_port() for _ in range(4)])
    assert await statuses(some, 1) == [502]
    assert sum(pool.failed for pool in some.live.pools) == 2


async def test_a_single_attempt_is_all_when_nothing_else_is_asked_for(net: Net) -> None:
    some = await several(net, "ab", UpstreamPolicy(ejection=NEVER, retries=Retries(tries=1)))
    some.endpoints[1].refuse()
    assert set(await statuses(some, 20)) == {200, 502}


async def test_nothing_is_repeated_later_than_asked_for(net: Net) -> None:
    async def late(peer: Peer) -> None:
        await peer.request()
        some.site.later(16)
        peer.reset()

    some = await several(net, [late, late], UpstreamPolicy(ejection=NEVER), timeouts=waits(response=120))
    assert await statuses(some, 1) == [502]
    assert requests_at(*some.endpoints) == 1


# --- no answer


@pytest.mark.parametrize("fault", [breaking, silent])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
async def test_a_request_that_changes_nothing_goes_to_another_endpoint_when_one_gives_no_answer(
    net: Net, fault: object, method: str
) -> None:
    bad = breaking if fault is breaking else silent
    some = await several(net, [bad, answering(b"HTTP/1.1 204 No Content\r\n\r\n")], UpstreamPolicy(ejection=NEVER))
    request = f"{method} / HTTP/1.1\r\nHost: shop.example\r\n\r\n".encode()
    assert await statuses(some, 10, request) == [204] * 10
    assert (await retried(some)).keys() == {"reset"}


@pytest.mark.parametrize(
    "request_",
    [
        POST,
        b"DELETE / HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\nbody",
    ],
)
async def test_a_request_on_which_an_endpoint_may_have_acted_is_never_sent_twice(net: Net, request_: bytes) -> None:
    some = await several(net, [breaking, breaking], UpstreamPolicy(ejection=NEVER))
    assert await statuses(some, 6, request_) == [502] * 6
    assert requests_at(*some.endpoints) == 6


async def test_methods_that_the_service_names_may_be_repeated(net: Net) -> None:
    policy = UpstreamPolicy(ejection=NEVER, retries=Retries(methods=("DELETE",)))
    some = await several(net, [breaking, saying("b")], policy)
    assert await statuses(some, 6, b"DELETE / HTTP/1.1\r\nHost: shop.example\r\n\r\n") == [200] * 6
    assert set(await statuses(some, 6)) == {200, 502}


@pytest.mark.parametrize(
    "begun", [b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 103 Early Hints\r\n\r\n", OK[:-1], b"HTTP/1.1 200"]
)
async def test_nothing_is_repeated_once_a_response_began(net: Net, begun: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(begun)
        await peer.flush()
        await asyncio.sleep(0.02)  # So that it is read before the connection ends.
        peer.close()

    some = await several(net, [script, script], UpstreamPolicy(ejection=NEVER))
    client = await some.client()
    client.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    await some.site.line()
    assert requests_at(*some.endpoints) == 1


async def test_a_pooled_connection_that_dies_under_a_request_is_replaced_at_the_same_endpoint(net: Net) -> None:
    async def once(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        await peer.request()
        peer.reset()

    some = await several(net, [once])
    assert await statuses(some, 30) == [200] * 30
    assert (await retried(some)).keys() == {"stale"}


# --- statuses


async def test_a_status_that_the_service_names_is_as_good_as_no_answer(net: Net) -> None:
    policy = UpstreamPolicy(ejection=NEVER, retries=Retries(statuses=(503,)))
    some = await several(net, [saying("a", b"503 Busy"), saying("b")], policy)
    assert await some.bodies(10) == "b" * 10
    assert (await retried(some)) == {"status": 5}
    lines = await some.site.lines(10)
    assert {(line["status"], line["upstream_status"]) for line in lines} == {(200, 200)}
    assert {line["endpoint"] for line in lines} == {f"127.0.0.1:{some.endpoints[1].port}"}


async def test_a_status_that_nobody_names_reaches_the_client(net: Net) -> None:
    policy = UpstreamPolicy(ejection=NEVER, retries=Retries(statuses=(502, 504)))
    some = await several(net, [saying("a", b"503 Busy"), saying("b")], policy)
    assert sorted(await statuses(some, 10)) == [200] * 5 + [503] * 5


async def test_a_status_of_a_request_that_may_not_be_repeated_reaches_the_client(net: Net) -> None:
    policy = UpstreamPolicy(ejection=NEVER, retries=Retries(statuses=(503,)))
    some = await several(net, [saying("a", b"503 Busy"), saying("b")], policy)
    assert sorted(await statuses(some, 10, POST)) == [200] * 5 + [503] * 5


async def test_when_every_endpoint_answers_so_the_client_gets_the_last_answer_whole(net: Net) -> None:
    policy = UpstreamPolicy(ejection=NEVER, retries=Retries(statuses=(503,)))
    busy = answering(reply(b"come back later", b"503 Busy", b"Retry-After: 7"))
    some = await several(net, [busy, busy], policy)
    client = await some.client()
    response = await client.get()
    assert (response.status, response.body, response.get(b"retry-after")) == (503, b"come back later", b"7")
    assert requests_at(*some.endpoints) == 2
    assert (await some.site.line())["upstream_status"] == 503


async def test_our_own_timeout_counts_as_the_status_that_the_client_would_get(net: Net) -> None:
    async def deaf(peer: Peer) -> None:
        await peer.request()
        await peer.end()

    policy = UpstreamPolicy(ejection=NEVER, retries=Retries(statuses=(504,), timeout=100))
    some = await several(net, [deaf, saying("b")], policy, timeouts=waits(response=0.1))
    assert await some.bodies(2) == "bb"


# --- the budget


async def test_an_outage_is_not_multiplied(net: Net) -> None:
    some = await several(net, [breaking, breaking, breaking])
    count = 600
    assert set(await statuses(some, count)) == {502}
    attempts = requests_at(*some.endpoints)
    assert count < attempts <= 1.3 * count
    samples = {sample.name: sample.value for sample in some.live.samples()}
    assert samples[RETRIES.name] == attempts - count
    assert samples[RETRIES_REFUSED.name] > 0


async def test_retries_on_a_status_are_in_the_budget_too(net: Net) -> None:
    policy = UpstreamPolicy(retries=Retries(statuses=(503,), budget=0))
    some = await several(net, [saying("a", b"503 Busy")] * 2, policy)
    await statuses(some, 100)
    # Ten a second are free, for two seconds at once, and a few more while this runs.
    assert 100 + 20 <= requests_at(*some.endpoints) <= 100 + 60


async def test_the_metrics_name_the_upstream_and_the_cause(net: Net) -> None:
    some = await several(net, [breaking, saying("b")], UpstreamPolicy(ejection=NEVER))
    await some.bodies(4)
    assert RETRIES.sample(2, WEB, "reset") in list(some.live.samples())


async def test_a_client_that_leaves_while_its_request_is_repeated_leaves_nothing_behind(net: Net) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if not gone.is_set():
            gone.set()
            peer.reset()
        else:
            await peer.end()

    some = await several(net, [script, script], UpstreamPolicy(ejection=NEVER))
    client = await some.client()
    client.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    await eventually(lambda: requests_at(*some.endpoints) == 2)
    client.reset()
    await eventually(lambda: not some.site.clients and not some.site.upstreams, what="nothing is left")
    assert (await some.site.line())["reason"] == "client_gone"
