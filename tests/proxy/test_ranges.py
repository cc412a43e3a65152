from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.ranges import Ranges


@pytest.mark.parametrize(
    ("networks", "peer", "inside"),
    [
        (["10.0.0.0/8"], "10.255.255.255", True),
        (["10.0.0.0/8"], "11.0.0.0", False),
        (["10.0.0.0/8"], "9.255.255.255", False),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7/24"], "192.0.2.200", True),
        (["0.0.0.0/0"], "203.0.113.9", True),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["2001:db8::/32"], "2001:db8:ffff::1", True),
        (["2001:db8::/32"], "2001:db9::", False),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16"], "10.200.0.1", True),
        (["10.0.0.0/8"], "-", False),
        (["0.0.0.0/0", "::/0"], "unix", False),
        (["0.0.0.0/0"], "1.2.3", False),
        ([], "10.0.0.1", False),
    ],
)
def test_an_address_is_inside_or_not(networks: list[str], peer: str, inside: bool) -> None:
    assert Ranges(networks).hold(peer.encode()) is inside


addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6)
networks = st.builds(
    lambda address, share: ipaddress.ip_network((address, int(share * address.max_prefixlen)), strict=False),
    addresses,
    st.floats(0, 1),
)


@given(st.lists(networks, max_size=20), addresses)
def test_it_says_what_looking_through_all_of_them_says(
    some: list[ipaddress.IPv4Network | ipaddress.IPv6Network], address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return
    told = any(address.version == one.version and address in one for one in some)
    assert Ranges(map(str, some)).hold(str(address).encode()) is told


def test_what_is_no_network_is_no_list_of_networks() -> None:
    with pytest.raises(ValueError, match="everywhere"):
        Ranges(["everywhere"])
