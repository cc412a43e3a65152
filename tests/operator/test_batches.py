from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_operator.batches import BURST, PAUSE, RATE, Batches


def test_nothing_is_due_before_anything_changed_and_after_it_was_published() -> None:
    batches = Batches()
    assert batches.due(5.0) == inf
    batches.add(5.0)
    batches.publish(5.0)
    assert batches.due(5.1) == inf


def published(number: int, every: float) -> list[float]:
    """Return when so many changes, one `every` so many seconds, are published."""
    batches, times = Batches(), list[float]()
    for change in range(number):
        now = change * every
        batches.add(now)
        if batches.due(now) <= 0:
            batches.publish(now)
            times.append(now)
    return times


@pytest.mark.parametrize("number", [1, 2, BURST])
def test_a_few_changes_are_each_published_at_once(number: int) -> None:
    assert len(published(number, 0.0)) == number


@pytest.mark.parametrize("rate", [1, 20, 50, RATE])
def test_changes_below_the_rate_are_each_published_at_once(rate: float) -> None:
    assert len(published(1000, 1 / rate)) == 1000


@pytest.mark.parametrize("rate", [90, 200, 500, 5000])
def test_changes_above_it_are_published_fewer_than_ten_times_a_second_once_they_were_recognised(rate: float) -> None:
    times = published(int(20 * rate), 1 / rate)
    assert len([time for time in times if time >= 10]) <= 10 * 10


def test_what_is_due_at_once_is_not_put_off_by_a_storm_that_begins() -> None:
    batches = Batches()
    for _ in range(100):
        batches.add(5.0)
    assert batches.due(5.0) == 0.0


@given(st.lists(st.floats(0.0, 0.05), min_size=1, max_size=500))
def test_no_change_waits_longer_than_a_pause(gaps: list[float]) -> None:
    batches, now = Batches(), 0.0
    for gap in gaps:
        now += gap
        batches.add(now)
        assert batches.due(now) <= PAUSE + 1e-9
        if batches.due(now) <= 0:
            batches.publish(now)
