from __future__ import annotations

import ssl
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.l4.peek import GSS_REQUEST, LONGEST, SSL_REQUEST, Opening, opening, postgres_request, server_name


def hello(name: str | None) -> bytes:
    """Return the first flight of a real TLS client that asks for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sent = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name).do_handshake()
    return sent.read()


def message(name: bytes, kind: int = 0) -> bytes:
    """Return a ClientHello, without records, whose only extension is a server name."""
    entry = bytes([kind]) + len(name).to_bytes(2) + name
    names = len(entry).to_bytes(2) + entry
    extension = b"\0\0" + len(names).to_bytes(2) + names
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + len(extension).to_bytes(2) + extension
    return b"\1" + len(body).to_bytes(3) + body


def records(content: bytes, *sizes: int) -> bytes:
    """Return records that hold `content`, the first ones with these sizes."""
    made = b""
    for size in (*sizes, len(content)):
        part, content = content[:size], content[size:]
        made += b"\x16\3\1" + len(part).to_bytes(2) + part if part else b""
    return made


@pytest.mark.parametrize(
    ("asked", "found"), [("db.shop.example", "db.shop.example"), ("DB.Shop.Example", "db.shop.example"), (None, "")]
)
def test_the_name_in_the_hello_of_a_real_client_is_found_at_its_last_byte_and_not_before(
    asked: str | None, found: str
) -> None:
    data = hello(asked)
    for size in range(len(data)):
        assert server_name(data[:size]) is None
    assert server_name(data) == found
    assert server_name(data + b"and what follows") == found


@pytest.mark.parametrize("sizes", [(1,), (4, 1), (3, 3, 3), (60, 1, 1), tuple([1] * 70)])
def test_a_hello_in_many_records_is_put_together(sizes: tuple[int, ...]) -> None:
    data = records(message(b"db.example"), *sizes)
    for size in range(len(data)):
        assert server_name(data[:size]) is None
    assert server_name(data) == "db.example"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (b"db.example.", "db.example"),
        (b"a_b.example", "a_b.example"),
        (b"", ""),
        (b".", ""),
        (b"db.example\0.evil", ""),
        (b"db example", ""),
        (b"d\xc3\xb6.example", ""),
        (b"..", ""),
        (b"a..b", ""),
        (b"192.0.2.1", "192.0.2.1"),
        (b"[::1]", ""),
        (b"x" * 300, ""),
        (b"*.example", ""),
    ],
)
def test_what_is_no_name_matches_none(name: bytes, found: str) -> None:
    assert server_name(records(message(name))) == found


def test_a_name_of_another_kind_is_none() -> None:
    assert server_name(records(message(b"db.example", kind=1))) == ""


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x04",
        b"\x17\3\1\0\5hello",
        b"\x16\3\1\0\0",
        b"\x16\3\1\xff\xff",
        b"\x16\3\1\0\4\2\0\0\1",
        b"\x16\3\1\0\4\1\xff\xff\xff",
        records(b"\1\0\0\4abcd"),
        records(message(b"db.example")[:-1].replace(b"\0\x4a", b"\0\x49")) + b"\x15\3\1\0\2\2\x28",
    ],
)
def test_what_is_no_hello_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"TLS|ClientHello|handshake"):
        server_name(data)


def test_a_hello_that_never_ends_is_refused() -> None:
    endless = records(b"\1\0\x7f\0" + bytes(40000), *[100] * 500)
    with pytest.raises(ValueError, match="does not end"):
        server_name(endless[:LONGEST])


@given(st.binary(max_size=200).map(lambda data: b"\x16\3\1" + data) | st.binary(max_size=60))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    with suppress(ValueError):
        assert server_name(data) in {None, ""} or server_name(data)


@given(st.data())
def test_a_damaged_hello_is_refused_or_read(data: st.DataObject) -> None:
    whole = bytearray(records(message(b"db.example")))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        name = server_name(bytes(whole))
        assert name is None or name == "" or len(name) <= 255


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"GET / HTTP/1.1", Opening.HTTP),
        (b"POST ", Opening.HTTP),
        (b"PRI * HTTP/2.0", Opening.HTTP),
        (b"\r\nGET / HTTP/1.1", Opening.HTTP),
        (b"M-SEARCH * HTTP/1.1", Opening.HTTP),
        (b"\x16\3\1\2\0", Opening.TLS),
        (b"PING\r\n", Opening.OTHER),
        (b"*1\r\n$4\r\nPING\r\n", Opening.OTHER),
        (b"EHLO mail.example\r\n", Opening.OTHER),
        (b"GETX /", Opening.OTHER),
        (b"get / HTTP/1.1", Opening.OTHER),
        (b"\x16\x02", Opening.OTHER),
        (b"\r\r", Opening.OTHER),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Opening.OTHER),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Opening.OTHER),
    ],
)
def test_an_opening_is_told_by_its_first_bytes_and_each_beginning_of_it_waits_or_says_the_same(
    data: bytes, found: Opening
) -> None:
    assert opening(data) is found
    for size in range(len(data)):
        assert opening(data[:size]) in (None, found)
    assert opening(b"") is None


@pytest.mark.parametrize("request_", [SSL_REQUEST, GSS_REQUEST])
def test_a_request_of_postgresql_is_known_at_its_last_byte(request_: bytes) -> None:
    for size in range(len(request_)):
        assert postgres_request(request_[:size]) is None
    assert postgres_request(request_) == request_
    assert postgres_request(request_ + b"\x16") == request_
    assert postgres_request(request_[:-1] + b"\x31") == b""
    assert postgres_request(b"\x16") == b""
