"""A browser's side of the dashboard's stream: reads events as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

__all__ = ["StreamReader", "get", "looking"]

_PATIENCE = 15.0


async def get(port: int, path: str) -> tuple[int, str]:
    """Return status and body of a page of the admin server on `port`."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


class StreamReader:
    """An open stream; `mark` is the id of the last generation that came."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.mark = ""

    async def next(self) -> tuple[str, Any]:
        """Return the name and the content of the next event; comments are passed over."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(_PATIENCE):
            while "event" not in fields:
                fields.clear()
                while line := (await self.response.content.readuntil(b"\n")).decode().rstrip("\n"):
                    name, _, value = line.partition(": ")
                    fields[name] = value
        self.mark = fields.get("id", self.mark)
        return fields["event"], json.loads(fields["data"])

    async def until(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """Return the next event of that name."""
        while True:
            found, content = await self.next()
            if found == name:
                return content


@asynccontextmanager
async def looking(port: int, mark: str = "") -> AsyncIterator[StreamReader]:
    """Read the stream of the admin server on `port`, by somebody who has everything up to `mark`."""
    fields = {"Last-Event-ID": mark} if mark else {}
    url = f"http://127.0.0.1:{port}/dashboard/stream"
    async with aiohttp.ClientSession(headers=fields, read_bufsize=1 << 24) as session, session.get(url) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        yield StreamReader(response)
