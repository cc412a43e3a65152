"""The worker processes of a proxy: one in each slot, succeeded by another when it dies or when it is to be renewed."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from portway_proxy.channel import Configure, store
from portway_proxy.process import WorkerEnded, WorkerProcess
from portway_proxy.tasks import Tasks

__all__ = ["Crew"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_LIVED: Final = 5.0  # A worker that ended sooner is likely to end again: its successor waits.
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 10.0  # Between two attempts at a worker that dies at once.


class Crew:
    """Keeps a worker running in each slot.

    `bring_up` makes a worker serve what the others do; `gone` hears of each that ended. `serving` are those that were
    brought up, by slot; `restarts` counts those that died and were replaced.
    """

    def __init__(
        self, bring_up: Callable[[WorkerProcess], Awaitable[None]], gone: Callable[[WorkerProcess], None]
    ) -> None:
        self.serving: dict[int, WorkerProcess] = {}
        self.restarts = 0
        self._bring_up = bring_up
        self._gone = gone
        self._configure: Configure | None = None
        self._current: dict[int, WorkerProcess] = {}
        self._others: set[WorkerProcess] = set()
        self._renewal = asyncio.Lock()
        self._changing: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks = Tasks()
        self._ending = False

    @property
    def processes(self) -> tuple[WorkerProcess, ...]:
        """All that run: those in a slot, their successors that are not ready yet, and those that leave."""
        return (*self._current.values(), *self._others)

    async def start(self, configure: Configure, slots: int) -> None:
        """Start the workers; raises `WorkerEnded` when one cannot start."""
        self._configure = configure
        started = [asyncio.get_running_loop().create_future() for _ in range(slots)]
        for slot, future in enumerate(started):
            self._tasks.spawn(self._keep(slot, future), f"worker {slot}")
        await asyncio.gather(*started)

    async def renew(self, configure: Configure, drain: float) -> None:
        """Replace the workers one after another; each has `drain` seconds to finish once its successor serves.

        They accept from the same sockets meanwhile, so that nobody is turned away. Raises `WorkerEnded` when a
        successor cannot be brought up; then those that are not replaced yet stay.
        """
        async with self._renewal:
            self._configure = configure
            for slot in sorted(self._current):
                async with self._changing[slot]:
                    if not self._ending:
                        await self._succeed(slot, configure, drain)

    def rekey(self, configure: Configure) -> None:
        """Have all workers, and those that will be started, use the ticket key of `configure`."""
        self._configure = configure
        for process in self.processes:
            process.rekey(configure.ticket_key)

    async def ask(self, question: Callable[[WorkerProcess], Awaitable[T]]) -> list[T]:
        """Return the answers of all that serve; who ended, or has no time for it, is left out."""

        async def answer(process: WorkerProcess) -> T | None:
            try:
                return await question(process)
            except (WorkerEnded, TimeoutError):
                return None

        answers = await asyncio.gather(*map(answer, self.serving.values()))
        return [one for one in answers if one is not None]

    async def order(self, data: bytes, give: Callable[[WorkerProcess, int], Awaitable[None]]) -> None:
        """Give `data` to every worker and wait for their answers; those that die will be given what is current.

        Raises `BadSnapshot` when one refuses.
        """
        fd = store(data)
        try:
            orders = (give(process, fd) for process in self.serving.values())
            outcomes = await asyncio.gather(*orders, return_exceptions=True)
        finally:
            os.close(fd)
        for outcome in outcomes:
            if outcome is not None and not isinstance(outcome, WorkerEnded):
                raise outcome

    def drain(self, timeout: float) -> None:
        """Have all workers finish within `timeout` seconds and end; none is replaced any more."""
        self._ending = True
        for process in self.processes:
            process.drain(timeout)

    async def ended(self) -> None:
        """Wait until every worker has ended."""
        running = {process.ended for process in self.processes}
        if running:
            await asyncio.wait(running)

    async def close(self) -> None:
        """End all workers at once."""
        self._ending = True
        for process in self.processes:
            process.kill()
        await self.ended()
        await self._tasks.close()

    async def _keep(self, slot: int, started: asyncio.Future[None]) -> None:
        """Keep a worker running in `slot`; `started` tells how the first one began."""
        wait = 0.0
        loop = asyncio.get_running_loop()
        while not self._ending:
            began = loop.time()
            try:
                await self._run_one(slot, started)
            except WorkerEnded as error:
                if not started.done():
                    started.set_exception(error)
                    return
                if self._ending:
                    return
                _log.error("%s; starting another", error)
            wait = 0.0 if loop.time() - began > _LIVED else min(max(wait * 2, _FIRST_WAIT), _LONGEST_WAIT)
            self.restarts += 1
            await asyncio.sleep(wait)

    async def _run_one(self, slot: int, started: asyncio.Future[None]) -> None:
        """Start a worker, bring it up and raise `WorkerEnded` once it ended, or those that succeeded it."""
        async with self._changing[slot]:
            process = self._current.get(slot)
            if process is None or process.ended.done():
                assert self._configure is not None  # noqa: S101 - `start` has set it
                process = self._current[slot] = WorkerProcess.start(slot, self._configure)
                with suppress(WorkerEnded):
                    await self._bring_up(process)
                    if not started.done():
                        started.set_result(None)
        await asyncio.wait({process.ended})
        while (successor := self._current[slot]) is not process:
            process = successor
            await asyncio.wait({process.ended})
        self._forget(process)
        raise WorkerEnded(f"{process} ended {_how(process.ended.result())}")

    async def _succeed(self, slot: int, configure: Configure, drain: float) -> None:
        """Start a worker in the place of another, which leaves once it is ready."""
        process = WorkerProcess.start(slot, configure)
        self._others.add(process)
        try:
            await self._bring_up(process)
        except WorkerEnded:
            self._others.discard(process)
            raise
        before, self._current[slot] = self._current[slot], process
        self._others.discard(process)
        self._others.add(before)
        before.drain(drain)
        self._tasks.spawn(self._see_off(before), f"the end of {before}")

    async def _see_off(self, process: WorkerProcess) -> None:
        await asyncio.wait({process.ended})
        self._others.discard(process)
        self._forget(process)

    def _forget(self, process: WorkerProcess) -> None:
        if self.serving.get(process.slot) is process:
            del self.serving[process.slot]
        self._gone(process)


def _how(status: int) -> str:
    return f"with status {status}" if status >= 0 else f"by signal {-status} ({signal.strsignal(-status)})"
