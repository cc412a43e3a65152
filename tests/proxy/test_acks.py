"""Every operator is told what is served, and none holds up another."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

import pytest

from portway_proxy.acks import Acks
from portway_proxy.dial import Address, Credentials, OperatorRefused, Operators, Target, Unreachable
from portway_proxy.stream import Ack, Verdict, Watch

pytestmark = pytest.mark.looptime

ONE, TWO = (Target(Address("https", "operator"), f"10.0.0.{number}") for number in (1, 2))


class Recorder(Operators):
    """Takes acknowledgements in the place of operators, as slowly or badly as tests ask for."""

    def __init__(self) -> None:
        super().__init__((), Credentials())
        self.told: defaultdict[Target, list[Ack]] = defaultdict(list)
        self.seconds: dict[Target, float] = {}
        self.watched = Watch(0.0)
        self.fault: Callable[[Target], Exception | None] = lambda _: None

    async def send(self, target: Target, ack: Ack) -> Watch:
        await asyncio.sleep(self.seconds.get(target, 0.0))
        if (fault := self.fault(target)) is not None:
            raise fault
        self.told[target].append(ack)
        return self.watched

    def versions(self, target: Target) -> list[int]:
        return [ack.v for ack in self.told[target]]


def applied(version: int) -> Ack:
    return Ack("proxy-0", "ab", version, "c" * 32, Verdict.APPLIED)


def rejected(version: int, error: str = "no") -> Ack:
    return Ack("proxy-0", "ab", version, "c" * 32, Verdict.REJECTED, error)


async def test_all_operators_are_told() -> None:
    operators = Recorder()
    acks = Acks(operators)
    acks.follow([ONE, TWO])
    acks.put(applied(1))
    await asyncio.sleep(0.1)
    assert operators.versions(ONE) == operators.versions(TWO) == [1]
    await acks.leave("proxy-0")


async def test_a_slow_operator_hears_the_newest_and_holds_up_no_other() -> None:
    operators = Recorder()
    operators.seconds[ONE] = 10.0
    acks = Acks(operators)
    acks.follow([ONE, TWO])
    for version in range(1, 6):
        acks.put(applied(version))
        await asyncio.sleep(0.1)
    assert operators.versions(TWO) == [1, 2, 3, 4, 5]
    await asyncio.sleep(25)
    assert operators.versions(ONE) == [1, 5]
    await acks.leave("proxy-0")


async def test_no_rejection_is_lost_and_none_is_said_twice() -> None:
    operators = Recorder()
    operators.fault = lambda _: Unreachable("away")
    acks = Acks(operators)
    acks.follow([ONE])
    for ack in (applied(1), rejected(2), rejected(2), rejected(3), applied(4)):
        acks.put(ack)
    await asyncio.sleep(5)
    operators.fault = lambda _: None
    await asyncio.sleep(5)
    assert operators.told[ONE] == [rejected(2), rejected(3), applied(4)]
    await acks.leave("proxy-0")


async def test_an_operator_that_is_away_for_long_costs_a_bounded_memory() -> None:
    operators = Recorder()
    operators.fault = lambda _: OperatorRefused("401")
    acks = Acks(operators)
    acks.follow([ONE])
    for version in range(1000):
        acks.put(rejected(version))
    operators.fault = lambda _: None
    await asyncio.sleep(5)
    assert operators.versions(ONE) == list(range(984, 1000))
    await acks.leave("proxy-0")


async def test_an_operator_that_comes_later_hears_at_once_what_is_served() -> None:
    operators = Recorder()
    acks = Acks(operators)
    acks.follow([ONE])
    acks.put(applied(1))
    acks.put(rejected(2))
    await asyncio.sleep(0.1)
    acks.follow([ONE, TWO])
    await asyncio.sleep(0.1)
    assert operators.told[TWO] == [applied(1)]
    acks.repeat()
    await asyncio.sleep(0.1)
    assert operators.told[TWO] == [applied(1), applied(1)]
    await acks.leave("proxy-0")


async def test_an_operator_that_is_gone_is_told_nothing_more() -> None:
    operators = Recorder()
    acks = Acks(operators)
    acks.follow([ONE, TWO])
    acks.follow([TWO])
    acks.put(applied(1))
    await asyncio.sleep(0.1)
    assert operators.versions(ONE) == []
    await acks.leave("proxy-0")
    assert [ack.status for ack in operators.told[TWO]] == [Verdict.APPLIED, Verdict.LEAVING]
    assert not operators.told[ONE]


async def test_a_goodbye_waits_for_nobody_longer_than_a_second() -> None:
    operators = Recorder()
    operators.seconds[ONE] = 100.0
    acks = Acks(operators)
    acks.follow([ONE, TWO])
    began = asyncio.get_running_loop().time()
    await acks.leave("proxy-0")
    assert asyncio.get_running_loop().time() - began == pytest.approx(1.0)
    assert [ack.status for ack in operators.told[TWO]] == [Verdict.LEAVING]
