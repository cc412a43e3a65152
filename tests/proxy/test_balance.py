from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.balance import Balancer, Random, RoundRobin, balancer
from portway_proxy.errors import NoEndpoints
from portway_proxy.snapshot import Balance

kinds = st.sampled_from(Balance)
counts = st.integers(1, 8)


def test_round_robin_takes_everyone_in_turn() -> None:
    turn = RoundRobin("abc", 0)
    assert [turn.choose() for _ in range(7)] == list("bcabcab")


def test_round_robin_passes_over_the_excluded_and_keeps_its_place() -> None:
    turn = RoundRobin("abc", 2)
    assert [turn.choose("a"), turn.choose("a"), turn.choose("a"), turn.choose()] == ["b", "c", "b", "c"]


def test_workers_do_not_all_begin_with_the_same_endpoint() -> None:
    source = random.Random(1)
    first = {balancer(Balance.ROUND_ROBIN, range(5), source).choose() for _ in range(200)}
    assert first == set(range(5))


@given(counts, st.integers(0, 1000), st.integers(0, 50))
def test_round_robin_never_favours_anyone_by_more_than_one(count: int, start: int, choices: int) -> None:
    turn = RoundRobin(range(count), start)
    chosen = Counter(dict.fromkeys(range(count), 0))
    chosen.update(turn.choose() for _ in range(choices))
    assert max(chosen.values()) - min(chosen.values()) <= 1


def test_random_choice_reaches_everyone_about_equally() -> None:
    some = Random(range(4), random.Random(1))
    chosen = Counter(some.choose() for _ in range(4000))
    assert set(chosen) == {0, 1, 2, 3}
    assert all(850 < count < 1150 for count in chosen.values())


@given(kinds, counts, st.sets(st.integers(0, 8)), st.randoms(use_true_random=False))
def test_no_balancer_chooses_the_excluded(kind: Balance, count: int, exclude: set[int], source: random.Random) -> None:
    some = balancer(kind, range(count), source)
    left = set(range(count)) - exclude
    if left:
        assert {some.choose(exclude) for _ in range(20)} <= left
    else:
        with pytest.raises(NoEndpoints):
            some.choose(exclude)


@pytest.mark.parametrize("kind", Balance)
def test_nobody_is_no_endpoint(kind: Balance) -> None:
    some: Balancer[str] = balancer(kind, (), random.Random(1))
    for exclude in ((), ("a",)):
        with pytest.raises(NoEndpoints):
            some.choose(exclude)


def test_the_candidates_are_those_of_the_beginning() -> None:
    for kind in Balance:
        candidates = ["a"]
        some = balancer(kind, candidates, random.Random(1))
        candidates.append("b")
        assert {some.choose() for _ in range(20)} == {"a"}
