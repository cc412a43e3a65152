"""Endpoints that ail: left alone for a while, asked back by one request, checked on request, and warmed up."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from eventually import eventually
from portway_proxy.checks import Checks
from portway_proxy.metrics import CHECKS, EJECTIONS, ENDPOINTS_OUT
from portway_proxy.snapshot import Check, CheckKind, Ejection, Retries, UpstreamPolicy
from tcp import no_descriptor_left
from wire.peers import Client, Message, Peer, Script, answering, reply
from wire.several import Several, breaking, requests_at, saying, several, unused_port
from wire.site import WEB, Net, waits

GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\nbody"
ONCE = Retries(tries=1)
"""So that no second attempt hides what an endpoint did."""


class Moody:
    """A script whose endpoint answers by what `well` says at the moment."""

    def __init__(self, letter: str, bad: Script | None = None) -> None:
        self.well = True
        self._good = saying(letter)
        self._bad = bad or saying(letter, b"503 Busy")

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.wait(lambda: bool(peer.unread))
            if self.well:
                await peer.request()
                peer.send(reply(b"m"))
            elif self._bad is breaking:
                await breaking(peer)
                return
            else:
                await peer.request()
                peer.send(reply(b"ill", b"503 Busy"))


async def ask(client: Client, request: bytes = GET) -> Message:
    client.send(request)
    return await client.response()


async def statuses(some: Several, count: int, request: bytes = GET) -> str:
    """Return the first digit of each status."""
    client = await some.client()
    found = ""
    for _ in range(count):
        response = await ask(client, request)
        found += str(response.status)[0]
        if response.closes:
            client = await some.client()
    return found


def samples(some: Several) -> dict[tuple[str, ...], float]:
    return {(sample.name, *sample.labels[1:]): sample.value for sample in some.live.samples()}


# --- requests that fail


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_an_endpoint_that_fails_five_requests_in_a_row_gets_no_more(net: Net, status: int) -> None:
    bad = saying("a", b"%d Bad" % status)
    some = await several(net, [bad, saying("b"), saying("c")], UpstreamPolicy(retries=ONCE))
    assert (await statuses(some, 60)).count("5") == 5
    assert requests_at(some.endpoints[0]) == 5
    assert samples(some)[EJECTIONS.name,] == 1
    assert samples(some)[ENDPOINTS_OUT.name, "ejected"] == 1


@pytest.mark.parametrize("fault", ["reset", "nonsense", "silence"])
async def test_no_answer_is_a_failure_whatever_came_instead(net: Net, fault: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if fault == "reset":
            peer.reset()
        elif fault == "nonsense":
            peer.send(b"220 mail.example ESMTP\r\n\r\n")
        await peer.end()

    some = await several(net, [script, saying("b")], UpstreamPolicy(retries=ONCE), timeouts=waits(response=0.05))
    assert (await statuses(some, 30)).count("5") == 5
    assert requests_at(some.endpoints[0]) == 5


async def test_an_endpoint_that_refuses_connections_is_not_even_tried_any_more(net: Net) -> None:
    some = await several(net, "abc")
    some.endpoints[0].refuse()
    assert await statuses(some, 60, POST) == "2" * 60
    assert some.live.pools[0].failed == 5


async def test_a_500_is_a_fault_of_its_request_and_no_failure_of_the_endpoint(net: Net) -> None:
    some = await several(net, [saying("a", b"500 Bug"), saying("b")])
    assert (await statuses(some, 40)).count("5") == 20


async def test_what_this_machine_lacks_is_no_failure_of_an_endpoint(net: Net) -> None:
    some = await several(net, "ab")
    clients = [await some.client() for _ in range(10)]
    with no_descriptor_left():
        responses = [await ask(client) for client in clients]
    assert {response.status for response in responses} == {503}
    assert {line["reason"] for line in await some.site.lines(10)} == {"no_descriptors"}
    assert [pool.health.failures for pool in some.live.pools] == [0, 0]
    assert await some.shares(10) == {"a": 5, "b": 5}


async def test_failures_that_are_not_in_a_row_do_not_count(net: Net) -> None:
    bad = b"503 Busy"
    mixed = answering(*[reply(b"m", bad) if number % 5 else reply(b"m") for number in range(100)])
    some = await several(net, [mixed, saying("b")], UpstreamPolicy(retries=ONCE))
    assert requests_at(some.endpoints[0]) == 0
    assert (await statuses(some, 60)).count("5") == 24
    assert (EJECTIONS.name,) not in samples(some)


async def test_ejection_can_be_switched_off_and_that_frees_who_is_ejected(net: Net) -> None:
    some = await several(net, [saying("a", b"503 Busy"), saying("b")], UpstreamPolicy(retries=ONCE))
    assert (await statuses(some, 40)).count("5") == 5
    some.policy = UpstreamPolicy(ejection=Ejection(failures=0), retries=ONCE)
    some.serve()
    assert (await statuses(some, 40)).count("5") == 20


# --- back again


async def test_an_ejected_endpoint_is_asked_by_one_request_and_comes_back_when_it_answers(net: Net) -> None:
    moody = Moody("m")
    some = await several(net, [moody, saying("b")], UpstreamPolicy(retries=ONCE))
    moody.well = False
    assert (await statuses(some, 20)).count("5") == 5
    moody.well = True
    some.site.later(9)
    assert await statuses(some, 10) == "2" * 10
    assert requests_at(some.endpoints[0]) == 5
    some.site.later(2)
    await statuses(some, 20)
    assert 5 + 9 <= requests_at(some.endpoints[0]) <= 5 + 11
    assert samples(some)[ENDPOINTS_OUT.name, "ejected"] == 0


async def test_asking_an_endpoint_that_is_still_ill_costs_no_client_anything(net: Net) -> None:
    moody = Moody("m")
    some = await several(net, [moody, saying("b")])
    moody.well = False
    await statuses(some, 20)
    before = requests_at(some.endpoints[0])
    for _ in range(3):
        some.site.later(120)
        assert await statuses(some, 20) == "2" * 20
    assert requests_at(some.endpoints[0]) == before + 3


async def test_a_request_that_may_not_be_repeated_asks_only_when_no_other_came_for_long(net: Net) -> None:
    moody = Moody("m")
    some = await several(net, [moody, saying("b")], UpstreamPolicy(retries=ONCE))
    moody.well = False
    await statuses(some, 20)
    moody.well = True
    some.site.later(12)
    await statuses(some, 10, POST)
    assert requests_at(some.endpoints[0]) == 5
    some.site.later(30)
    await statuses(some, 10, POST)
    assert requests_at(some.endpoints[0]) > 5


async def test_each_ejection_lasts_longer_than_the_one_before(net: Net) -> None:
    moody = Moody("m")
    some = await several(net, [moody, saying("b")])
    moody.well = False
    await statuses(some, 20)
    asked = []
    for _ in range(60):
        before = requests_at(some.endpoints[0])
        some.site.later(1)
        await statuses(some, 2)
        asked.append(requests_at(some.endpoints[0]) - before)
    waits_between = [second for second, count in enumerate(asked) if count]
    gaps = [later - sooner for sooner, later in zip([-1, *waits_between], waits_between, strict=False)]
    assert [round(gap / 10) for gap in gaps] == [1, 2, 3]


async def test_a_probe_that_nobody_hears_of_is_followed_by_another(net: Net) -> None:
    moody = Moody("m")
    some = await several(net, [moody, saying("b")])
    moody.well = False
    await statuses(some, 20)

    async def deaf(peer: Peer) -> None:
        await peer.request()
        await peer.end()

    some.endpoints[0].script = deaf
    for peer in some.endpoints[0].peers:
        peer.close()
    some.site.later(11)
    client = await some.client()
    client.send(GET)
    await eventually(lambda: requests_at(some.endpoints[0]) == 6)
    assert await statuses(some, 10) == "2" * 10
    client.reset()
    some.endpoints[0].script = saying("m")
    some.site.later(11)
    assert "m" in await some.bodies(20)


# --- all of them


async def test_when_all_endpoints_failed_the_first_that_revives_serves_at_once(net: Net) -> None:
    some = await several(net, "abc")
    ports = [endpoint.port for endpoint in some.endpoints]
    for endpoint in some.endpoints:
        await endpoint.close()
    assert set(await statuses(some, 30)) == {"5"}
    await some.endpoints[1].start(ports[1])
    assert await some.bodies(20) == "b" * 20


async def test_among_many_dead_endpoints_the_one_that_revived_is_found_and_then_serves_everything(net: Net) -> None:
    some = await several(net, "m")
    some.serve([some.endpoints[0].port, *(unused_port() for _ in range(9))])
    some.endpoints[0].refuse()
    assert set(await statuses(some, 40)) == {"5"}
    await some.endpoints[0].start(some.endpoints[0].port)
    assert "2" in await statuses(some, 40)
    assert await some.bodies(40) == "m" * 40


async def test_when_more_than_the_share_would_be_out_all_are_used(net: Net) -> None:
    bad = saying("x", b"503 Busy")
    some = await several(net, [bad, bad, saying("c")], UpstreamPolicy(retries=ONCE))
    assert (await statuses(some, 300)).count("5") > 150
    some.policy = UpstreamPolicy(retries=ONCE, ejection=Ejection(share=70))
    some.serve()
    assert await statuses(some, 30) == "2" * 30


async def test_a_single_endpoint_is_never_left_alone(net: Net) -> None:
    moody = Moody("m")
    some = await several(net, [moody])
    moody.well = False
    assert await statuses(some, 10) == "5" * 10
    moody.well = True
    assert await statuses(some, 10) == "2" * 10


async def test_without_an_endpoint_the_client_hears_when_to_come_again(net: Net) -> None:
    some = await several(net, "")
    response = await (await some.client()).get()
    assert (response.status, response.get(b"retry-after")) == (503, b"1")


# --- active checks


async def checked(
    net: Net, scripts: list[Script], check: Check, policy: UpstreamPolicy | None = None
) -> tuple[Several, Checks]:
    """Return a site whose endpoints are checked."""
    some = await several(net, scripts, policy or UpstreamPolicy(check=check))
    checks = Checks(some.site.tasks)
    checks.follow(some.site.live.upstreams.values())
    return some, checks


QUICK = Check(interval=0.02, timeout=1.0)


def conditions(some: Several) -> str:
    return "".join("x" if pool.health.failing else "o" for pool in some.live.pools)


def probed(letter: str, states: dict[str, bool]) -> Script:
    """Return a script whose checks pass as `states` says, and whose other requests are all answered."""

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            well = states[letter] or request.target != b"/healthz"
            peer.send(reply(letter.encode(), b"200 OK" if well else b"500 Ill"))

    return script


async def test_an_endpoint_that_fails_its_checks_gets_no_request_until_it_passes_them(net: Net) -> None:
    states = {"a": True, "b": True}
    check = Check(path="/healthz", host="shop.example", interval=0.02)
    some, _ = await checked(net, [probed("a", states), probed("b", states)], check)
    assert set(await some.bodies(10)) == {"a", "b"}
    states["a"] = False
    await eventually(lambda: conditions(some) == "xo")
    assert await some.bodies(10) == "b" * 10
    assert samples(some)[ENDPOINTS_OUT.name, "failing"] == 1
    assert samples(some)[CHECKS.name, "failed"] >= 3
    states["a"] = True
    await eventually(lambda: conditions(some) == "oo")
    assert set(await some.bodies(10)) == {"a", "b"}


async def test_a_check_asks_for_what_it_is_told_and_ends_its_connection(net: Net) -> None:
    check = Check(path="/healthz?deep=1", host="shop.example", interval=60)
    some, _ = await checked(net, [saying("a")], check)
    (endpoint,) = some.endpoints
    await eventually(lambda: endpoint.received)
    await eventually(lambda: endpoint.open == 0)
    [request] = endpoint.received
    assert request.startswith(b"GET /healthz?deep=1 HTTP/1.1\r\nHost: shop.example\r\n")
    assert b"\r\nConnection: close\r\n" in request


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.0 204 No Content\r\n", True),
        (b"HTTP/1.1 302\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\n", False),
        (b"HTTP/1.1 503 Busy\r\n", False),
        (b"HTTP/1.1 100 Continue\r\n", False),
        (b"220 mail.example ESMTP\r\n", False),
        (b"x" * 5000 + b"\n", False),
        (b"", False),
    ],
)
async def test_a_check_is_passed_by_a_status_from_200_to_399(net: Net, answer: bytes, well: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer)
        peer.close()

    some, _ = await checked(net, [script, saying("b")], QUICK)
    counted = "passed" if well else "failed"
    await eventually(lambda: len(some.endpoints[0].peers) > 8 and samples(some)[CHECKS.name, counted] > 4)
    assert conditions(some) == ("oo" if well else "xo")


async def test_an_endpoint_that_does_not_answer_in_time_fails_its_check(net: Net) -> None:
    async def deaf(peer: Peer) -> None:
        await peer.end()

    some, _ = await checked(net, [deaf, saying("b")], Check(interval=0.02, timeout=0.02))
    await eventually(lambda: conditions(some) == "xo")
    await eventually(lambda: some.endpoints[0].open <= 2, what="no connection of a check stays")


async def test_a_tcp_check_is_passed_by_accepting(net: Net) -> None:
    async def deaf(peer: Peer) -> None:
        await peer.end()

    some, _ = await checked(net, [deaf, saying("b")], Check(CheckKind.TCP, interval=0.02))
    await eventually(lambda: len(some.endpoints[0].peers) > 4)
    assert conditions(some) == "oo"
    some.endpoints[0].refuse()
    await eventually(lambda: conditions(some) == "xo")


async def test_when_all_endpoints_fail_their_checks_all_are_used(net: Net) -> None:
    states = {"a": False, "b": False}
    some, _ = await checked(
        net, [probed("a", states), probed("b", states)], Check(path="/healthz", interval=0.02, failures=1)
    )
    await eventually(lambda: conditions(some) == "xx")
    assert Counter(await some.bodies(10)) == {"a": 5, "b": 5}


async def test_checks_follow_what_the_service_asks_for(net: Net) -> None:
    some, checks = await checked(net, [saying("a"), saying("b")], Check(CheckKind.TCP, interval=0.02, failures=1))
    some.endpoints[0].refuse()
    await eventually(lambda: conditions(some) == "xo")
    some.policy = None
    some.serve()
    checks.follow(some.site.live.upstreams.values())
    assert conditions(some) == "oo"
    await eventually(lambda: len(some.site.tasks) == 0, what="the task that checks ends")
    checks.follow(())


async def test_checks_end_with_their_upstream(net: Net) -> None:
    some, checks = await checked(net, [saying("a")], QUICK)
    assert len(some.site.tasks) == 1
    checks.follow(())
    await eventually(lambda: len(some.site.tasks) == 0)


# --- slow start


async def share_of_new(some: Several, count: int) -> float:
    return (await some.shares(count))["n"] / count


async def test_an_endpoint_that_just_became_ready_takes_its_share_in_a_line(net: Net) -> None:
    some = await several(net, "on", UpstreamPolicy(slow_start=10.0))
    some.serve([some.endpoints[0].port])
    assert await share_of_new(some, 20) == 0
    some.site.later(100)
    some.serve()
    shares = []
    for _ in range(11):
        shares.append(await share_of_new(some, 110))
        some.site.later(1)
    # A weight of w beside one of 1 is a share of w / (w + 1).
    expected = [max(second / 10, 0.1) for second in range(11)]
    assert shares == pytest.approx([weight / (weight + 1) for weight in expected], abs=0.02)
    assert await share_of_new(some, 100) == 0.5


async def test_the_first_endpoints_start_at_once(net: Net) -> None:
    some = await several(net, "ab", UpstreamPolicy(slow_start=10.0))
    assert await some.shares(20) == {"a": 10, "b": 10}


async def test_an_endpoint_that_comes_back_from_an_ejection_starts_slowly_too(net: Net) -> None:
    moody = Moody("m")
    some = await several(net, [saying("b"), moody], UpstreamPolicy(slow_start=100.0))
    moody.well = False
    await statuses(some, 20)
    moody.well = True
    some.site.later(11)
    await statuses(some, 2)
    assert (await some.shares(110))["m"] == pytest.approx(10, abs=2)


async def test_all_pools_of_a_site_are_idle_again_when_the_trouble_is_over(net: Net) -> None:
    some = await several(net, [breaking, saying("b")])
    clients = [await some.client() for _ in range(30)]
    await asyncio.gather(*map(ask, clients))
    await eventually(lambda: all(pool.load == 0 for pool in some.live.pools))
    assert some.site.pooled() == len(some.site.upstreams)
    assert WEB in some.site.live.upstreams
