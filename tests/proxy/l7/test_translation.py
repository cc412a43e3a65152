from __future__ import annotations

import pytest

from portway_proxy.errors import UpstreamBadResponse
from portway_proxy.http2.codes import StreamFault
from portway_proxy.http2.packing import pack
from portway_proxy.http2.unpacking import Block, Field, Unpacker
from portway_proxy.l7.request import RequestHead
from portway_proxy.l7.translation import HeadReader, RequestPacker, read_trailers


def block(*fields: Field) -> Block:
    return Unpacker(65536).unpack(pack(fields))


def request(fields: bytes, *, secure: bool = False, **more: object) -> list[Field]:
    head = RequestHead(b"POST", b"/a?b=c", 1)
    for name, value in more.items():
        setattr(head, name, value)
    packed = RequestPacker().request(head, fields, secure=secure)
    return Unpacker(65536).unpack(packed.block).fields


def test_a_head_becomes_a_block_with_its_pseudo_fields_first_and_lower_case_names() -> None:
    found = request(b"Host: a.example\r\nX-One: 1\r\nCookie: a=b\r\n", length=5, request_id=b"7", secure=True)
    assert found == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/a?b=c"),
        (b":authority", b"a.example"),
        (b"x-one", b"1"),
        (b"cookie", b"a=b"),
        (b"te", b"trailers"),
        (b"x-request-id", b"7"),
        (b"content-length", b"5"),
    ]


def test_what_is_about_a_connection_of_http_1_is_left_out() -> None:
    assert request(b"Host: a\r\nConnection: TE\r\nTE: trailers\r\n", chunked=True, upgrade=b"websocket") == [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/a?b=c"),
        (b":authority", b"a"),
        (b"te", b"trailers"),
    ]


def test_a_block_that_comes_again_is_the_same_and_one_with_other_fields_is_not() -> None:
    packer = RequestPacker()
    head = RequestHead(b"GET", b"/", 1)
    first = packer.request(head, b"Host: a\r\n", secure=False)
    assert packer.request(head, b"Host: a\r\n", secure=False) == first
    assert packer.request(head, b"Host: b\r\n", secure=False) != first
    assert packer.request(head, b"Host: a\r\n", secure=True) != first


def test_a_call_of_grpc_is_known_by_its_fields() -> None:
    fields = b"Host: a\r\nContent-Type: application/grpc\r\nGRPC-Timeout: 5S\r\n"
    packed = RequestPacker().request(RequestHead(b"POST", b"/", 1), fields, secure=False)
    assert (packed.grpc, packed.timeout) == (True, 5.0)


def test_a_block_becomes_the_head_of_a_response() -> None:
    said = block((b":status", b"200"), (b"date", b"now"), (b"x-a", b"b"), (b"content-length", b"5"))
    head = HeadReader(100).read(said)
    assert (head.status, head.phrase, head.length) == (200, b"OK", 5)
    assert head.lines == [b"date: now\r\n", b"x-a: b\r\n"]
    assert (head.dated, head.named) == (True, False)
    assert head.plain.startswith(b"HTTP/1.1 200 OK\r\n")


def test_what_is_known_is_not_read_again_by_the_same_reader() -> None:
    one, reader = block((b":status", b"200")), HeadReader(100)
    assert reader.read(one) is reader.read(one)
    assert reader.read(block((b":status", b"200"))) is reader.read(one)
    assert HeadReader(100, b"Strict-Transport-Security: max-age=1\r\n").read(one) is not reader.read(one)


def test_our_own_strict_transport_security_takes_the_place_of_the_endpoint_s() -> None:
    own = b"Strict-Transport-Security: max-age=1\r\n"
    said = block((b":status", b"200"), (b"strict-transport-security", b"max-age=2"))
    assert HeadReader(100, own).read(said).lines == [own]


def test_too_many_fields_are_a_bad_response() -> None:
    with pytest.raises(UpstreamBadResponse):
        HeadReader(2).read(block((b":status", b"200"), (b"a", b"b"), (b"c", b"d")))


@pytest.mark.parametrize("fields", [[(b"a", b"b")], [(b":status", b"101")], [(b":status", b"200"), (b"A", b"b")]])
def test_what_http_2_forbids_breaks_the_stream_off(fields: list[Field]) -> None:
    with pytest.raises(StreamFault):
        HeadReader(100).read(block(*fields))


def test_trailers_are_lines_and_those_that_belong_before_the_body_are_left_out() -> None:
    found = read_trailers(block((b"grpc-status", b"0"), (b"content-type", b"x"), (b"x-a", b"b c")))
    assert found.whole == b"grpc-status: 0\r\nx-a: b c\r\n"
