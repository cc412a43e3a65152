from __future__ import annotations

import itertools

from portway_operator.sources.backoff import Backoff, EndlessBackoff


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_pauses_double_up_to_five_seconds_with_jitter() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    pauses = [backoff.next() for _ in range(10)]
    wanted = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, wanted, strict=True))


def test_pauses_begin_anew_after_a_calm_half_minute() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    for _ in range(10):
        clock.now += backoff.next()
    clock.now += 29
    assert backoff.next() > 2
    clock.now += 36
    assert backoff.next() <= 0.1


def test_the_servers_wish_is_respected_up_to_a_minute() -> None:
    backoff = Backoff(Clock())
    assert backoff.next(least=7.0) == 7.0
    assert backoff.next(least=3600.0) == 60.0


def test_kopf_can_ask_for_pauses_for_ever_and_again() -> None:
    endless = EndlessBackoff()
    for _ in range(2):
        first, *_, last = itertools.islice(endless, 1000)
        assert first <= 0.1
        assert last >= 2.5
