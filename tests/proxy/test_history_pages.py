"""`history_pages.py`: a history beside an event loop, and its text."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime

import msgspec
import pytest

from portway_proxy.history import Action, Cause, Generation, History, NotKept, Step
from portway_proxy.history_pages import Chronicle, describe_generation, describe_history
from portway_proxy.snapshot import Snapshot
from snapshots import FULL

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
ALICE = Cause("Ingress", "shop", "web", Action.CHANGED, "alice", NOON)
ROW = Generation(7, 7, NOON, "abc", (ALICE,), 0, "1 route changed")


async def test_what_is_noted_is_taken_in_elsewhere_in_its_order_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    add = History.add

    def adding(*arguments: object) -> None:
        threads.add(threading.get_ident())
        add(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(History, "add", adding)
    chronicle = Chronicle()
    for number in range(1, 6):
        chronicle.note(Step(number, Snapshot(request_ids=number % 2 == 0), str(number), causes=(ALICE,)), 0.5)
    assert threads == set()
    async with asyncio.timeout(10):
        while not threads:  # noqa: ASYNC110 - it takes them in by itself
            await asyncio.sleep(0.01)
    assert threading.get_ident() not in threads
    assert [row.generation for row in await chronicle.rows()] == [5, 4, 3, 2, 1]
    await chronicle.close()


async def test_whoever_asks_sees_what_was_noted_just_before() -> None:
    chronicle = Chronicle()
    chronicle.note(Step(1, FULL, "abc"))
    row, shown = await chronicle.find(1)
    assert (row.generation, row.digest, shown.hosts != ()) == (1, "abc", True)
    chronicle.note(Step(2, Snapshot(), "def"))
    found = await asyncio.gather(chronicle.rows(), chronicle.find(2), chronicle.rows())
    assert [len(found[0]), len(found[2])] == [2, 2]
    with pytest.raises(NotKept):
        await chronicle.find(3)
    await chronicle.close()


async def test_two_chronicles_tell_one_secret_by_other_fingerprints() -> None:
    shown = []
    for _ in range(2):
        chronicle = Chronicle()
        chronicle.note(Step(1, FULL, "abc"))
        shown.append((await chronicle.find(1))[1].certificates[0].key)
        await chronicle.close()
    assert shown[0] != shown[1]


def test_a_generation_is_told_with_its_causes_below() -> None:
    row = msgspec.structs.replace(ROW, more=3, took=0.0123)
    assert describe_generation(row).splitlines() == [
        "generation 7 at 2026-01-31 12:00:00 UTC: 1 route changed, applied in 12 ms (abc)",
        "  Ingress shop/web changed by alice at 2026-01-31 12:00:00 UTC",
        "  and 3 more",
    ]
    assert describe_history([]) == "nothing was served yet\n"
    run = msgspec.structs.replace(ROW, first=3, causes=(), endpoints=True)
    assert describe_history([row, run]).splitlines()[3:] == [
        "",
        "generation 3-7 at 2026-01-31 12:00:00 UTC: 1 route changed (abc)",
    ]


def test_no_name_can_begin_a_line_or_steer_a_terminal() -> None:
    evil = msgspec.structs.replace(ALICE, manager="alice\x1b[2J\nIngress shop/other changed by bob")
    lines = describe_generation(msgspec.structs.replace(ROW, causes=(evil,))).splitlines()
    assert len(lines) == 2
    assert lines[1].isprintable()
