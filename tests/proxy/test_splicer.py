from __future__ import annotations

import asyncio
import logging
import select
import socket
from functools import partial

import pytest

from eventually import eventually
from portway_proxy.l4.splicer import FAILED, QUIET, READABLE, WRITABLE, Splicer
from tcp import pair


async def test_what_a_descriptor_is_ready_for_is_reported_as_long_as_it_is_of_interest(splicer: Splicer) -> None:
    outer, inner = pair()
    seen: list[int] = []
    splicer.watch(inner.fileno(), READABLE, seen.append)
    await outer.send(b"x")
    await eventually(lambda: len(seen) > 3)
    assert set(seen) == {select.EPOLLIN}
    splicer.want(inner.fileno(), WRITABLE)
    seen.clear()
    await eventually(lambda: seen)
    assert set(seen) == {select.EPOLLOUT}
    splicer.unwatch(inner.fileno())
    inner.close()
    outer.close()


async def test_a_later_watch_takes_the_place_of_an_earlier_one(splicer: Splicer) -> None:
    outer, inner = pair()
    first: list[int] = []
    second: list[int] = []
    splicer.watch(inner.fileno(), READABLE, first.append)
    splicer.watch(inner.fileno(), WRITABLE, second.append)
    await eventually(lambda: second)
    assert not first
    assert len(splicer) == 1
    splicer.unwatch(inner.fileno())
    splicer.unwatch(inner.fileno())
    inner.close()
    outer.close()


async def test_a_quiet_descriptor_tells_of_failure_once_and_of_nothing_else(splicer: Splicer) -> None:
    outer, inner = pair()
    seen: list[int] = []
    splicer.watch(inner.fileno(), QUIET, seen.append)
    await outer.send(b"x")
    await outer.delivered()
    await asyncio.sleep(0.02)
    assert not seen
    outer.reset()
    await eventually(lambda: seen)
    await asyncio.sleep(0.02)
    assert len(seen) == 1
    assert seen[0] & FAILED
    splicer.unwatch(inner.fileno())
    inner.close()


async def test_a_callback_that_fails_costs_itself_only(splicer: Splicer, caplog: pytest.LogCaptureFixture) -> None:
    ends = [pair() for _ in range(3)]
    seen: list[int] = []

    def fail(events: int) -> None:
        raise ValueError(events)

    for (_, inner), call in zip(ends, (seen.append, fail, seen.append), strict=True):
        splicer.watch(inner.fileno(), WRITABLE, call)
    await eventually(lambda: len(seen) >= 4)
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == ["a relay failed"]
    assert len(splicer) == 2
    for outer, inner in ends:
        splicer.unwatch(inner.fileno())
        inner.close()
        outer.close()


async def test_an_event_of_a_descriptor_that_was_closed_meanwhile_reaches_nobody(splicer: Splicer) -> None:
    peers = [pair() for _ in range(3)]
    called: list[socket.socket] = []
    wrong: list[int] = []

    def close_all(inner: socket.socket, events: int) -> None:
        # What is ready comes in one batch; the lowest number is used again at once.
        called.append(inner)
        for _, other in peers:
            splicer.unwatch(other.fileno())
            other.close()
        peers.append(pair())
        splicer.watch(peers[-1][1].fileno(), QUIET, wrong.append)

    for _, each in peers:
        splicer.watch(each.fileno(), WRITABLE, partial(close_all, each))
    await eventually(lambda: called)
    await asyncio.sleep(0.02)
    assert len(called) == 1
    assert not wrong
    splicer.unwatch(peers[-1][1].fileno())
    for outer, other in peers:
        other.close()
        outer.close()
