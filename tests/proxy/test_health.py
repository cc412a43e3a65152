from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.health import Condition, Health, ramp, too_many_out
from portway_proxy.snapshot import Check, Ejection

FIVE = Ejection()
ALWAYS = float("-inf")


def health() -> Health:
    return Health(ALWAYS)


# What happens, and when -> whether it changed something, and whether the endpoint is out after it.
# `x` a failed request, `o` one that was answered, `p` a probe begins.
EJECTIONS = """
 5 failures in a row              0x 0x 0x 0x 0x!   out
 an answer in between             0x 0x 0x 0x 0o 0x 0x 0x 0x  in
 further ones while it is out     0x 0x 0x 0x 0x! 1x 2x 3x    out
 an answer while it is out        0x 0x 0x 0x 0x! 3o!         in
 a probe that is answered         0x 0x 0x 0x 0x! 10p 10o!    in
 a probe that fails               0x 0x 0x 0x 0x! 10p 10x!    out
"""


@pytest.mark.parametrize("row", EJECTIONS.strip().splitlines(), ids=lambda row: row[:32].strip())
def test_an_endpoint_is_ejected_and_comes_back_as_the_table_says(row: str) -> None:
    one = health()
    *events, end = row[32:].split()
    for event in events:
        now, kind = float(event.rstrip("xop!")), event.rstrip("!")[-1]
        if kind == "p":
            assert one.due(now)
            one.probe(now)
        else:
            changed = one.fail(FIVE, now) if kind == "x" else one.succeed(now)
            assert changed is event.endswith("!"), event
    assert one.out is (end == "out")
    assert one.condition is (Condition.EJECTED if end == "out" else Condition.WELL)


def eject(one: Health, now: float, ejection: Ejection = FIVE) -> float:
    """Fail requests at `now` until the endpoint is out; return for how long."""
    while not one.fail(ejection, now):
        pass
    return one.until - now


def test_each_ejection_soon_after_the_last_one_is_longer_up_to_five_minutes() -> None:
    one, now, times = health(), 0.0, []
    for _ in range(34):
        times.append(eject(one, now))
        now = one.until
        one.probe(now)
        one.succeed(now)
    assert times == [min(10.0 * number, 300.0) for number in range(1, 35)]


def test_an_endpoint_that_was_well_for_longer_than_it_was_out_begins_anew() -> None:
    one = health()
    eject(one, 0)
    one.succeed(10)
    assert eject(one, 20) == 20
    one.succeed(40)
    assert eject(one, 61) == 10


def test_a_probe_that_fails_is_as_bad_as_five_failures() -> None:
    one = health()
    eject(one, 0)
    one.probe(10)
    assert one.fail(FIVE, 11)
    assert one.until == 31


def test_a_probe_is_due_when_the_time_is_over_and_again_when_nothing_was_heard_of_it() -> None:
    one = health()
    assert not one.due(1000)
    eject(one, 0)
    assert (one.due(9.9), one.due(10)) == (False, True)
    one.probe(10)
    assert (one.due(19.9), one.due(20)) == (False, True)


def test_any_request_may_probe_after_half_a_minute_without_a_better_one() -> None:
    one = health()
    eject(one, 0)
    assert (one.takes_any(39), one.takes_any(40)) == (False, True)


def test_zero_failures_never_eject() -> None:
    one = health()
    assert not any(one.fail(Ejection(failures=0), 0) for _ in range(100))


def test_a_pardon_forgets_everything() -> None:
    one = health()
    eject(one, 0)
    one.pardon()
    assert (one.out, one.failures, one.probing) == (False, 0, False)


@given(st.lists(st.tuples(st.sampled_from("xop"), st.floats(0, 30)), max_size=60))
def test_whatever_happens_an_endpoint_that_answered_last_is_in(events: list[tuple[str, float]]) -> None:
    one, now = health(), 0.0
    for kind, pause in events:
        now += pause
        if kind == "p" and one.due(now):
            one.probe(now)
        elif kind == "x":
            one.fail(FIVE, now)
        elif kind == "o":
            one.succeed(now)
            assert not one.out
            assert one.failures == 0
        assert one.until - now <= 300
        assert not (one.probing and not one.ejected)


# --- checks


@pytest.mark.parametrize(
    ("answers", "conditions"),
    [
        ("xx", "oo"),
        ("xxx", "oo!"),
        ("xxoxx", "ooooo"),
        ("xxxo", "oo!x"),
        ("xxxoo", "oo!x!"),
        ("xxxoxoo", "oo!xxx!"),
    ],
)
def test_three_bad_answers_in_a_row_are_out_and_two_good_ones_back(answers: str, conditions: str) -> None:
    one, check = health(), Check()
    for answer, expected in zip(answers, conditions, strict=True):
        changed = one.checked(check, 7.0, passed=answer == "o")
        assert changed is (expected == "!")
        if expected != "!":
            assert one.failing is (expected == "x")


def test_an_endpoint_that_passes_its_checks_again_starts_slowly() -> None:
    one, check = health(), Check(failures=1, passes=1)
    one.checked(check, 5.0, passed=False)
    assert one.condition is Condition.FAILING
    one.checked(check, 9.0, passed=True)
    assert one.since == 9.0


def test_what_checks_found_is_forgotten_with_them() -> None:
    one, check = health(), Check(failures=1)
    one.checked(check, 5.0, passed=False)
    one.unchecked()
    assert not one.out


# --- several


@dataclass
class Case:
    out: int
    count: int
    share: int
    too_many: bool


@pytest.mark.parametrize(
    "case",
    [
        Case(0, 0, 50, False),
        Case(1, 1, 50, True),
        Case(1, 2, 50, False),
        Case(1, 3, 50, False),
        Case(2, 3, 50, True),
        Case(2, 3, 67, False),
        Case(3, 3, 100, False),
        Case(1, 10, 0, True),
    ],
)
def test_more_than_the_share_is_too_many(case: Case) -> None:
    some = [health() for _ in range(case.count)]
    for one in some[: case.out]:
        one.checked(Check(failures=1), 0, passed=False)
    assert too_many_out(some, case.share) is case.too_many


@pytest.mark.parametrize(
    ("ages", "weights"),
    [
        ([100, 100], None),
        ([0, 0], None),
        ([100, 0], [1.0, 0.1]),
        ([100, 1], [1.0, 0.1]),
        ([100, 5], [1.0, 0.5]),
        ([100, 9], [1.0, 0.9]),
        ([100, 10], None),
        ([5, 2], [0.5, 0.2]),
    ],
)
def test_weights_grow_in_a_line_and_equal_ones_are_none(ages: list[float], weights: list[float] | None) -> None:
    now = 1000.0
    assert ramp([Health(now - age) for age in ages], 10.0, now) == weights


def test_without_slow_start_nobody_has_a_weight() -> None:
    assert ramp([Health(0), health()], 0.0, 0.0) is None


def test_who_was_there_from_the_beginning_has_its_whole_share() -> None:
    assert ramp([health(), Health(0)], 10.0, 0.0) == [1.0, 0.1]
