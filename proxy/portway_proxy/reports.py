"""Tells operators the figures of a proxy, for as long as somebody looks at their dashboards and not a moment longer."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from typing import Final

from portway_proxy.dashboard.figures import Depth
from portway_proxy.dashboard.looks import Looks
from portway_proxy.dial import OperatorRefused, Operators, Target, Unreachable
from portway_proxy.stream import LONGEST_WATCH, Report
from portway_proxy.tasks import Tasks

__all__ = ["Reports"]

_EVERY: Final = 2.0
_SHARE: Final = 200  # As of the dashboard: what costs more than a two-hundredth of a processor is done less often.
_SLOWEST: Final = 15.0
_WHO: Final = "operators"


class Reports:
    """Reports what `looks` find to those operators that `watch`; `node` is the proxy's name, `place` its node's."""

    def __init__(self, operators: Operators, looks: Looks, node: str, place: str) -> None:
        self._operators = operators
        self._looks = looks
        self._node = node
        self._place = place
        self._until: dict[Target, float] = {}
        self._rows_due = 0.0
        self._tasks = Tasks()
        self._reporting = False

    def watch(self, target: Target, seconds: float) -> None:
        """Report to an operator for so many seconds from now on; 0 is not any more."""
        if seconds <= 0:
            self._until.pop(target, None)
            return
        self._until[target] = time.monotonic() + min(seconds, LONGEST_WATCH)
        if not self._reporting:
            self._reporting = True
            self._tasks.spawn(self._report_all(), "reports to operators")

    async def close(self) -> None:
        """Report nothing more."""
        await self._tasks.close()

    async def _report_all(self) -> None:
        try:
            while self._watching():
                await self._report()
                await asyncio.sleep(_EVERY)
                if not self._watching():
                    await self._looks.since(_WHO, Depth.LAST)
        finally:
            self._reporting = False

    def _watching(self) -> bool:
        now = time.monotonic()
        self._until = {target: until for target, until in self._until.items() if until > now}
        return bool(self._until)

    async def _report(self) -> None:
        """Report once: of routes as often as they may cost."""
        now, began = time.monotonic(), time.thread_time()
        depth = Depth.ROWS if now >= self._rows_due else Depth.TOTALS
        gathered = await self._looks.since(_WHO, depth)
        if gathered.seconds:
            body = Report(self._node, self._place, version("portway"), gathered).encode()
            await asyncio.gather(*(self._send(target, body) for target in list(self._until)))
        if depth is Depth.ROWS:
            self._rows_due = now + min(_SHARE * (gathered.cost + time.thread_time() - began), _SLOWEST)

    async def _send(self, target: Target, body: bytes) -> None:
        try:
            seconds = await self._operators.report(target, body)
        except (OperatorRefused, Unreachable):
            seconds = 0.0  # Who is back, and still wants to know, says so.
        self.watch(target, seconds)
