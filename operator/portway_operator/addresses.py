"""Which addresses no tenant may make Portway connect to."""

from __future__ import annotations

import ipaddress
import re
from typing import TypeAlias

__all__ = ["Address", "name_refusal", "special_use"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_THIS_MACHINE = re.compile(r"(?:.+\.)?localhost(?:[46]|\.localdomain)?|ip6-(?:localhost|loopback)")
_METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "169.254.169.254",  # AWS, Azure, Google, OpenStack, ...
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's host
        "192.0.0.192",  # Oracle
    )
)


def special_use(address: Address) -> str:
    """Return why an address serves no tenant's Service (`loopback`, `link-local`, ...), or nothing for a usual one.

    An IPv6 address that only wraps an IPv4 one (mapped, 6to4, NAT64) is judged by that.
    """
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = _wrapped(address)
        if wrapped is not None:
            return special_use(wrapped)
        if address.scope_id is not None:
            return "scoped"
    traits = {
        "metadata": address in _METADATA,
        "loopback": address.is_loopback,
        "link-local": address.is_link_local,
        "multicast": address.is_multicast,
        # 0.0.0.0/8 is this host to Linux, 240.0.0.0/4 holds the broadcast address.
        "unspecified": address.is_unspecified or (address.version == 4 and not 0 < address.packed[0] < 240),
    }
    return next((name for name, holds in traits.items() if holds), "")


def name_refusal(name: str) -> str:
    """Return why a name leads where it may not, or nothing; what it resolves to is the proxy's to check."""
    bare = name.removesuffix(".")
    if _THIS_MACHINE.fullmatch(bare):
        return "loopback"
    try:
        return special_use(ipaddress.ip_address(bare.strip("[]")))
    except ValueError:
        return ""


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _wrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[12:])
    return None
