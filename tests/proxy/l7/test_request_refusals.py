"""Heads that are refused: the list of hostile-world 1 and of RFC 9112."""

from __future__ import annotations

import pytest

from portway_proxy.errors import (
    BadHead,
    BadHost,
    BadTarget,
    ClientError,
    ExpectationFailed,
    FieldsTooLarge,
    MethodNotAllowed,
    TargetTooLong,
    UnknownCoding,
    VersionUnsupported,
)
from portway_proxy.l7.request import RequestParser
from portway_proxy.settings import Limits

LIMITS = Limits()
HOST = b"Host: a"


def refused(data: bytes, reason: type[ClientError]) -> None:
    with pytest.raises(ClientError) as caught:
        RequestParser(LIMITS).parse(data)
    assert type(caught.value) is reason


def head(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in (*lines, b""))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", BadHead),
        (b"GET", BadHead),
        (b"GET /", BadHead),
        (b"GET / ", BadHead),
        (b"GET / HTTP/1.1 ", BadHead),
        (b" GET / HTTP/1.1", BadHead),
        (b"\nGET / HTTP/1.1", BadHead),
        (b"\rGET / HTTP/1.1", BadHead),
        (b"\n\r\nGET / HTTP/1.1", BadHead),
        (b"\tGET / HTTP/1.1", BadHead),
        (b"GET  / HTTP/1.1", BadHead),
        (b"GET /  HTTP/1.1", BadHead),
        (b"GET /a b HTTP/1.1", BadHead),
        (b"GET\t/\tHTTP/1.1", BadHead),
        (b"GET / HTTP/1.1\r", BadHead),
        (b"GET /\n HTTP/1.1", BadHead),
        (b"GET / HTTP/1.1\nX: y", BadHead),
        (b"GET / HTTP/1.1\x00", BadHead),
        (b"\x00GET / HTTP/1.1", BadHead),
        (b"G\x00T / HTTP/1.1", BadHead),
        (b"G(T / HTTP/1.1", BadHead),
        (b"get / HTTP/1.1", BadHead),
        (b"BREW / HTTP/1.1", BadHead),
        (b"PRI * HTTP/2.0", VersionUnsupported),
        (b"GET / HTTP/2.0", VersionUnsupported),
        (b"GET / HTTP/3.0", VersionUnsupported),
        (b"GET / HTTP/0.9", VersionUnsupported),
        (b"GET / HTTP/1.2", BadHead),
        (b"GET / HTTP/1", BadHead),
        (b"GET / HTTP/1.10", BadHead),
        (b"GET / HTTP/01.1", BadHead),
        (b"GET / HTTP/1,1", BadHead),
        (b"GET / http/1.1", BadHead),
        (b"GET / HTTPS/1.1", BadHead),
        (b"GET / ICE/1.0", BadHead),
        (b"GET / HTTP /1.1", BadHead),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", BadHead),
        (b"CONNECT a:443 HTTP/1.1", MethodNotAllowed),
        (b"GET a HTTP/1.1", BadTarget),
        (b"GET * HTTP/1.1", BadTarget),
        (b"GET ?a HTTP/1.1", BadTarget),
        (b"GET ftp://a/ HTTP/1.1", BadTarget),
        (b"GET http:/a HTTP/1.1", BadTarget),
        (b"GET /\x00 HTTP/1.1", BadTarget),
        (b"GET /\x01 HTTP/1.1", BadTarget),
        (b"GET /\x7f HTTP/1.1", BadTarget),
        (b"GET /\xc3\xa9 HTTP/1.1", BadTarget),
        (b"GET /?\x80 HTTP/1.1", BadTarget),
        (b"GET /a#b HTTP/1.1", BadTarget),
        (b"GET /?a#b HTTP/1.1", BadTarget),
        (b"GET /a\\b HTTP/1.1", BadTarget),
        (b"GET /%zz HTTP/1.1", BadTarget),
        (b"GET /%00 HTTP/1.1", BadTarget),
        (b"GET /../a HTTP/1.1", BadTarget),
        (b"GET /a/..%2fb HTTP/1.1", BadTarget),
        (b"GET http://b/ HTTP/1.1", BadHost),
        (b"GET http://a:80/ HTTP/1.1", BadHost),
        (b"GET http://u@a/ HTTP/1.1", BadHost),
        (b"GET http:///a HTTP/1.1", BadHost),
    ],
)
def test_a_bad_start_line_is_refused(line: bytes, reason: type[ClientError]) -> None:
    refused(head(line, HOST), reason)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], BadHost),
        ([b"Host:"], BadHost),
        ([HOST, HOST], BadHost),
        ([HOST, b"host: b"], BadHost),
        ([b"Host: a, b"], BadHost),
        ([b"Host: u@a"], BadHost),
        ([b"Host: a/b"], BadHost),
        ([b"Host: a:x"], BadHost),
        ([b"Host: a b"], BadHost),
        ([b"Host: \xff"], BadHost),
        ([b"Host: http://a"], BadHost),
    ],
)
def test_the_host_is_one_name_or_the_request_is_refused(lines: list[bytes], reason: type[ClientError]) -> None:
    refused(head(b"GET / HTTP/1.1", *lines), reason)


def test_http_1_0_may_not_repeat_or_garble_its_host_either() -> None:
    refused(head(b"GET / HTTP/1.0", HOST, HOST), BadHost)
    refused(head(b"GET / HTTP/1.0", b"Host: a,b"), BadHost)
    refused(head(b"GET http://b/ HTTP/1.0", HOST), BadHost)


@pytest.mark.parametrize(
    "line",
    [
        b"X : a",
        b"X\t: a",
        b" X: a",
        b"\tX: a",
        b"X\x0b: a",
        b": a",
        b"X",
        b"X a",
        b"X\x00: a",
        b"X\x80: a",
        b"X\xc3\xa9: a",
        b"(X): a",
        b"X[]: a",
        b'"X": a',
        b"X/Y: a",
        b"X;Y: a",
        b"X: a\x00",
        b"X: a\x01b",
        b"X: \x08",
        b"X: a\x0bb",
        b"X: a\x0c",
        b"X: a\x1bb",
        b"X: a\x7fb",
        b"X: a\rb",
        b"X: a\nY: b",
        b"X: a\n",
        b"X: a\r\r",
        b"X: a\r\n b",
        b"X: a\r\n\tb",
        b"X: a\r\n ",
        b"X:\r\n a",
        b"X: a\r\n\n",
        b"\n",
        b"\x00",
    ],
)
@pytest.mark.parametrize("after", [b"", b"Y: z"])
def test_a_bad_field_line_is_refused_and_never_repaired(line: bytes, after: bytes) -> None:
    refused(head(b"GET / HTTP/1.1", HOST, line, *([after] if after else [])), BadHead)


def test_white_space_before_the_first_field_is_refused() -> None:
    refused(head(b"GET / HTTP/1.1", b" Host: a", HOST), BadHead)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([b"Content-Length: 5", b"Content-Length: 5"], BadHead),
        ([b"Content-Length: 5", b"Content-Length: 6"], BadHead),
        ([b"Content-Length: 0", b"content-length: 0"], BadHead),
        ([b"Content-Length: 5, 5"], BadHead),
        ([b"Content-Length: 5,"], BadHead),
        ([b"Content-Length: +5"], BadHead),
        ([b"Content-Length: -5"], BadHead),
        ([b"Content-Length: -0"], BadHead),
        ([b"Content-Length: 0x5"], BadHead),
        ([b"Content-Length: 0_5"], BadHead),
        ([b"Content-Length: 5.0"], BadHead),
        ([b"Content-Length: 5e1"], BadHead),
        ([b"Content-Length: 5 5"], BadHead),
        ([b"Content-Length: five"], BadHead),
        ([b"Content-Length:"], BadHead),
        ([b'Content-Length: "5"'], BadHead),
        ([b"Content-Length: 5;"], BadHead),
        ([b"Content-Length: \xef\xbc\x95"], BadHead),  # Full-width five, which int() reads.
        ([b"Content-Length: \xd9\xa5"], BadHead),  # Arabic five.
        ([b"Content-Length: \xa05"], BadHead),
        ([b"Content-Length: 1234567890123456789"], BadHead),
        ([b"Content-Length: 18446744073709551621"], BadHead),
        ([b"Content-Length: " + b"9" * 10_000], BadHead),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], BadHead),
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], BadHead),
        ([b"Content-Length: 0", b"Transfer-Encoding: chunked"], BadHead),
        ([b"Content-Length: 5", b"Transfer-Encoding: x"], BadHead),
        # Chunked is not the last coding, or twice: where the body ends nobody can say (RFC 9112, 6.3).
        ([b"Transfer-Encoding: gzip"], BadHead),
        ([b"Transfer-Encoding: identity"], BadHead),
        ([b"Transfer-Encoding: chunked, gzip"], BadHead),
        ([b"Transfer-Encoding: chunked, chunked"], BadHead),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], BadHead),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"], BadHead),
        ([b"Transfer-Encoding: xchunked"], BadHead),
        ([b"Transfer-Encoding: chunked;q=1"], BadHead),
        ([b"Transfer-Encoding: \x0bchunked"], BadHead),
        ([b"Transfer-Encoding: chunk"], BadHead),
        ([b"Transfer-Encoding:"], BadHead),
        ([b"Transfer-Encoding : chunked"], BadHead),
        ([b"Transfer-Encoding\x0b: chunked"], BadHead),
        # A coding that we do not know, and then chunks (RFC 9112, 6.1).
        ([b"Transfer-Encoding: gzip, chunked"], UnknownCoding),
        ([b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"], UnknownCoding),
        ([b"Transfer-Encoding: identity, chunked"], UnknownCoding),
        ([b"Transfer-Encoding: ,chunked"], UnknownCoding),
    ],
)
def test_a_body_that_two_readers_could_frame_differently_is_refused(
    lines: list[bytes], reason: type[ClientError]
) -> None:
    refused(head(b"POST / HTTP/1.1", HOST, *lines), reason)


def test_http_1_0_knows_no_transfer_coding() -> None:
    refused(head(b"POST / HTTP/1.0", HOST, b"Transfer-Encoding: chunked"), BadHead)
    refused(head(b"POST / HTTP/1.0", HOST, b"Transfer-Encoding: gzip, chunked"), UnknownCoding)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Expect: y"],
        [b"Expect: y 100-continue"],
        [b"Expect: 100-continue, y"],
        [b"Expect: y", b"Expect: 100-continue"],
        [b"Expect: 100-continue", b"Expect: y"],
        [b"Expect: 100-continue;a=b"],
    ],
)
def test_an_unknown_expectation_fails(lines: list[bytes]) -> None:
    refused(head(b"POST / HTTP/1.1", HOST, b"Content-Length: 5", *lines), ExpectationFailed)
    refused(head(b"GET / HTTP/1.1", HOST, *lines), ExpectationFailed)


# --- limits


def test_a_request_line_may_be_as_long_as_the_limit() -> None:
    def line(size: int) -> bytes:
        return b"GET /" + b"a" * (size - 14) + b" HTTP/1.1"

    assert RequestParser(LIMITS).parse(head(line(LIMITS.request_line), HOST)).method == b"GET"
    refused(head(line(LIMITS.request_line + 1), HOST), TargetTooLong)


def test_a_field_may_be_as_long_as_the_limit() -> None:
    def field(size: int) -> bytes:
        return b"X: " + b"a" * (size - 3)

    assert RequestParser(LIMITS).parse(head(b"GET / HTTP/1.1", HOST, field(LIMITS.field))).lines
    refused(head(b"GET / HTTP/1.1", HOST, field(LIMITS.field + 1)), FieldsTooLarge)
    refused(head(b"GET / HTTP/1.1", field(LIMITS.field + 1), HOST), FieldsTooLarge)
    refused(head(b"GET / HTTP/1.1", HOST, b"a" * LIMITS.field + b":"), FieldsTooLarge)


def test_there_may_be_as_many_fields_as_the_limit() -> None:
    lines = [b"X: a"] * (LIMITS.fields - 1)
    assert len(RequestParser(LIMITS).parse(head(b"GET / HTTP/1.1", HOST, *lines)).lines) == LIMITS.fields - 1
    refused(head(b"GET / HTTP/1.1", HOST, *lines, b"X: a"), FieldsTooLarge)


def test_a_refusal_says_what_is_wrong_and_repeats_nothing_of_what_was_sent() -> None:
    for lines in ([b"secret\x00: a"], [b"Host: secret secret"], [b"Content-Length: secret"]):
        with pytest.raises(ClientError) as caught:
            RequestParser(LIMITS).parse(head(b"GET / HTTP/1.1", *lines))
        assert "secret" not in str(caught.value)
        assert str(caught.value)[0].islower()


def test_what_is_wrong_twice_has_one_reason_whatever_is_remembered() -> None:
    parser = RequestParser(LIMITS)
    twice = head(b"GET /%00 HTTP/1.1", b"Host: a..b", b"X: 1")
    for known in (False, True):
        assert (parser._recall.block(b"X: 1\r\n\r\n", hosted=True) is not None) is known
        with pytest.raises(BadHost):
            parser.parse(twice)
        parser.parse(head(b"GET / HTTP/1.1", HOST, b"X: 1"))
