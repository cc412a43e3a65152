from __future__ import annotations

from collections import Counter

import pytest

from portway_proxy.clock import NEVER
from portway_proxy.errors import NoEndpoints
from portway_proxy.health import Health
from portway_proxy.selection import Selection
from portway_proxy.snapshot import Balance, Check, Ejection, Endpoint, UpstreamPolicy

ONE = Ejection(failures=1)


class Some:
    """An endpoint that a test makes ail."""

    def __init__(self, name: str, *zones: str, load: int = 0) -> None:
        self.name = name
        self.endpoint = Endpoint(name, 80, "", zones)
        self.health = Health(float("-inf"))
        self.label = name.encode()
        self.load = load

    def __repr__(self) -> str:
        return self.name

    def eject(self, now: float = 0.0) -> None:
        self.health.fail(ONE, now)

    def fail_checks(self) -> None:
        self.health.checked(Check(failures=1), 0.0, passed=False)


def selected(
    *everyone: Some, zone: str = "", policy: UpstreamPolicy | None = None, balance: Balance = Balance.ROUND_ROBIN
) -> Selection[Some]:
    selection: Selection[Some] = Selection(balance, policy, zone)
    selection.refresh(everyone, 0.0)
    return selection


def chosen(selection: Selection[Some], count: int = 30) -> str:
    return "".join(sorted({selection.balancer.choose().name for _ in range(count)}))


def test_all_are_candidates_when_all_are_well() -> None:
    assert chosen(selected(*map(Some, "abc"))) == "abc"


def test_who_is_out_is_no_candidate_whyever() -> None:
    a, b, c = map(Some, "abc")
    a.eject()
    assert chosen(selected(a, b, c)) == "bc"
    a.health.succeed(0.0)
    b.fail_checks()
    assert chosen(selected(a, b, c)) == "ac"


def test_more_than_half_out_is_all_in() -> None:
    some = [Some(letter) for letter in "abc"]
    for one in some[:2]:
        one.eject()
    assert chosen(selected(*some)) == "abc"
    assert chosen(selected(*some, policy=UpstreamPolicy(ejection=Ejection(share=70)))) == "c"
    some[2].eject()
    assert chosen(selected(*some, policy=UpstreamPolicy(ejection=Ejection(share=100)))) == "abc"


ZONES = [
    # Hints of a, b and c; which of them are out; who gets the requests of zone x.
    ("x y z", "", "a"),
    ("x x y", "", "ab"),
    ("xy y z", "", "a"),
    ("y y z", "", "abc"),
    ("x - y", "", "abc"),
    ("- - -", "", "abc"),
    ("x y z", "a", "bc"),
    ("x x y", "a", "b"),
    ("x x y", "ab", "abc"),
    ("x y z", "ab", "abc"),
    ("x y z", "b", "a"),
]


@pytest.mark.parametrize(("hints", "out", "used"), ZONES)
def test_hints_count_as_for_kube_proxy_and_others_help_out(hints: str, out: str, used: str) -> None:
    some = [Some(letter, *zones.strip("-")) for letter, zones in zip("abc", hints.split(), strict=True)]
    for one in some:
        if one.name in out:
            one.eject()
    assert chosen(selected(*some, zone="x")) == used


def test_a_proxy_that_does_not_know_its_zone_takes_all() -> None:
    assert chosen(selected(Some("a", "x"), Some("b", "y"))) == "ab"


# --- another one


def test_another_is_well_as_long_as_somebody_is() -> None:
    some = [Some(letter) for letter in "abcd"]
    a, b, c, d = some
    for one in (a, b, c):
        one.eject()
    selection = selected(*some)
    assert chosen(selection) == "abcd"
    assert {selection.another([a]) for _ in range(20)} == {d}
    assert {selection.another([a, d]) for _ in range(40)} == {b, c}
    with pytest.raises(NoEndpoints):
        selection.another(some)


def test_another_may_be_ejected_when_nobody_else_is_left() -> None:
    a, b = Some("a"), Some("b")
    a.eject()
    assert selected(a, b).another([b]) is a


def test_another_zone_helps_out_and_its_well_ones_first() -> None:
    a, b, c = Some("a", "x"), Some("b", "y"), Some("c", "y")
    b.eject()
    selection = selected(a, b, c, zone="x")
    assert {selection.another([a]) for _ in range(20)} == {c}
    assert selection.another([a, c]) is b


def test_another_one_does_not_take_a_turn_of_the_first() -> None:
    # Or with two endpoints, of which one fails, every request would begin with that one.
    a, b = Some("a"), Some("b")
    selection = selected(a, b)
    firsts = []
    for _ in range(6):
        firsts.append(selection.balancer.choose().name)
        selection.another([a])
    assert Counter(firsts) == {"a": 3, "b": 3}


# --- the hash


def test_a_key_stays_with_its_candidate_and_passes_over_who_is_out_or_excluded() -> None:
    some = [Some(letter) for letter in "abcd"]
    selection = selected(*some, balance=Balance.HASH)
    first = selection.of_key(b"ann")
    second = selection.of_key(b"ann", [first])
    assert selection.another([first], b"ann") is second
    first.eject()
    selection.refresh(tuple(some), 1.0)
    assert selection.of_key(b"ann") is second
    first.health.succeed(2.0)
    selection.refresh(tuple(some), 2.0)
    assert selection.of_key(b"ann") is first


def test_no_one_left_for_a_key_is_no_endpoint() -> None:
    some = [Some(letter) for letter in "ab"]
    with pytest.raises(NoEndpoints):
        selected(*some, balance=Balance.HASH).of_key(b"ann", some)


# --- time


def test_an_ejection_wakes_when_it_is_over_and_the_probe_is_due_then() -> None:
    a, b = Some("a"), Some("b")
    a.eject(5.0)
    selection = selected(a, b)
    assert (selection.wake, selection.probe) == (15.0, None)
    selection.refresh((a, b), 15.0)
    assert (selection.wake, selection.probe) == (NEVER, a)
    a.health.probe(15.0)
    selection.refresh((a, b), 15.0)
    assert (selection.wake, selection.probe) == (25.0, None)


def test_who_gets_requests_anyway_needs_no_probe() -> None:
    a = Some("a")
    a.eject(0.0)
    selection = selected(a)
    selection.refresh((a,), 100.0)
    assert (selection.probe, chosen(selection)) == (None, "a")


def test_shares_that_grow_wake_at_every_tick_until_they_are_whole() -> None:
    a, b = Some("a"), Some("b")
    b.health.since = 100.0
    selection: Selection[Some] = Selection(Balance.ROUND_ROBIN, UpstreamPolicy(slow_start=10.0), "")
    shares = []
    for now in (100.0, 105.0, 109.0, 110.0):
        selection.refresh((a, b), now)
        shares.append(Counter(selection.balancer.choose().name for _ in range(990))["b"] / 990)
        assert selection.wake == (now if now < 110 else NEVER)
    assert shares == pytest.approx([0.1 / 1.1, 0.5 / 1.5, 0.9 / 1.9, 0.5], abs=0.01)


def test_nothing_that_changed_is_nothing_that_is_made_anew() -> None:
    some = tuple(map(Some, "abc"))
    selection = selected(*some)
    before = selection.balancer
    selection.refresh(some, 7.0)
    assert selection.balancer is before


def test_least_connections_asks_for_the_load_of_now() -> None:
    a, b = Some("a", load=1), Some("b", load=2)
    selection = selected(a, b, balance=Balance.LEAST_CONNECTIONS)
    assert chosen(selection) == "a"
    a.load = 3
    assert chosen(selection) == "b"
