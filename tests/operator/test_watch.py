from __future__ import annotations

import asyncio
import json
from unittest.mock import Mock

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_operator.sources.watch import Broken, read_watch


def event(kind: str, name: str, version: int) -> bytes:
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return json.dumps({"type": kind, "object": {"kind": "Service", "metadata": metadata, "data": {}}}).encode()


GOOD = [
    event("ADDED", "grüße", 1),
    event("MODIFIED", "a" * 300, 2),
    b'{"type":"BOOKMARK","object":{"kind":"Service","metadata":{"resourceVersion":"9"}}}',
    event("DELETED", "b", 10),
]
ERROR = b'{"type":"ERROR","object":{"kind":"Status","metadata":{},"code":410,"message":"too old"}}'


def reader(loop: asyncio.AbstractEventLoop) -> aiohttp.StreamReader:
    protocol = Mock(_reading_paused=False)  # the connection below a stream: nothing to test in it
    return aiohttp.StreamReader(protocol, limit=2**16, loop=loop)


async def read(*parts: bytes) -> list[bytes]:
    content = reader(asyncio.get_running_loop())
    found: list[bytes] = []

    async def feed() -> None:
        for part in parts:
            content.feed_data(part)
            await asyncio.sleep(0)
        content.feed_eof()

    feeding = asyncio.get_running_loop().create_task(feed())
    try:
        async for lines in read_watch(content, 5.0):
            found += lines
    finally:
        await feeding
    return found


@given(st.data())
def test_any_split_of_the_bytes_gives_the_same_events(data: st.DataObject) -> None:
    whole = b"\n".join(GOOD) + b"\n"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=6)))
    parts = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert asyncio.run(read(*(part for part in parts if part))) == GOOD


async def test_half_an_event_at_the_end_is_dropped() -> None:
    assert await read(GOOD[0] + b"\n" + GOOD[1][:40]) == [GOOD[0]]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (ERROR, "410"),
        (b"{", "garbage"),
        (b"[]", "garbage"),
        (b"", "garbage"),
        (b"<html>", "garbage"),
        (b'{"type":"ADDED","object":{}}', "garbage"),
        (b'{"type":"BOOKMARK","object":{"metadata":{}}}', "garbage"),
        (event("RENAMED", "a", 3), "garbage"),
        (b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"1"}}}', "garbage"),
        (b'{"type":"ADDED","object":"\xff"}', "garbage"),
        (b'{"type":"DELETED","object":{"metadata":{"name":"a","uid":5,"resourceVersion":"1"}}}', "garbage"),
    ],
)
async def test_what_cannot_go_on_is_told_after_what_came_before_it(line: bytes, code: str) -> None:
    content = reader(asyncio.get_running_loop())
    content.feed_data(GOOD[0] + b"\n" + line + b"\n" + GOOD[1] + b"\n")
    batches = read_watch(content, 5.0)
    assert await anext(batches) == [GOOD[0]]
    with pytest.raises(Broken) as caught:
        await anext(batches)
    assert caught.value.code == code


async def test_silence_ends_a_watch() -> None:
    content = reader(asyncio.get_running_loop())
    content.feed_data(GOOD[0] + b"\n")
    assert [lines async for lines in read_watch(content, 0.01)] == [[GOOD[0]]]


async def test_a_broken_connection_ends_a_watch() -> None:
    content = reader(asyncio.get_running_loop())
    content.feed_data(GOOD[0] + b"\n")
    content.set_exception(aiohttp.ClientPayloadError("cut"))
    assert [lines async for lines in read_watch(content, 5.0)] in ([], [[GOOD[0]]])
