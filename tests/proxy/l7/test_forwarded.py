from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.errors import BadHead
from portway_proxy.l7.forwarded import HOPS, Hop, agreed, elements, find_client, for_field, node, nodes
from portway_proxy.networks import IpAddress, Networks

TRUSTED = Networks(["10.0.0.0/8", "2001:db8::/32"])


def found(value: str) -> str:
    """Return the client of an X-Forwarded-For that a trusted peer sent, or `-` for the peer itself."""
    return str(find_client(nodes(value.encode()), TRUSTED).address or "-")


# --- one hop


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.43", "192.0.2.43"),
        (" 192.0.2.43\t", "192.0.2.43"),
        ("192.0.2.43:47011", "192.0.2.43"),
        ("192.0.2.43:_port", "192.0.2.43"),
        ("[2001:db8:cafe::17]", "2001:db8:cafe::17"),
        ("[2001:DB8:cafe::17]:4711", "2001:db8:cafe::17"),
        ("2001:db8:cafe::17", "2001:db8:cafe::17"),
        ("::ffff:192.0.2.43", "192.0.2.43"),
        ("unknown", None),
        ("_hidden", None),
        ("_SEVKISEK", None),
        ("", None),
        ("192.0.2", None),
        ("192.0.2.043", None),
        ("192.0.2.256", None),
        ("192.0.2.43:", None),
        ("192.0.2.43:123456", None),
        ("[192.0.2.43]", None),
        ("[2001:db8::17", None),
        ("2001:db8::17%eth0", None),
        ("shop.example", None),
        ("192.0.2.43 10.0.0.1", None),
        ("\u0661.0.0.1", None),
        ("1" * 100, None),
    ],
)
def test_a_hop_is_an_address_or_keeps_it_to_itself(text: str, address: str | None) -> None:
    expected: IpAddress | None = None if address is None else ip_address(address)
    assert node(text.encode()) == expected


# --- the walk


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7, 10.0.0.2", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7, 10.0.0.2, 2001:db8::9,10.1.1.1", "192.0.2.7"),
        ("6.6.6.6,10.0.0.9,192.0.2.7,10.0.0.2", "192.0.2.7"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.3", "10.0.0.3"),
        ("", "-"),
        ("unknown", "-"),
        ("6.6.6.6, unknown", "-"),
        ("6.6.6.6, nonsense, 10.0.0.2", "10.0.0.2"),
        ("192.0.2.7,", "-"),
        ("192.0.2.7, 10.0.0.2:4711", "192.0.2.7"),
        ("192.0.2.7:4711, [2001:db8::2]:4711", "192.0.2.7"),
        ("::ffff:192.0.2.7, ::ffff:10.0.0.2", "192.0.2.7"),
    ],
)
def test_the_client_is_the_nearest_that_is_not_trusted(value: str, client: str) -> None:
    assert found(value) == client


def test_nobody_makes_us_walk_through_thousands_of_trusted_hops() -> None:
    many = ", ".join(["192.0.2.7", *["10.0.0.1"] * (HOPS - 1)])
    assert found(many) == "192.0.2.7"
    assert found(f"{many}, 10.0.0.2") == "10.0.0.1"


@given(st.lists(st.sampled_from(["10.0.0.1", "192.0.2.7", "6.6.6.6", "unknown"]), max_size=6), st.text(max_size=20))
def test_what_a_client_says_never_reaches_past_the_first_hop_that_is_not_trusted(hops: list[str], said: str) -> None:
    honest = ["192.0.2.99", *hops]
    if all(hop == "10.0.0.1" for hop in hops):
        value = ", ".join([said, *honest])
        assert str(find_client(nodes(value.encode()), TRUSTED).address) == "192.0.2.99"


# --- Forwarded


@pytest.mark.parametrize(
    ("value", "hops"),
    [
        ("for=192.0.2.43", [Hop(ip_address("192.0.2.43"))]),
        ("For=192.0.2.43, for=198.51.100.17", [Hop(ip_address("198.51.100.17")), Hop(ip_address("192.0.2.43"))]),
        (
            'for="[2001:db8:cafe::17]:4711";proto=https;host="shop.example:8080";by=203.0.113.43',
            [Hop(ip_address("2001:db8:cafe::17"), b"https", b"shop.example:8080")],
        ),
        ("for=192.0.2.60;proto=HTTP;by=203.0.113.43", [Hop(ip_address("192.0.2.60"), b"http")]),
        ('for="_gazonk"', [Hop(None)]),
        ("for=unknown;host=a", [Hop(None, b"", b"a")]),
        ('for="192.0.2.43:47011" ; proto=http', [Hop(ip_address("192.0.2.43"), b"http")]),
        ("for=192.0.2.43,, ,for=192.0.2.44", [Hop(ip_address("192.0.2.44")), Hop(ip_address("192.0.2.43"))]),
        (";for=192.0.2.43;;", [Hop(ip_address("192.0.2.43"))]),
        (r'for="192.0.2.4\3";secret="a,b;c=\"d\""', [Hop(ip_address("192.0.2.43"))]),
        ("", []),
        (", ,", []),
    ],
)
def test_the_elements_of_forwarded_are_read_from_the_right(value: str, hops: list[Hop]) -> None:
    assert elements(value.encode()) == hops


@pytest.mark.parametrize(
    "value",
    [
        "for",
        "for=",
        "for=192.0.2.43 proto=http",
        'for="192.0.2.43',
        'for="192.0.2.43", for="',
        'for="a"b',
        "for=[2001:db8::17]",
        "for=1;for=2",
        "for=1;FOR=2",
        "for =1",
        "for= 1",
        '"for"=1',
        "=1",
        "for=1;\x00",
        'for="a\\',
        "for=\xe4",
    ],
)
def test_a_malformed_forwarded_is_refused_and_swallows_nothing(value: str) -> None:
    for whole in (value, f"{value}, for=192.0.2.7", f"for=192.0.2.7, {value}"):
        if whole != 'for="192.0.2.43", for=", for=192.0.2.7':
            with pytest.raises(BadHead, match="Forwarded"):
                elements(whole.encode("latin-1"))


@given(st.binary(max_size=60))
def test_any_bytes_are_hops_or_refused(value: bytes) -> None:
    try:
        hops = elements(value)
    except BadHead:
        return
    assert len(hops) <= HOPS


@given(st.ip_addresses(), st.sampled_from([b"", b";proto=https", b";host=a;proto=http"]))
def test_what_we_say_is_read_again(address: IpAddress, more: bytes) -> None:
    [hop] = elements(b"for=" + for_field(str(address)) + more)
    assert hop.address in (address, getattr(address, "ipv4_mapped", None))


def test_a_hop_that_keeps_its_address_to_itself_still_says_how_it_was_asked() -> None:
    hops = elements(b"for=_hidden;proto=https;host=a, for=10.0.0.2")
    assert find_client(hops, TRUSTED) == Hop(ip_address("10.0.0.2"), b"https", b"a")


# --- lists


@pytest.mark.parametrize(
    ("value", "element"),
    [
        (b"https", b"https"),
        (b"https, https", b"https"),
        (b" https ,https\t", b"https"),
        (b"https, http", b""),
        (b"https,", b""),
        (b"", b""),
    ],
)
def test_a_list_says_something_when_all_of_it_says_the_same(value: bytes, element: bytes) -> None:
    assert agreed(value) == element
