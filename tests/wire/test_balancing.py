"""Which endpoint gets a request: by turn, load, hash, cookie and zone, whatever comes and goes meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from eventually import eventually
from portway_proxy.snapshot import (
    Affinity,
    Balance,
    Endpoint,
    HashOn,
    HashSource,
    Host,
    PathMatch,
    Route,
    SharedKey,
    Snapshot,
    Upstream,
    UpstreamPolicy,
)
from portway_proxy.supervisor import Supervisor
from wire import parts
from wire.parts import ORIGIN, connect, pids, port_of, running, serve_web, settings
from wire.peers import Client, Message, Peer, reply
from wire.several import Several, requests_at, saying, several
from wire.site import WEB, Net

UPGRADE = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def with_cookie(client: Client, cookie: str) -> Message:
    return await client.get("/", "shop.example", *([f"Cookie: {cookie}"] if cookie else []))


def cookie_of(response: Message) -> str:
    """Return the cookie that a response sets, as a client sends it back; empty for none."""
    return (response.get(b"set-cookie") or b"").partition(b";")[0].decode()


# --- by turn, chance and load


async def test_round_robin_takes_every_endpoint_in_its_turn(net: Net) -> None:
    some = await several(net, "abc")
    letters = await some.bodies(9)
    assert letters[:3] * 3 == letters
    assert set(letters) == set("abc")


async def test_the_endpoint_that_takes_less_time_gets_more(net: Net) -> None:
    async def slow(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(0.02)
            peer.send(reply(b"s"))

    some = await several(net, "f", balance=Balance.EWMA)
    late = await net.endpoint(slow)
    some.endpoints.append(late)
    some.serve()
    letters = Counter(await some.bodies(40))
    assert letters["f"] > letters["s"] * 2
    assert letters["s"] > 0


async def test_an_endpoint_that_comes_does_not_begin_the_turn_anew(net: Net) -> None:
    some = await several(net, "abcd")
    for _ in range(5):
        some.serve([endpoint.port for endpoint in some.endpoints[:3]])
        last = await some.bodies(1)
        some.serve()
        assert set(await some.bodies(3)) == set("abcd") - {last}


@pytest.mark.parametrize("balance", [Balance.RANDOM, Balance.POWER_OF_TWO, Balance.LEAST_CONNECTIONS])
async def test_every_endpoint_gets_its_share(net: Net, balance: Balance) -> None:
    some = await several(net, "abc", balance=balance)
    shares = await some.shares(90)
    assert all(shares[letter] > 10 for letter in "abc")


@pytest.mark.parametrize("balance", [Balance.POWER_OF_TWO, Balance.LEAST_CONNECTIONS])
async def test_an_endpoint_that_is_slow_gets_less(net: Net, balance: Balance) -> None:
    async def deaf(peer: Peer) -> None:
        await peer.end()

    some = await several(net, [deaf, saying("b")], balance=balance)
    held = []
    while not some.live.pools[0].load:
        held.append(await some.client())
        held[-1].send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: requests_at(*some.endpoints) >= len(held))
    assert await some.bodies(30) == "b" * 30


# --- by hash


HASHES = [
    (HashOn(HashSource.HEADER, "X-User"), "x-user: {}"),
    (HashOn(HashSource.COOKIE, "session"), "Cookie: theme=dark; session={}"),
]


@pytest.mark.parametrize(("on", "field"), HASHES)
async def test_equal_keys_go_to_one_endpoint_and_others_are_spread(net: Net, on: HashOn, field: str) -> None:
    some = await several(net, "abc", UpstreamPolicy(hash_on=on), Balance.HASH)
    first = {user: await some.bodies(1, field.format(user)) for user in range(60)}
    assert set(first.values()) == set("abc")
    assert {user: await some.bodies(2, field.format(user)) for user in first} == {
        user: letter * 2 for user, letter in first.items()
    }


async def test_a_hash_of_the_uri_takes_path_and_query(net: Net) -> None:
    policy = UpstreamPolicy(hash_on=HashOn(HashSource.URI))
    some = await several(net, "abc", policy, Balance.HASH)
    client = await some.client()
    first = {target: (await client.get(target)).body for target in (f"/image?id={number}" for number in range(40))}
    assert set(first.values()) == {b"a", b"b", b"c"}
    assert {target: (await client.get(target)).body for target in first} == first


async def test_a_hash_of_the_address_keeps_a_client_at_one_endpoint(net: Net) -> None:
    some = await several(net, "abc", balance=Balance.HASH)
    assert len({await some.bodies(3) for _ in range(5)}) == 1


async def test_requests_without_a_key_go_round(net: Net) -> None:
    policy = UpstreamPolicy(hash_on=HashOn(HashSource.HEADER, "X-User"))
    some = await several(net, "abc", policy, Balance.HASH)
    assert await some.shares(9) == {"a": 3, "b": 3, "c": 3}


async def test_only_the_keys_of_an_endpoint_that_goes_move_and_they_come_back_with_it(net: Net) -> None:
    policy = UpstreamPolicy(hash_on=HashOn(HashSource.HEADER, "X-User"))
    some = await several(net, "abcd", policy, Balance.HASH)

    async def places() -> dict[int, str]:
        return {user: await some.bodies(1, f"X-User: {user}") for user in range(80)}

    before = await places()
    some.serve([endpoint.port for endpoint in some.endpoints[1:]])
    during = await places()
    assert {user for user in before if before[user] != during[user]} == {
        user for user, letter in before.items() if letter == "a"
    }
    some.serve()
    assert await places() == before


async def test_the_keys_of_an_endpoint_that_fails_go_to_the_next_ones_on_the_ring(net: Net) -> None:
    policy = UpstreamPolicy(hash_on=HashOn(HashSource.HEADER, "X-User"))
    some = await several(net, "abcd", policy, Balance.HASH)
    before = {user: await some.bodies(1, f"X-User: {user}") for user in range(60)}
    some.endpoints[0].refuse()
    for peer in some.endpoints[0].peers:
        peer.close()
    await eventually(lambda: not len(some.live.pools[0]))
    after = {user: await some.bodies(1, f"X-User: {user}") for user in before}
    assert {before[user] for user in before if before[user] != after[user]} == {"a"}
    assert len({after[user] for user in before if before[user] == "a"}) > 1


# --- by cookie


async def test_a_client_that_keeps_its_cookie_keeps_its_endpoint(net: Net) -> None:
    some = await several(net, "abc", UpstreamPolicy(affinity=Affinity()))
    for _ in range(6):
        client = await some.client()
        first = await client.get()
        cookie = cookie_of(first)
        for _ in range(5):
            response = await with_cookie(await some.client(), f"theme=dark; {cookie}")
            assert response.body == first.body
            assert response.get(b"set-cookie") is None


async def test_clients_without_a_cookie_are_balanced(net: Net) -> None:
    some = await several(net, "abc", UpstreamPolicy(affinity=Affinity()))
    assert await some.shares(9) == {"a": 3, "b": 3, "c": 3}


async def test_the_cookie_says_what_the_service_asks_for_and_nothing_of_the_endpoint(net: Net) -> None:
    affinity = Affinity("route", "/shop", "shop.example", 3600, "Strict", secure=True)
    some = await several(net, "a", UpstreamPolicy(affinity=affinity))
    set_cookie = (await (await some.client()).get()).get(b"set-cookie")
    assert set_cookie is not None
    value, *attributes = set_cookie.decode().split("; ")
    assert attributes == ["Path=/shop", "Domain=shop.example", "Max-Age=3600", "HttpOnly", "SameSite=Strict", "Secure"]
    assert value.startswith("route=")
    assert len(value) == len("route=") + 22
    assert str(some.endpoints[0].port) not in set_cookie.decode()


async def test_a_cookie_is_not_secure_when_the_request_came_in_the_clear(net: Net) -> None:
    some = await several(net, "a", UpstreamPolicy(affinity=Affinity()))
    assert not ((await (await some.client()).get()).get(b"set-cookie") or b"").endswith(b"Secure")


@pytest.mark.parametrize("forged", ["portway=", "portway=x", "portway=127.0.0.1:80", "portway", "other=1", "="])
async def test_a_forged_cookie_is_ignored_and_replaced(net: Net, forged: str) -> None:
    some = await several(net, "abc", UpstreamPolicy(affinity=Affinity()))
    letters = []
    for _ in range(3):
        response = await with_cookie(await some.client(), forged)
        assert cookie_of(response).startswith("portway=")
        letters.append(response.body)
    assert set(letters) == {b"a", b"b", b"c"}


async def test_a_cookie_of_another_upstream_or_of_another_key_is_forged(net: Net) -> None:
    some = await several(net, "abc", UpstreamPolicy(affinity=Affinity()))
    cookie = cookie_of(await (await some.client()).get())
    one = some.snapshot()
    keyed = Snapshot(hosts=one.hosts, upstreams=one.upstreams, affinity_key=SharedKey(b"another key"))
    some.site.serve(keyed)
    response = await with_cookie(await some.client(), cookie)
    assert cookie_of(response) not in ("", cookie)


async def test_clients_stay_where_they_are_when_other_endpoints_come_and_go(net: Net) -> None:
    some = await several(net, "abcd", UpstreamPolicy(affinity=Affinity()))
    client = await some.client()
    tied = {}
    for _ in range(8):
        response = await client.get()
        tied[cookie_of(response)] = response.body
    assert len(tied) == 4
    some.serve([endpoint.port for endpoint in some.endpoints[1:]])
    for cookie, body in tied.items():
        response = await with_cookie(client, cookie)
        assert (response.body == body) is (body != b"a")
        assert (cookie_of(response) == "") is (body != b"a")
    some.serve()
    for cookie, body in tied.items():
        assert (await with_cookie(client, cookie)).body == body


async def test_a_client_whose_endpoint_fails_is_tied_to_another_one(net: Net) -> None:
    some = await several(net, "ab", UpstreamPolicy(affinity=Affinity()))
    client = await some.client()
    response = await client.get()
    while response.body != b"a":
        response = await client.get()
    cookie = cookie_of(response)
    some.endpoints[0].refuse()
    for peer in some.endpoints[0].peers:
        peer.close()
    await eventually(lambda: not len(some.live.pools[0]))
    response = await with_cookie(client, cookie)
    assert (response.status, response.body) == (200, b"b")
    assert cookie_of(response) not in ("", cookie)


async def test_no_client_loses_its_endpoint_by_asking_whether_another_one_is_well_again(net: Net) -> None:
    some = await several(net, "ab", UpstreamPolicy(affinity=Affinity()))
    client = await some.client()
    response = await client.get()
    while response.body != b"b":
        response = await client.get()
    cookie = cookie_of(response)
    some.endpoints[0].refuse()
    for peer in some.endpoints[0].peers:
        peer.close()
    await eventually(lambda: not len(some.live.pools[0]))
    assert await some.bodies(20) == "b" * 20
    assert some.live.pools[0].health.ejected
    await some.endpoints[0].start(some.endpoints[0].port)
    some.site.later(12)
    assert [(await with_cookie(client, cookie)).body for _ in range(5)] == [b"b"] * 5
    some.site.later(30)
    bodies = [await with_cookie(client, cookie) for _ in range(5)]
    assert {cookie_of(response) for response in bodies} == {""}
    assert [response.body for response in bodies] == [b"a", b"b", b"b", b"b", b"b"]


async def test_a_websocket_is_tied_too(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        await peer.end()

    some = await several(net, [script], UpstreamPolicy(affinity=Affinity()))
    client = await some.client()
    client.send(UPGRADE.encode())
    response = await client.response()
    assert response.status == 101
    assert cookie_of(response).startswith("portway=")


async def test_a_cookie_of_ours_reaches_one_client_only(net: Net) -> None:
    # Heads that endpoints repeat are parsed once: what is added for one client must not stay in them.
    some = await several(net, "ab", UpstreamPolicy(affinity=Affinity()))
    client = await some.client()
    cookie = cookie_of(await client.get())
    for _ in range(3):
        assert (await with_cookie(client, cookie)).get(b"set-cookie") is None
        assert len((await client.get()).all(b"set-cookie")) == 1


async def test_a_cookie_of_the_endpoint_stays_beside_ours(net: Net) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(reply(b"a", b"200 OK", b"Set-Cookie: session=1"))

    some = await several(net, [script], UpstreamPolicy(affinity=Affinity()))
    cookies = (await (await some.client()).get()).all(b"set-cookie")
    assert cookies[0] == b"session=1"
    assert cookies[1].startswith(b"portway=")


# --- by zone


async def zoned(net: Net, zone: str, *hints: tuple[str, ...]) -> Several:
    """Return a site in `zone` whose endpoints have these hints."""
    some = await several(net, "abc"[: len(hints)], zone=zone)
    some.site.serve(some.zoned(*hints))
    return some


@pytest.mark.parametrize(
    ("zone", "hints", "used"),
    [
        # kube-proxy: every endpoint has hints and one is for our zone, or hints do not count.
        ("x", (("x",), ("y",), ("z",)), "a"),
        ("x", (("x",), ("x", "y"), ("z",)), "ab"),
        ("x", (("y",), ("y",), ("z",)), "abc"),
        ("x", (("x",), ("y",), ()), "abc"),
        ("", (("x",), ("y",), ("z",)), "abc"),
    ],
)
async def test_endpoints_with_hints_for_our_zone_are_preferred(
    net: Net, zone: str, hints: tuple[tuple[str, ...], ...], used: str
) -> None:
    some = await zoned(net, zone, *hints)
    assert set(await some.bodies(30)) == set(used)


async def test_other_zones_help_out_when_our_endpoints_fail(net: Net) -> None:
    some = await zoned(net, "x", ("x",), ("y",), ("z",))
    some.endpoints[0].refuse()
    assert set(await some.bodies(30)) == set("bc")


async def test_new_hints_keep_the_connections(net: Net) -> None:
    some = await zoned(net, "x", ("x",), ("y",))
    await some.bodies(3)
    some.site.serve(some.zoned(("x", "y"), ("z",)))
    assert await some.bodies(3) == "aaa"
    assert len(some.endpoints[0].peers) == 1


# --- workers


def shared(balance: Balance, policy: UpstreamPolicy, *ports: int) -> Snapshot:
    endpoints = tuple(Endpoint("127.0.0.1", port) for port in sorted(ports))
    return Snapshot(
        hosts=(Host("", (Route("/", PathMatch.PREFIX, WEB, ORIGIN),)),),
        upstreams=(Upstream(WEB, balance=balance, endpoints=endpoints, policy=policy),),
    )


@pytest.fixture
async def trio() -> AsyncIterator[list[parts.Web]]:
    async with serve_web("a") as a, serve_web("b") as b, serve_web("c") as c:
        yield [a, b, c]


async def raw(supervisor: Supervisor, *fields: str) -> tuple[str, str]:
    """Return the body for a request on a connection of its own, and the cookie that comes with it."""
    async with connect(port_of(supervisor)) as client:
        lines = "".join(f"{field}\r\n" for field in fields)
        client.writer.write(f"GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
        status, head, body = await client.take()
        assert status == 200, head
    found = [line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("set-cookie:")]
    return body, found[0].partition(";")[0] if found else ""


async def test_all_workers_hash_alike(trio: list[parts.Web]) -> None:
    async with running(settings(workers=2)) as supervisor:
        policy = UpstreamPolicy(hash_on=HashOn(HashSource.HEADER, "X-User"))
        await supervisor.apply(shared(Balance.HASH, policy, *(web.port for web in trio)))
        found = {user: {(await raw(supervisor, f"X-User: {user}"))[0] for _ in range(12)} for user in range(12)}
    assert all(len(bodies) == 1 for bodies in found.values())
    assert len(Counter(next(iter(bodies)) for bodies in found.values())) > 1


async def test_a_cookie_is_good_at_every_worker_and_outlives_them_all(trio: list[parts.Web]) -> None:
    async with running(settings(workers=2)) as supervisor:
        snapshot = shared(Balance.ROUND_ROBIN, UpstreamPolicy(affinity=Affinity()), *(web.port for web in trio))
        await supervisor.apply(snapshot)
        body, cookie = await raw(supervisor)
        assert {await raw(supervisor, f"Cookie: {cookie}") for _ in range(20)} == {(body, "")}
        before = pids(supervisor)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: len(pids(supervisor)) == 2 and not set(before) & set(pids(supervisor)))
        assert {await raw(supervisor, f"Cookie: {cookie}") for _ in range(20)} == {(body, "")}


async def test_proxies_with_one_key_know_each_others_cookies(trio: list[parts.Web]) -> None:
    snapshot = shared(Balance.ROUND_ROBIN, UpstreamPolicy(affinity=Affinity()), *(web.port for web in trio))
    keyed = Snapshot(hosts=snapshot.hosts, upstreams=snapshot.upstreams, affinity_key=SharedKey(b"k" * 32))
    async with running(settings(workers=1)) as one, running(settings(workers=1)) as other:
        await asyncio.gather(one.apply(keyed), other.apply(keyed))
        body, cookie = await raw(one)
        assert {await raw(other, f"Cookie: {cookie}") for _ in range(6)} == {(body, "")}
        await other.apply(snapshot)
        assert (await raw(other, f"Cookie: {cookie}"))[1] not in ("", cookie)
