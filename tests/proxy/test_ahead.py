from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.errors import BadHead, ClientError, FieldsTooLarge
from portway_proxy.l7.ahead import Ahead
from portway_proxy.settings import Limits

ONE = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
TWO = b"GET /2 HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"


def taken(pieces: list[bytes]) -> list[bytes]:
    """Return the heads that come out when `pieces` arrive one after another, and last what stays held."""
    ahead = Ahead(Limits())
    heads = []
    for piece in pieces:
        data = piece
        while head := ahead.take_head(data):
            heads.append(head)
            data = b""
    return [*heads, bytes(ahead.held)]


def test_a_head_that_arrives_alone_leaves_nothing_behind() -> None:
    ahead = Ahead(Limits())
    assert ahead.take_head(ONE) == ONE
    assert not ahead.held
    assert not ahead.begun


def test_a_head_is_held_until_it_is_complete() -> None:
    ahead = Ahead(Limits())
    assert ahead.take_head(ONE[:10]) == b""
    assert ahead.begun
    assert ahead.take_head(ONE[10:] + TWO) == ONE
    assert not ahead.begun
    assert ahead.take_head(b"") == TWO


def test_all_that_is_held_can_be_taken_at_once() -> None:
    ahead = Ahead(Limits())
    ahead.take_head(ONE + b"body")
    assert ahead.take_all() == b"body"
    assert ahead.take_all() == b""


@given(st.lists(st.integers(0, len(ONE) * 2 + len(TWO) + 3)))
def test_any_split_of_the_bytes_gives_the_same_heads(cuts: list[int]) -> None:
    stream = b"\r\n" + ONE + TWO + ONE + b"G"
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[begin:end] for begin, end in pairwise(edges)]
    assert taken(pieces) == [ONE, TWO, ONE, b"G"]


@given(st.integers(0, 40))
def test_one_empty_line_before_each_head_is_forgiven_wherever_it_is_cut(cut: int) -> None:
    stream = b"\r\n" + ONE + b"\r\n" + TWO
    assert taken([stream[:cut], stream[cut:]]) == [ONE, TWO, b""]


@given(st.integers(0, 6))
def test_a_second_empty_line_is_left_for_the_parser_to_refuse(cut: int) -> None:
    stream = b"\r\n\r\n\r\n" + ONE
    assert taken([stream[:cut], stream[cut:]])[0].startswith(b"\r\n")


def test_what_can_be_no_head_is_refused_before_it_ends() -> None:
    with pytest.raises(BadHead):
        Ahead(Limits()).take_head(b"GET / HTTP/1.1\nHost: a\n")
    ahead = Ahead(Limits())
    ahead.take_head(ONE[:20])
    with pytest.raises(FieldsTooLarge):
        ahead.take_head(b"\r\nX: " + b"y" * 70_000)


def test_a_head_at_the_end_of_many_is_found_without_looking_at_them_again() -> None:
    ahead = Ahead(Limits())
    assert ahead.take_head(ONE * 10_000) == ONE
    for _ in range(9_999):
        assert ahead.take_head(b"") == ONE
    assert not ahead.held


def test_refusals_are_the_clients_fault() -> None:
    with pytest.raises(ClientError):
        Ahead(Limits(request_line=10)).take_head(b"GET /0123456789")
