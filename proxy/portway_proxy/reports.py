"""Tells operators the figures of a proxy, for as long as somebody looks at their dashboards and not a moment longer."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from importlib.metadata import version
from typing import Final, Protocol

from portway_proxy.dashboard.figures import Depth
from portway_proxy.dashboard.looks import Looks
from portway_proxy.dial import OperatorRefused, Operators, Target, Unreachable
from portway_proxy.endpoint_states import EndpointPage, EndpointQuery
from portway_proxy.settings import ProxySettings
from portway_proxy.stream import LONGEST_WATCH, Report, Watch
from portway_proxy.tasks import Tasks

__all__ = ["Reports"]

_EVERY: Final = 2.0
_SHARE: Final = 200  # As of the dashboard: what costs more than a two-hundredth of a processor is done less often.
_ROWS: Final = 1000  # Routes a second that an operator is told of at most: it reads those of every proxy.
_SLOWEST: Final = 15.0
_WHO: Final = "operators"


class Told(Protocol):
    """The proxy that is told of."""

    looks: Looks
    settings: ProxySettings

    async def endpoints(self, query: EndpointQuery) -> EndpointPage:
        """Return how the endpoints fare that are asked for."""


class Reports:
    """Reports what there is to tell of `proxy`, which is called `node`, to those operators that `watch`."""

    def __init__(self, operators: Operators, proxy: Told, node: str) -> None:
        self._operators = operators
        self._proxy = proxy
        self._node = node
        self._watches: dict[Target, tuple[float, str]] = {}
        self._rows_due = 0.0
        self._tasks = Tasks()
        self._reporting = False
        self._asked = asyncio.Event()

    def watch(self, target: Target, watch: Watch) -> None:
        """Report to an operator for as long as it says from now on; at once where it asks for other endpoints."""
        _, before = self._watches.pop(target, (0.0, ""))
        if watch.seconds <= 0:
            return
        self._watches[target] = time.monotonic() + min(watch.seconds, LONGEST_WATCH), watch.endpoints
        if watch.endpoints not in ("", before):
            self._asked.set()
        if not self._reporting:
            self._reporting = True
            self._tasks.spawn(self._report_all(), "reports to operators")

    async def close(self) -> None:
        """Report nothing more."""
        await self._tasks.close()

    async def _report_all(self) -> None:
        try:
            while self._watching():
                self._asked.clear()
                await self._report()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_EVERY):
                        await self._asked.wait()
                if not self._watching():
                    await self._proxy.looks.since(_WHO, Depth.LAST)
        finally:
            self._reporting = False

    def _watching(self) -> bool:
        now = time.monotonic()
        self._watches = {target: watch for target, watch in self._watches.items() if watch[0] > now}
        return bool(self._watches)

    async def _report(self) -> None:
        """Report once: of routes as often as they may cost."""
        now, began = time.monotonic(), time.thread_time()
        depth = Depth.ROWS if now >= self._rows_due else Depth.TOTALS
        gathered = await self._proxy.looks.since(_WHO, depth)
        asked = ",".join(sorted({names for _, names in self._watches.values() if names}))
        page = await self._proxy.endpoints(EndpointQuery(asked)) if asked else EndpointPage()
        if gathered.seconds or asked:
            report = Report(self._node, self._proxy.settings.node, version("portway"), gathered, asked, page)
            body = report.encode()
            await asyncio.gather(*(self._send(target, body) for target in list(self._watches)))
        if depth is Depth.ROWS:
            cost = _SHARE * (gathered.cost + time.thread_time() - began)
            self._rows_due = now + min(max(cost, len(gathered.moved) / _ROWS), _SLOWEST)

    async def _send(self, target: Target, body: bytes) -> None:
        try:
            watch = await self._operators.report(target, body)
        except (OperatorRefused, Unreachable):
            watch = Watch(0.0)  # Who is back, and still wants to know, says so.
        self.watch(target, watch)
