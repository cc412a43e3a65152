"""The history as pages of an admin server, of a proxy and of the operator alike: `/history` and `/history/N`."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime
from typing import Final

import msgspec
from aiohttp import web

from portway_proxy.describe import describe, printable
from portway_proxy.history import Generation, History, NotKept, Step
from portway_proxy.pages import json_page, wants_json
from portway_proxy.redaction import Redaction
from portway_proxy.snapshot import Snapshot
from portway_proxy.tasks import Tasks

__all__ = ["Chronicle", "add_history", "describe_generation", "describe_history"]

_PAUSE: Final = 0.25
"""Seconds until what came is taken in: in a storm, many generations at once."""

_LONGEST: Final = 5.0
_RESTING: Final = 20  # Times as long as it takes: a large cluster's storm must not cost a core.

_NUMBER: Final = r"{generation:\d{1,15}}"


class Chronicle:
    """A history that is kept apart from the event loop, to whose thread this belongs.

    It begins anew with the process: what is secret in it is told by a key that nobody else has.
    """

    def __init__(self) -> None:
        self._history = History(Redaction(secrets.token_bytes(32)))
        self._waiting: list[tuple[Step, datetime, float]] = []
        self._pause = _PAUSE
        self._busy = asyncio.Lock()
        self._tasks = Tasks()

    def note(self, step: Step, took: float = 0.0) -> None:
        """Remember a generation that is published now, in a moment; it `took` a proxy so many seconds."""
        if not self._waiting:
            self._tasks.spawn(self._later(), "history")
        self._waiting.append((step, datetime.now(UTC), round(took, 6)))

    async def rows(self) -> list[Generation]:
        """Return what is remembered, the newest first."""
        async with self._busy:
            await self._take_in()
            return self._history.rows()

    async def find(self, generation: int) -> tuple[Generation, Snapshot]:
        """Return a generation and what it served, without secrets; raises `NotKept`."""
        async with self._busy:
            await self._take_in()
            return await asyncio.to_thread(self._history.find, generation)

    async def close(self) -> None:
        """Remember nothing more."""
        await self._tasks.close()

    async def _later(self) -> None:
        await asyncio.sleep(self._pause)
        async with self._busy:
            await self._take_in()

    async def _take_in(self) -> None:
        steps, self._waiting = self._waiting, []
        if steps:
            began = time.monotonic()
            await asyncio.to_thread(self._add, steps)
            self._pause = min(max(_PAUSE, _RESTING * (time.monotonic() - began)), _LONGEST)

    def _add(self, steps: list[tuple[Step, datetime, float]]) -> None:
        for step, at, took in steps:
            self._history.add(step, at, took)
        self._history.settle()


def add_history(app: web.Application, chronicle: Chronicle) -> None:
    """Add the pages to an admin server."""

    async def listing(request: web.Request) -> web.Response:
        rows = await chronicle.rows()
        if wants_json(request):
            return json_page(msgspec.json.encode(rows))
        return web.Response(text=describe_history(rows))

    async def one(request: web.Request) -> web.Response:
        number = int(request.match_info["generation"])
        try:
            row, snapshot = await chronicle.find(number)
        except NotKept as error:
            raise web.HTTPNotFound(text=f"{error}\n") from None
        # In a thread: it may be megabytes.
        if wants_json(request):
            return json_page(await asyncio.to_thread(msgspec.json.encode, snapshot))
        return web.Response(text=f"{describe_generation(row)}\n{await asyncio.to_thread(describe, snapshot)}")

    app.router.add_get("/history", listing)
    app.router.add_get(f"/history/{_NUMBER}", one)


def describe_history(rows: list[Generation]) -> str:
    """Return a paragraph for each generation, the newest first."""
    return "\n".join(map(describe_generation, rows)) or "nothing was served yet\n"


def describe_generation(row: Generation) -> str:
    """Return a line that says what changed, and one for each object that caused it."""
    took = f", applied in {row.took * 1000:.0f} ms" if row.took else ""
    lines = [f"generation {row.number} at {row.at:%Y-%m-%d %H:%M:%S} UTC: {row.summary}{took} ({row.digest})"]
    lines += [f"  {cause}" for cause in row.causes]
    lines += [f"  and {row.more} more"] if row.more else []
    return "".join(f"{printable(line)}\n" for line in lines)
