from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.errors import BadProxyHeader
from portway_proxy.proxy_protocol import LONGEST, Address, ProxyHeader, header_v1, header_v2, read_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FOUR = Address("192.0.2.7", 56324), Address("198.51.100.1", 443)
SIX = Address("2001:db8::7", 56324), Address("2001:db8::1", 443)
BYTES4 = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 56324, 443)

ports = st.integers(0, 65535)
fours = st.builds(Address, st.builds(str, st.builds(IPv4Address, st.integers(0, 2**32 - 1))), ports)
sixes = st.builds(Address, st.builds(str, st.builds(IPv6Address, st.integers(0, 2**128 - 1))), ports)
pairs = st.tuples(fours, fours) | st.tuples(sixes, sixes)


def v2(command: int, family: int, content: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(content) if length is None else length) + content


def tlv(kind: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("!BH", kind, len(value) if length is None else length) + value


HEADERS = {
    "v1 of IPv4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", FOUR),
    "v1 of IPv6": (b"PROXY TCP6 2001:db8::7 2001:DB8:0::1 56324 443\r\n", SIX),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "v1 UNKNOWN with addresses": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    "v1, the longest there is": (
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535".ljust(105, b" ") + b"\r\n",
        None,
    ),
    "v2 of IPv4": (v2(0x21, 0x11, BYTES4), FOUR),
    "v2 of datagrams": (v2(0x21, 0x12, BYTES4), FOUR),
    "v2 of IPv6": (
        v2(0x21, 0x21, IPv6Address(SIX[0].host).packed + IPv6Address(SIX[1].host).packed + BYTES4[8:]),
        SIX,
    ),
    "v2 LOCAL": (v2(0x20, 0x00, b""), None),
    "v2 LOCAL with addresses": (v2(0x20, 0x11, BYTES4), None),
    "v2 LOCAL with anything": (v2(0x20, 0x11, b"abc"), None),
    "v2 unspecified": (v2(0x21, 0x00, b"anything"), None),
    "v2 of a Unix socket": (v2(0x21, 0x31, b"/a".ljust(108, b"\0") * 2), None),
    "v2 with additions": (v2(0x21, 0x11, BYTES4 + tlv(0x04, b"") + tlv(0xEA, b"vpce-1")), FOUR),
    "v2, the longest that is taken": (v2(0x21, 0x11, BYTES4 + tlv(0x04, b"\0" * (LONGEST - 16 - 12 - 3))), FOUR),
}
NAMES = list(HEADERS)


@pytest.mark.parametrize("name", NAMES)
def test_a_header_says_whom_the_connection_is_from_and_how_long_it_is(name: str) -> None:
    data, told = HEADERS[name]
    header = read_header(data + b"GET / HTTP/1.1\r\n")
    assert header is not None
    assert header.size == len(data)
    assert (header.source, header.destination) == (told or (None, None))


@pytest.mark.parametrize("name", NAMES)
def test_every_part_of_a_header_waits_for_the_rest(name: str) -> None:
    data, _ = HEADERS[name]
    assert {read_header(data[:size]) for size in range(len(data))} == {None}


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PO",
        b"PROXY\t",
        b"PROPFIND",
        b"proxy TCP4",
        b"\n",
        b"\r\n\r\nG",
        b"\r\n\r\n\0\r\nQUIT\r\n",
        b" PROXY TCP4",
    ],
)
def test_what_begins_otherwise_is_refused_with_the_first_byte_that_says_so(data: bytes) -> None:
    with pytest.raises(BadProxyHeader, match="does not begin"):
        read_header(data)


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
        b"PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY TCP4\t192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 99999 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1_0 2\r\n",
        b"PROXY TCP4 192.0.2 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY TCP6 2001:db8:::7 2001:db8::1 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
        b"PROXY TCP6 [2001:db8::7] [2001:db8::1] 1 2\r\n",
        b"PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY  UNKNOWN\r\n",
        b"PROXY UNKNOWN\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY UNKNOWN a\rb\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4 \xd9\xa1.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY " + b"x" * 101,
        b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n",
    ],
)
def test_a_malformed_header_of_version_1_is_refused(line: bytes) -> None:
    with pytest.raises(BadProxyHeader, match="of version 1"):
        read_header(line)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (SIGNATURE + b"\x11", "version or command"),
        (SIGNATURE + b"\x22", "version or command"),
        (SIGNATURE + b"\x21\x41", "family or protocol"),
        (SIGNATURE + b"\x21\x13", "family or protocol"),
        (v2(0x21, 0x11, BYTES4[:-1]), "shorter than its addresses"),
        (v2(0x21, 0x11, b"", 11), "shorter than its addresses"),
        (v2(0x21, 0x21, BYTES4), "shorter than its addresses"),
        (v2(0x21, 0x31, bytes(215)), "shorter than its addresses"),
        (v2(0x21, 0x11, b"", 65535), f"longer than {LONGEST} bytes"),
        (v2(0x20, 0x00, b"", LONGEST - 15), f"longer than {LONGEST} bytes"),
        (v2(0x21, 0x11, BYTES4 + b"\x04"), "within the head of an addition"),
        (v2(0x21, 0x11, BYTES4 + b"\x04\0"), "within the head of an addition"),
        (v2(0x21, 0x11, BYTES4 + tlv(4, b"abc", 4)) + b"GET /", "within an addition"),
        (v2(0x21, 0x11, BYTES4 + tlv(4, b"", 65535)), "within an addition"),
        (v2(0x21, 0x31, bytes(216) + tlv(4, b"", 1)), "within an addition"),
    ],
)
def test_a_malformed_header_of_version_2_is_refused_before_anything_waits_for_more(data: bytes, reason: str) -> None:
    with pytest.raises(BadProxyHeader, match=reason):
        read_header(data)


@pytest.mark.parametrize(
    ("value", "tls"),
    [(b"\x01\0\0\0\0", True), (b"\x07\0\0\0\0", True), (b"\x06\0\0\0\0", False), (b"", False)],
)
def test_an_addition_says_whether_the_client_came_by_tls(value: bytes, *, tls: bool) -> None:
    header = read_header(v2(0x21, 0x11, BYTES4 + tlv(0x03, b"abcd") + tlv(0x20, value)))
    assert header == ProxyHeader(header.size if header else 0, *FOUR, tls, ((0x03, b"abcd"), (0x20, value)))


@given(pairs, st.binary(max_size=40))
def test_what_is_written_is_read_again(pair: tuple[Address, Address], rest: bytes) -> None:
    for written in (header_v1(*pair), header_v2(*pair)):
        assert read_header(written + rest) == ProxyHeader(len(written), *pair)


def test_the_bytes_are_those_of_the_specification() -> None:
    assert header_v1(*FOUR) == HEADERS["v1 of IPv4"][0]
    assert header_v2(*FOUR) == HEADERS["v2 of IPv4"][0]
    assert header_v2(*SIX) == HEADERS["v2 of IPv6"][0]


def test_addresses_of_two_families_are_both_told_as_ipv6() -> None:
    for written in (header_v1(FOUR[0], SIX[1]), header_v2(FOUR[0], SIX[1])):
        header = read_header(written)
        assert header is not None
        assert header.source is not None
        assert IPv6Address(header.source.host).ipv4_mapped == IPv4Address(FOUR[0].host)
        assert header.destination == SIX[1]


def test_a_connection_without_addresses_is_nobodys() -> None:
    assert (header_v1(None, FOUR[1]), header_v1(FOUR[0], None)) == (b"PROXY UNKNOWN\r\n",) * 2
    assert (header_v2(None, FOUR[1]), header_v2(FOUR[0], None)) == (v2(0x20, 0, b""),) * 2


@given(
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 1", SIGNATURE, SIGNATURE + b"\x21\x11\0"]), st.binary(max_size=400)
)
def test_any_bytes_are_a_header_or_a_part_of_one_or_refused(start: bytes, rest: bytes) -> None:
    data = start + rest
    try:
        header = read_header(data)
    except BadProxyHeader:
        return
    assert header is None or 0 < header.size <= len(data)


@given(pairs, st.integers(0, 4), st.data())
def test_a_damaged_header_never_says_more_than_it_holds(
    pair: tuple[Address, Address], changes: int, data: st.DataObject
) -> None:
    damaged = bytearray(header_v2(*pair) + tlv(4, b"abc"))
    for _ in range(changes):
        damaged[data.draw(st.integers(12, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        header = read_header(bytes(damaged))
    except BadProxyHeader:
        return
    if header is not None:
        assert header.size <= len(damaged)
        assert sum(3 + len(value) for _, value in header.tlvs) <= header.size - 16
