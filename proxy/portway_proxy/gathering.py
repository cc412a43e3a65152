"""What all workers have counted, gathered when somebody asks, and every few seconds in case one of them dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from portway_proxy.exposition import Totals, shrink
from portway_proxy.metrics import CERTIFICATE_NOT_AFTER, PROBLEMS, Sample
from portway_proxy.process import WorkerEnded, WorkerProcess
from portway_proxy.snapshot import Severity

if TYPE_CHECKING:
    from portway_proxy.snapshot import Problem, Snapshot

__all__ = ["Gathering", "snapshot_samples"]

_SCRAPE: Final = 1.0  # Seconds that a worker may take for its samples; Prometheus gives up after ten.
_EVERY: Final = 5.0  # Seconds between two reports of a worker: so much of its counts ends with it when it is killed.
_SHARE: Final = 200  # A report costs a worker at most a two-hundredth of its time, however much there is to tell.


class Gathering:
    """The counts of the workers that `processes` returns, and of those before them."""

    def __init__(self, processes: Callable[[], Iterable[WorkerProcess]]) -> None:
        self._processes = processes
        self._totals = Totals()

    async def collect(self) -> list[Sample]:
        """Return the samples of all workers; one that does not answer counts as it last did."""
        await asyncio.gather(*map(self._take_report, self._processes()))
        return self._totals.samples()

    async def keep_up(self) -> None:
        """Gather every few seconds, until this is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.gather(*map(self._take_report, self._processes()))
            await asyncio.sleep(max(_EVERY, _SHARE * (loop.time() - began)))

    def retire(self, process: WorkerProcess) -> None:
        """Keep what the counters of a worker that ended had reached; harmless when that was done."""
        if process.last_report:
            self._totals.report(process.pid, shrink(process.last_report))
            process.last_report = b""
        self._totals.retire(process.pid)

    async def _take_report(self, process: WorkerProcess) -> None:
        try:
            report = await process.report(_SCRAPE)
        except TimeoutError:
            return
        except WorkerEnded:
            # Its channel may end before the process does, and whoever waits for that may hear of it later than we: a
            # scrape that came in between would see its counts fall.
            await asyncio.wait({process.ended}, timeout=_SCRAPE)
            if process.ended.done():
                self.retire(process)
            return
        shrunk = await asyncio.to_thread(shrink, report)
        # Once retired it must not come back: its counters are already part of the past.
        if not process.ended.done():
            self._totals.report(process.pid, shrunk)
            if process.last_report is report:
                process.last_report = b""


def snapshot_samples(snapshot: Snapshot, problems: Sequence[Problem]) -> Iterator[Sample]:
    """Return the samples of what is served, and of what is wrong with it and beyond it."""
    for certificate in snapshot.certificates:
        for host in certificate.hosts or ("",):
            yield CERTIFICATE_NOT_AFTER.sample(certificate.not_after, certificate.name, host)
    found = [problem.severity for problem in (*snapshot.problems, *problems)]
    for severity in Severity:
        yield PROBLEMS.sample(found.count(severity), severity)
