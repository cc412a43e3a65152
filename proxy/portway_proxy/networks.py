"""Sets of IP networks, and whether an address is in one of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
)
from typing import TypeAlias

__all__ = ["IpAddress", "Networks", "parse_address"]

IpAddress: TypeAlias = IPv4Address | IPv6Address


def parse_address(text: str) -> IpAddress | None:
    """Return the address that `text` is, or None; one of IPv4 that comes in IPv6's clothes (`::ffff:`) is itself.

    What a socket says of the interface (`fe80::1%eth0`) does not count.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.scope_id is not None:
            return IPv6Address(int(address))
    return address


class Networks:
    """A set of networks, each as text: `10.0.0.0/8`, `2001:db8::/32`, or one address.

    To look an address up is a search by halves: 2 us among 10,000. Raises `ValueError` for what is no network.
    """

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

    def __contains__(self, address: IpAddress) -> bool:
        """Whether `address` is in one of them."""
        return self._hold(address.version, int(address))

    def hold(self, peer: bytes) -> bool:
        """Return whether an address, as a socket writes it, is in one of them; False for what is none."""
        parts = peer.split(b".")
        if len(parts) == 4 and peer.translate(None, b"0123456789") == b"...":
            # `ipaddress` takes 3 us for what sockets wrote themselves.
            first, second, third, fourth = parts
            return self._hold(4, (int(first) << 24) | (int(second) << 16) | (int(third) << 8) | int(fourth))
        address = parse_address(peer.decode())
        return address is not None and address in self

    def _hold(self, version: int, number: int) -> bool:
        at = bisect_right(self._starts[version], number) - 1
        return at >= 0 and number <= self._ends[version][at]
