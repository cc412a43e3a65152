from __future__ import annotations

import re
from itertools import product

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heads import first_head, heads, spoilt_heads
from portway_proxy.errors import ClientError, UpstreamBadResponse
from portway_proxy.l7.request import RequestHead, RequestParser
from portway_proxy.l7.response import ResponseHead, ResponseParser
from portway_proxy.l7.rewrite import Repeats, forwarded_fields, request_head, response_head
from portway_proxy.settings import Limits

LIMITS = Limits()
FORWARDED = forwarded_fields("192.0.2.1", 80, b"http")
TOLD = (
    b"X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\nX-Forwarded-Port: 80\r\nX-Forwarded-Proto: http\r\n"
    b"X-Forwarded-Scheme: http\r\nX-Scheme: http\r\n"
)


def lines(*of: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in (*of, b""))


def request(*of: bytes) -> RequestHead:
    """Return a request head with an id, as it is when it is sent on."""
    head = RequestParser(LIMITS).parse(lines(*of))
    head.request_id = head.request_id or b"id"
    return head


def sent(*of: bytes) -> bytes:
    return request_head(request(*of), FORWARDED, b"10.0.0.1:80")


def response(*of: bytes) -> ResponseHead:
    return ResponseParser(LIMITS).parse(lines(*of))


def test_an_endpoint_is_told_who_asked_and_how() -> None:
    assert forwarded_fields("192.0.2.1", 80, b"http") == TOLD
    assert b"X-Forwarded-For: 2001:db8::1\r\n" in forwarded_fields("2001:db8::1", 443, b"https")
    assert b"X-Forwarded-Port: 443\r\nX-Forwarded-Proto: https\r\n" in forwarded_fields("2001:db8::1", 443, b"https")


def test_a_request_is_written_anew() -> None:
    assert sent(
        b"GET /%61//b?c HTTP/1.1", b"Accept:text/html \t", b"HOST:  Shop.example:80", b"X-Forwarded-For: 10.0.0.1"
    ) == (
        b"GET /a/b?c HTTP/1.1\r\nHost: Shop.example:80\r\nAccept: text/html\r\n" + TOLD + b"X-Forwarded-Host: "
        b"Shop.example:80\r\nX-Request-ID: id\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("fields", "ending"),
    [
        ([], b"X-Request-ID: id\r\n\r\n"),
        ([b"Content-Length: 005"], b"X-Request-ID: id\r\nContent-Length: 5\r\n\r\n"),
        ([b"Content-Length: 0"], b"X-Request-ID: id\r\nContent-Length: 0\r\n\r\n"),
        ([b"Transfer-Encoding:CHUNKED"], b"X-Request-ID: id\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (
            [b"Content-Length: 5", b"Expect: 100-Continue"],
            b"X-Request-ID: id\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        ),
        ([b"X-Request-ID: mine"], b"X-Request-ID: mine\r\n\r\n"),
        ([b"Connection: close"], b"X-Request-ID: id\r\n\r\n"),
        ([b"Connection: Upgrade", b"Upgrade: h2c"], b"X-Request-ID: id\r\n\r\n"),
    ],
)
def test_what_frames_a_request_is_written_from_what_was_understood(fields: list[bytes], ending: bytes) -> None:
    assert sent(b"POST / HTTP/1.1", b"Host: a", *fields).endswith(b"X-Forwarded-Host: a\r\n" + ending)


def test_an_upgrade_goes_on_as_the_one_that_was_understood() -> None:
    head = sent(b"GET / HTTP/1.1", b"Host: a", b"Connection: keep-alive, UPGRADE", b"Upgrade: WebSocket")
    assert head.endswith(b"X-Request-ID: id\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")


def test_own_fields_cannot_be_nominated_away() -> None:
    nominations = b"Connection: host, x-forwarded-for, x-real-ip, x-forwarded-host, x-request-id, x-forwarded-proto"
    head = sent(b"GET / HTTP/1.1", b"Host: a", nominations)
    assert head == b"GET / HTTP/1.1\r\nHost: a\r\n" + TOLD + b"X-Forwarded-Host: a\r\nX-Request-ID: id\r\n\r\n"


def test_what_a_client_repeats_is_written_once_and_reads_as_if_it_were_written_anew() -> None:
    parser, repeats = RequestParser(LIMITS), Repeats()
    blocks = [b"Host: a\r\nX: 1\r\n", b"Host: b\r\nX: 1\r\n", b"Host: a\r\nX: 1\r\nContent-Length: 3\r\n"]
    others = [FORWARDED, forwarded_fields("192.0.2.9", 443, b"https")]
    for number, (block, forwarded) in enumerate(product(blocks * 2, others * 2)):
        head = parser.parse(b"GET /%d HTTP/1.1\r\n%b\r\n" % (number, block))
        head.request_id = b"%d" % number
        whole = request_head(head, forwarded, b"10.0.0.1:80")
        assert repeats.request_head(head, forwarded, b"10.0.0.1:80") == whole
        assert b"/%d HTTP/1.1\r\nHost: %b\r\n" % (number, block[6:7]) in whole


def test_a_request_without_a_host_goes_on_with_the_name_of_its_endpoint() -> None:
    assert sent(b"GET /a HTTP/1.0") == (
        b"GET /a HTTP/1.1\r\nHost: 10.0.0.1:80\r\n"
        + TOLD
        + b"X-Forwarded-Host: 10.0.0.1:80\r\nX-Request-ID: id\r\n\r\n"
    )
    assert sent(b"GET http://a/x HTTP/1.0").startswith(b"GET /x HTTP/1.1\r\nHost: a\r\n")


SENT = re.compile(
    rb"[A-Z-]+ (?:/[\x21-\x7e]*|\*) HTTP/1\.1\r\nHost: [\x21-\x7e]+\r\n"
    rb"(?:[!#-'*+.^`|~0-9A-Za-z-]+: [^\r\n\x00]*\r\n)+\r\n"
)
ONCE = (b"host", b"x-forwarded-for", b"x-real-ip", b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id")


@given(heads | spoilt_heads())
@example(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
def test_whatever_is_sent_on_is_one_request_that_h11_and_we_read_the_same(data: bytes) -> None:
    try:
        head = RequestParser(LIMITS).parse(first_head(data))
    except ClientError:
        return
    head.request_id = head.request_id or b"id"
    out = request_head(head, FORWARDED, b"10.0.0.1:80")
    assert SENT.fullmatch(out)
    assert out.count(b"\r\n\r\n") == 1
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(out)
    read = connection.next_event()
    assert isinstance(read, h11.Request)
    names = [bytes(name).lower() for name, _ in read.headers.raw_items()]
    assert [names.count(name) for name in ONCE] == [1] * len(ONCE)
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert (b"x-forwarded-for", b"192.0.2.1") in read.headers
    assert not any(b"_" in name for name in names)
    again = RequestParser(LIMITS).parse(out)
    assert (again.method, again.target, again.length, again.chunked, again.upgrade) == (
        head.method,
        head.target,
        head.length,
        head.chunked,
        head.upgrade,
    )
    assert (again.path, again.host or b"10.0.0.1") == (head.path, head.host or b"10.0.0.1")


# --- responses


def test_a_response_is_written_anew() -> None:
    head = response(b"HTTP/1.0 200 Fine", b"X:  a \t", b"Server: s", b"Date: d", b"Connection: close, y", b"Y: z")
    assert response_head(head, b"Content-Length: 5\r\n", b"now", b"Connection: close\r\n") == (
        b"HTTP/1.1 200 Fine\r\nX: a\r\nServer: s\r\nDate: d\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    )


def test_a_response_without_server_and_date_gets_ours() -> None:
    head = response(b"HTTP/1.1 404", b"X: y")
    assert response_head(head, b"", b"now", b"") == b"HTTP/1.1 404 \r\nX: y\r\nServer: portway\r\nDate: now\r\n\r\n"


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_nothing_in_a_response_adds_a_line_to_it(phrase: bytes, value: bytes) -> None:
    data = first_head(b"HTTP/1.1 200 " + phrase + b"\r\nX: " + value)
    try:
        head = ResponseParser(LIMITS).parse(data)
    except UpstreamBadResponse:
        return
    out = response_head(head, b"", b"now", b"")
    assert out.count(b"\n") == out.count(b"\r") == out.count(b"\r\n") <= data.count(b"\r\n") + 2
