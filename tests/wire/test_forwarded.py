"""What an endpoint is told about the client, and that nobody but the proxy tells it."""

from __future__ import annotations

import re

import pytest

from wire.peers import Client, Endpoint, Message
from wire.site import Net, Site


def fields(endpoint: Endpoint) -> list[tuple[bytes, bytes]]:
    """Return the fields of the last request that an endpoint got."""
    head = endpoint.received[-1].rsplit(b"\r\n\r\n", 1)[0].rsplit(b"\r\n\r\n", 1)[-1]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")[1:])]


async def ask(client: Client, *lines: str) -> Message:
    return await client.get("/", "Shop.Example:8080", *lines)


async def test_the_whole_request_is_what_is_expected_to_the_byte(net: Net) -> None:
    site, endpoint, client = await net.pair()
    client.send(b"PUT /a?b HTTP/1.1\r\nuser-agent: x\r\nHost: Shop.Example:8080\r\nAccept:  */* \r\n")
    client.send(b"X-Request-ID: my-id\r\nContent-Length: 002\r\nConnection: keep-alive\r\n\r\nhi")
    await client.response()
    assert endpoint.received == [
        b"PUT /a?b HTTP/1.1\r\n"
        b"Host: Shop.Example:8080\r\n"
        b"user-agent: x\r\n"
        b"Accept: */*\r\n"
        b"X-Forwarded-For: 127.0.0.1\r\n"
        b"X-Real-IP: 127.0.0.1\r\n"
        b"X-Forwarded-Port: %d\r\n"
        b"X-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Scheme: http\r\n"
        b"X-Scheme: http\r\n"
        b"X-Forwarded-Host: Shop.Example:8080\r\n"
        b"X-Request-ID: my-id\r\n"
        b"Content-Length: 2\r\n"
        b"\r\n"
        b"hi" % site.port
    ]


async def told(net: Net, *lines: str) -> tuple[Site, list[tuple[bytes, bytes]]]:
    site, endpoint, client = await net.pair()
    await ask(client, *lines)
    return site, fields(endpoint)


OURS = (
    b"x-forwarded-for",
    b"x-real-ip",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-forwarded-scheme",
    b"x-scheme",
    b"x-forwarded-host",
)

SPOOFED = [
    "X-Forwarded-For: 6.6.6.6",
    "x-forwarded-for: 6.6.6.6",
    "X-FORWARDED-FOR: 6.6.6.6, 127.0.0.1",
    "X_Forwarded_For: 6.6.6.6",
    "X.Forwarded.For: 6.6.6.6",
    "X-Forwarded_For: 6.6.6.6",
    "X_Forwarded-For: 6.6.6.6",
    "X-Forwarded.For: 6.6.6.6",
    "X-Forwarded-Host: 6.6.6.6",
    "X-Forwarded-Port: 6.6.6.6",
    "X-Forwarded-Proto: 6.6.6.6",
    "X-Forwarded-Scheme: 6.6.6.6",
    "X-Forwarded-Prefix: 6.6.6.6",
    "X-Forwarded-Server: 6.6.6.6",
    "X-Forwarded-Uri: 6.6.6.6",
    "X-Forwarded-Client-Cert: 6.6.6.6",
    "X-Forwarded-Anything: 6.6.6.6",
    "X_Forwarded_Proto: 6.6.6.6",
    "X.Forwarded.Host: 6.6.6.6",
    "X-Real-IP: 6.6.6.6",
    "x-real-ip: 6.6.6.6",
    "X_Real_IP: 6.6.6.6",
    "X.Real.IP: 6.6.6.6",
    "X-Real_IP: 6.6.6.6",
    "X-Scheme: 6.6.6.6",
    "X_Scheme: 6.6.6.6",
    "X.Scheme: 6.6.6.6",
    "Forwarded: for=6.6.6.6",
    "Proxy: http://6.6.6.6/",
    "PROXY: http://6.6.6.6/",
    "X-Original-Forwarded-For: 6.6.6.6",
    "X_Auth_User: 6.6.6.6",
    "Any_Field: 6.6.6.6",
    "Content_Length: 6.6.6.6",
    "Transfer_Encoding: 6.6.6.6",
    "Transfer.Encoding: 6.6.6.6",
    "Content.Length: 6.6.6.6",
    "X_Request_ID: 6.6.6.6",
    "X.Request.ID: 6.6.6.6",
    "Keep-Alive: 6.6.6.6",
    "Proxy-Connection: 6.6.6.6",
    "TE: 6.6.6.6",
    "Trailer: 6.6.6.6",
    "Upgrade: 6.6.6.6",
    "HTTP2-Settings: 6.6.6.6",
]


@pytest.mark.parametrize("line", SPOOFED)
async def test_what_only_the_proxy_may_say_never_passes(net: Net, line: str) -> None:
    site, got = await told(net, line)
    assert not any(b"6.6.6.6" in value for _, value in got)
    by_name = {name.lower(): value for name, value in got}
    port = b"%d" % site.port
    said = [by_name[name] for name in OURS]
    assert said == [b"127.0.0.1", b"127.0.0.1", port, b"http", b"http", b"http", b"Shop.Example:8080"]
    names = [name.lower() for name, _ in got]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "nominated",
    [
        "X-Forwarded-For",
        "x-forwarded-for, x-real-ip, x-forwarded-host, x-forwarded-proto, x-request-id",
        "close, X-Forwarded-For",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
    ],
)
async def test_the_connection_field_cannot_take_away_what_the_proxy_says(net: Net, nominated: str) -> None:
    site, got = await told(net, f"Connection: {nominated}")
    by_name = {name.lower(): value for name, value in got}
    assert by_name[b"host"] == b"Shop.Example:8080"
    assert by_name[b"x-forwarded-for"] == by_name[b"x-real-ip"] == b"127.0.0.1"
    assert by_name[b"x-forwarded-host"] == b"Shop.Example:8080"
    assert by_name[b"x-forwarded-port"] == b"%d" % site.port
    assert re.fullmatch(rb"[0-9a-f]{32}", by_name[b"x-request-id"])
    assert b"connection" not in by_name


async def test_the_connection_field_takes_away_what_it_nominates(net: Net) -> None:
    _, got = await told(net, "X-Hop: 1", "X-Kept: 2", "Connection: x-hop, keep-alive")
    names = [name.lower() for name, _ in got]
    assert b"x-hop" not in names
    assert b"x-kept" in names


async def test_a_nominated_content_length_still_frames_the_body(net: Net) -> None:
    _, endpoint, client = await net.pair()
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello")
    assert (await client.response()).body == b"/ahello"
    assert b"\r\nContent-Length: 5\r\n\r\nhello" in endpoint.received[0]


# --- the request id


async def test_each_request_without_an_id_gets_one_that_the_log_names(net: Net) -> None:
    site, endpoint, client = await net.pair()
    ids = []
    for _ in range(3):
        await ask(client)
        ids.append(dict(fields(endpoint))[b"X-Request-ID"].decode())
    assert all(re.fullmatch(r"[0-9a-f]{32}", found) for found in ids)
    assert len(set(ids)) == 3
    assert [line["request_id"] for line in await site.lines(3)] == ids


@pytest.mark.parametrize("given", ["abc-123", "!" * 128, "{weird}:/?"])
async def test_an_id_that_the_client_gives_is_kept(net: Net, given: str) -> None:
    site, got = await told(net, f"X-Request-ID: {given}")
    assert [value for name, value in got if name.lower() == b"x-request-id"] == [given.encode()]
    assert (await site.line())["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "\xe4", "a\tb"])
async def test_an_id_that_a_log_cannot_hold_is_replaced(net: Net, given: str) -> None:
    _, endpoint, client = await net.pair()
    client.send(f"GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: {given}\r\n\r\n".encode("latin-1"))
    await client.response()
    [value] = [value for name, value in fields(endpoint) if name.lower() == b"x-request-id"]
    assert re.fullmatch(rb"[0-9a-f]{32}", value)


async def test_two_ids_are_none(net: Net) -> None:
    _, got = await told(net, "X-Request-ID: one", "X-Request-ID: two")
    [value] = [value for name, value in got if name.lower() == b"x-request-id"]
    assert re.fullmatch(rb"[0-9a-f]{32}", value)


async def test_own_replies_tell_their_request_id(net: Net) -> None:
    site, _, client = await net.pair()
    site.serve(type(site.live.snapshot)())
    response = await client.get("/", "a", "X-Request-ID: mine")
    assert (response.status, response.get(b"x-request-id")) == (404, b"mine")


async def test_an_http_1_0_client_without_a_host_is_forwarded_with_the_endpoints_address(net: Net) -> None:
    _, endpoint, client = await net.pair()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    await client.response()
    by_name = dict(fields(endpoint))
    assert by_name[b"Host"] == by_name[b"X-Forwarded-Host"] == b"127.0.0.1:%d" % endpoint.port
