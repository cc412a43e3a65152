from __future__ import annotations

import pytest
from hypothesis import example, given

from heads import REQUEST_HEAD, first_head, heads, spoilt_heads
from portway_proxy.errors import BadHost, ClientError, ProxyError
from portway_proxy.l7.request import RequestHead, RequestParser
from portway_proxy.settings import Limits

LIMITS = Limits()


def parse(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes | None = b"Host: shop.example") -> RequestHead:
    """Return the head made of these lines, as a parser of its own understands it."""
    fields = lines if host is None else (host, *lines)
    return RequestParser(LIMITS).parse(b"".join(line + b"\r\n" for line in (start, *fields, b"")))


def understood(head: RequestHead) -> dict[str, object]:
    """Return all that a head says; whether its beginning is remembered is no part of that."""
    return {name: getattr(head, name) for name in RequestHead.__slots__ if name != "beginning"}


def names(head: RequestHead) -> list[bytes]:
    return [line.partition(b":")[0] for line in head.lines]


# --- start line, target and host


def test_an_ordinary_head_is_understood() -> None:
    head = parse(b"Accept: */*", b"User-Agent: t/1", b"Referer: http://a/", start=b"GET /a/b?c=%2F&d HTTP/1.1")
    assert (head.method, head.target, head.raw_target, head.path) == (b"GET", b"/a/b?c=%2F&d", b"/a/b?c=%2F&d", b"/a/b")
    assert (head.raw_host, head.host, head.minor) == (b"shop.example", b"shop.example", 1)
    assert head.lines == [b"Accept: */*\r\n", b"User-Agent: t/1\r\n", b"Referer: http://a/\r\n"]
    assert (head.agent, head.referer) == (b"t/1", b"http://a/")
    assert (head.length, head.chunked, head.bodiless) == (None, False, True)
    assert (head.keep_alive, head.upgrade, head.expects, head.request_id) == (True, b"", b"", b"")


def test_the_form_that_is_matched_is_the_form_that_goes_on() -> None:
    head = parse(start=b"GET /%61//b/../c%2f?x=//../%61 HTTP/1.1")
    assert head.path == b"/a/c%2F"
    assert head.target == b"/a/c%2F?x=//../%61"
    assert head.raw_target == b"/%61//b/../c%2f?x=//../%61"


@pytest.mark.parametrize(
    ("target", "path", "sent"),
    [
        (b"/?", b"/", b"/?"),
        (b"/a??b", b"/a", b"/a??b"),
        (b"//?a", b"/", b"/?a"),
        (b"http://shop.example", b"/", b"/"),
        (b"http://Shop.Example/a?b", b"/a", b"/a?b"),
        (b"https://shop.example?b", b"/", b"/?b"),
    ],
)
def test_targets_lose_nothing_but_their_spelling(target: bytes, path: bytes, sent: bytes) -> None:
    head = parse(start=b"GET %b HTTP/1.1" % target)
    assert (head.path, head.target) == (path, sent)


def test_options_may_ask_for_the_whole_server() -> None:
    head = parse(start=b"OPTIONS * HTTP/1.1")
    assert (head.path, head.target) == (b"*", b"*")


def test_the_host_is_routed_without_case_port_and_dot_and_sent_as_it_came() -> None:
    head = parse(host=b"Host: Shop.Example.:8080")
    assert (head.host, head.raw_host) == (b"shop.example", b"Shop.Example.:8080")


def test_http_1_0_may_name_no_host_or_name_it_in_the_target() -> None:
    head = parse(start=b"GET / HTTP/1.0", host=None)
    assert (head.host, head.raw_host, head.minor) == (b"", None, 0)
    head = parse(start=b"GET http://A.example:80/x HTTP/1.0", host=None)
    assert (head.host, head.raw_host, head.path) == (b"a.example", b"A.example:80", b"/x")


# --- bodies


def test_a_body_is_framed_by_length_or_chunks_or_is_none() -> None:
    head = parse(b"Content-Length: 5")
    assert (head.length, head.chunked, head.bodiless) == (5, False, False)
    head = parse(b"Content-Length:  0012 ")
    assert head.length == 12
    head = parse(b"Content-Length: 0")
    assert (head.length, head.bodiless) == (0, True)
    head = parse(b"Content-Length: " + b"9" * 18)
    assert head.length == 999_999_999_999_999_999
    head = parse(b"Transfer-Encoding: \tCHUNKED ")
    assert (head.length, head.chunked, head.bodiless) == (None, True, False)
    assert head.lines == []


def test_an_expectation_waits_for_a_body_only() -> None:
    assert parse(b"Expect: 100-Continue", b"Content-Length: 5").expects == b"100-continue"
    assert parse(b"Expect: 100-continue", b"Transfer-Encoding: chunked").expects == b"100-continue"
    assert parse(b"Expect: 100-continue").expects == b""
    assert parse(b"Expect: 100-continue", b"Content-Length: 0").expects == b""
    assert parse(b"Expect: 100-continue", b"Content-Length: 5", start=b"POST / HTTP/1.0").expects == b""


# --- connection


@pytest.mark.parametrize(
    ("start", "fields", "keeps"),
    [
        (b"GET / HTTP/1.1", [], True),
        (b"GET / HTTP/1.1", [b"Connection: close"], False),
        (b"GET / HTTP/1.1", [b"Connection: Close"], False),
        (b"GET / HTTP/1.1", [b"Connection: keep-alive, close"], False),
        (b"GET / HTTP/1.1", [b"Connection: close", b"Connection: keep-alive"], False),
        (b"GET / HTTP/1.1", [b"Connection: x-close"], True),
        (b"GET / HTTP/1.1", [b"Connection:"], True),
        (b"GET / HTTP/1.0", [], False),
        (b"GET / HTTP/1.0", [b"Connection: keep-alive"], True),
        (b"GET / HTTP/1.0", [b"Connection: Keep-Alive, close"], False),
        (b"GET / HTTP/1.1", [b"Proxy-Connection: close"], True),
        (b"GET / HTTP/1.0", [b"Proxy-Connection: keep-alive"], False),
    ],
)
def test_a_connection_is_kept_as_version_and_field_say(start: bytes, fields: list[bytes], keeps: bool) -> None:
    assert parse(*fields, start=start).keep_alive is keeps


def test_nominated_fields_end_here() -> None:
    head = parse(b"X-A: 1", b"Cookie: 2", b"Connection: x-a,, COOKIE ,close", b"x-a: 3", b"X-B: 4", b"Connection: X-b")
    assert head.lines == []
    assert head.keep_alive is False


def test_a_nomination_cannot_take_what_frames_or_routes() -> None:
    head = parse(b"Connection: host, content-length, x-request-id", b"Content-Length: 5", b"X-Request-ID: a")
    assert (head.host, head.length, head.request_id) == (b"shop.example", 5, b"a")


@pytest.mark.parametrize(
    ("start", "fields", "asked"),
    [
        (b"GET", [b"Connection: Upgrade", b"Upgrade: websocket"], b"websocket"),
        (b"GET", [b"Upgrade: WebSocket", b"Connection: keep-alive, upgrade"], b"websocket"),
        (b"GET", [b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 0"], b"websocket"),
        (b"GET", [b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 1"], b""),
        (b"GET", [b"Connection: Upgrade", b"Upgrade: websocket", b"Transfer-Encoding: chunked"], b""),
        (b"GET", [b"Upgrade: websocket"], b""),
        (b"GET", [b"Connection: Upgrade"], b""),
        (b"GET", [b"Connection: Upgrade", b"Upgrade: h2c"], b""),
        (b"GET", [b"Connection: Upgrade", b"Upgrade: HTTP/2.0, tls/1.2, H2C"], b""),
        (b"GET", [b"Connection: Upgrade", b"Upgrade: h2c, websocket"], b"websocket"),
        (b"GET", [b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket"], b"websocket"),
        (b"GET", [b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c"], b"websocket"),
        (b"GET", [b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: SPDY/3.1"], b"websocket, SPDY/3.1"),
        (b"GET", [b"Connection: Upgrade", b"Upgrade: web socket"], b""),
        (b"GET", [b"Connection: Upgrade", b"Upgrade: websocket,"], b""),
        (b"GET", [b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: \xff"], b""),
        (b"POST", [b"Connection: Upgrade", b"Upgrade: websocket"], b""),
        (b"POST", [b"Connection: Upgrade", b"Upgrade: SPDY/3.1, websocket"], b"SPDY/3.1"),
        (b"POST", [b"Connection: Upgrade", b"Upgrade: tcp", b"Content-Length: 0"], b"tcp"),
        (b"POST", [b"Connection: Upgrade", b"Upgrade: tcp", b"Content-Length: 1"], b""),
    ],
)
def test_an_upgrade_asks_for_no_other_http_and_for_websocket_only_by_get(
    start: bytes, fields: list[bytes], asked: bytes
) -> None:
    head = parse(*fields, start=start + b" / HTTP/1.1")
    assert head.upgrade == asked
    assert head.lines == []


def test_http_1_0_upgrades_to_nothing() -> None:
    assert parse(b"Connection: Upgrade", b"Upgrade: websocket", start=b"GET / HTTP/1.0").upgrade == b""


def test_an_upgrade_to_http_2_leaves_nothing_behind() -> None:
    head = parse(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", b"Accept: */*")
    assert (head.upgrade, names(head)) == (b"", [b"Accept"])


# --- what a client may not say


@pytest.mark.parametrize(
    "name",
    [
        b"X-Forwarded-For",
        b"X-Forwarded-Anything",
        b"x-forwarded-proto",
        b"X_Forwarded_For",
        b"X.Forwarded.For",
        b"X-Forwarded.For",
        b"X!Forwarded~For",
        b"X-Real-IP",
        b"X_Real_IP",
        b"X.Real.IP",
        b"Forwarded",
        b"Proxy",
        b"X-Scheme",
        b"X-Original-Forwarded-For",
        b"X_Auth_User",
        b"Content_Length",
        b"Content.Length",
        b"Transfer.Encoding",
        b"Transfer_Encoding",
        b"X.Request.ID",
        b"User.Agent",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"TE",
        b"Trailer",
    ],
)
def test_what_only_a_proxy_may_say_is_dropped_in_every_spelling(name: bytes) -> None:
    head = parse(b"%b: 5" % name, b"Accept: */*")
    assert (names(head), head.length, head.chunked) == ([b"Accept"], None, False)


@pytest.mark.parametrize("name", [b"X.Custom", b"X-Forward", b"Forwarded-By", b"Proxy-Authorization", b"X-Real"])
def test_other_fields_pass(name: bytes) -> None:
    assert names(parse(b"%b: 5" % name)) == [name]


def test_a_request_id_is_taken_over_when_it_is_one_and_fits_a_log_line() -> None:
    assert parse(b"X-Request-ID: abc-123").request_id == b"abc-123"
    assert parse(b"X-Request-ID: " + b"a" * 128).request_id == b"a" * 128
    for lines in ([b"a b"], [b""], [b"\xff"], [b"a" * 129], [b"a", b"b"]):
        assert parse(*(b"X-Request-ID: " + value for value in lines)).request_id == b""


# --- the parser


def test_a_parser_keeps_nothing_from_one_head_to_the_next() -> None:
    parser = RequestParser(LIMITS)
    full = (
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, X-A\r\nUpgrade: websocket\r\nX-A: 1 \r\n"
        b"X-Request-ID: one\r\nReferer: r\r\nUser-Agent: u\r\n\r\n"
    )
    broken = b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    first = parser.parse(full)
    with pytest.raises(ClientError):
        parser.parse(broken)
    plain = parser.parse(b"GET / HTTP/1.0\r\nX-A: 2\r\n\r\n")
    assert (first.upgrade, first.request_id) == (b"websocket", b"one")
    assert first.lines == [b"Referer: r\r\n", b"User-Agent: u\r\n"]
    assert plain.lines == [b"X-A: 2\r\n"]
    assert (plain.upgrade, plain.expects, plain.length, plain.request_id) == (b"", b"", None, b"")
    assert (plain.referer, plain.agent, plain.raw_host, plain.keep_alive) == (b"", b"", None, False)


@pytest.mark.parametrize("method", [b"POST", b"HEAD", b"OPTIONS"])
def test_an_upgrade_does_not_depend_on_the_methods_that_had_the_same_fields_before(method: bytes) -> None:
    fields = b" / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    parser = RequestParser(LIMITS)
    assert not parser.parse(method + fields).upgrade
    assert parser.parse(b"GET" + fields).upgrade
    assert not parser.parse(method + fields).upgrade


@pytest.mark.parametrize("place", ["first", "last"])
def test_fields_that_came_before_mean_the_same_for_another_host_and_nothing_without_one(place: str) -> None:
    def request(*hosts: bytes, fields: bytes = b"X: 1\r\nUser-Agent: u\r\n") -> bytes:
        named = b"".join(b"Host: %b\r\n" % host for host in hosts)
        return b"GET /p HTTP/1.1\r\n" + (named + fields if place == "first" else fields + named) + b"\r\n"

    parser = RequestParser(LIMITS)
    for host in (b"a.example", b"b.example", b"A.example:80", b"a.example"):
        head = parser.parse(request(host))
        fresh = RequestParser(LIMITS).parse(request(host))
        assert understood(head) == understood(fresh)
    for bad in (request(), request(b"a.example", b"b.example"), request(b"a..b"), request(b"a b"), request(b"a/b")):
        with pytest.raises(BadHost):
            parser.parse(bad)
    with pytest.raises(BadHost):
        parser.parse(b"GET /p HTTP/1.1\r\nHost: a\r\nX: 1\r\nUser-Agent: u\r\nHost: b\r\n\r\n")


def again(parser: RequestParser, *heads: bytes) -> list[RequestHead | None]:
    """Return what `parser` knows of each head by the block of the first one, which it has parsed twice."""
    parser.parse(heads[0])
    parser.parse(heads[0])
    assert parser.block is not None
    return [parser.again(head, parser.block) for head in heads]


def test_a_head_whose_beginning_and_fields_came_before_is_known_as_a_whole() -> None:
    parser = RequestParser(LIMITS)
    other = b"GET /b HTTP/1.1\r\nHost: b\r\n"
    parser.parse(other + b"X: 1\r\n\r\n")
    parser.parse(other + b"X: 1\r\n\r\n")
    fields = b"X: 2\r\nUser-Agent: u\r\n\r\n"
    first, second = again(parser, b"GET /a?q HTTP/1.1\r\nHost: a\r\n" + fields, other + fields)
    assert first is not None
    assert second is not None
    assert understood(first) == understood(RequestParser(LIMITS).parse(b"GET /a?q HTTP/1.1\r\nHost: a\r\n" + fields))
    assert understood(second) == understood(RequestParser(LIMITS).parse(other + fields))
    assert first.beginning is not second.beginning
    assert first is not again(parser, b"GET /a?q HTTP/1.1\r\nHost: a\r\n" + fields)[0]


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n", b"GET / HTTP/1.1\r\nX: 1\r\nHost: a\r\n\r\n"]
)
@pytest.mark.parametrize(
    "other",
    [
        b"GET / HTTP/1.1\r\nX: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\nX: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
        b"ET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
        b"X: 1\r\n\r\n",
        b"",
    ],
)
def test_no_block_is_known_behind_a_beginning_that_it_has_no_meaning_behind(first: bytes, other: bytes) -> None:
    parser = RequestParser(LIMITS)
    for known in (b"GET / HTTP/1.1\r\nX: 2\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: 2\r\n\r\n"):
        parser.parse(known)
        parser.parse(known)
    assert again(parser, first, other)[1] is None


def test_what_another_parser_remembers_is_nothing_to_this_one() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n"
    parser = RequestParser(LIMITS)
    assert again(parser, head)[0] is not None
    assert parser.block is not None
    assert RequestParser(LIMITS).again(head, parser.block) is None


def test_a_head_that_is_too_long_is_not_known_by_its_parts() -> None:
    parser = RequestParser(Limits(head=64))
    fields = b"X: 345678901234567890\r\n\r\n"
    short, long = b"GET / HTTP/1.1\r\nHost: a\r\n", b"GET /4567890123456789 HTTP/1.1\r\nHost: a\r\n"
    parser.parse(long + b"\r\n")
    parser.parse(long + b"\r\n")
    assert [head is None for head in again(parser, short + fields, long + fields)] == [False, True]


def test_a_parser_remembers_a_bounded_number_of_hosts() -> None:
    parser = RequestParser(LIMITS)
    for number in range(3000):
        parser.parse(b"GET / HTTP/1.1\r\nHost: h%d\r\n\r\n" % number)
    assert len(parser._hosts) <= 1024


@given(heads | spoilt_heads())
@example(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
def test_what_is_accepted_is_in_the_grammar_of_rfc_9112(data: bytes) -> None:
    data = first_head(data)
    try:
        head = RequestParser(LIMITS).parse(data)
    except ProxyError as error:
        assert isinstance(error, ClientError)  # noqa: PT017 - of any head, either of the two must hold
        return
    assert REQUEST_HEAD.fullmatch(data)
    assert head.length is None or not head.chunked
    assert head.host or head.minor == 0
