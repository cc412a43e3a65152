"""The PROXY protocol, versions 1 and 2: a proxy says in its first bytes whom a connection is from and where it led to.

Sources: `doc/proxy-protocol.txt` of HAProxy, called the specification here. Whether a peer is asked for a header is
for the settings to say, never for its first bytes: a header is expected of a peer, or it is not.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from portway_proxy.errors import BadProxyHeader
from portway_proxy.upstream_policies import ProxyVersion

__all__ = ["HEADERS", "LONGEST", "Address", "ProxyHeader", "header_v1", "header_v2", "read_header"]

LONGEST: Final = 4096
"""Bytes of a header that is taken; nginx's too. A header of version 2 could say 65,551."""

_LONGEST_V1: Final = 107  # The specification's own figure, CRLF included.
_V1: Final = b"PROXY "
_LINE = re.compile(
    rb"PROXY (TCP[46]) ([0-9A-Fa-f.:]{2,39}) ([0-9A-Fa-f.:]{2,39}) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n"
)
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")

_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
_START = struct.Struct("!12sBBH")  # The signature; version and command; family and protocol; what follows, in bytes.
_TLV = struct.Struct("!BH")
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _INET, _INET6, _UNIX = range(4)
_PROTOCOLS: Final = 3  # UNSPEC, STREAM, DGRAM.
_ADDRESSES: Final = {_UNSPECIFIED: 0, _INET: 12, _INET6: 36, _UNIX: 216}
_TLS: Final = 0x20  # PP2_TYPE_SSL, whose first byte has 0x01 (PP2_CLIENT_SSL) when the client came by TLS.


class Address(NamedTuple):
    """An IP address, as text without brackets, and a port."""

    host: str
    port: int


class ProxyHeader(NamedTuple):
    """A header that was read, `size` bytes long.

    `source` is the client and `destination` what it connected to. Both are None where the header names nobody (LOCAL,
    UNKNOWN, a Unix socket): then the connection's own addresses count. `tls` says that the client came to the sender
    by TLS. `tlvs` are type and value of what version 2 adds, as they came.
    """

    size: int
    source: Address | None = None
    destination: Address | None = None
    tls: bool = False
    tlvs: tuple[tuple[int, bytes], ...] = ()


def read_header(data: bytes) -> ProxyHeader | None:
    """Return the header that begins `data`, or None when all of `data` belongs to a header that goes on.

    What follows the header is at `data[header.size:]`. Raises `BadProxyHeader` with the first byte that no header has
    there, so that nobody waits for more of what is none.
    """
    if data.startswith(_V2):
        return _read_v2(data)
    if data.startswith(_V1):
        return _read_v1(data)
    if _V2.startswith(data) or _V1.startswith(data):
        return None
    raise BadProxyHeader("the connection does not begin with a header of the PROXY protocol")


def header_v1(source: Address | None, destination: Address | None) -> bytes:
    """Return a header of version 1; UNKNOWN when either address is None.

    Addresses of two families are both told as IPv6.
    """
    if source is None or destination is None:
        return b"PROXY UNKNOWN\r\n"
    one, other = _pair(source, destination)
    family = "TCP4" if one.version == 4 else "TCP6"
    return f"PROXY {family} {one} {other} {source.port} {destination.port}\r\n".encode()


def header_v2(source: Address | None, destination: Address | None) -> bytes:
    """Return a header of version 2; LOCAL when either address is None.

    Addresses of two families are both told as IPv6.
    """
    if source is None or destination is None:
        return _START.pack(_V2, _LOCAL, 0, 0)
    one, other = _pair(source, destination)
    addresses = one.packed + other.packed + struct.pack("!HH", source.port, destination.port)
    family = _INET if one.version == 4 else _INET6
    return _START.pack(_V2, _PROXY, family << 4 | 1, len(addresses)) + addresses


HEADERS: Final = {ProxyVersion.V1: header_v1, ProxyVersion.V2: header_v2}
"""What makes a header of each version."""


def _pair(source: Address, destination: Address) -> tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address]:
    one, other = ip_address(source.host), ip_address(destination.host)
    if one.version == other.version:
        return one, other
    return _mapped(one), _mapped(other)


def _mapped(address: IPv4Address | IPv6Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)


def _read_v1(data: bytes) -> ProxyHeader | None:
    size = data.find(b"\n", 0, _LONGEST_V1) + 1
    if not size:
        if len(data) >= _LONGEST_V1:
            raise BadProxyHeader(f"the PROXY header of version 1 is longer than {_LONGEST_V1} bytes")
        return None
    line = data[:size]
    if _UNKNOWN.fullmatch(line):
        return ProxyHeader(size)
    found = _LINE.fullmatch(line)
    if found is None:
        raise BadProxyHeader("the PROXY header of version 1 is malformed")
    family, one, other, port, other_port = found.groups()
    return ProxyHeader(size, _told(family, one, port), _told(family, other, other_port))


def _told(family: bytes, host: bytes, port: bytes) -> Address:
    try:
        address = (IPv4Address if family == b"TCP4" else IPv6Address)(host.decode())
    except ValueError:
        raise BadProxyHeader("the PROXY header of version 1 holds an address that is none") from None
    number = int(port)
    if number > 65535:
        raise BadProxyHeader("the PROXY header of version 1 holds a port that is none")
    return Address(str(address), number)


def _read_v2(data: bytes) -> ProxyHeader | None:
    # Each byte is judged as it comes; 12 are the signature.
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        raise BadProxyHeader("the PROXY header has a version or command that there is not")
    if len(data) > 13 and (data[13] >> 4 not in _ADDRESSES or data[13] & 15 >= _PROTOCOLS):
        raise BadProxyHeader("the PROXY header has a family or protocol that there is not")
    if len(data) < _START.size:
        return None
    _, command, family, length = _START.unpack_from(data)
    size = _START.size + length
    if size > LONGEST:
        raise BadProxyHeader(f"the PROXY header is longer than {LONGEST} bytes")
    if command == _PROXY and length < _ADDRESSES[family >> 4]:
        raise BadProxyHeader("the PROXY header is shorter than its addresses")
    if len(data) < size:
        return None
    if command == _LOCAL or family >> 4 == _UNSPECIFIED:
        return ProxyHeader(size)
    return _read_content(data[_START.size : size], family >> 4, size)


def _read_content(content: bytes, family: int, size: int) -> ProxyHeader:
    tlvs = tuple(_tlvs(content[_ADDRESSES[family] :]))
    tls = any(kind == _TLS and value[:1] and value[0] & 1 for kind, value in tlvs)
    if family == _UNIX:
        return ProxyHeader(size, tls=tls, tlvs=tlvs)
    width = 4 if family == _INET else 16
    port, other_port = struct.unpack_from("!HH", content, 2 * width)
    source = Address(str(ip_address(content[:width])), port)
    destination = Address(str(ip_address(content[width : 2 * width])), other_port)
    return ProxyHeader(size, source, destination, tls, tlvs)


def _tlvs(data: bytes) -> Iterator[tuple[int, bytes]]:
    # Lengths are believed within the header alone (CVE-2026-47692).
    place = 0
    while place < len(data):
        begin = place + _TLV.size
        if begin > len(data):
            raise BadProxyHeader("the PROXY header ends within the head of an addition")
        kind, length = _TLV.unpack_from(data, place)
        place = begin + length
        if place > len(data):
            raise BadProxyHeader("the PROXY header ends within an addition")
        yield kind, data[begin:place]
