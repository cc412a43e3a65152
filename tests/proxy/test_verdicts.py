"""`verdicts.py`: how long a verdict is believed, how many are kept, and how many are asked for at once."""

from __future__ import annotations

import asyncio

import pytest

from portway_proxy.verdicts import Verdicts


class Judge:
    """Says how often it was asked, for ten seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = self.running = self.most = 0

    def clock(self) -> float:
        return self.now

    async def ask(self) -> tuple[int, float]:
        self.asked += 1
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        return self.asked, self.now + 10.0


async def test_a_verdict_is_believed_until_its_time_and_then_asked_for_again() -> None:
    judge = Judge()
    verdicts: Verdicts[str, int] = Verdicts(1, judge.clock)
    assert [await verdicts.get("a", judge.ask) for _ in range(3)] == [1, 1, 1]
    assert await verdicts.get("b", judge.ask) == 2
    judge.now = 10.0
    assert await verdicts.get("a", judge.ask) == 3


async def test_of_too_many_the_oldest_is_forgotten() -> None:
    judge = Judge()
    verdicts: Verdicts[str, int] = Verdicts(1, judge.clock, most=2)
    assert [await verdicts.get(key, judge.ask) for key in "abcb"] == [1, 2, 3, 2]
    assert await verdicts.get("a", judge.ask) == 4


async def test_a_few_are_asked_at_once() -> None:
    judge = Judge()
    verdicts: Verdicts[int, int] = Verdicts(3, judge.clock)
    await asyncio.gather(*(verdicts.get(key, judge.ask) for key in range(50)))
    assert (judge.asked, judge.most) == (50, 3)


async def test_what_could_not_be_told_is_no_verdict() -> None:
    verdicts: Verdicts[str, int] = Verdicts(1)
    judge = Judge()

    async def away() -> tuple[int, float]:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await verdicts.get("a", away)
    assert await verdicts.get("a", judge.ask) == 1
