from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.dashboard.stamped import Stamped


def test_what_was_put_behind_a_stamp_is_new() -> None:
    table: Stamped[str, int] = Stamped(10)
    table.put("a", 1, 1)
    table.put("b", 2, 2)
    table.put("a", 3, 3)
    assert table.since(1) == {"a": 3, "b": 2}
    assert table.since(2) == {"a": 3}
    assert table.since(3) == {}


def test_what_went_is_gone_until_it_is_put_again() -> None:
    table: Stamped[str, int] = Stamped(10)
    table.put("a", 1, 1)
    table.drop("a", 2)
    table.drop("never there", 2)
    assert (table.gone(1), table.gone(2), len(table)) == (["a"], [], 0)
    table.put("a", 1, 3)
    assert (table.gone(0), table.since(2)) == ([], {"a": 1})


def test_who_looked_last_before_what_is_forgotten_cannot_be_told() -> None:
    table: Stamped[int, int] = Stamped(2)
    for key in range(4):
        table.put(key, key, 1)
    for key in range(4):
        table.drop(key, 10 + key)
    assert table.forgotten == 11
    assert table.gone(11) == [3, 2]


def test_what_was_not_put_again_expires() -> None:
    table: Stamped[str, int] = Stamped(0)
    table.put("old", 1, 1)
    table.put("new", 2, 2)
    table.expire(1)
    assert table.since(0) == {"new": 2}


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 3)), max_size=30), st.integers(0, 30))
def test_who_follows_from_any_stamp_on_has_the_whole_table(steps: list[tuple[int, int | None]], since: int) -> None:
    table: Stamped[int, int] = Stamped(100)
    reader: dict[int, int] = {}
    since = min(since, len(steps))
    for stamp, (key, value) in enumerate(steps, 1):
        if value is None:
            table.drop(key, stamp)
        else:
            table.put(key, value, stamp)
        if stamp == since:
            reader = table.since(0)
    for key in table.gone(since):
        reader.pop(key, None)
    reader |= table.since(since)
    assert reader == table.since(0)
