from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.networks import IpAddress, Networks, parse_address

addresses = st.builds(IPv4Address, st.integers(0, 2**32 - 1)) | st.builds(IPv6Address, st.integers(0, 2**128 - 1))


@st.composite
def networks(draw: st.DrawFn) -> str:
    address = draw(addresses)
    return f"{address}/{draw(st.integers(0, address.max_prefixlen))}"


@given(st.lists(networks(), max_size=8), addresses)
def test_an_address_is_in_the_set_when_it_is_in_one_of_the_networks(names: list[str], address: IpAddress) -> None:
    assert (address in Networks(names)) is any(address in ip_network(name, strict=False) for name in names)


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
        ("10.1.2.3/8", "10.255.255.255", "9.255.255.255"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
        ("0.0.0.0/0", "255.255.255.255", "::1"),
        ("::/0", "::1", "127.0.0.1"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
        ("fe80::/10", "fe80::1%eth0", "fec0::1"),
    ],
)
def test_a_network_holds_what_its_prefix_says(network: str, inside: str, outside: str) -> None:
    held = Networks([network])
    there, not_there = parse_address(inside), parse_address(outside)
    assert there is not None
    assert there in held
    assert not_there is not None
    assert not_there not in held


def test_no_network_holds_nothing_and_is_false() -> None:
    assert not Networks([])
    assert Networks(["::1"])
    assert IPv4Address("0.0.0.0") not in Networks([])


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "10.0.0.0/-1", "shop.example", "10.0.0/8", "1"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear|prefix|Expected|netmask|Octet"):
        Networks([text])


@pytest.mark.parametrize(
    "text", ["", "a", "1", "1.2.3", "01.2.3.4", "1.2.3.4:80", "[::1]", "::1::", " ::1", "\u0661.0.0.1"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_address(text) is None


def test_an_address_is_the_same_however_a_socket_writes_it() -> None:
    assert str(parse_address("::ffff:192.0.2.7")) == "192.0.2.7"
    assert str(parse_address("fe80::1%eth0")) == "fe80::1"
    assert str(parse_address("2001:DB8:0:0::7")) == "2001:db8::7"


@pytest.mark.parametrize(
    ("names", "peer", "inside"),
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
def test_what_a_socket_writes_is_looked_up_too(names: list[str], peer: str, inside: bool) -> None:
    assert Networks(names).hold(peer.encode()) is inside


@given(st.lists(networks(), max_size=20), addresses)
def test_both_ways_to_ask_agree(names: list[str], address: IpAddress) -> None:
    known = parse_address(str(address))
    assert known is not None
    assert Networks(names).hold(str(address).encode()) is (known in Networks(names))
