"""Reads an open watch: whole lines that are events, until it ends, falls silent, or says that it cannot go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import aiohttp
import msgspec

__all__ = ["Broken", "read_watch"]


class Broken(Exception):
    """The watch cannot be resumed where it ended; `code` is the API's status, or `garbage`."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    name: str = ""
    uid: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta | None = None
    code: int = 0
    message: str = ""


class _Event(msgspec.Struct):
    type: str
    raw: _Object = msgspec.field(name="object")


_events = msgspec.json.Decoder(_Event)
_TYPES = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})


async def read_watch(content: aiohttp.StreamReader, silent_seconds: float) -> AsyncGenerator[list[bytes], None]:
    """Yield the events as they arrive, each as its line, checked to be one of an object or a bookmark.

    Bookmarks come every minute, so a connection without a byte for `silent_seconds` is taken for ended. Raises
    `Broken` for an error event (410: the version is too old; others: the server has trouble) and for anything else.
    """
    rest = b""
    while True:
        try:
            async with asyncio.timeout(silent_seconds):
                data = await content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        events: list[bytes] = []
        for line in lines:
            try:
                _check(line)
            except Broken:
                # What came before it is true.
                yield events
                raise
            events.append(line)
        if events:
            yield events


def _check(line: bytes) -> None:
    try:
        event = _events.decode(line)
    except msgspec.MsgspecError as error:
        raise Broken("garbage", f"what came is no event: {error}") from error
    if event.type == "ERROR":
        raise Broken(str(event.raw.code), event.raw.message or "the watch ended with an error")
    if event.type not in _TYPES:
        # Not named: kopf would log it with the object, which may be a Secret.
        raise Broken("garbage", "what came is an event of an unknown type")
    meta = event.raw.metadata
    if meta is None or not meta.resource_version or (event.type != "BOOKMARK" and not (meta.name and meta.uid)):
        raise Broken("garbage", f"a {event.type} event has no object")
