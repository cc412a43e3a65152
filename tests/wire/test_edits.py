"""Cookies and redirects of endpoints on their way to the client, and what they share an answer with."""

from __future__ import annotations

import msgspec
import pytest

from portway_proxy.snapshot import Cors, Edits, ExternalAuth, Policy, RateLimit
from wire.peers import answering, reply
from wire.site import WEB, Net, everything_to, prefix, table, upstream

EDITS = Edits(("old.example", "new.example"), ("/old/", "/"), ("http://web:8080/", "$scheme://$http_host/app/"))


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        (b"Set-Cookie: a=b; Domain=old.example; Path=/old/x", b"Set-Cookie: a=b; Domain=new.example; Path=/x"),
        (
            b"set-cookie: a=b;path=/old/;DOMAIN=.OLD.example; Secure",
            b"set-cookie: a=b;path=/;DOMAIN=new.example; Secure",
        ),
        (
            b"Set-Cookie: a=b; Domain=sub.old.example; Path=/older",
            b"Set-Cookie: a=b; Domain=sub.old.example; Path=/older",
        ),
        (b"Set-Cookie: path=/old/; Path=/x", b"Set-Cookie: path=/old/; Path=/x"),
        (b"Location: http://web:8080/a?b=c", b"Location: http://shop.example/app/a?b=c"),
        (b"Location: http://web:80801/", b"Location: http://web:80801/"),
        (b"Refresh: 5; URL=http://web:8080/a", b"Refresh: 5; URL=http://shop.example/app/a"),
        (b"X-Location: http://web:8080/a", b"X-Location: http://web:8080/a"),
    ],
)
async def test_lines_are_edited_where_they_begin_as_was_said(net: Net, sent: bytes, got: bytes) -> None:
    _, endpoint, _ = await net.pair(answering(reply(b"x", b"200 OK", sent)))
    site = await net.site(everything_to(endpoint.port, policy=Policy(edits=EDITS)))
    client = await net.client(site)
    for _ in range(2):  # A head that was seen before stays as it is for others.
        assert (await client.get("/")).status == 200
    name, _, value = got.partition(b": ")
    assert client.received.count(got + b"\r\n") == 2
    assert client.received.count(name + b": " + value) == 2


async def test_what_one_route_edits_another_does_not(net: Net) -> None:
    line = b"Location: http://web:8080/a"
    endpoint = await net.endpoint(answering(reply(b"x", b"302 Found", line)))
    routes = {"": [prefix("/edited", policy=Policy(edits=EDITS)), prefix("/")]}
    site = await net.site(table(routes, upstream(WEB, endpoint.port)))
    client = await net.client(site)
    assert (await client.get("/edited")).get(b"location") == b"http://shop.example/app/a"
    assert (await client.get("/")).get(b"location") == b"http://web:8080/a"


async def test_edited_answers_have_the_fields_of_others_too(net: Net) -> None:
    auth = await net.endpoint(answering(reply(b"", b"200 OK", b"Set-Cookie: s=1; Path=/old/")))
    web = await net.endpoint(answering(reply(b"x", b"302 Found", b"Location: http://web:8080/a")))
    policy = Policy(edits=EDITS, cors=Cors(), external=ExternalAuth("auth", "/", "auth"), answer=(("X-A", "b"),))
    site = await net.site(
        table({"": [prefix("/", policy=policy)]}, upstream(WEB, web.port), upstream("auth", auth.port))
    )
    got = await (await net.client(site)).get("/", "shop.example", "Origin: https://a.example")
    assert got.get(b"location") == b"http://shop.example/app/a"
    assert (got.get(b"access-control-allow-origin"), got.get(b"x-a")) == (b"*", b"b")
    assert got.get(b"set-cookie") == b"s=1; Path=/old/"  # The service's, which is no endpoint's.


@pytest.mark.parametrize(("allow", "statuses"), [(("127.0.0.0/8",), [200, 503]), (("192.0.2.0/24",), [403, 503])])
async def test_a_limit_counts_before_the_source_range(net: Net, allow: tuple[str, ...], statuses: list[int]) -> None:
    limit = RateLimit("z", ((0.001, 0),))
    site, endpoint, client = await net.pair()
    site.serve(everything_to(endpoint.port, policy=Policy(allow=allow, limit=limit)))
    assert [(await client.get("/")).status for _ in statuses] == statuses
    exempt = msgspec.structs.replace(limit, zone="y", exempt=("127.0.0.0/8",))
    site.serve(everything_to(endpoint.port, policy=Policy(allow=allow, limit=exempt)))
    assert [(await client.get("/")).status for _ in statuses] == [statuses[0]] * 2


async def test_requests_of_a_quiet_route_leave_no_access_line_whatever_became_of_them(net: Net) -> None:
    endpoint = await net.endpoint(answering(reply(b"x")))
    quiet = Policy(unlogged=True)
    routes = {
        "": [
            prefix("/quiet", policy=quiet),
            prefix("/closed", policy=msgspec.structs.replace(quiet, deny=("127.0.0.0/8",))),
            prefix("/"),
        ]
    }
    site = await net.site(table(routes, upstream(WEB, endpoint.port)))
    client = await net.client(site)
    assert [(await client.get(path)).status for path in ("/quiet", "/closed", "/loud", "/quiet")] == [
        200,
        403,
        200,
        200,
    ]
    assert (await site.line())["target"] == "/loud"


async def test_an_endpoint_gets_fields_in_the_place_of_the_clients(net: Net) -> None:
    fields = (("X-Client", "$remote_addr at $host"), ("Authorization", "Basic YTpi"), ("X-Was", "$http_x_was"))
    site, endpoint, client = await net.pair(answering(reply(b"ok")))
    site.serve(everything_to(endpoint.port, policy=Policy(request=(*fields, ("X-Empty", "$arg_none")))))
    told = ("X-Client: me", "x_client: me", "Authorization: mine", "X-Was: this", "X-Empty: no")
    assert (await client.get("/", "shop.example", *told)).status == 200
    got = endpoint.received[0].lower()
    assert b"\r\nx-client: 127.0.0.1 at shop.example\r\n" in got
    assert b"\r\nauthorization: basic ytpi\r\n" in got
    assert b"\r\nx-was: this\r\n" in got
    assert [got.count(name) for name in (b"client: ", b"authorization: ", b"x-was: ", b"x-empty")] == [1, 1, 1, 0]


async def test_what_a_request_asked_for_is_told_as_it_came_whatever_a_rewrite_makes_of_it(net: Net) -> None:
    site, endpoint, client = await net.pair(answering(reply(b"ok")))
    fields = (("X-Original-Uri", "$request_uri"), ("X-Escaped", "$escaped_request_uri"))
    site.serve(everything_to(endpoint.port, policy=Policy(rewrite="/inner", request=fields)))
    assert (await client.get("/outer?q", "a", "X-Original-Uri: /mine")).status == 200
    got = endpoint.received[0]
    assert got.startswith(b"GET /inner?q HTTP/1.1")
    assert b"\r\nX-Original-Uri: /outer?q\r\nX-Escaped: %2Fouter%3Fq\r\n" in got
    assert b"/mine" not in got
