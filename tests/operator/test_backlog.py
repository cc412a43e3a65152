"""The deltas of the recent past: who may catch up by them, and how many are kept."""

from __future__ import annotations

from portway_operator.backlog import Backlog


def filled(*bases: str, most: int = 1000, size: int = 1000) -> Backlog:
    backlog = Backlog(most, size)
    for base in bases:
        backlog.append(base, f"from {base}".encode())
    return backlog


def test_whoever_has_the_base_of_one_gets_it_and_all_after_it() -> None:
    backlog = filled("a", "b", "c")
    assert backlog.since("a") == [b"from a", b"from b", b"from c"]
    assert backlog.since("c") == [b"from c"]


def test_whoever_has_anything_else_gets_none() -> None:
    assert filled("a", "b").since("z") is None
    assert Backlog().since("a") is None


def test_content_that_came_back_is_caught_up_with_from_its_last_time() -> None:
    assert filled("a", "b", "a", "c").since("a") == [b"from a", b"from c"]


def test_the_oldest_fall_off_by_number() -> None:
    backlog = filled(*"abcdef", most=3)
    assert len(backlog) == 3
    assert backlog.since("c") is None
    assert backlog.since("d") is not None


def test_the_oldest_fall_off_by_size() -> None:
    backlog = filled(*"abcdef", size=15)
    assert len(backlog) == 2
    assert backlog.since("d") is None
    assert backlog.since("e") is not None


def test_a_delta_that_is_larger_than_all_that_is_kept_is_not_kept() -> None:
    assert len(filled("a", size=1)) == 0


def test_a_broken_chain_is_forgotten() -> None:
    backlog = filled("a", "b", size=100)
    backlog.clear()
    assert backlog.since("a") is None
    for number in range(20):
        backlog.append(str(number), b"x" * 10)
    assert len(backlog) == 10


def test_whoever_takes_no_wide_deltas_gets_those_after_the_last_wide_one_alone() -> None:
    backlog = filled("a", "b")
    backlog.append("c", b"from c", wide=True)
    backlog.append("d", b"from d")
    assert backlog.since("b") == [b"from b", b"from c", b"from d"]
    assert backlog.since("c", wide=False) is None
    assert backlog.since("b", wide=False) is None
    assert backlog.since("d", wide=False) == [b"from d"]
