"""Which endpoint a request reaches, and what it gets when there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest

from portway_proxy.snapshot import Policy, Route, Snapshot, Upstream
from wire.peers import Client, answering, reply
from wire.site import WEB, Net, Site, everything_to, exact, prefix, table, upstream

A, B, C, D = "shop/a:80", "shop/b:80", "shop/c:80", "shop/d:80"


async def routed(net: Net, hosts: Mapping[str, Sequence[Route]], default: Route | None = None) -> tuple[Site, Client]:
    """Return a site with four upstreams whose endpoints answer with their letters."""
    upstreams: list[Upstream] = []
    for name in (A, B, C, D):
        endpoint = await net.endpoint(answering(reply(name[5].encode())))
        upstreams.append(upstream(name, endpoint.port))
    site = await net.site(table(hosts, *upstreams, default=default))
    return site, await net.client(site)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("exact.example", b"a"),
        ("EXACT.Example", b"a"),
        ("exact.example:8080", b"a"),
        ("exact.example.", b"a"),
        ("exact.example.:8080", b"a"),
        ("one.wild.example", b"b"),
        ("exact.wild.example", b"c"),
        ("two.one.wild.example", b"d"),
        ("wild.example", b"d"),
        ("other.example", b"d"),
        ("127.0.0.1", b"d"),
        ("[::1]:80", b"d"),
    ],
)
async def test_the_host_chooses(net: Net, host: str, expected: bytes) -> None:
    hosts = {
        "exact.example": [prefix("/", A)],
        "*.wild.example": [prefix("/", B)],
        "exact.wild.example": [prefix("/", C)],
        "": [prefix("/", D)],
    }
    _, client = await routed(net, hosts)
    assert (await client.get("/", host)).body == expected


# Kubernetes' own table for path matching (KEP-1453 and the Ingress reference), on one host.
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", b"d"),
        ("/exact", b"a"),
        ("/exact/", b"d"),
        ("/exact?x=1", b"a"),
        ("/exactly", b"d"),
        ("/aaa", b"b"),
        ("/aaa/", b"b"),
        ("/aaa/ccc", b"b"),
        ("/aaa/bbb", b"c"),
        ("/aaa/bbb/", b"c"),
        ("/aaa/bbb/ccc", b"c"),
        ("/aaa/bbbxyz", b"b"),
        ("/aaaccc", b"d"),
        ("/AAA", b"d"),
        ("/aaa/x/../bbb", b"c"),
        ("/aaa//bbb", b"c"),
        ("/a%61a/bbb", b"c"),
        ("/?/aaa/bbb", b"d"),
    ],
)
async def test_the_path_chooses(net: Net, path: str, expected: bytes) -> None:
    routes = [exact("/exact", A), prefix("/aaa/bbb", C), prefix("/aaa", B), prefix("/", D)]
    _, client = await routed(net, {"shop.example": routes})
    assert (await client.get(path)).body == expected


async def test_what_was_matched_is_what_is_forwarded(net: Net) -> None:
    _, endpoint, client = await net.pair()
    for sent, forwarded in (
        ("/a/%7euser/./b/../c?q=%2e%2E/../x#", "/a/~user/c"),
        ("/a//b", "/a/b"),
        ("/%e4%C3?q=/../", "/%E4%C3?q=/../"),
        ("/a/..", "/"),
    ):
        response = await client.get(sent.rstrip("#"))
        assert response.body.decode().startswith(forwarded)
    assert len(endpoint.peers) == 1


async def test_an_absolute_target_is_routed_by_its_host_and_forwarded_as_a_path(net: Net) -> None:
    _, endpoint, client = await net.pair()
    client.send(b"GET http://a.example:81/x?y HTTP/1.1\r\nHost: a.example:81\r\n\r\n")
    assert (await client.response()).body == b"/x?y"
    assert endpoint.received[0].startswith(b"GET /x?y HTTP/1.1\r\nHost: a.example:81\r\n")


async def test_options_for_the_whole_server_reaches_the_root(net: Net) -> None:
    _, endpoint, client = await net.pair()
    client.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.response()).body == b"*"
    assert endpoint.received[0].startswith(b"OPTIONS * HTTP/1.1\r\n")


async def test_http_1_0_without_a_host_goes_to_the_catch_all(net: Net) -> None:
    _, client = await routed(net, {"shop.example": [prefix("/", A)], "": [prefix("/", B)]})
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await client.response()).body == b"b"


# --- when nothing matches


@pytest.mark.parametrize(
    ("host", "path", "reason"),
    [("shop.example", "/b", "no_path"), ("other.example", "/", "no_host"), ("x.shop.example", "/a", "no_host")],
)
async def test_what_no_route_matches_is_404(net: Net, host: str, path: str, reason: str) -> None:
    site, client = await routed(net, {"shop.example": [prefix("/a", A)]})
    response = await client.get(path, host)
    assert (response.status, response.body) == (404, b"default backend - 404")
    assert response.get(b"server") == b"portway"
    line = await site.line()
    assert (line["status"], line["reason"], line["upstream"]) == (404, reason, "")
    assert line["response_size"] == len(response.body)


async def test_the_line_of_an_answer_to_head_counts_no_body(net: Net) -> None:
    site, client = await routed(net, {"shop.example": [prefix("/a", A)]})
    client.send(b"HEAD /b HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    assert (await client.response(b"HEAD")).status == 404
    line = await site.line()
    assert (line["status"], line["response_size"]) == (404, 0)


async def test_a_host_that_was_chosen_is_never_left_for_a_wildcard(net: Net) -> None:
    hosts = {"a.shop.example": [prefix("/a", A)], "*.shop.example": [prefix("/", B)]}
    _, client = await routed(net, hosts)
    assert (await client.get("/b", "a.shop.example")).status == 404
    assert (await client.get("/b", "b.shop.example")).body == b"b"


@pytest.mark.parametrize(("host", "path"), [("shop.example", "/b"), ("other.example", "/")])
async def test_the_default_backend_gets_what_no_route_matches(net: Net, host: str, path: str) -> None:
    _, client = await routed(net, {"shop.example": [prefix("/a", A)]}, default=prefix("/", D))
    assert (await client.get(path, host)).body == b"d"
    assert (await client.get("/a", "shop.example")).body == b"a"


@pytest.mark.parametrize("reason", ["service_missing", "port_missing", "no_endpoints", ""])
async def test_an_upstream_without_endpoints_is_503_with_the_reason(net: Net, reason: str) -> None:
    site = await net.site(table({"": [prefix("/")]}, upstream(WEB, reason=reason)))
    client = await net.client(site)
    response = await client.get()
    assert (response.status, response.body) == (503, b"503 Service Unavailable\n")
    line = await site.line()
    assert (line["status"], line["reason"], line["upstream"]) == (503, reason or "no_endpoints", WEB)
    assert (await client.get()).status == 503


async def test_a_closed_route_is_503(net: Net) -> None:
    _, endpoint, client = await net.pair()
    site = await net.site(everything_to(endpoint.port, policy=Policy(closed="bad_allow_list")))
    client = await net.client(site)
    assert (await client.get()).status == 503
    assert (await site.line())["reason"] == "closed"
    assert endpoint.peers == []


async def test_a_worker_without_a_snapshot_answers_404(net: Net) -> None:
    site = await net.site(Snapshot())
    client = await net.client(site)
    assert (await client.get()).status == 404


# --- to https


def redirecting(port: int) -> Snapshot:
    return everything_to(port, policy=Policy(https_redirect=True))


@pytest.mark.parametrize(
    ("request_", "location"),
    [
        (b"GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\n\r\n", b"https://shop.example:8443/a?b=c"),
        (b"GET / HTTP/1.1\r\nHost: Shop.Example:8080\r\n\r\n", b"https://shop.example:8443/"),
        (b"HEAD / HTTP/1.1\r\nHost: shop.example.\r\n\r\n", b"https://shop.example:8443/"),
        (b"GET http://shop.example/x HTTP/1.1\r\nHost: shop.example\r\n\r\n", b"https://shop.example:8443/x"),
        (b"GET //evil.example/x HTTP/1.1\r\nHost: shop.example\r\n\r\n", b"https://shop.example:8443/evil.example/x"),
        (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", b"https://[::1]:8443/"),
        (b"OPTIONS * HTTP/1.1\r\nHost: shop.example\r\n\r\n", b"https://shop.example:8443/"),
    ],
)
async def test_a_route_that_wants_tls_redirects_by_308(net: Net, request_: bytes, location: bytes) -> None:
    endpoint = await net.endpoint()
    site = await net.site(redirecting(endpoint.port))
    client = await net.client(site)
    client.send(request_)
    response = await client.response(request_.split(b" ")[0])
    assert (response.status, response.get(b"location")) == (308, location)
    assert (await site.line())["reason"] == "https_redirect"
    assert endpoint.peers == []
    client.send(request_)
    assert (await client.response(request_.split(b" ")[0])).status == 308


async def test_a_redirect_to_the_usual_port_does_not_name_it(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(redirecting(endpoint.port))
    site.http.https_port = 443
    client = await net.client(site)
    assert (await client.get("/a")).get(b"location") == b"https://shop.example/a"


async def test_a_redirected_request_with_a_body_ends_its_connection(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(redirecting(endpoint.port))
    client = await net.client(site)
    client.send(b"POST /a HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n\r\nhello")
    response = await client.response()
    assert (response.status, response.closes) == (308, True)
    assert await client.rest() == b""


async def test_a_client_without_a_host_name_cannot_be_redirected(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(redirecting(endpoint.port))
    client = await net.client(site)
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await client.response()).status == 200


async def test_a_snapshot_with_unknown_upstreams_is_refused_whole(net: Net) -> None:
    site, _, client = await net.pair()
    before = site.live
    bad = msgspec.structs.replace(before.snapshot, upstreams=())
    with pytest.raises(Exception, match="which the snapshot does not have"):
        site.serve(bad)
    assert site.live is before
    assert (await client.get()).status == 200
