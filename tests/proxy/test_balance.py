from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.balance import Balancer, LeastLoad, PowerOfTwo, Random, Ring, RoundRobin, SmoothRoundRobin, balancer
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


# --- weights


def turns(weights: dict[str, float], count: int) -> str:
    turn = SmoothRoundRobin(list(weights), list(weights.values()), None)
    return "".join(turn.choose() for _ in range(count))


def test_weights_are_shares_without_bursts() -> None:
    # nginx's own example for its algorithm.
    assert turns({"a": 5, "b": 1, "c": 1}, 14) == "aabacaa" * 2


def test_equal_weights_take_everyone_in_turn() -> None:
    assert turns({"a": 1, "b": 1, "c": 1}, 6) == "abcabc"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_after_as_many_choices_as_all_weights_everyone_had_as_many_as_its_own(weights: list[int]) -> None:
    turn = SmoothRoundRobin(range(len(weights)), weights, None)
    chosen = Counter(turn.choose() for _ in range(sum(weights)))
    assert [chosen[place] for place in range(len(weights))] == weights


def test_the_excluded_earn_nothing() -> None:
    turn = SmoothRoundRobin("abc", [5, 1, 1], None)
    assert "".join(turn.choose("a") for _ in range(4)) == "bcbc"
    with pytest.raises(NoEndpoints):
        turn.choose("abc")


def test_new_weights_go_on_with_what_was_earned() -> None:
    # A slow starter with a tenth must get its turn although its weight is new every second.
    turn: Balancer[str] | None = None
    chosen = ""
    for second in range(40):
        turn = balancer(Balance.ROUND_ROBIN, "on", random.Random(1), weights=[1.0, 0.1 + second / 10_000], before=turn)
        chosen += turn.choose()
    assert 3 <= chosen.count("n") <= 5


def test_chance_minds_weights() -> None:
    some = Random("abc", random.Random(1), [6, 3, 1])
    chosen = Counter(some.choose() for _ in range(10_000))
    assert [round(chosen[letter] / 1000) for letter in "abc"] == [6, 3, 1]
    rest = Counter(some.choose("a") for _ in range(4000))
    assert [round(rest[letter] / 1000) for letter in "abc"] == [0, 3, 1]


def test_a_turn_goes_on_behind_the_one_before() -> None:
    source = random.Random(1)
    first = balancer(Balance.ROUND_ROBIN, "abc", source)
    last = first.choose()
    second = balancer(Balance.ROUND_ROBIN, "xabc", source, before=first)
    assert [second.choose() for _ in range(4)][-1] == last
    weighted = balancer(Balance.ROUND_ROBIN, "xabc", source, weights=[1, 1, 1, 2], before=second)
    last = weighted.choose()
    third = balancer(Balance.ROUND_ROBIN, "abcx", source, before=weighted)
    assert [third.choose() for _ in range(4)][-1] == last


# --- load


def test_the_least_load_of_all_is_chosen_and_equals_take_turns() -> None:
    loads = {"a": 2, "b": 1, "c": 1}
    some = LeastLoad("abc", 0, loads.__getitem__)
    assert [some.choose() for _ in range(4)] == list("bcbc")
    loads["a"] = 0
    assert some.choose() == "a"
    assert some.choose("a") in "bc"


def test_the_least_load_is_that_for_its_weight() -> None:
    loads = {"a": 4, "b": 0}
    assert LeastLoad("ab", 0, loads.__getitem__, [1.0, 0.1]).choose() == "a"
    assert LeastLoad("ab", 0, loads.__getitem__, [1.0, 0.5]).choose() == "b"


def test_of_two_by_chance_the_one_with_less_load_is_chosen() -> None:
    loads = {"a": 9, "b": 5, "c": 1}
    some = PowerOfTwo("abc", random.Random(1), loads.__getitem__)
    chosen = Counter(some.choose() for _ in range(3000))
    # The pairs ab, ac, bc are equally likely.
    assert chosen["a"] == 0
    assert chosen["b"] == pytest.approx(1000, abs=100)
    assert Counter(some.choose("c") for _ in range(50)) == {"b": 50}


def test_of_two_with_equal_load_either_is_chosen() -> None:
    some = PowerOfTwo(range(5), random.Random(1), lambda _: 3)
    chosen = Counter(some.choose() for _ in range(5000))
    assert all(chosen[place] == pytest.approx(1000, abs=120) for place in range(5))


def test_power_of_two_minds_weights() -> None:
    some = PowerOfTwo("ab", random.Random(1), {"a": 3, "b": 0}.__getitem__, [1.0, 0.1])
    assert {some.choose() for _ in range(20)} == {"a"}


def test_power_of_two_keeps_the_greatest_load_far_below_that_of_chance() -> None:
    def greatest(kind: Balance) -> int:
        loads = Counter(dict.fromkeys(range(50), 0))
        some = balancer(kind, range(50), random.Random(1), loads.__getitem__)
        for _ in range(500):
            loads[some.choose()] += 1
        return max(loads.values())

    assert greatest(Balance.POWER_OF_TWO) <= 13
    assert greatest(Balance.LEAST_CONNECTIONS) == 10
    assert greatest(Balance.RANDOM) >= 16


# --- consistent hash

KEYS = [str(number).encode() for number in range(4000)]


def ring(*names: str) -> Ring[str]:
    return Ring(names, str.encode)


def names(count: int) -> list[str]:
    return [f"10.0.0.{number}:8080" for number in range(count)]


def test_equal_keys_get_equal_candidates_in_whatever_order_they_came() -> None:
    one, other = ring(*names(7)), ring(*reversed(names(7)))
    assert [one.choose(key) for key in KEYS] == [other.choose(key) for key in KEYS]


def test_the_places_are_the_same_in_every_process_and_version() -> None:
    assert [ring("a", "b", "c").choose(key) for key in KEYS[:12]] == list("aabaacbacbac")


def test_keys_are_spread_about_evenly() -> None:
    chosen = Counter(map(ring(*names(10)).choose, KEYS))
    assert len(chosen) == 10
    assert min(chosen.values()) > 280
    assert max(chosen.values()) < 520


@pytest.mark.parametrize("count", [2, 5, 20])
def test_only_the_keys_of_a_candidate_that_goes_move(count: int) -> None:
    all_of_them, without = ring(*names(count)), ring(*names(count)[1:])
    moved = [key for key in KEYS if all_of_them.choose(key) != without.choose(key)]
    assert {all_of_them.choose(key) for key in moved} == {names(count)[0]}
    assert len(moved) / len(KEYS) == pytest.approx(1 / count, rel=0.35)


def test_leaving_a_candidate_out_moves_its_keys_where_they_would_be_without_it() -> None:
    all_of_them, without = ring(*names(5)), ring(*names(5)[1:])
    assert [all_of_them.choose(key, {names(5)[0]}) for key in KEYS] == [without.choose(key) for key in KEYS]


def test_the_keys_of_a_candidate_that_goes_are_spread_over_the_others() -> None:
    all_of_them, without = ring(*names(6)), ring(*names(6)[1:])
    heirs = Counter(without.choose(key) for key in KEYS if all_of_them.choose(key) == names(6)[0])
    assert len(heirs) == 5


def test_nobody_on_the_ring_is_no_endpoint() -> None:
    with pytest.raises(NoEndpoints):
        ring().choose(b"a")
    with pytest.raises(NoEndpoints):
        ring("a", "b").choose(b"a", {"a", "b"})
