"""Follows one stream without kopf: for single named objects, which kopf cannot watch."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec

from portway_operator.sources.listing import read_item
from portway_operator.sources.stream import Stream

__all__ = ["follow"]

# Bookmarks come every minute: a watch that is silent for longer is dead. kopf waits as long.
_SILENT_SECONDS = 70.0


class _Event(msgspec.Struct):
    type: str
    object: dict[str, object]


class _Gone(Exception):
    """The watch said that it cannot go on."""


_events = msgspec.json.Decoder(_Event)


async def follow(session: aiohttp.ClientSession, stream: Stream) -> None:
    """Follow `stream` until cancelled."""
    since: str | None = None
    while True:
        response = await stream.open(session, since)
        try:
            since = await _read(stream, response, since)
        except (_Gone, msgspec.MsgspecError) as error:
            stream.refused(type(error).__name__.strip("_").lower(), str(error))
            since = None
        finally:
            response.close()


async def _read(stream: Stream, response: aiohttp.ClientResponse, since: str | None) -> str | None:
    """Report the events of a watch until it ends; return the version to go on from."""
    rest = b""
    while True:
        try:
            async with asyncio.timeout(_SILENT_SECONDS):
                data = await response.content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return since
        if not data:
            return since
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            since = _take(stream, line) or since


def _take(stream: Stream, line: bytes) -> str:
    event = _events.decode(line)
    if event.type == "ERROR":
        raise _Gone(str(event.object.get("message", "the watch ended with an error")))
    meta = event.object.get("metadata")
    version = str(meta.get("resourceVersion", "")) if isinstance(meta, dict) else ""
    if event.type == "DELETED":
        stream.deleted(read_item(stream.target.kind, event.object))
    elif event.type != "BOOKMARK":
        stream.seen(read_item(stream.target.kind, event.object))
    return version
