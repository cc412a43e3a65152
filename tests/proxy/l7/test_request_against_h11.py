"""What we accept h11 accepts and reads the same; where h11 accepts more, the reason is written here."""

from __future__ import annotations

import pytest
from hypothesis import given

from fuzz.reading import read_request_head
from fuzz.targets import request
from heads import first_head, heads, spoilt_heads
from portway_proxy.errors import ClientError
from portway_proxy.l7.request import RequestParser
from portway_proxy.settings import Limits


@given(heads | spoilt_heads())
def test_what_we_accept_h11_accepts_and_reads_the_same(data: bytes) -> None:
    request(first_head(data))


# h11 accepts each of these, and is right to by some rule; a proxy is what the other half of a desync would need.
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\nHost: a\n\n", "a line may end without CR (RFC 9112, 2.2: MAY)"),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "a line may end without CR (RFC 9112, 2.2: MAY)"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", "folded lines may be joined (RFC 9112, 5.2)"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", "equal lengths may be one (RFC 9112, 6.3)"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "equal lengths may be one"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1234567890123456789\r\n\r\n", "19 digits fit its limit of 20"),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            "the coding wins over the length (RFC 9112, 6.1: MAY)",
        ),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "it does not ask for the version"),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "any token is a method; we know those of llhttp"),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", "any token is a method"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "it may serve a forward proxy"),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "a minor version may grow"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "it does not ask for the version"),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", "it does not look into the target"),
        (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "it does not look into the target"),
        (b"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", "it does not look into the target"),
        (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", "it does not look into the target"),
        (b"GET /../a HTTP/1.1\r\nHost: a\r\n\r\n", "it does not look into the target"),
        (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "it does not compare target and Host"),
        (b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "it does not look into the Host"),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "it does not look into the Host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: y\r\n\r\n", "expectations are the application's"),
    ],
)
def test_where_we_are_stricter_than_h11(data: bytes, why: str) -> None:
    assert read_request_head(data).target, why
    with pytest.raises(ClientError):
        RequestParser(Limits()).parse(data)
