"""What somebody else says when asked, believed for a while and asked for by a few at once."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

__all__ = ["Verdicts"]

Key = TypeVar("Key", bound=Hashable)
Verdict = TypeVar("Verdict")

_MOST: Final = 1024


class Verdicts(Generic[Key, Verdict]):
    """Verdicts by what they are about; of more than `most` the oldest are forgotten.

    `at_once` questions are asked at a time: strangers must not make us flood whom we ask. `clock` is in seconds.
    """

    def __init__(self, at_once: int, clock: Callable[[], float] = time.monotonic, most: int = _MOST) -> None:
        self._clock = clock
        self._most = most
        self._turns = asyncio.Semaphore(at_once)
        self._known: OrderedDict[Key, tuple[float, Verdict]] = OrderedDict()

    async def get(self, key: Key, ask: Callable[[], Awaitable[tuple[Verdict, float]]]) -> Verdict:
        """Return what is known of `key`, else what `ask` returns, with the time until which that is believed.

        What it raises is no verdict, and not remembered.
        """
        known = self._known.get(key)
        if known is not None and known[0] > self._clock():
            return known[1]
        async with self._turns:
            verdict, until = await ask()
        self._known[key] = until, verdict
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return verdict
