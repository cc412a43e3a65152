"""How much one endpoint gets: limits, the queue of those that wait, and the end of an endpoint that is removed."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from eventually import eventually
from portway_proxy.metrics import QUEUED
from portway_proxy.snapshot import Affinity, Capacity, UpstreamPolicy
from wire.peers import OK, Client, Peer, Script, reply
from wire.several import Several, requests_at, saying, several
from wire.site import WEB, Net, waits

GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class Slow:
    """A script that answers each request when it is told to, in the order in which they came."""

    def __init__(self) -> None:
        self.waiting: list[Peer] = []
        self.targets: list[bytes] = []
        self.most = 0
        self.at_once = 0

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            self.targets.append(request.target)
            self.waiting.append(peer)
            self.most = max(self.most, len(self.waiting))

    def answer(self, count: int = 1) -> None:
        for _ in range(count):
            self.waiting.pop(0).send(OK)


def limited(**limits: int | float) -> UpstreamPolicy:
    return UpstreamPolicy(capacity=Capacity(**limits))  # type: ignore[arg-type] # the test says what


def more_than(some: Several, received: int) -> bool:
    return some.site.counters.received > received


async def sending(some: Several, *targets: str) -> list[Client]:
    """Send a GET for each target, each on a connection of its own and surely in this order."""
    clients = []
    for target in targets:
        client = await some.client()
        received = some.site.counters.received
        client.send(f"GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n".encode())
        await eventually(partial(more_than, some, received))
        clients.append(client)
    return clients


def queued(some: Several) -> float:
    return next(sample.value for sample in some.live.samples() if sample.name == QUEUED.name)


# --- limits


@pytest.mark.parametrize("limit", ["requests", "connections"])
async def test_an_endpoint_never_has_more_than_its_limit_at_once(net: Net, limit: str) -> None:
    slow = Slow()
    some = await several(net, [slow], limited(**{limit: 3}))
    clients = await sending(some, *(f"/{number}" for number in range(10)))
    answered = asyncio.gather(*(client.response() for client in clients))
    for _ in range(10):
        await eventually(lambda: slow.waiting)
        slow.answer()
    assert [response.status for response in await answered] == [200] * 10
    assert slow.most == 3
    assert len(some.endpoints[0].peers) <= 3


async def test_limits_are_for_each_endpoint(net: Net) -> None:
    one, other = Slow(), Slow()
    some = await several(net, [one, other], limited(requests=2))
    await sending(some, *"/" * 6)
    await eventually(lambda: len(one.waiting) == len(other.waiting) == 2)
    assert queued(some) == 2


async def test_a_request_goes_where_there_is_room_though_it_is_not_that_ones_turn(net: Net) -> None:
    slow = Slow()
    some = await several(net, [slow, saying("b")], limited(requests=1))
    await sending(some, "/")
    await eventually(lambda: requests_at(*some.endpoints) == 1)
    if not slow.waiting:
        await sending(some, "/")  # That was the other one's turn.
    assert await some.bodies(5) == "bbbbb"
    assert (queued(some), len(slow.waiting)) == (0, 1)


async def test_a_tunnel_is_a_request_in_flight_as_long_as_it_lasts(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(SWITCHED)
        await peer.end()
        peer.close()

    some = await several(net, [script], limited(requests=1))
    first, second = await some.client(), await some.client()
    first.send(UPGRADE)
    assert (await first.response()).status == 101
    second.send(UPGRADE)
    await eventually(lambda: queued(some) == 1)
    first.close()
    assert (await second.response()).status == 101


async def test_an_endpoint_that_fails_frees_its_place(net: Net) -> None:
    async def breaking_late(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.02)
        peer.reset()

    some = await several(net, [breaking_late], limited(requests=1))
    clients = await sending(some, *"/" * 5)
    responses = await asyncio.gather(*(client.response() for client in clients))
    assert [response.status for response in responses] == [502] * 5
    assert requests_at(some.endpoints[0]) == 5


async def test_a_connection_that_is_refused_frees_its_place(net: Net) -> None:
    some = await several(net, "a", limited(connections=1))
    some.endpoints[0].refuse()
    clients = [await some.client() for _ in range(5)]
    for client in clients:
        client.send(GET)
    await eventually(lambda: queued(some) or some.live.pools[0].failed)
    responses = await asyncio.gather(*(client.response() for client in clients))
    assert [response.status for response in responses] == [502] * 5
    assert some.live.pools[0].failed == 5


async def test_who_asks_for_no_limit_has_no_queue(net: Net) -> None:
    some = await several(net, "a")
    await some.bodies(2)
    assert some.live.plain
    assert all(sample.name != QUEUED.name for sample in some.live.samples())


# --- the queue


async def test_who_waits_is_served_in_the_order_of_arrival(net: Net) -> None:
    slow = Slow()
    some = await several(net, [slow], limited(requests=1))
    targets = [f"/{number}" for number in range(6)]
    await sending(some, *targets)
    for _ in targets:
        await eventually(lambda: slow.waiting)
        slow.answer()
    assert [target.decode() for target in slow.targets] == targets


async def test_a_request_that_finds_the_queue_full_is_refused_at_once(net: Net) -> None:
    slow = Slow()
    some = await several(net, [slow], limited(requests=1, queue=2))
    await sending(some, *"/" * 3)
    response = await (await some.client()).get()
    assert (response.status, response.get(b"retry-after")) == (503, b"1")
    assert (await some.site.line())["reason"] == "queue_full"
    assert some.site.counters.replies["queue_full"] == 1


async def test_without_a_queue_nobody_waits(net: Net) -> None:
    slow = Slow()
    some = await several(net, [slow], limited(requests=1, queue=0))
    await sending(some, "/")
    await eventually(lambda: slow.waiting)
    assert (await (await some.client()).get()).status == 503


async def test_a_request_that_waits_too_long_is_told_so(net: Net) -> None:
    slow = Slow()
    some = await several(net, [slow], limited(requests=1, timeout=2.0))
    _, client = await sending(some, "/", "/late")
    some.site.later(1)
    assert queued(some) == 1
    some.site.later(1.5)
    response = await client.response()
    assert (response.status, response.get(b"retry-after")) == (503, b"1")
    assert (await some.site.line())["reason"] == "queue_timeout"
    assert queued(some) == 0
    assert slow.targets == [b"/"]


async def test_a_client_that_leaves_gives_up_its_place_in_the_queue(net: Net) -> None:
    slow = Slow()
    some = await several(net, [slow], limited(requests=1, queue=1))
    _, gone = await sending(some, "/", "/gone")
    gone.reset()
    await eventually(lambda: queued(some) == 0)
    (later,) = await sending(some, "/later")
    await eventually(lambda: slow.waiting)
    slow.answer()
    await eventually(lambda: slow.waiting)
    slow.answer()
    assert (await later.response()).status == 200
    assert slow.targets == [b"/", b"/later"]


async def test_a_body_that_came_while_its_request_waited_is_sent_whole(net: Net) -> None:
    slow = Slow()
    some = await several(net, [slow], limited(requests=1))
    await sending(some, "/")
    client = await some.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + b"~" * 300000)
    await eventually(lambda: queued(some) == 1)
    slow.answer()
    await eventually(lambda: slow.waiting)
    slow.answer()
    assert (await client.response()).status == 200
    assert some.endpoints[0].received[0].count(b"~") == 300000


async def test_who_waits_learns_that_the_upstream_is_gone(net: Net) -> None:
    slow = Slow()
    some = await several(net, [slow], limited(requests=1))
    _, client = await sending(some, "/", "/")
    some.serve([])
    assert (await client.response()).status == 503
    assert (await some.site.line())["reason"] == "no_endpoints"


async def test_who_waits_is_served_by_an_endpoint_that_just_came(net: Net) -> None:
    slow = Slow()
    some = await several(net, [slow, saying("b")], limited(requests=1))
    some.serve([some.endpoints[0].port])
    _, client = await sending(some, "/", "/")
    some.serve()
    assert (await client.response()).body == b"b"


async def test_a_limit_that_is_lifted_frees_who_waits(net: Net) -> None:
    slow = Slow()
    some = await several(net, [slow], limited(requests=1))
    await sending(some, *"/" * 4)
    some.policy = None
    some.serve()
    await eventually(lambda: len(slow.waiting) == 4)


async def test_a_client_that_is_tied_to_a_busy_endpoint_waits_for_it_and_holds_up_nobody_else(net: Net) -> None:
    slow = Slow()
    policy = UpstreamPolicy(affinity=Affinity(), capacity=Capacity(requests=1))
    some = await several(net, [slow, saying("b")], policy)
    some.serve([some.endpoints[0].port])
    (first,) = await sending(some, "/")
    await eventually(lambda: slow.waiting)
    slow.answer()
    response = await first.response()
    cookie = (response.get(b"set-cookie") or b"").split(b";")[0].decode()
    some.serve()
    tied = [await some.client(), await some.client()]
    for client in tied:
        client.send(f"GET /tied HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n".encode())
    await eventually(lambda: queued(some) == 1)
    assert await some.bodies(3) == "bbb"
    slow.answer()
    await eventually(lambda: slow.waiting)
    slow.answer()
    assert [(await client.response()).body for client in tied] == [b"ok", b"ok"]


async def test_a_limit_that_all_workers_share_is_split_among_them(net: Net) -> None:
    some = await several(net, "a", limited(requests=7, queue=0))
    terms = some.live._terms
    assert terms is not None
    assert terms.capacity == Capacity(requests=7, queue=0)


# --- an endpoint that is removed


def finishing(release: asyncio.Event) -> Script:
    """Return a script that begins each response at once, and ends it when told to."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            await release.wait()
            peer.send(b"half")

    return script


async def test_a_removed_endpoint_gets_no_new_request_and_finishes_what_it_has(net: Net) -> None:
    release = asyncio.Event()
    some = await several(net, [finishing(release), saying("b")])
    some.serve([some.endpoints[0].port])
    (client,) = await sending(some, "/")
    await client.until(b"half")
    some.serve([some.endpoints[1].port])
    assert await some.bodies(10) == "b" * 10
    some.site.later(29)
    release.set()
    assert await client.exactly(4) == b"half"
    assert requests_at(some.endpoints[0]) == 1
    await eventually(lambda: some.endpoints[0].open == 0, what="its connection ends and is not kept")
    assert await some.bodies(1, client=client) == "b"


async def test_idle_connections_to_a_removed_endpoint_end_at_once(net: Net) -> None:
    some = await several(net, "ab")
    await some.bodies(4)
    some.serve([some.endpoints[1].port])
    await eventually(lambda: some.endpoints[0].open == 0)


async def test_a_response_that_outlives_the_time_to_drain_is_cut_so_that_the_client_sees_it(net: Net) -> None:
    some = await several(net, [finishing(asyncio.Event())], timeouts=waits(drain=5))
    (client,) = await sending(some, "/")
    await client.until(b"half")
    some.serve([])
    some.site.later(4)
    assert some.endpoints[0].open == 1
    some.site.later(1.5)
    assert await client.end() == "reset"
    assert (await some.site.line())["reason"] == "endpoint_removed"
    await eventually(lambda: some.endpoints[0].open == 0)


async def test_a_request_without_an_answer_by_then_goes_to_another_endpoint_or_is_told(net: Net) -> None:
    slow = Slow()
    some = await several(net, [slow, saying("b")], timeouts=waits(drain=5))
    some.serve([some.endpoints[0].port])
    (client,) = await sending(some, "/")
    poster = await some.client()
    poster.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    await eventually(lambda: len(slow.waiting) == 2)
    some.serve([some.endpoints[1].port])
    some.site.later(6)
    assert (await client.response()).body == b"b"
    assert (await poster.response()).status == 503
    assert {line["reason"] for line in await some.site.lines(2)} == {"", "endpoint_removed"}


async def test_a_tunnel_to_a_removed_endpoint_ends_with_the_time_to_drain(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(SWITCHED)
        await peer.end()

    some = await several(net, [script], timeouts=waits(drain=5))
    client = await some.client()
    client.send(UPGRADE)
    assert (await client.response()).status == 101
    some.serve([])
    some.site.later(4)
    assert some.endpoints[0].open == 1
    some.site.later(1.5)
    await client.end()
    await eventually(lambda: some.endpoints[0].open == 0)


async def test_nothing_of_a_removed_endpoint_stays_with_the_clock(net: Net) -> None:
    slow = Slow()
    some = await several(net, [slow, saying("b")], timeouts=waits(drain=5))
    some.serve([some.endpoints[0].port])
    (client,) = await sending(some, "/")
    await eventually(lambda: slow.waiting)
    some.serve([some.endpoints[1].port])
    slow.answer()
    await client.response()
    some.site.later(6)
    assert {type(timed).__name__ for timed in some.site.clock._watched} == {"Journal", "ClientConnection"}
    assert some.site.pooled(WEB) == 0


async def test_a_response_to_the_last_request_of_a_removed_endpoint_may_be_an_error_of_no_consequence(net: Net) -> None:
    async def late(peer: Peer) -> None:
        await peer.request()
        some.serve([some.endpoints[1].port])
        peer.send(reply(b"", b"503 Busy"))

    some = await several(net, [late, saying("b")])
    some.serve([some.endpoints[0].port])
    assert (await (await some.client()).get()).status == 503
    assert await some.bodies(3) == "bbb"
