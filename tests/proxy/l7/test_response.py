from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.errors import UpstreamBadResponse
from portway_proxy.l7.fields import tokens
from portway_proxy.l7.response import ResponseHead, ResponseParser
from portway_proxy.settings import Limits

LIMITS = Limits()


def lines(*of: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in (*of, b""))


def parse(*fields: bytes, start: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    return ResponseParser(LIMITS).parse(lines(start, *fields))


@pytest.mark.parametrize(
    ("start", "minor", "status", "phrase"),
    [
        (b"HTTP/1.1 200 OK", 1, 200, b"OK"),
        (b"HTTP/1.0 404 Not Found", 0, 404, b"Not Found"),
        (b"HTTP/1.1 200 ", 1, 200, b""),
        (b"HTTP/1.1 200", 1, 200, b""),
        (b"HTTP/1.1 299 \ta\xe9~", 1, 299, b"\ta\xe9~"),
        (b"HTTP/1.1 100 Continue", 1, 100, b"Continue"),
        (b"HTTP/1.1 599 x", 1, 599, b"x"),
        (b"HTTP/1.1 999 x", 1, 999, b"x"),
    ],
)
def test_a_status_line_is_version_status_and_phrase(start: bytes, minor: int, status: int, phrase: bytes) -> None:
    head = parse(start=start)
    assert (head.minor, head.status, head.phrase) == (minor, status, phrase)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/1.1 20",
        b"HTTP/1.1 2000 x",
        b"HTTP/1.1 099 x",
        b"HTTP/1.1 +20 x",
        b"HTTP/1.1 2_0 x",
        b"HTTP/1.1 \xb2\xb2\xb2 x",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b" HTTP/1.1 200 OK",
        b"\nHTTP/1.1 200 OK",
        b"\r\nHTTP/1.1 200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/2.0 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 200 O\nX: y",
        b"HTTP/1.1 200 O\x1b[31mK",
        b"HTTP/1.1 200 OK\r",
    ],
)
def test_a_bad_status_line_is_no_response(start: bytes) -> None:
    with pytest.raises(UpstreamBadResponse):
        parse(start=start)


@pytest.mark.parametrize(
    "fields",
    [
        [b"X : a"],
        [b" X: a"],
        [b"X"],
        [b": a"],
        [b"X\x80: a"],
        [b"X: a\x00"],
        [b"X: a\x0b"],
        [b"X: a\x7f"],
        [b"X: a\rb"],
        [b"X: a\nSet-Cookie: b"],
        [b"X: a\r\n b"],
        [b"X: a\r\r"],
        [b"X: a\r\n\n"],
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length: +5"],
        [b"Content-Length: 0x5"],
        [b"Content-Length:"],
        [b"Content-Length: 1234567890123456789"],
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: chunked, gzip"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding:"],
        [b"X: a"] * 101,
    ],
)
def test_a_bad_field_or_framing_is_no_response(fields: list[bytes]) -> None:
    with pytest.raises(UpstreamBadResponse):
        parse(*fields)


def test_http_1_0_knows_no_transfer_coding() -> None:
    with pytest.raises(UpstreamBadResponse):
        parse(b"Transfer-Encoding: chunked", start=b"HTTP/1.0 200 OK")


def test_a_body_is_framed_by_length_or_chunks_or_neither() -> None:
    assert (parse(b"Content-Length: 5").length, parse(b"Content-Length: 5").chunked) == (5, False)
    assert (parse(b"Transfer-Encoding: Chunked").length, parse(b"Transfer-Encoding: Chunked").chunked) == (None, True)
    assert (parse().length, parse().chunked) == (None, False)


def test_fields_go_on_in_their_order_and_those_of_the_connection_do_not() -> None:
    head = parse(
        b"Server: s",
        b"Set-Cookie: a",
        b"Date: d",
        b"Keep-Alive: timeout=5",
        b"X-Private: x",
        b"Connection: x-private, keep-alive",
        b"Proxy-Connection: close",
        b"Trailer: X-Sum",
        b"Upgrade: h2c",
        b"set-cookie:b ",
        b"Content-Length: 5",
    )
    assert head.lines == [b"Server: s\r\n", b"Set-Cookie: a\r\n", b"Date: d\r\n", b"set-cookie: b\r\n"]
    assert (head.named, head.dated, head.keep_alive, head.upgrade) == (True, True, True, b"h2c")
    assert (parse().named, parse().dated) == (False, False)


@pytest.mark.parametrize(
    ("start", "fields", "keeps"),
    [
        (b"HTTP/1.1 200 OK", [], True),
        (b"HTTP/1.1 200 OK", [b"Connection: close"], False),
        (b"HTTP/1.1 200 OK", [b"Connection: keep-alive", b"Connection: Close"], False),
        (b"HTTP/1.0 200 OK", [], False),
        (b"HTTP/1.0 200 OK", [b"Connection: Keep-Alive"], True),
        (b"HTTP/1.0 200 OK", [b"Keep-Alive: timeout=5"], False),
    ],
)
def test_a_connection_is_kept_as_version_and_field_say(start: bytes, fields: list[bytes], keeps: bool) -> None:
    assert parse(*fields, start=start).keep_alive is keeps


def test_a_switch_of_protocols_names_the_new_one() -> None:
    head = parse(b"Connection: Upgrade", b"Upgrade: WebSocket", b"X: y", start=b"HTTP/1.1 101 Switching Protocols")
    assert (head.status, head.upgrade, head.lines) == (101, b"WebSocket", [b"X: y\r\n"])


def test_a_parser_keeps_nothing_from_one_head_to_the_next() -> None:
    parser = ResponseParser(LIMITS)
    first = parser.parse(lines(b"HTTP/1.1 200 OK", b"Server: s", b"Date: d", b"Connection: X", b"Content-Length: 5"))
    with pytest.raises(UpstreamBadResponse):
        parser.parse(lines(b"HTTP/1.1 200 OK", b"Transfer-Encoding: gzip"))
    second = parser.parse(lines(b"HTTP/1.1 204 No Content", b"X: y"))
    assert first.lines == [b"Server: s\r\n", b"Date: d\r\n"]
    assert second.lines == [b"X: y\r\n"]
    assert (second.named, second.dated, second.length, second.chunked) == (False, False, None, False)


parts = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b":",
        b"X: y",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Set-Cookie: a=b",
        b"\x00",
    ]
)


@given(st.lists(parts, max_size=12))
def test_what_we_accept_h11_accepts_and_reads_the_same(tail: list[bytes]) -> None:
    data = b"HTTP/1.1 200 OK\r\n" + b"".join(tail) + b"\r\n\r\n"
    data = data[: data.index(b"\r\n\r\n") + 4]
    try:
        head = ResponseParser(LIMITS).parse(data)
    except UpstreamBadResponse:
        return
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.receive_data(data)
    response = connection.next_event()
    assert isinstance(response, h11.Response)
    assert (head.status, head.phrase) == (response.status_code, response.reason)
    own = [b"content-length", b"transfer-encoding", b"connection"]
    for name, value in response.headers.raw_items():
        own += tokens(bytes(value)) if bytes(name).lower() == b"connection" else []
    assert head.lines == [
        b"%b: %b\r\n" % (name, value) for name, value in response.headers.raw_items() if bytes(name).lower() not in own
    ]
