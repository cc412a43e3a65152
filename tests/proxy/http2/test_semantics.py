from __future__ import annotations

import pytest

from http2_peers import GET
from portway_proxy.http2.codes import StreamFault
from portway_proxy.http2.semantics import check_trailers, read_request, read_response
from portway_proxy.http2.unpacking import Field


def test_a_request_is_read() -> None:
    request = read_request([*GET, (b"content-length", b"5"), (b"te", b"trailers")])
    assert request[:5] == (b"GET", b"https", b"web.example", b"/", b"")
    assert (request.length, list(request.fields)) == (5, [(b"content-length", b"5"), (b"te", b"trailers")])


def test_connect_names_an_authority_alone_unless_it_has_a_protocol() -> None:
    assert read_request([(b":method", b"CONNECT"), (b":authority", b"a:1")]).path == b""
    extended = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]
    assert read_request(extended).protocol == b"websocket"


@pytest.mark.parametrize(
    "fields",
    [
        GET[1:],
        [GET[0], *GET[2:]],
        [*GET[:2], GET[3]],
        [*GET[:2], (b":path", b""), GET[3]],
        [*GET, (b":method", b"GET")],
        [*GET, (b":status", b"200")],
        [*GET, (b":protocol", b"websocket")],
        [(b"x", b"y"), *GET],
        [(b":method", b"CONNECT"), *GET[1:]],
        [*GET, (b"X-Upper", b"y")],
        [*GET, (b"", b"y")],
        [*GET, (b"a b", b"y")],
        [*GET, (b"connection", b"close")],
        [*GET, (b"transfer-encoding", b"chunked")],
        [*GET, (b"upgrade", b"h2c")],
        [*GET, (b"te", b"gzip")],
        [*GET, (b"x", b" y")],
        [*GET, (b"x", b"y\t")],
        [*GET, (b"x", b"a\r\nb")],
        [*GET, (b"x", b"a\0b")],
        [*GET[:2], (b":path", b"/ HTTP/1.1\r\nX: y"), GET[3]],
        [*GET, (b"content-length", b"1"), (b"content-length", b"1")],
        [*GET, (b"content-length", b"+1")],
    ],
)
def test_a_malformed_request_is_refused(fields: list[Field]) -> None:
    with pytest.raises(StreamFault):
        read_request(fields)


def test_a_response_is_read_and_a_malformed_one_refused() -> None:
    assert read_response([(b":status", b"204"), (b"x", b"y")]) == (204, [(b"x", b"y")], -1)
    for status in (b"", b"20", b"2000", b"abc", b"099", b"101"):
        with pytest.raises(StreamFault):
            read_response([(b":status", status)])
    with pytest.raises(StreamFault):
        read_response([*GET, (b":status", b"200")])


def test_trailers_hold_no_pseudo_fields() -> None:
    assert check_trailers([(b"grpc-status", b"0")]) == [(b"grpc-status", b"0")]
    with pytest.raises(StreamFault):
        check_trailers([(b":path", b"/")])
