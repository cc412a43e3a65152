"""`leader.py`: one of many leads, by a Lease that is read and written at a fake time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest

from portway_operator.api_objects import ApiUnavailable
from portway_operator.leader import Leader, Terms
from portway_operator.leases import Lease, LeaseTaken

pytestmark = pytest.mark.looptime(start=0)

TERMS = Terms()


class FakeLeases:
    """One Lease, as an API server keeps it; `down` and `slow` (seconds) are its faults, `lost` swallows answers."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.down = False
        self.lost = False
        self.slow = 0.0
        self.writes: list[tuple[float, str]] = []
        self._version = 0

    async def get(self) -> Lease | None:
        await self._answer()
        return self.lease

    async def create(self, lease: Lease) -> Lease:
        await self._answer()
        if self.lease is not None:
            raise LeaseTaken
        return await self._write(lease)

    async def replace(self, lease: Lease) -> Lease:
        await self._answer()
        if self.lease is None or lease.version != self.lease.version:
            raise LeaseTaken
        return await self._write(lease)

    async def _answer(self) -> None:
        await asyncio.sleep(self.slow)
        if self.down:
            raise ApiUnavailable("connection refused")

    async def _write(self, lease: Lease) -> Lease:
        self._version += 1
        self.lease = replace(lease, version=str(self._version))
        self.writes.append((asyncio.get_running_loop().time(), lease.holder))
        if self.lost:
            await asyncio.sleep(math.inf)
        return self.lease


class Reach:
    """One replica's way to the Lease, which can be cut without the others noticing."""

    def __init__(self, leases: FakeLeases) -> None:
        self._leases = leases
        self.cut = False

    async def get(self) -> Lease | None:
        self._check()
        return await self._leases.get()

    async def create(self, lease: Lease) -> Lease:
        self._check()
        return await self._leases.create(lease)

    async def replace(self, lease: Lease) -> Lease:
        self._check()
        return await self._leases.replace(lease)

    def _check(self) -> None:
        if self.cut:
            raise ApiUnavailable("no route to host")


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def running(*leaders: Leader) -> AsyncIterator[None]:
    tasks = [asyncio.get_running_loop().create_task(leader.run()) for leader in leaders]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)


async def until(leader: Leader, leading: bool = True, seconds: float = 60) -> float:
    """Return the time when `leader` leads, or leads no more."""
    deadline = now() + seconds
    while leader.leading != leading:
        assert now() < deadline, f"{leader.identity} leads: {leader.leading}"
        await asyncio.sleep(0.01)
    return now()


async def test_the_first_to_come_leads_at_once() -> None:
    leases = FakeLeases()
    a = Leader(leases, "a")
    async with running(a):
        assert await until(a) < 0.1
    assert leases.lease is not None
    assert (leases.lease.holder, leases.lease.seconds, leases.lease.transitions) == ("a", 15, 0)


async def test_only_one_leads_and_it_stays_the_same() -> None:
    leases = FakeLeases()
    leases.slow = 0.01
    leaders = [Leader(leases, name) for name in "abc"]
    async with running(*leaders):
        await asyncio.sleep(3)
        [first] = [leader for leader in leaders if leader.leading]
        for _ in range(600):
            await asyncio.sleep(0.5)
            assert [leader for leader in leaders if leader.leading] == [first]
            assert {leader.holder for leader in leaders} == {first.identity}
    assert leases.lease is not None
    assert leases.lease.transitions == 0


async def test_renewals_are_spread_by_a_fifth_around_two_seconds() -> None:
    leases = FakeLeases()
    async with running(Leader(leases, "a")):
        await asyncio.sleep(100)
    times = [time for time, _ in leases.writes]
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) >= 1.6
    assert max(gaps) <= 2.4 + 1e-6
    assert max(gaps) - min(gaps) > 0.1


@asynccontextmanager
async def pair(leases: FakeLeases) -> AsyncIterator[tuple[Leader, Leader, Reach]]:
    """Give two replicas, of which the first leads over a reach that can be cut."""
    reach = Reach(leases)
    a, b = Leader(reach, "a"), Leader(leases, "b")
    async with running(a):
        await until(a)
        async with running(b):
            await asyncio.sleep(5)
            yield a, b, reach


async def test_a_leader_that_vanishes_is_replaced_when_its_term_is_over() -> None:
    leases = FakeLeases()
    a, b = Leader(leases, "a"), Leader(leases, "b")
    async with running(a):
        await until(a)
    last = leases.writes[-1][0]
    async with running(b):
        taken = await until(b)
    assert 15 <= taken - last <= 15 + 2.4 + 2.4
    assert leases.lease is not None
    assert leases.lease.transitions == 1


async def test_a_leader_stops_before_anyone_else_begins() -> None:
    leases = FakeLeases()
    async with pair(leases) as (a, b, reach):
        reach.cut = True
        last = leases.writes[-1][0]
        stopped = await until(a, leading=False)
        assert 10 <= stopped - last <= 10.1
        assert not b.leading
        began = await until(b)
        assert began - stopped > 4
        reach.cut = False
        await asyncio.sleep(10)
        assert (a.leading, b.leading) == (False, True)
        assert a.holder == "b"


async def test_an_api_outage_that_is_short_costs_nothing_and_a_long_one_the_leadership_only_for_its_time() -> None:
    leases, changes = FakeLeases(), list[tuple[float, bool]]()
    a = Leader(leases, "a", lambda: changes.append((now(), a.leading)))
    async with running(a):
        await until(a)
        leases.down = True
        await asyncio.sleep(7)
        leases.down = False
        await asyncio.sleep(5)
        assert [leading for _, leading in changes] == [True]
        leases.down = True
        await asyncio.sleep(60)
        assert not a.leading
        leases.down = False
        await asyncio.sleep(3)
        assert a.leading
        assert [leading for _, leading in changes] == [True, False, True]
    assert leases.lease is not None
    assert leases.lease.transitions == 0


async def test_after_an_outage_for_all_the_leader_of_before_leads_on() -> None:
    leases = FakeLeases()
    async with pair(leases) as (a, b, _):
        leases.down = True
        await asyncio.sleep(9)
        leases.down = False
        for _ in range(100):
            await asyncio.sleep(0.1)
            assert not b.leading
        assert a.leading


async def test_an_answer_that_never_comes_does_not_hold_the_leadership_up() -> None:
    leases = FakeLeases()
    a = Leader(leases, "a")
    async with running(a):
        await until(a)
        leases.slow = math.inf
        stopped = await until(a, leading=False)
        assert stopped <= 10.1
        leases.slow = 0.0
        await until(a, seconds=6)


async def test_a_renewal_whose_answer_was_lost_is_no_lost_leadership() -> None:
    leases = FakeLeases()
    a = Leader(leases, "a")
    async with running(a):
        await until(a)
        leases.lost = True
        await asyncio.sleep(2.5)
        leases.lost = False
        for _ in range(100):
            assert a.leading
            await asyncio.sleep(0.1)


async def test_clocks_of_others_do_not_matter() -> None:
    leases = FakeLeases()
    leases.lease = Lease("b", 15, "1999-01-01T00:00:00.000000Z", "1999-01-01T00:00:00.000000Z", 3, "1")
    a = Leader(leases, "a")
    async with running(a):
        # It looks long expired; but it was first seen now.
        assert 15 <= await until(a) <= 15 + 2.4
    assert leases.lease.transitions == 4


async def test_a_released_lease_is_taken_at_the_next_attempt() -> None:
    leases = FakeLeases()
    a, b = Leader(leases, "a"), Leader(leases, "b")
    async with running(a):
        await until(a)
    async with running(b):
        await asyncio.sleep(3)
        before = now()
        await a.release()
        assert not a.leading
        assert leases.lease is not None
        assert (leases.lease.holder, leases.lease.seconds) == ("", 1)
        assert await until(b) - before <= 2.4


async def test_who_does_not_lead_releases_nothing() -> None:
    leases = FakeLeases()
    leases.lease = Lease("b", 15, "then", "then", 0, "1")
    a = Leader(leases, "a")
    async with running(a):
        await asyncio.sleep(3)
    await a.release()
    assert leases.lease.holder == "b"


async def test_a_release_without_an_api_server_ends() -> None:
    leases = FakeLeases()
    a = Leader(leases, "a")
    async with running(a):
        await until(a)
    leases.slow = math.inf
    before = now()
    await a.release()
    assert now() - before <= 3.1
    assert not a.leading


async def test_a_lease_that_somebody_deletes_is_made_anew() -> None:
    leases = FakeLeases()
    a = Leader(leases, "a")
    async with running(a):
        await until(a)
        leases.lease = None
        await asyncio.sleep(3)
        assert a.leading
        assert leases.lease is not None


async def test_a_lease_that_somebody_takes_by_force_is_respected() -> None:
    leases = FakeLeases()
    a = Leader(leases, "a")
    async with running(a):
        await until(a)
        assert leases.lease is not None
        leases.lease = replace(leases.lease, holder="b", version="99")
        await asyncio.sleep(3)
        assert not a.leading
        assert a.holder == "b"
        assert await until(a) >= 15
