from __future__ import annotations

import asyncio
import logging

import pytest

from portway_proxy.tasks import Tasks


async def test_a_task_runs_and_gives_its_result() -> None:
    tasks = Tasks()

    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    task = tasks.spawn(work(), "work")
    assert len(tasks) == 1
    assert task.get_name() == "work"
    assert await task == 7
    await asyncio.sleep(0)
    assert len(tasks) == 0


async def test_an_exception_that_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()

    async def work() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        await asyncio.wait([tasks.spawn(work(), "divide")])
    (record,) = caplog.records
    assert record.getMessage() == "task divide failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


async def test_the_end_of_the_owner_is_the_end_of_its_tasks(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    spawned = [tasks.spawn(work(number), "wait") for number in range(3)]
    await asyncio.sleep(0)
    await tasks.close()
    assert sorted(ended) == [0, 1, 2]
    assert all(task.cancelled() for task in spawned)
    assert len(tasks) == 0
    assert caplog.records == []


async def test_a_task_that_fails_while_it_is_ended_is_waited_for_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    tasks.spawn(work(), "stubborn")
    await asyncio.sleep(0)
    with caplog.at_level(logging.ERROR):
        await tasks.close()
    assert [record.getMessage() for record in caplog.records] == ["task stubborn failed"]


async def test_an_owner_without_tasks_ends_at_once() -> None:
    await Tasks().close()
