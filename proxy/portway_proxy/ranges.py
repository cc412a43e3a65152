"""Long lists of IP networks, and whether an address is in one of them: a search by halves, however many there are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from portway_proxy.networks import parse_address

__all__ = ["Ranges"]


class Ranges:
    """The addresses of some networks; raises `ValueError` for what is no network."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, networks: Iterable[str]) -> None:
        found = [ip_network(text, strict=False) for text in networks]
        old = list(collapse_addresses(one for one in found if isinstance(one, IPv4Network)))
        new = list(collapse_addresses(one for one in found if isinstance(one, IPv6Network)))
        self._starts = {4: [int(one.network_address) for one in old], 6: [int(one.network_address) for one in new]}
        self._ends = {4: [int(one.broadcast_address) for one in old], 6: [int(one.broadcast_address) for one in new]}

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._starts[4] or self._starts[6])

    def hold(self, peer: bytes) -> bool:
        """Return whether an address, as a socket writes it, is in one of the networks; False for what is none."""
        version, number = _read(peer)
        at = bisect_right(self._starts[version], number) - 1
        return at >= 0 and number <= self._ends[version][at]


def _read(peer: bytes) -> tuple[int, int]:
    """Return version and number of an address; -1, which is in no network, for what is none."""
    parts = peer.split(b".")
    if len(parts) == 4 and peer.translate(None, b"0123456789") == b"...":
        # `ipaddress` takes 3 us for what sockets wrote themselves.
        first, second, third, fourth = parts
        return 4, (int(first) << 24) | (int(second) << 16) | (int(third) << 8) | int(fourth)
    address = parse_address(peer.decode())
    return (4, -1) if address is None else (address.version, int(address))
