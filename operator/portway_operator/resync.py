"""Lists everything anew now and then: the safety net below the watches, which may lose an event without a trace."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping

import aiohttp
import msgspec

from portway_operator.sources.listing import ApiRefused
from portway_operator.sources.resources import Target
from portway_operator.sources.stream import Stream

__all__ = ["Resync"]

_log = logging.getLogger(__name__)


class Resync:
    """Lists each stream's target once per `interval` seconds, one after the other; the streams may come and go."""

    def __init__(self, session: aiohttp.ClientSession, streams: Mapping[Target, Stream], interval: float) -> None:
        self._session = session
        self._streams = streams
        self._interval = interval

    async def run(self) -> None:
        """List in turns until cancelled."""
        while True:
            # Not in step with the other replicas.
            await asyncio.sleep(self._interval * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret
            await self.list_all()

    async def list_all(self) -> None:
        """List every target once; one that cannot be listed now has its turn the next time."""
        for stream in list(self._streams.values()):
            try:
                await stream.list_once(self._session)
            except (ApiRefused, aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError) as error:
                _log.info("%s was not resynchronised: %s", stream.target, error)
