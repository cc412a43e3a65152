"""What proxies before us say about a client, hop by hop: X-Forwarded-For and its kind, and Forwarded (RFC 7239).

Each proxy adds whom it was asked by, on the right: what stands left of a hop is as true as that hop is honest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from portway_proxy.errors import BadHead
from portway_proxy.networks import IpAddress, Networks, parse_address

__all__ = ["HOPS", "Hop", "agreed", "elements", "find_client", "for_field", "node", "nodes"]

HOPS = 32
"""Hops that are looked at, from the right: a client could name thousands of trusted ones."""

_BLANK = b" \t"
# An address, perhaps with a port; a port may be obfuscated as well (RFC 7239, 6).
_NODE = re.compile(rb"(?:([0-9.]{7,15})|\[([0-9A-Fa-f]*:[0-9A-Fa-f:.]{1,44})\])(?::(?:[0-9]{1,5}|_[0-9A-Za-z._-]+))?")
_BARE = re.compile(rb"[0-9A-Fa-f:.]{2,45}")
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PAIR = re.compile(rb'(%b)=(?:(%b)|"((?:[^"\\]|\\.)*)")[ \t]*' % (_TOKEN, _TOKEN))
_GAP = re.compile(rb"[ \t]*")
_ESCAPE = re.compile(rb"\\(.)")


class Hop(NamedTuple):
    """What one proxy says of who asked it: `address` is None when it keeps that to itself; the others may be empty."""

    address: IpAddress | None
    scheme: bytes = b""
    host: bytes = b""


def node(text: bytes) -> IpAddress | None:
    """Return the address in `text` (with or without port and brackets), or None: `unknown`, `_hidden`, and nonsense."""
    text = text.strip(_BLANK)
    found = _NODE.fullmatch(text)
    if found is not None:
        return parse_address((found[1] or found[2]).decode())
    return parse_address(text.decode()) if _BARE.fullmatch(text) else None


def nodes(value: bytes) -> Iterator[Hop]:
    """Yield the hops of an X-Forwarded-For from the right, at most `HOPS`."""
    for text in reversed(value.rsplit(b",", HOPS)[-HOPS:]):
        yield Hop(node(text))


def elements(value: bytes) -> list[Hop]:
    """Return the hops of a Forwarded from the right, at most `HOPS`.

    Raises `BadHead` for what is none: a quote that a client leaves open would swallow what a proxy said behind it.
    """
    found: list[dict[bytes, bytes]] = [{}]
    place = 0
    while place < len(value):
        place = _GAP.match(value, place).end()  # type: ignore[union-attr] # it matches nothing as well
        pair = _PAIR.match(value, place)
        if pair is not None:
            _add(found[-1], pair)
            place = pair.end()
        if place == len(value):
            break
        if value[place] == 0x2C:  # A comma.
            found.append({})
        elif value[place] != 0x3B:  # A semicolon.
            raise BadHead("the Forwarded field is malformed")
        place += 1
    hops = [_hop(pairs) for pairs in found[-HOPS:] if pairs]
    return hops[::-1]


def _add(pairs: dict[bytes, bytes], pair: re.Match[bytes]) -> None:
    name = pair[1].lower()
    if name in pairs:
        raise BadHead("the Forwarded field says one thing twice of one hop")
    pairs[name] = pair[2] if pair[2] is not None else _ESCAPE.sub(rb"\1", pair[3])


def _hop(pairs: dict[bytes, bytes]) -> Hop:
    return Hop(node(pairs.get(b"for", b"")), pairs.get(b"proto", b"").lower(), pairs.get(b"host", b""))


def find_client(hops: Iterable[Hop], trusted: Networks) -> Hop:
    """Return the nearest hop that is not trusted: the client, as far as anybody trusted has seen it.

    `hops` begin with what our peer, who is trusted, says. Where one of them keeps an address to itself, the client is
    the last that is known; without an address that is the peer.
    """
    client = Hop(None)
    for hop in hops:
        if hop.address is None:
            return Hop(client.address, hop.scheme, hop.host)
        client = hop
        if hop.address not in trusted:
            break
    return client


def agreed(value: bytes) -> bytes:
    """Return the element of a list whose elements are all the same; nothing for any other: one of them is a guess."""
    found = {part.strip(_BLANK) for part in value.split(b",")}
    return found.pop() if len(found) == 1 else b""


def for_field(address: str) -> bytes:
    """Return an address as the `for` of Forwarded says it."""
    return f'"[{address}]"'.encode() if ":" in address else address.encode()
