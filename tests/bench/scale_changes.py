"""Changes to a large cluster, and when every worker of the proxy serves them."""

from __future__ import annotations

import asyncio
import itertools
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.contest import Values
from bench.probes import Awaited, Probes
from bench.processes import Fault, last_line
from bench.scale_cluster import REAL, Cluster, Written
from bench.scale_objects import PORTS, endpoint_slice, host, ingress, path
from portway_proxy.tasks import Tasks

__all__ = ["CHANGES", "INGRESS_CHANGES", "INGRESS_EVERY", "RATE", "WARM", "Latencies", "Run"]

RATE = 50
"""Changes a second."""

CHANGES = 1000
WARM = 1000
"""Changes after which memory is first looked at: by then every route had a request, whose counts are kept, and what
came and went once left holes that are used again."""

INGRESS_CHANGES = 30
INGRESS_EVERY = 50
"""Of the changes under load, each fiftieth is to an Ingress."""

_PAUSE = 0.2
_WRITERS = 32
_PATIENCE = 20.0
_CALM = 3.0  # For what is done now and then after a change: a file written, a collection.

_WRK = """
local requests, at = {{}}, 0
function init(args)
  for number = 0, {services} - 1 do
    wrk.headers["Host"] = string.format("h%d.bench.example", math.floor(number / 2))
    requests[number + 1] = wrk.format("GET", number % 2 == 0 and "/a" or "/b")
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function delay() return 10 end
"""


@dataclass(frozen=True)
class Latencies:
    """Milliseconds from the sending of a write until every worker and the first one served it, and it was stored."""

    every: Values
    first: Values
    stored: Values

    @classmethod
    def of(cls, changes: Sequence[tuple[Written, Awaited]]) -> Latencies:
        """Return the percentiles."""
        return cls(
            _percentiles([max(awaited.seen) - written.sent for written, awaited in changes]),
            _percentiles([min(awaited.seen) - written.sent for written, awaited in changes]),
            _percentiles([written.answered - written.sent for written, _ in changes]),
        )


def _percentiles(seconds: list[float]) -> Values:
    ordered = sorted(one * 1000 for one in seconds)
    at = {"p50": 0.5, "p99": 0.99, "most": 1.0}
    return {key: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for key, share in at.items()}


class Run:
    """The measurements after the start, each of which leaves everything served."""

    def __init__(self, cluster: Cluster, probes: Probes, directory: Path) -> None:
        self._cluster = cluster
        self._probes = probes
        self._directory = directory
        self._turns = [0] * REAL  # Where each Service leads now: an index of PORTS.
        self._numbers = itertools.count()

    async def endpoints(self) -> Latencies:
        """Change one EndpointSlice after the other, at a pace."""
        await self._paced(RATE)  # What is done for the first time is no measure.
        return Latencies.of(await self._paced(CHANGES))

    async def ingresses(self) -> Latencies:
        """Change one Ingress after the other, each once the one before is served."""
        changes = []
        for number in range(INGRESS_CHANGES):
            changes.append(await self._change_ingress(number))
            await asyncio.sleep(_PAUSE)
        return Latencies.of(changes)

    async def burst(self) -> Values:
        """Change very many EndpointSlices as fast as the API server takes them."""
        loop = asyncio.get_running_loop()
        numbers = iter(range(REAL))

        async def write() -> list[tuple[Written, int]]:
            return [(await self._turn(number), number) for number in numbers]

        began = loop.time()
        written = itertools.chain(*await asyncio.gather(*(write() for _ in range(_WRITERS))))
        ended = loop.time()
        # Changes of one kind are told in the order of their versions.
        _, last = max(written, key=lambda one: one[0].version)
        awaited = await self._served(self._await(last))
        return {"settled": max(awaited.seen) - ended, "writing": ended - began, "stale": await self._stale()}

    async def load(self) -> tuple[Values, dict[str, Values]]:
        """Change endpoints and a few Ingresses under load; return what became of the requests, and the memory."""
        start = self._cluster.resident()
        _, before = await self._loaded(WARM)
        requests, after = await self._loaded(CHANGES)
        requests["stale"] = await self._stale()
        _, later = await self._loaded(2 * CHANGES)
        states = {"start": start, "before": before, "after": after, "later": later}
        memory = {part: {when: state[part] for when, state in states.items()} for part in start}
        for values in memory.values():
            values["growth"] = max(values["after"], values["later"]) / values["before"]
        return requests, memory

    async def _loaded(self, changes: int) -> tuple[Values, dict[str, float]]:
        """Make so many changes under load; return what became of the requests, and the memory of each part after."""
        async with _wrk(self._cluster.http_port, self._directory) as load:
            await self._paced(changes, ingress_every=INGRESS_EVERY)
        requests = await load.end()
        await asyncio.sleep(_CALM)
        return requests, self._cluster.resident()

    # --- changes

    async def _paced(self, count: int, ingress_every: int = 0) -> list[tuple[Written, Awaited]]:
        """Make `count` changes at the rate, whether those before are served or not; return them once all are."""
        loop = asyncio.get_running_loop()
        tasks = Tasks()
        began, running = loop.time(), []
        for number in range(count):
            await asyncio.sleep(began + number / RATE - loop.time())
            to_ingress = ingress_every and number % ingress_every == ingress_every - 1
            change = self._change_ingress if to_ingress else self._change_endpoints
            running.append(tasks.spawn(change(number % CHANGES), f"change {number}"))
        try:
            return list(await asyncio.gather(*running))
        finally:
            await tasks.close()

    async def _change_endpoints(self, number: int) -> tuple[Written, Awaited]:
        self._turns[number] ^= 1
        awaited = self._await(number)
        written = await self._cluster.put(self._slice(number))
        return written, await self._served(awaited)

    async def _change_ingress(self, _: int) -> tuple[Written, Awaited]:
        number = next(self._numbers)
        # Its Services are none that other changes are about.
        owner = REAL // 2 - 1 - number % INGRESS_CHANGES
        fresh = f"/fresh-{number}"
        first = 2 * owner
        awaited = self._probes.expect(host(first), fresh, self._answer(first))
        written = await self._cluster.put(ingress(owner, fresh))
        return written, await self._served(awaited)

    async def _turn(self, number: int) -> Written:
        self._turns[number] ^= 1
        return await self._cluster.put(self._slice(number))

    def _slice(self, number: int) -> dict[str, object]:
        return endpoint_slice(number, self._cluster.addresses, PORTS[self._turns[number]])

    # --- what is served

    def _answer(self, number: int) -> bytes:
        return str(PORTS[self._turns[number]]).encode()

    def _await(self, number: int) -> Awaited:
        return self._probes.expect(host(number), path(number), self._answer(number))

    async def _served(self, awaited: Awaited) -> Awaited:
        try:
            async with asyncio.timeout(_PATIENCE):
                await awaited.served.wait()
        except TimeoutError:
            raise Fault(f"{awaited.host}{awaited.path} is not served after {_PATIENCE:.0f} s") from None
        return awaited

    async def _stale(self) -> int:
        """Return how many Services some worker does not serve from where their endpoints are now."""
        pending = [self._await(number) for number in range(REAL)]
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.gather(*(one.served.wait() for one in pending))
        except TimeoutError:
            return sum(not one.served.is_set() for one in pending)
        return 0


class _Load:
    """A running `wrk`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def end(self) -> Values:
        """Stop it and return what it counted; raises `Fault` when that is nothing."""
        self._process.send_signal(signal.SIGINT)
        out, _ = await self._process.communicate()
        text = out.decode(errors="replace")
        done, rate = re.search(r"(\d+) requests in ", text), re.search(r"Requests/sec:\s+([\d.]+)", text)
        if done is None or rate is None:
            raise Fault(f"wrk: {last_line(text)}")
        failed = re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", text)
        return {"requests": float(done[1]), "rate": float(rate[1]), "failed": float(sum(map(int, failed)))}


@asynccontextmanager
async def _wrk(port: int, directory: Path) -> AsyncIterator[_Load]:
    """Ask for the Services that change, over 32 connections that wait 10 ms after each response."""
    script = directory / "scale.lua"
    script.write_text(_WRK.format(services=CHANGES))
    command = ["wrk", "-t1", "-c32", "-d600s", "--timeout", "5s", "-s", str(script), f"http://127.0.0.1:{port}/"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield _Load(process)
    except BaseException:
        process.kill()
        raise
