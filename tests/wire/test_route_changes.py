"""What an endpoint gets for what the client asked: another path, another Host, and some requests another endpoint."""

from __future__ import annotations

import pytest

from eventually import eventually
from portway_proxy.errors import BadSnapshot
from portway_proxy.snapshot import Canary, PathMatch, Patience, Policy, Route, Upstream
from wire.peers import Client, Endpoint, Peer, answering, reply
from wire.site import ORIGIN, WEB, Net, Site, everything_to, exact, prefix, table, upstream


def regex(path: str, name: str = WEB, policy: Policy | None = None) -> Route:
    return Route(path, PathMatch.REGEX, name, ORIGIN, policy)


async def serving(net: Net, *routes: Route) -> tuple[Site, Endpoint, Client]:
    site, endpoint, client = await net.pair()
    site.serve(table({"": routes}, upstream(WEB, endpoint.port)))
    return site, endpoint, client


def targets(endpoint: Endpoint) -> list[bytes]:
    return [line.split(b" ")[1] for line in endpoint.received[-1].split(b"\r\n") if line.endswith(b" HTTP/1.1")]


async def got(net: Net, route: Route, target: str) -> bytes:
    _, endpoint, client = await serving(net, route)
    assert (await client.get(target)).status == 200
    return targets(endpoint)[-1]


@pytest.mark.parametrize(
    ("route", "target", "rewritten"),
    [
        (regex("/api(/|$)(.*)", policy=Policy(rewrite="/$2")), "/api/users/7?x=1", b"/users/7?x=1"),
        (regex("/api(/|$)(.*)", policy=Policy(rewrite="/$2")), "/API", b"/"),
        (regex("/api(/|$)(.*)", policy=Policy(rewrite="/$2")), "/api/a%20b%2Fc", b"/a%20b%2Fc"),
        (regex("/(.*)/(.*)", policy=Policy(rewrite="/$2/$1/$3")), "/a/b", b"/b/a/"),
        (regex("/old", policy=Policy(rewrite="/new")), "/older/than?that", b"/new?that"),
        (regex("/old", policy=Policy(rewrite="/new?from=old")), "/old?x=1", b"/new?from=old&x=1"),
        (regex("/a(.*)", policy=Policy(rewrite="$1")), "/abc", b"/bc"),
        (prefix("/shop", policy=Policy(rewrite="/")), "/shop/cart?x", b"/?x"),
        (exact("/shop", policy=Policy(rewrite="/new")), "/shop", b"/new"),
    ],
)
async def test_a_rewrite_puts_the_target_in_the_place_of_the_path(
    net: Net, route: Route, target: str, rewritten: bytes
) -> None:
    assert await got(net, route, target) == rewritten


async def test_what_a_rewrite_puts_together_cannot_climb(net: Net) -> None:
    site, endpoint, client = await serving(net, regex("/a(.*)", policy=Policy(rewrite="/public/$1/x")))
    assert (await client.get("/a..")).status == 200
    assert targets(endpoint)[-1] == b"/x"
    site.serve(table({"": [regex("/a(.*)", policy=Policy(rewrite="/$1/secret"))]}, upstream(WEB, endpoint.port)))
    assert (await (await net.client(site)).get("/a..")).status == 400


async def test_options_for_the_whole_server_are_not_rewritten(net: Net) -> None:
    _, endpoint, client = await serving(net, prefix("/", policy=Policy(rewrite="/new")))
    client.send(b"OPTIONS * HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    assert (await client.response(b"OPTIONS")).status == 200
    assert endpoint.received[-1].startswith(b"OPTIONS * HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("target", "served"),
    [
        ("/item/7", "number"),
        ("/ITEM/7x", "number"),
        ("/item/new", "exact"),
        ("/item/x", "item"),
        ("/ite", "rest"),
        ("/items/7", "rest"),
        ("/x/item/7", "rest"),
    ],
)
async def test_the_longest_text_of_those_that_fit_counts(net: Net, target: str, served: str) -> None:
    names = ("number", "exact", "item", "rest")
    endpoints = {name: await net.endpoint() for name in names}
    routes = [
        exact("/item/new", "exact"),
        regex("/item/[0-9]+", "number"),
        prefix("/item", "item"),
        prefix("/", "rest"),
    ]
    site = await net.site(table({"": routes}, *(upstream(name, some.port) for name, some in endpoints.items())))
    assert (await (await net.client(site)).get(target)).status == 200
    assert [name for name in names if endpoints[name].received] == [served]


async def test_many_patterns_are_told_apart_as_few_are(net: Net) -> None:
    _, endpoint, client = await serving(
        net, *(regex(f"/p{number}(/|$)(.*)", policy=Policy(rewrite=f"/n{number}/$2")) for number in range(50))
    )
    assert (await client.get("/p37/x")).status == 200
    assert targets(endpoint)[-1] == b"/n37/x"
    assert (await client.get("/q")).status == 404


@pytest.mark.parametrize("path", ["/a(?=b)", "/(", "/" + "a" * 1001])
async def test_a_snapshot_with_what_is_no_pattern_is_refused(net: Net, path: str) -> None:
    site, _, _ = await serving(net, prefix("/"))
    with pytest.raises(BadSnapshot, match="no pattern"):
        site.serve(table({"": [regex(path)]}, upstream(WEB)))


async def test_a_hostile_pattern_costs_no_more_than_its_length(net: Net) -> None:
    _, _, client = await serving(net, regex("/(a+)+(a+)+(a+)+$"))
    assert (await client.get("/" + "a" * 5000 + "!")).status == 404


def fields(endpoint: Endpoint, name: bytes) -> list[bytes]:
    lines = endpoint.received[-1].split(b"\r\n")
    return [line[len(name) + 2 :] for line in lines if line.lower().startswith(name + b": ")]


async def test_the_endpoint_gets_another_host_and_is_told_the_client_s(net: Net) -> None:
    _, endpoint, client = await serving(net, prefix("/", policy=Policy(host="$http_x_tenant.internal:8080")))
    assert (await client.get("/", "shop.example", "X-Tenant: blue")).status == 200
    assert (fields(endpoint, b"host"), fields(endpoint, b"x-forwarded-host")) == (
        [b"blue.internal:8080"],
        [b"shop.example"],
    )


async def test_the_endpoint_is_told_the_prefix_that_a_rewrite_took_away(net: Net) -> None:
    _, endpoint, client = await serving(net, prefix("/shop", policy=Policy(rewrite="/", prefix="/shop")))
    assert (await client.get("/shop", "shop.example", "X-Forwarded-Prefix: /evil")).status == 200
    assert fields(endpoint, b"x-forwarded-prefix") == [b"/shop"]


async def test_a_request_after_one_that_was_changed_is_as_it_was_sent(net: Net) -> None:
    _, endpoint, client = await serving(net, prefix("/a", policy=Policy(rewrite="/b", host="other")), prefix("/"))
    for target, wanted in (("/a", b"/b"), ("/c", b"/c"), ("/a", b"/b"), ("/c", b"/c")):
        assert (await client.get(target)).status == 200
        assert targets(endpoint)[-1] == wanted
    assert fields(endpoint, b"host") == [b"other", b"shop.example", b"other", b"shop.example"]


# --- canaries


async def split(net: Net, canary: Canary) -> tuple[Client, Endpoint]:
    main, other = await net.endpoint(), await net.endpoint()
    snapshot = table(
        {"": [prefix("/", policy=Policy(canary=canary))]}, upstream(WEB, main.port), upstream("canary", other.port)
    )
    return await net.client(await net.site(snapshot)), other


async def taken(net: Net, canary: Canary, *lines: str, times: int = 1) -> int:
    client, other = await split(net, canary)
    for _ in range(times):
        assert (await client.get("/", "shop.example", *lines)).status == 200
    return sum(received.count(b"GET / HTTP/1.1\r\n") for received in other.received)


@pytest.mark.parametrize(
    ("canary", "lines", "goes"),
    [
        (Canary("canary", header="X-Canary"), ["X-Canary: always"], 1),
        (Canary("canary", header="X-Canary"), ["x-canary: never"], 0),
        (Canary("canary", header="X-Canary", weight=100), ["x-canary: never"], 0),
        (Canary("canary", header="X-Canary", weight=100), ["x-canary: perhaps"], 1),
        (Canary("canary", header="X-Canary", weight=100), [], 1),
        (Canary("canary", header="X-Canary", value="v2"), ["X-Canary: v2"], 1),
        (Canary("canary", header="X-Canary", value="v2"), ["X-Canary: always"], 0),
        (Canary("canary", header="X-Canary", value="v2", weight=100), ["X-Canary: never"], 1),
        (Canary("canary", header="X-Canary", pattern="v[0-9]+$"), ["X-Canary: is v22"], 1),
        (Canary("canary", header="X-Canary", pattern="v[0-9]+$"), ["X-Canary: v22x"], 0),
        (Canary("canary", header="X-Canary", pattern="v[0-9]+$"), ["X-Canary: V22"], 0),
        (Canary("canary", header="X-Canary", value="a", pattern=".*"), ["X-Canary: b"], 0),
        (Canary("canary", cookie="canary"), ["Cookie: a=b; canary=always"], 1),
        (Canary("canary", cookie="canary", weight=100), ["Cookie: canary=never"], 0),
        (Canary("canary", header="X-Canary", cookie="canary"), ["X-Canary: never", "Cookie: canary=always"], 0),
        (Canary("canary"), [], 0),
    ],
)
async def test_a_header_decides_else_a_cookie_else_chance(
    net: Net, canary: Canary, lines: list[str], goes: int
) -> None:
    assert await taken(net, canary, *lines) == goes


async def test_chance_takes_about_its_share(net: Net) -> None:
    assert 30 <= await taken(net, Canary("canary", weight=25), times=200) <= 75


async def test_a_canary_that_is_gone_leaves_the_requests_to_the_main_one(net: Net) -> None:
    site, endpoint, client = await serving(net, prefix("/"))
    policy = Policy(canary=Canary("gone", weight=100))
    with pytest.raises(BadSnapshot, match="gone"):
        site.serve(everything_to(endpoint.port, policy=policy))
    assert (await client.get("/")).status == 200


async def test_the_steps_of_the_main_route_count_for_its_canary(net: Net) -> None:
    main, other = await net.endpoint(), await net.endpoint()
    policy = Policy(canary=Canary("canary", weight=100), rewrite="/new")
    site = await net.site(
        table({"": [prefix("/", policy=policy)]}, upstream(WEB, main.port), Upstream("canary", reason="no_endpoints"))
    )
    assert (await (await net.client(site)).get("/")).status == 503
    site.serve(table({"": [prefix("/", policy=policy)]}, upstream(WEB, main.port), upstream("canary", other.port)))
    assert (await (await net.client(site)).get("/old")).status == 200
    assert (targets(other), main.received) == ([b"/new"], [])


# --- time


def patient(**times: float) -> Route:
    return prefix("/", policy=Policy(patience=Patience(**times)))


async def test_a_route_s_endpoint_has_its_own_time_to_answer(net: Net) -> None:
    site, _, client = await net.pair(silent)
    site.serve(table({"": [patient(read=10.0)]}, upstream(WEB, site.live.snapshot.upstreams[0].endpoints[0].port)))
    client.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    await eventually(lambda: site.upstreams, what="the request left")
    site.later(8.0)
    assert client.received == b""
    site.later(5.0)
    assert (await client.response()).status == 504


async def test_a_route_s_endpoint_may_be_silent_for_longer_than_others(net: Net) -> None:
    site, _, client = await net.pair(silent)
    site.serve(table({"": [patient(read=300.0)]}, upstream(WEB, site.live.snapshot.upstreams[0].endpoints[0].port)))
    client.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    await eventually(lambda: site.upstreams, what="the request left")
    site.later(200.0)
    assert client.received == b""
    site.later(105.0)
    assert (await client.response()).status == 504


async def test_the_time_of_one_route_is_not_that_of_the_next_on_the_connection(net: Net) -> None:
    site, endpoint, client = await net.pair(late)
    short = prefix("/a", policy=Policy(patience=Patience(read=10.0)))
    site.serve(table({"": [short, prefix("/")]}, upstream(WEB, endpoint.port)))
    assert (await client.get("/a")).status == 200
    client.send(b"GET /late HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    await eventually(lambda: b"/late" in endpoint.received[0], what="the request came over the same connection")
    site.later(15.0)
    assert client.unread == b""
    site.later(60.0)
    assert (await client.response()).status == 504


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.rest()


async def late(peer: Peer) -> None:
    while b"/late" not in (await peer.request()).target:
        peer.send(reply())
    await peer.rest()


# --- what the client gets


@pytest.mark.parametrize("target", ["/", "/gone"])
async def test_every_answer_has_the_fields_of_its_route_in_the_place_of_the_endpoint_s(net: Net, target: str) -> None:
    own = reply(b"ok", b"200 OK", b"x-frame-options: ALLOW", b"X-Own: 1")
    site, endpoint, client = await net.pair(answering(own))
    policy = Policy(answer=(("X-Frame-Options", "DENY"), ("X-More", "a, b")))
    site.serve(
        table(
            {"": [prefix("/gone", "gone", policy), prefix("/", WEB, policy)]},
            upstream(WEB, endpoint.port),
            upstream("gone"),
        )
    )
    for _ in range(2):
        answer = await client.get(target)
        assert (answer.get(b"x-frame-options"), answer.get(b"x-more")) == (b"DENY", b"a, b")
        assert answer.get(b"x-own") == (b"1" if target == "/" else None)
