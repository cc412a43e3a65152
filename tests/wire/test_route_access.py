"""Who may come to a route, and how often: networks, passwords beside them, rates and requests under way."""

from __future__ import annotations

import asyncio
import base64

import bcrypt
import msgspec
import pytest

from portway_proxy.snapshot import BasicAuth, Blocked, Cors, Credentials, Policy, RateLimit, Redirect
from wire.peers import Client, Endpoint, Peer, answering, reply
from wire.site import Net, Site, everything_to, prefix, table, upstream

HASHED = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
USERS = Credentials("shop/users", (("ada", HASHED),))
BASIC = BasicAuth("shop/users")
PASSWORD = "Authorization: Basic " + base64.b64encode(b"ada:open sesame").decode()
HERE, ELSEWHERE = ("127.0.0.0/8",), ("192.0.2.0/24", "2001:db8::/32")


async def serving(net: Net, policy: Policy) -> tuple[Site, Endpoint, Client]:
    site, endpoint, client = await net.pair()
    serve(site, endpoint, policy)
    return site, endpoint, client


def serve(site: Site, endpoint: Endpoint, policy: Policy) -> None:
    site.serve(msgspec.structs.replace(everything_to(endpoint.port, policy=policy), credentials=(USERS,)))


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        (Policy(allow=HERE), 200),
        (Policy(allow=("127.0.0.1/32",)), 200),
        (Policy(allow=ELSEWHERE), 403),
        (Policy(deny=HERE), 403),
        (Policy(deny=ELSEWHERE), 200),
        (Policy(allow=HERE, deny=("127.0.0.1/32",)), 403),
        (Policy(allow=("0.0.0.0/0",), deny=ELSEWHERE), 200),
        (Policy(allow=("::/0",)), 403),
    ],
)
async def test_clients_come_from_where_they_may(net: Net, policy: Policy, status: int) -> None:
    site, endpoint, client = await serving(net, policy)
    answers = [await client.get("/") for _ in range(2)]
    assert {(answer.status, answer.closes) for answer in answers} == {(status, False)}
    assert b"".join(endpoint.received).count(b"GET / ") == (2 if status == 200 else 0)
    assert (await site.lines(2))[0]["reason"] == ("" if status == 200 else "forbidden")


@pytest.mark.parametrize(
    ("allow", "deny", "password", "status"),
    [
        (HERE, (), "", 200),
        (ELSEWHERE, (), PASSWORD, 200),
        (ELSEWHERE, (), "", 401),
        (HERE, HERE, "", 401),
        (HERE, HERE, PASSWORD, 200),
        ((), ELSEWHERE, "", 401),
    ],
)
async def test_either_suffices_where_any_does(
    net: Net, allow: tuple[str, ...], deny: tuple[str, ...], password: str, status: int
) -> None:
    policy = Policy(allow=allow, deny=deny, basic=BASIC, any_suffices=True)
    _, _, client = await serving(net, policy)
    assert (await client.get("/", "shop.example", *([password] if password else []))).status == status


@pytest.mark.parametrize(
    ("allow", "password", "status"), [(HERE, "", 401), (ELSEWHERE, PASSWORD, 403), (HERE, PASSWORD, 200)]
)
async def test_both_are_needed_where_all_are(net: Net, allow: tuple[str, ...], password: str, status: int) -> None:
    _, _, client = await serving(net, Policy(allow=allow, basic=BASIC))
    assert (await client.get("/", "shop.example", *([password] if password else []))).status == status


async def test_a_redirect_needs_no_password(net: Net) -> None:
    _, _, client = await serving(
        net, Policy(basic=BASIC, allow=ELSEWHERE, redirect=Redirect(301, "https://new.example"))
    )
    assert (await client.get("/")).status == 301


async def test_a_preflight_needs_no_password_and_a_refusal_tells_the_page_why(net: Net) -> None:
    _, _, client = await serving(net, Policy(basic=BASIC, cors=Cors()))
    client.send(b"OPTIONS / HTTP/1.1\r\nHost: shop.example\r\nOrigin: https://a.example\r\n\r\n")
    assert (await client.response(b"OPTIONS")).status == 204
    refused = await client.get("/", "shop.example", "Origin: https://a.example")
    assert (refused.status, refused.get(b"access-control-allow-origin")) == (401, b"*")


# --- limits


def limited(**asked: object) -> Policy:
    return Policy(limit=msgspec.structs.replace(RateLimit("shop/web"), **asked))


async def statuses(client: Client, count: int) -> list[int]:
    return [(await client.get("/")).status for _ in range(count)]


async def test_a_burst_may_come_at_once_and_the_rest_with_time(net: Net) -> None:
    site, _, client = await serving(net, limited(rates=((2.0, 3),)))
    assert await statuses(client, 6) == [200, 200, 200, 200, 503, 503]
    site.later(1.0)
    assert await statuses(client, 3) == [200, 200, 503]
    site.later(60.0)
    assert await statuses(client, 5) == [200, 200, 200, 200, 503]


async def test_the_tightest_of_several_rates_counts(net: Net) -> None:
    site, _, client = await serving(net, limited(rates=((10.0, 10), (1 / 60, 1))))
    assert await statuses(client, 3) == [200, 200, 503]
    site.later(30.0)
    assert await statuses(client, 1) == [503]
    site.later(31.0)
    assert await statuses(client, 2) == [200, 503]
    assert (await site.lines(6))[-1]["reason"] == "limited"


async def test_routes_of_one_ingress_count_together_and_those_of_others_by_themselves(net: Net) -> None:
    site, endpoint, client = await net.pair()
    one, other = limited(rates=((1.0, 1),)), Policy(limit=RateLimit("shop/other", ((1.0, 1),)))
    routes = [prefix("/a", policy=one), prefix("/b", policy=one), prefix("/c", policy=other)]
    site.serve(table({"": routes}, upstream("shop/web:80", endpoint.port)))
    assert [(await client.get(target)).status for target in ("/a", "/b", "/a", "/c", "/c", "/c")] == [
        200, 200, 503, 200, 200, 503,
    ]  # fmt: skip


async def test_what_was_counted_counts_on_after_a_swap(net: Net) -> None:
    site, endpoint, client = await serving(net, limited(rates=((0.1, 1),)))
    assert await statuses(client, 3) == [200, 200, 503]
    serve(site, endpoint, limited(rates=((0.1, 1),)))
    assert await statuses(client, 1) == [503]
    serve(site, endpoint, limited(rates=((0.1, 2),)))
    assert await statuses(client, 1) == [200]


async def test_exempt_networks_have_no_limit(net: Net) -> None:
    _, _, client = await serving(net, limited(rates=((1.0, 1),), connections=1, exempt=HERE))
    assert await statuses(client, 10) == [200] * 10


async def test_no_more_requests_of_an_address_are_under_way_than_may(net: Net) -> None:
    let = asyncio.Event()

    async def slow(peer: Peer) -> None:
        while True:
            await peer.request()
            await let.wait()
            peer.send(reply())

    site, endpoint, client = await net.pair(slow)
    serve(site, endpoint, limited(connections=2))
    others = [await net.client(site) for _ in range(2)]
    for one in (client, others[0]):
        one.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    async with asyncio.timeout(10):
        while len(endpoint.received) < 2:  # noqa: ASYNC110 - another side's list
            await asyncio.sleep(0.001)
    assert (await others[1].get("/")).status == 503
    others[0].reset()
    async with asyncio.timeout(10):
        while len(site.clients) > 2:  # noqa: ASYNC110 - another side's list
            await asyncio.sleep(0.001)
    others[1].send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    let.set()
    assert (await client.response()).status == 200
    assert (await others[1].response()).status == 200
    [limit] = site.live.rules._kept.limits.values()
    assert limit._under_way == {}


async def test_the_limit_counts_before_the_networks_are_looked_at(net: Net) -> None:
    _, _, client = await serving(net, msgspec.structs.replace(limited(rates=((1.0, 0),)), allow=ELSEWHERE))
    assert await statuses(client, 2) == [403, 503]


@pytest.mark.parametrize(
    ("blocked", "field", "status"),
    [
        (Blocked(("curl/8",)), "User-Agent: CURL/8", 403),
        (Blocked(("curl/8",)), "User-Agent: curl/8.1", 200),
        (Blocked(("~*curl",)), "User-Agent: a Curl", 403),
        (Blocked(("~curl",)), "User-Agent: a Curl", 200),
        (Blocked((), ("~*spam\\.example",)), "Referer: https://spam.example/", 403),
        (Blocked((), ("~*spam\\.example",)), "User-Agent: spam.example", 200),
    ],
)
async def test_clients_are_kept_out_by_what_they_say(net: Net, blocked: Blocked, field: str, status: int) -> None:
    site, endpoint, client = await net.pair()
    site.serve(everything_to(endpoint.port, policy=Policy(blocked=blocked)))
    assert (await client.get("/", "a", field)).status == status
    assert (await client.get("/", "a")).status == 200


async def test_a_limit_answers_as_the_settings_say(net: Net) -> None:
    site, endpoint, client = await net.pair()
    limit = RateLimit("z", ((0.001, 0),), rate_status=429)
    site.serve(everything_to(endpoint.port, policy=Policy(limit=limit)))
    assert [(await client.get("/")).status for _ in range(2)] == [200, 429]


async def test_hidden_fields_do_not_reach_the_client(net: Net) -> None:
    site, endpoint, client = await net.pair(answering(reply(b"ok", b"200 OK", b"X-Inner: 1", b"X-Outer: 2")))
    site.serve(everything_to(endpoint.port, policy=Policy(hidden=("x-inner",))))
    got = await client.get("/")
    assert (got.get(b"x-inner"), got.get(b"x-outer")) == (None, b"2")
