"""Follows one stream without kopf: single objects, which kopf cannot watch, and those that change most."""

from __future__ import annotations

import contextlib
import logging

import aiohttp
import msgspec

from portway_operator.sources.listing import read_item
from portway_operator.sources.stream import Stream
from portway_operator.sources.watch import Broken, read_watch

__all__ = ["follow"]


_log = logging.getLogger(__name__)


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str


class _Versioned(msgspec.Struct):
    metadata: _Meta


class _Event(msgspec.Struct):
    type: str
    raw: dict[str, object] = msgspec.field(name="object")


_events = msgspec.json.Decoder(_Event)


async def follow(session: aiohttp.ClientSession, stream: Stream, silent_seconds: float) -> None:
    """Follow `stream` until cancelled; a watch that is silent for so long is opened anew."""
    since: str | None = None
    while True:
        response = await stream.open(session, since)
        try:
            async with contextlib.aclosing(read_watch(response.content, silent_seconds)) as batches:
                async for lines in batches:
                    since = [_take(stream, line) for line in lines][-1] if lines else since
        except Broken as error:
            stream.start_over(error)
        except Exception as error:  # noqa: BLE001 - whatever it was, this must be followed on; it is logged
            _log.exception("cannot follow %s", stream.target)
            stream.start_over(Broken("internal", type(error).__name__))
        finally:
            response.close()


def _take(stream: Stream, line: bytes) -> str:
    """Report an event; return its version."""
    event = _events.decode(line)
    if event.type == "DELETED":
        stream.deleted(read_item(stream.target.kind, event.raw))
    elif event.type != "BOOKMARK":
        stream.seen(read_item(stream.target.kind, event.raw))
    return msgspec.convert(event.raw, _Versioned).metadata.resource_version
