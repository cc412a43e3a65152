"""Looks at the workers for several who want the figures: each gets all that was counted since it asked last."""

from __future__ import annotations

import asyncio
from typing import Final

from portway_proxy.crew import Crew
from portway_proxy.dashboard.figures import Depth, Gathered

__all__ = ["Looks"]

_PATIENCE: Final = 1.0  # Seconds that a worker may take to answer; what it counted is lost to the figures then.


class Looks:
    """The figures of `crew`; workers keep track of what moved only while somebody asks."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._untold: dict[str, Gathered] = {}
        self._turn = asyncio.Lock()

    @property
    def asked(self) -> bool:
        """Whether somebody wants figures now."""
        return bool(self._untold)

    async def since(self, who: str, depth: Depth) -> Gathered:
        """Return what was counted since `who` asked before; nothing the first time, and the `LAST`."""
        async with self._turn:
            if depth is Depth.LAST:
                if self._untold.keys() == {who}:
                    await self._look(depth)
                self._untold.pop(who, None)
                return Gathered()
            found = await self._look(depth)
            first = who not in self._untold
            self._untold = {other: before.then(found) for other, before in self._untold.items()}
            told, self._untold[who] = self._untold.get(who, Gathered()).split(depth)
            return Gathered() if first else told

    async def _look(self, depth: Depth) -> Gathered:
        return Gathered.unpack(await self._crew.ask(lambda worker: worker.look(depth, _PATIENCE)))
