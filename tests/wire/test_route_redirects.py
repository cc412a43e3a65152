"""Routes that answer by themselves: redirects of every kind, and preflights of other origins' pages."""

from __future__ import annotations

import pytest

from portway_proxy.snapshot import Cors, Policy, Redirect
from wire.peers import Client, Endpoint, answering, echoing, reply
from wire.site import Net, Site, everything_to


async def serving(net: Net, policy: Policy, response: bytes = b"") -> tuple[Site, Endpoint, Client]:
    site, endpoint, client = await net.pair(answering(response) if response else echoing)
    site.serve(everything_to(endpoint.port, policy=policy))
    return site, endpoint, client


# --- redirects


@pytest.mark.parametrize(
    ("policy", "target", "status", "location"),
    [
        (Policy(redirect=Redirect(301, "https://new.example/here")), "/a?b=c", 301, b"https://new.example/here"),
        (Policy(redirect=Redirect(308, "https://$host$request_uri")), "/a?b=c", 308, b"https://shop.example/a?b=c"),
        (
            Policy(redirect=Redirect(302, "$scheme://x.example${uri}$is_args$args")),
            "/a?b=c",
            302,
            b"http://x.example/a?b=c",
        ),
        (Policy(redirect=Redirect(302, "$scheme://x.example$uri$is_args$args")), "/a", 302, b"http://x.example/a"),
        (Policy(redirect=Redirect(307, "/$arg_to-$cookie_who-$http_x_tenant")), "/?a=1&TO=x", 307, b"/x-ada-blue"),
        (
            Policy(redirect=Redirect(302, "https://sso.example/?rd=$escaped_request_uri")),
            "/a?b",
            302,
            b"https://sso.example/?rd=%2Fa%3Fb",
        ),
        (Policy(app_root="/app"), "/", 302, b"http://shop.example/app"),
        (Policy(app_root="/app", relative=True), "/", 302, b"/app"),
        (Policy(app_root="/app"), "/?query=gone", 302, b"http://shop.example/app"),
        (Policy(www="www.shop.example"), "/a/?b=c", 308, b"http://www.shop.example/a/?b=c"),
    ],
)
async def test_a_redirect_leads_there_without_an_endpoint(
    net: Net, policy: Policy, target: str, status: int, location: bytes
) -> None:
    site, endpoint, client = await serving(net, policy)
    answer = await client.get(target, "shop.example", "Cookie: a=b; who=ada", "X-Tenant: blue")
    assert (answer.status, answer.get(b"location"), answer.closes) == (status, location, False)
    assert endpoint.received == []
    assert (await site.line())["reason"] == "redirect"


async def test_only_the_root_itself_leads_to_the_first_page(net: Net) -> None:
    _, endpoint, client = await serving(net, Policy(app_root="/app"))
    for target in ("/app", "/x", "/app/"):
        assert (await client.get(target)).status == 200
    assert b"".join(endpoint.received).count(b"GET /") == 3


async def test_no_part_of_a_request_can_end_the_line_of_a_redirect(net: Net) -> None:
    _, _, client = await serving(net, Policy(redirect=Redirect(302, "https://x.example$request_uri$arg_a$http_b")))
    answer = await client.get("/%0d%0aEvil:1?a=%0D%0Aevil", "shop.example", "B: x%0d%0ay")
    assert answer.get(b"location") == b"https://x.example/%0D%0AEvil:1?a=%0D%0Aevil%0D%0Aevilx%0d%0ay"
    assert answer.get(b"evil") is None


async def test_a_host_that_moves_is_told_so_before_it_is_sent_to_https(net: Net) -> None:
    _, _, client = await serving(net, Policy(https_redirect=True, redirect=Redirect(301, "https://new.example")))
    assert (await client.get("/")).get(b"location") == b"https://new.example"


# --- cross-origin requests

LISTED = Policy(cors=Cors(("https://a.example", "https://*.b.example"), expose="X-Count", max_age=60))
FIELDS = {
    b"access-control-allow-credentials": b"true",
    b"access-control-allow-methods": b"GET, PUT, POST, DELETE, PATCH, OPTIONS",
    b"access-control-allow-headers": Cors().headers.encode(),
    b"access-control-expose-headers": b"X-Count",
    b"access-control-max-age": b"60",
}


async def preflight(client: Client, origin: str) -> tuple[int, bytes | None]:
    client.send(b"OPTIONS / HTTP/1.1\r\nHost: shop.example\r\nOrigin: %b\r\n\r\n" % origin.encode())
    answer = await client.response(b"OPTIONS")
    return answer.status, answer.get(b"access-control-allow-origin")


async def test_a_preflight_is_answered_by_the_proxy(net: Net) -> None:
    site, endpoint, client = await serving(net, LISTED)
    client.send(b"OPTIONS / HTTP/1.1\r\nHost: shop.example\r\nOrigin: https://A.example\r\n\r\n")
    answer = await client.response(b"OPTIONS")
    assert (answer.status, answer.get(b"access-control-allow-origin")) == (204, b"https://A.example")
    assert {name: answer.get(name) for name in FIELDS} == FIELDS
    assert (answer.get(b"content-length"), answer.body, answer.closes) == (None, b"", False)
    assert endpoint.received == []
    assert (await site.line())["reason"] == "preflight"


@pytest.mark.parametrize("origin", ["https://a.example", "HTTPS://A.EXAMPLE", "https://x.b.example"])
async def test_an_origin_of_the_list_may(net: Net, origin: str) -> None:
    _, _, client = await serving(net, LISTED)
    assert await preflight(client, origin) == (204, origin.encode())


@pytest.mark.parametrize(
    "origin",
    [
        "https://c.example",
        "http://a.example",
        "https://a.example.evil.example",
        "https://b.example",
        "https://x.y.b.example",
        "https://evil/.b.example",
        "https://.b.example",
        "null",
        "",
    ],
)
async def test_any_other_origin_may_not_and_its_request_goes_on(net: Net, origin: str) -> None:
    _, endpoint, client = await serving(net, LISTED)
    assert await preflight(client, origin) == (200, None)
    assert len(endpoint.received) == 1


async def test_where_any_origin_may_all_are_told_so(net: Net) -> None:
    _, _, client = await serving(net, Policy(cors=Cors(credentials=False)))
    answer = await client.get("/")
    assert answer.get(b"access-control-allow-origin") == b"*"
    assert answer.get(b"access-control-allow-credentials") is None


async def test_other_answers_have_the_fields_in_the_place_of_the_endpoint_s(net: Net) -> None:
    own = reply(b"hello", b"200 OK", b"Access-Control-Allow-Origin: *", b"access-control-max-age: 1", b"X-Own: 1")
    _, _, client = await serving(net, LISTED, own)
    for _ in range(2):
        answer = await client.get("/", "shop.example", "Origin: https://a.example")
        assert (answer.body, answer.get(b"x-own")) == (b"hello", b"1")
        assert answer.get(b"access-control-allow-origin") == b"https://a.example"
        assert answer.get(b"access-control-max-age") == b"60"


async def test_who_may_not_gets_what_the_endpoint_says(net: Net) -> None:
    _, _, client = await serving(net, LISTED, reply(b"hello", b"200 OK", b"Access-Control-Allow-Origin: *"))
    answer = await client.get("/", "shop.example", "Origin: https://c.example")
    assert answer.get(b"access-control-allow-origin") == b"*"


async def test_an_answer_of_the_proxy_s_own_has_the_fields_too(net: Net) -> None:
    site, _, client = await serving(net, LISTED)
    site.serve(everything_to(policy=LISTED))
    answer = await client.get("/", "shop.example", "Origin: https://a.example")
    assert (answer.status, answer.get(b"access-control-allow-origin")) == (503, b"https://a.example")


async def test_an_upgrade_has_the_fields_too(net: Net) -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    _, _, client = await serving(net, LISTED, switched)
    client.send(
        b"GET / HTTP/1.1\r\nHost: shop.example\r\nOrigin: https://a.example\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    head = await client.head()
    assert (head.status, head.get(b"access-control-allow-origin")) == (101, b"https://a.example")
