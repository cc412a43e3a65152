from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.errors import TooManyConnections, TooManyFromAddress
from portway_proxy.gate import Gate, origin_of


def test_as_many_come_in_as_may_and_one_who_leaves_makes_room() -> None:
    gate = Gate(2)
    first, _ = gate.enter("192.0.2.1"), gate.enter("192.0.2.1")
    with pytest.raises(TooManyConnections):
        gate.enter("192.0.2.2")
    gate.leave(first)
    gate.enter("192.0.2.2")
    assert (gate.open, dict(gate.refused)) == (2, {"too_many_connections": 1})


def test_an_address_at_its_limit_costs_no_other_address_anything() -> None:
    gate = Gate(100, each=1)
    place = gate.enter("192.0.2.1")
    with pytest.raises(TooManyFromAddress):
        gate.enter("192.0.2.1")
    gate.enter("192.0.2.2")
    gate.leave(place)
    gate.enter("192.0.2.1")
    assert (gate.open, dict(gate.refused)) == (2, {"too_many_from_address": 1})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_a_client_is_an_ipv4_address_or_the_64_of_an_ipv6_one(one: str, other: str, same: bool) -> None:
    assert (origin_of(one) == origin_of(other)) is same


def test_a_limit_that_is_set_later_counts_those_who_come_from_then_on() -> None:
    gate = Gate(100)
    before = gate.enter("192.0.2.1")
    gate.each = 1
    gate.enter("192.0.2.1")
    with pytest.raises(TooManyFromAddress):
        gate.enter("192.0.2.1")
    gate.leave(before)
    with pytest.raises(TooManyFromAddress):
        gate.enter("192.0.2.1")


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=60))
def test_whoever_comes_and_goes_nobody_is_counted_twice_or_forgotten(steps: list[tuple[bool, int]]) -> None:
    gate, inside = Gate(5, each=2), list[tuple[str, bytes]]()
    for comes, number in steps:
        address = f"192.0.2.{number}"
        if comes:
            present = sum(other == address for other, _ in inside)
            try:
                inside.append((address, gate.enter(address)))
            except TooManyConnections:
                assert len(inside) == 5
            except TooManyFromAddress:
                assert present == 2
            else:
                assert len(inside) <= 5
                assert present < 2
        elif inside:
            gate.leave(inside.pop(number % len(inside))[1])
        assert gate.open == len(inside)
    for _, origin in inside:
        gate.leave(origin)
    assert (gate.open, gate._by_origin) == (0, {})


def test_a_connection_without_an_address_counts_among_all_until_it_claims_one() -> None:
    gate = Gate(3, each=1)
    waiting = [gate.enter(None) for _ in range(3)]
    with pytest.raises(TooManyConnections):
        gate.enter(None)
    assert waiting == [b""] * 3
    claimed = gate.claim("192.0.2.1")
    with pytest.raises(TooManyFromAddress):
        gate.claim("192.0.2.1")
    assert gate.open == 3
    gate.leave(claimed)
    assert gate.open == 2
    gate.leave(gate.claim("192.0.2.1"))
    gate.leave(b"")
    assert gate.open == 0


def test_claims_cost_nothing_where_addresses_have_no_limit() -> None:
    gate = Gate(1)
    assert [gate.claim("192.0.2.1"), gate.claim("192.0.2.1")] == [b"", b""]
