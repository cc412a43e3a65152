from __future__ import annotations

import pytest

from portway_proxy.l7.passage import Passage
from portway_proxy.l7.trailers import for_client, for_endpoint
from worker_parts import Parts

PASSING = [
    b"X-Checksum: abc",
    b"grpc-status: 0",
    b"Server-Timing: db;dur=53",
    b"ETag: x",
    b"Content-Digest: sha-256=:x:",
]
# RFC 9110, 6.5.1: framing, routing, controls, conditions, credentials, what the content is; and what is of one
# connection or ours.
NEVER = [
    b"Transfer-Encoding",
    b"Content-Length",
    b"Content-Encoding",
    b"Content-Type",
    b"Content-Range",
    b"Content.Type",
    b"Trailer",
    b"TE",
    b"Connection",
    b"Upgrade",
    b"Keep-Alive",
    b"Proxy-Connection",
    b"Proxy-Authenticate",
    b"Host",
    b"Via",
    b"Date",
    b"Cache-Control",
    b"Vary",
    b"Age",
    b"Expires",
    b"Location",
    b"Retry-After",
    b"Set-Cookie",
    b"Cookie",
    b"WWW-Authenticate",
    b"Authorization",
    b"Range",
    b"If-None-Match",
    b"Pragma",
    b"Max-Forwards",
]
ONLY_REQUESTS = [
    b"X-Forwarded-For",
    b"X_Forwarded_For",
    b"Forwarded",
    b"X-Real-IP",
    b"X-Request-ID",
    b"Proxy",
    b"Expect",
    b"User-Agent",
    b"X_Any",
    b"HTTP2-Settings",
]
WILLING = b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"


def lines(fields: list[bytes]) -> bytes:
    return b"".join(field + b"\r\n" for field in fields)


async def test_ordinary_trailers_go_on_both_ways_written_anew() -> None:
    exchange = Parts().exchange(WILLING)
    assert for_endpoint(exchange, PASSING) == for_client(exchange, PASSING) == lines(PASSING)
    assert for_endpoint(exchange, [b"A:1", b"B: \t2\t ", b"C:"]) == b"A: 1\r\nB: 2\r\nC: \r\n"


@pytest.mark.parametrize("name", NEVER + [name.lower() for name in NEVER])
async def test_what_must_be_known_before_the_body_goes_no_further(name: bytes) -> None:
    exchange = Parts().exchange(WILLING)
    assert for_endpoint(exchange, [name + b": 5", b"X: y"]) == b"X: y\r\n"
    assert for_client(exchange, [name + b": 5", b"X: y"]) == b"X: y\r\n"


@pytest.mark.parametrize("name", ONLY_REQUESTS)
async def test_what_only_a_proxy_may_say_reaches_no_endpoint_behind_a_body_either(name: bytes) -> None:
    assert for_endpoint(Parts().exchange(), [name + b": 6.6.6.6"]) == b""


@pytest.mark.parametrize(
    ("fields", "willing"),
    [
        (b"TE: trailers", True),
        (b"te: gzip;q=0.5 ,\tTrailers", True),
        (b"TE: gzip\r\nTE: trailers", True),
        (b"Connection: TE, close\r\nTE: trailers", True),
        (b"TE: gzip", False),
        (b"TE: trailers;q=1", False),
        (b"TE: xtrailers", False),
        (b"TE:", False),
        (b"X: y", False),
    ],
)
async def test_only_a_client_that_takes_trailers_gets_them(fields: bytes, willing: bool) -> None:
    exchange = Parts().exchange(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n\r\n")
    assert for_client(exchange, [b"X: y"]) == (b"X: y\r\n" if willing else b"")
    told = [line for line in exchange.head.lines if line[:2].lower() in (b"te", b"co")]
    assert told == ([b"Connection: TE\r\n", b"TE: trailers\r\n"] if willing else [])


async def test_http_1_0_takes_none_and_an_upgrade_has_none() -> None:
    old = Parts().exchange(b"GET / HTTP/1.0\r\nTE: trailers\r\n\r\n")
    upgrade = Parts().exchange(
        b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: Upgrade, TE\r\nUpgrade: websocket\r\n\r\n"
    )
    assert old.head.lines == upgrade.head.lines == []


async def test_what_the_route_says_itself_is_not_said_by_a_trailer() -> None:
    exchange = Parts().exchange(WILLING)
    exchange.passage = passage = Passage(())
    passage.fields = b"X-Auth-User: me\r\nX-Other: 1\r\n"
    passage.replaced = frozenset((b"x-secret",))
    assert for_endpoint(exchange, [b"x-auth-USER: root", b"X-Auth: 2"]) == b"X-Auth: 2\r\n"
    assert for_client(exchange, [b"X-Secret: s", b"X-Open: o"]) == b"X-Open: o\r\n"
