"""What each share of memory and each lag of the loop comes to."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from portway_proxy import overload
from portway_proxy.errors import LoopLate, MemoryShort
from portway_proxy.l7 import flow
from portway_proxy.l7.http import Http
from portway_proxy.l7.shedding import begin_in_time, refuse
from portway_proxy.overload import Level, Overload
from portway_proxy.pressure import Pressure
from worker_parts import Parts


class Told(Pressure):
    """A share that a test says."""

    def __init__(self) -> None:
        super().__init__(0, None)
        self.said = 0.0

    def share(self) -> float:
        return self.said


class Case:
    """An `Overload` whose time and memory a test says."""

    def __init__(self) -> None:
        self.http = Http(Parts())
        self.closed: list[bool] = []
        self.memory = Told()
        self.overload = Overload(self.http, self.memory, self.closed.append)

    def uses(self, share: float) -> Level:
        self.memory.said = share
        for _ in range(10):
            self.beat()
        return self.overload.level

    def beat(self, lag: float = 0.0) -> None:
        self.overload._beats += 1
        self.overload._note(lag)
        if self.overload._beats % 10 == 0:
            self.overload.share = self.memory.share()
            self.overload._follow()


@pytest.fixture
async def case() -> Case:
    return Case()


async def test_each_step_does_what_the_one_before_does_and_more(case: Case) -> None:
    http = case.http
    assert case.uses(0.91) is Level.CALM
    assert (http.letting_go, http.shedding, http.begin, case.closed) == (False, None, flow.begin, [])
    assert case.uses(0.92) is Level.LETTING_GO
    assert (http.letting_go, http.shedding, http.begin, case.closed) == (True, None, flow.begin, [])
    assert case.uses(0.95) is Level.REFUSING
    assert (http.letting_go, http.shedding, http.begin, case.closed) == (True, MemoryShort, refuse, [])
    assert case.uses(0.98) is Level.CLOSED
    assert (http.letting_go, http.shedding, http.begin, case.closed) == (True, MemoryShort, refuse, [True])


async def test_a_step_ends_only_well_below_where_it_began(case: Case) -> None:
    assert case.uses(0.99) is Level.CLOSED
    assert case.uses(0.965) is Level.CLOSED
    assert case.uses(0.955) is Level.REFUSING
    assert case.closed == [True, False]
    assert case.uses(0.92) is Level.LETTING_GO
    assert case.http.shedding is None
    assert case.uses(0.5) is Level.CALM
    assert not case.http.letting_go


async def test_while_memory_is_short_next_to_nothing_waits_for_slow_readers(case: Case) -> None:
    assert case.http.limits.buffer == 65536
    case.uses(0.93)
    assert case.http.limits.buffer == 8192
    case.uses(0.5)
    assert case.http.limits == case.http.settings.limits


async def test_after_a_late_beat_what_is_read_too_late_in_a_turn_is_refused_until_all_is_well_for_a_second(
    case: Case,
) -> None:
    http = case.http
    case.beat(0.2)
    assert (http.shedding, http.begin) == (None, flow.begin)
    case.beat(3.0)
    assert (http.shedding, http.begin) == (LoopLate, begin_in_time)
    for _ in range(9):
        case.beat()
        assert http.shedding is LoopLate
    case.beat()
    assert (http.shedding, http.begin) == (None, flow.begin)


async def test_a_turn_is_late_a_beat_and_the_limit_after_the_last_look(case: Case) -> None:
    case.overload.start()
    now = asyncio.get_running_loop().time()
    assert now + 0.59 <= case.http.late_from <= now + 0.61
    case.overload.stop()


async def test_a_snapshot_that_holds_the_loop_up_makes_nobody_late(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((100.0, 104.0))
    monkeypatch.setattr(overload, "monotonic", lambda: next(times))
    case.overload.start()
    late_from = case.http.late_from
    with case.overload.excused():
        pass
    assert case.http.late_from == pytest.approx(late_from + 4)
    case.overload._due -= 4  # As if the loop had stood still for so long.
    case.overload._beat()
    assert case.overload.lag == 0
    assert case.http.shedding is None
    case.overload.stop()


async def test_what_clients_cause_before_and_after_a_snapshot_counts(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((100.0, 100.1))
    monkeypatch.setattr(overload, "monotonic", lambda: next(times))
    case.overload.start()
    case.overload._due -= 1.1
    with case.overload.excused():
        pass
    case.overload._beat()
    assert case.overload.lag == pytest.approx(0.9, abs=0.05)
    assert case.http.shedding is LoopLate
    case.overload.stop()


async def test_a_late_loop_that_recovers_leaves_what_memory_says(case: Case) -> None:
    case.beat(1.0)
    assert case.uses(0.96) is Level.REFUSING
    assert case.http.shedding is MemoryShort
    case.beat(1.0)
    assert case.http.shedding is MemoryShort
    case.uses(0.1)
    assert case.http.shedding is None


async def test_without_a_limit_a_late_loop_refuses_nobody(case: Case) -> None:
    settings = case.http.settings
    case.http.tune(msgspec.structs.replace(settings, limits=msgspec.structs.replace(settings.limits, loop_lag=0.0)))
    for _ in range(5):
        case.beat(9.0)
    assert case.http.shedding is None


async def test_the_worst_lag_is_told_for_five_to_ten_seconds(case: Case) -> None:
    for _ in range(3):
        case.beat()
    case.beat(0.3)
    told = 0
    while case.overload.lag == 0.3:
        case.beat()
        told += 1
    assert 50 <= told <= 100
    assert case.overload.lag == 0
