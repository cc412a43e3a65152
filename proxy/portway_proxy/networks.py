"""Sets of IP networks, and whether an address is in one of them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
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

    To look an address up costs one look-up for each length of prefix that is among them, however many there are.
    Raises `ValueError` for what is no network.
    """

    __slots__ = ("_prefixes",)

    def __init__(self, networks: Iterable[str]) -> None:
        prefixes: dict[tuple[int, int], set[int]] = {}
        for text in networks:
            network = ip_network(text, strict=False)
            shift = network.max_prefixlen - network.prefixlen
            prefixes.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)
        self._prefixes = prefixes

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._prefixes)

    def __contains__(self, address: IpAddress) -> bool:
        """Whether `address` is in one of them."""
        number, version = int(address), address.version
        return any(number >> shift in known for (family, shift), known in self._prefixes.items() if family == version)
