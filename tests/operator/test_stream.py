from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest_asyncio
from aiohttp import web

from fake_api import FakeApi, service, serving
from portway_operator.objects import Kind
from portway_operator.sources.connection import Connection
from portway_operator.sources.ledger import Ledger
from portway_operator.sources.resources import Target
from portway_operator.sources.stream import Listed, Message, Opened, Refused, Stream
from portway_operator.sources.watch import Broken


class Opening:
    """A stream of Services, a session, and what the stream reported."""

    def __init__(self, api: FakeApi, session: aiohttp.ClientSession) -> None:
        self.api = api
        self.reports: list[Message] = []
        self.ledger = Ledger()
        self.stream = Stream(Target(Kind.SERVICE), Connection(api.url), self.ledger, self.reports.append)
        self._session = session

    async def open(self, since: str | None) -> str:
        """Return the version that the watch was opened from."""
        response = await self.stream.open(self._session, since)
        response.close()
        return self.api.queries["/api/v1/services"]["resourceVersion"]

    def told(self) -> list[str]:
        return [report.code if isinstance(report, Refused) else type(report).__name__ for report in self.reports]


@pytest_asyncio.fixture
async def opening() -> AsyncIterator[Opening]:
    async with serving() as api, Connection(api.url).session() as session:
        for number in range(10):
            api.apply(service(f"s{number}"))
        yield Opening(api, session)


async def test_a_watch_without_a_version_begins_at_a_lists(opening: Opening) -> None:
    assert await opening.open(None) == "110"
    assert opening.told() == ["Listed", "Opened"]


async def test_a_watch_with_a_version_begins_there(opening: Opening) -> None:
    assert await opening.open("105") == "105"
    assert opening.told() == ["Opened"]
    query = opening.api.queries["/api/v1/services"]
    assert query["allowWatchBookmarks"] == "true"


async def test_a_watch_that_told_no_version_resumes_at_the_list(opening: Opening) -> None:
    await opening.open(None)
    opening.api.apply(service("late"))
    assert await opening.open(None) == "110"
    assert opening.told() == ["Listed", "Opened", "Opened"]


async def test_a_version_that_is_refused_is_replaced_by_a_lists(opening: Opening) -> None:
    assert await opening.open("999") == "110"
    assert opening.told() == ["504", "Listed", "Opened"]


async def test_a_missing_right_keeps_the_version(opening: Opening) -> None:
    refusals = [403, 429, 401]
    opening.api.fault = lambda _: web.Response(status=refusals.pop()) if refusals else None
    assert await opening.open("105") == "105"
    assert opening.told() == ["401", "429", "403", "Opened"]


async def test_a_broken_list_is_asked_for_again(opening: Opening) -> None:
    answers = [web.Response(text="<html>"), web.Response(status=500)]
    opening.api.fault = lambda _: answers.pop() if answers else None
    assert await opening.open(None) == "110"
    assert opening.told() == ["500", "DecodeError", "Listed", "Opened"]


async def test_after_a_broken_watch_the_version_is_forgotten_once(opening: Opening) -> None:
    opening.stream.start_over(Broken("410", "too old"))
    assert await opening.open("105") == "110"
    assert await opening.open("105") == "105"
    assert opening.told() == ["410", "Listed", "Opened", "Opened"]


async def test_a_list_carries_what_was_known_before_it(opening: Opening) -> None:
    opening.ledger.admit(("shop", "s1"), 102)
    await opening.open(None)
    first = opening.reports[0]
    assert isinstance(first, Listed)
    assert first.mark == 102
    assert isinstance(opening.reports[1], Opened)
