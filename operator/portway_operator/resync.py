"""Compares everything with the API server now and then: a safety net, for watches may lose an event without a trace."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from typing import Final

import aiohttp
import msgspec

from portway_operator.sources.listing import ApiRefused
from portway_operator.sources.resources import Target
from portway_operator.sources.scope import Pace
from portway_operator.sources.stream import Stream

__all__ = ["Resync"]

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 8  # Single objects may be followed by the hundred.


class Resync:
    """Checks each stream's target once per `pace.resync` seconds, in turns; the streams may come and go."""

    def __init__(self, session: aiohttp.ClientSession, streams: Mapping[Target, Stream], pace: Pace) -> None:
        self._session = session
        self._streams = streams
        self._pace = pace
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Check in turns until cancelled."""
        while True:
            # Not in step with the other replicas.
            await asyncio.sleep(self._pace.resync * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret
            await self.check_all()

    async def check_all(self) -> None:
        """Check every target once; one that cannot be listed now has its turn the next time."""
        await asyncio.gather(*(self._check(stream) for stream in list(self._streams.values())))

    async def _check(self, stream: Stream) -> None:
        try:
            async with self._turns:
                await stream.check(self._session, self._pace.grace)
        except (ApiRefused, aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError) as error:
            _log.info("%s was not compared: %s", stream.target, error)
