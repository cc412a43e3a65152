from __future__ import annotations

from portway_proxy.latency import Latency


def test_what_is_older_counts_less() -> None:
    latency = Latency()
    latency.note(10.0, 100.0)
    first = latency.score(100.0)
    assert latency.score(110.0) < first / 2
    latency.note(1.0, 200.0)
    assert 0.99 < latency.score(200.0) < 1.01


def test_who_was_never_asked_seems_fast() -> None:
    assert Latency().score(5.0) == 0.0


def test_several_times_of_one_moment_count_as_the_first() -> None:
    latency = Latency()
    latency.note(4.0, 1000.0)
    latency.note(8.0, 1000.0)
    assert 3.9 < latency.score(1000.0) <= 8.0
