from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from portway_operator.collector import begin, settle


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Leave the collector as other tests know it."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_from_the_beginning_garbage_is_looked_for_seldom() -> None:
    gc.set_threshold(700, 10, 10)  # Python's own: another test may have begun already.
    begin()
    assert gc.get_threshold() > (700, 10, 10)
    assert gc.get_freeze_count() > 1000


def test_what_lives_when_all_is_settled_is_walked_no_more() -> None:
    begin()
    before = gc.get_freeze_count()
    lives = [[number] for number in range(1000)]
    settle()
    assert gc.get_freeze_count() >= before + len(lives)


def test_settling_collects_nothing_because_that_would_stop_everything_for_a_fifth_of_a_second() -> None:
    collections: list[str] = []

    def note(phase: str, _: object) -> None:
        collections.append(phase)

    begin()
    gc.callbacks.append(note)
    try:
        settle()
    finally:
        gc.callbacks.remove(note)
    assert collections == []
