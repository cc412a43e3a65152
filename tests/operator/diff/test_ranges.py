"""Sets of addresses as ranges."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_operator.diff.ranges import EVERYBODY, NOBODY, admitted, within

NETWORKS = ["10.0.0.0/8", "10.0.0.0/24", "10.0.1.0/24", "10.0.0.7", "192.0.2.0/24", "0.0.0.0/0", "fd00::/8", "::/0"]
ADDRESSES = ["10.0.0.7", "10.0.0.8", "10.0.1.1", "10.9.9.9", "192.0.2.1", "198.51.100.1", "fd00::1", "2001:db8::1"]
SOME = st.lists(st.sampled_from(NETWORKS), max_size=3).map(tuple)


def comes(address: str, allow: tuple[str, ...], deny: tuple[str, ...]) -> bool:
    here = ip_address(address)
    listed = not allow or any(here in ip_network(one) for one in allow)
    return listed and not any(here in ip_network(one) for one in deny)


@given(SOME, SOME, st.sampled_from(ADDRESSES))
def test_who_is_admitted_is_who_may_come(allow: tuple[str, ...], deny: tuple[str, ...], address: str) -> None:
    assert within(admitted((address,), ()), admitted(allow, deny)) == comes(address, allow, deny)


@given(SOME, SOME, SOME, SOME)
def test_whoever_comes_to_the_inner_comes_to_the_outer(
    allow: tuple[str, ...], deny: tuple[str, ...], more: tuple[str, ...], less: tuple[str, ...]
) -> None:
    inner, outer = admitted(allow, deny), admitted(more, less)
    if within(inner, outer):
        assert all(comes(one, more, less) for one in ADDRESSES if comes(one, allow, deny))


@pytest.mark.parametrize(
    ("inner", "outer", "so"),
    [
        (NOBODY, NOBODY, True),
        (NOBODY, EVERYBODY, True),
        (EVERYBODY, NOBODY, False),
        (admitted(("0.0.0.0/0", "::/0"), ()), EVERYBODY, True),
        (EVERYBODY, admitted(("0.0.0.0/0", "::/0"), ()), True),
        (admitted(("10.0.0.0/25", "10.0.0.128/25"), ()), admitted(("10.0.0.0/24",), ()), True),
        (admitted(("10.0.0.0/24",), ()), admitted(("10.0.0.0/25", "10.0.0.128/25"), ()), True),
        (admitted(("10.0.0.0/23",), ()), admitted(("10.0.0.0/24",), ()), False),
    ],
)
def test_neighbours_are_one_range(
    inner: tuple[tuple[int, int], ...], outer: tuple[tuple[int, int], ...], so: bool
) -> None:
    assert within(inner, outer) is so
