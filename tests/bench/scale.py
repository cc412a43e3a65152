"""The rows of scale: a large cluster on a real API server, followed by a real operator and a proxy with four workers.

They share one cluster, so they are measured together and in their order; unlike other rows they have no rivals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import aiohttp
import uvloop

from bench.contest import Budget, Column, Contender, Outcome, Row, Values, measured_apart
from bench.peers import Portway
from bench.processes import Fault
from bench.scale_changes import CHANGES, INGRESS_CHANGES, INGRESS_EVERY, RATE, WARM, Latencies, Run
from bench.scale_cluster import REAL, WORKERS, inhabited, peak
from bench.scale_objects import INGRESSES, SERVICES
from bench.scene import Scene
from bench.stage import Stage
from cluster.binaries import Unavailable, find_or_build
from cluster.control_plane import ControlPlane
from cluster.pod_network import NoPodNetwork, PodNetwork

__all__ = ["SCALE", "measure_scale"]


class _Part(Portway):
    """What a line of these tables is about."""

    note = f"{WORKERS} workers, none pinned to a core; no access log"

    def __init__(self, label: str) -> None:
        self.label = label


def _row(key: str, title: str, lines: Sequence[str], columns: Sequence[Column], *budgets: Budget) -> Row:
    contenders = tuple(Contender(_Part(line), Scene()) for line in lines)
    return Row(key, title, contenders, tuple(columns), measured_apart, budgets=budgets, once=True)


_LATE = (Column("p50", "p50 ms", 1), Column("p99", "p99 ms", 1), Column("most", "most ms", 1))
_ALL, _FIRST, _STORED = "served by all 4 workers", "served by the first", "stored by the API server"
_LINES = (_ALL, _FIRST, _STORED)

_START = _row(
    "scale-start",
    f"{INGRESSES:,} Ingresses, {SERVICES:,} Services, {SERVICES:,} EndpointSlices of 3: from a process's start to all",
    ("operator", "proxy"),
    (Column("seconds", "seconds", 1), Column("rss", "RSS MB", 0), Column("peak", "peak RSS MB", 0)),
    Budget("operator", "seconds", 30),
    Budget("operator", "peak", 400),
)
_ENDPOINTS = _row(
    "scale-endpoints",
    f"EndpointSlices that change, {RATE:.0f}/s, {CHANGES:,} of them: from sending the write",
    _LINES,
    _LATE,
    Budget(_ALL, "p99", 50),
)
_INGRESSES = _row(
    "scale-ingresses",
    f"Ingresses that change, one after the other, {INGRESS_CHANGES} of them: from sending the write",
    _LINES,
    _LATE,
    Budget(_ALL, "p99", 1000),
)
_BURST = _row(
    "scale-burst",
    f"{REAL:,} EndpointSlices written at once: from the last answer of the API server to all 4 workers",
    ("burst",),
    (
        Column("settled", "settled after s", 2),
        Column("writing", "writing took s", 2),
        Column("stale", "endpoints not followed", 0),
    ),
    Budget("burst", "settled", 2),
)
_LOAD = _row(
    "scale-load",
    f"{CHANGES:,} changes at {RATE:.0f}/s ({CHANGES // INGRESS_EVERY} of them Ingresses) under load",
    ("requests",),
    (
        Column("requests", "requests", 0),
        Column("rate", "requests/s", 0),
        Column("failed", "failed", 0),
        Column("stale", "changes not followed", 0),
    ),
    Budget("requests", "failed", 0),
)
_MEMORY = _row(
    "scale-memory",
    f"Memory under load: before any change, after {WARM:,}, {CHANGES:,} more, and {2 * CHANGES:,} more",
    ("operator", "supervisor", "workers"),
    (
        Column("start", "RSS MB", 1),
        Column("before", f"after {WARM:,}", 1),
        Column("after", f"{CHANGES:,} more", 1),
        Column("later", f"{2 * CHANGES:,} more", 1),
        Column("growth", f"most/after {WARM:,}", 3),
    ),
    *(Budget(part, "growth", 1.05) for part in ("operator", "supervisor", "workers")),
)

_LOOP = _row(
    "scale-loop",
    "The operator's event loop at worst, in the minute before each of these ended",
    ("the start", "EndpointSlices", "Ingresses", "burst", "load"),
    (Column("lag", "late s", 3), Column("busy", "by its own work s", 3)),
    *(Budget(part, "busy", 0.1) for part in ("EndpointSlices", "Ingresses", "burst", "load")),
)

SCALE: tuple[Row, ...] = (_START, _ENDPOINTS, _INGRESSES, _BURST, _LOAD, _MEMORY, _LOOP)
"""The rows, in the order in which they are measured."""


def measure_scale(stage: Stage, show: Callable[[Outcome], None]) -> list[Outcome]:
    """Measure all of `SCALE`, and show each as soon as it is there; about four minutes."""
    outcomes = {row.key: Outcome(row) for row in SCALE}
    missing = list(SCALE)

    def found(row: Row, **lines: Values) -> None:
        outcomes[row.key].rounds = {label: [values] for label, values in lines.items()}
        show(outcomes[row.key])
        missing.remove(row)

    try:
        with ExitStack() as stack:
            directory = stage.directory / "scale"
            directory.mkdir()
            plane = ControlPlane(find_or_build(), directory)
            network = PodNetwork()
            stack.callback(network.close)
            stack.callback(plane.stop)
            uvloop.run(_measure(stage, plane, network, found))
    except (Unavailable, NoPodNetwork) as reason:
        why = f"left out: {reason}"
    except (Fault, OSError, AssertionError, RuntimeError, TimeoutError, aiohttp.ClientError) as error:
        why = f"failed: {type(error).__name__}: {error}"
    for row in missing:
        outcomes[row.key].absent = {contender.label: why for contender in row.contenders}
        show(outcomes[row.key])
    return list(outcomes.values())


async def _measure(stage: Stage, plane: ControlPlane, network: PodNetwork, found: Callable[..., None]) -> None:
    async with inhabited(plane, stage, network) as cluster:
        seconds = await cluster.start_operator(stage.directory)
        operator = {"seconds": seconds, "rss": cluster.resident()["operator"], "peak": peak(cluster.operator)}
        seconds = await cluster.start_proxy(stage.directory)
        proxy = [*cluster.supervisor, *cluster.workers]
        rss = cluster.resident()
        loop = {"the start": await cluster.loop()}
        both = {"seconds": seconds, "rss": rss["supervisor"] + rss["workers"], "peak": peak(proxy)}
        found(_START, operator=operator, proxy=both)
        run = Run(cluster, await cluster.probes(), stage.directory)
        found(_ENDPOINTS, **_lines(await run.endpoints()))
        loop["EndpointSlices"] = await cluster.loop()
        found(_INGRESSES, **_lines(await run.ingresses()))
        loop["Ingresses"] = await cluster.loop()
        found(_BURST, burst=await run.burst())
        loop["burst"] = await cluster.loop()
        requests, memory = await run.load()
        loop["load"] = await cluster.loop()
        found(_LOAD, requests=requests)
        found(_MEMORY, **memory)
        found(_LOOP, **loop)


def _lines(latencies: Latencies) -> dict[str, Values]:
    return {_ALL: latencies.every, _FIRST: latencies.first, _STORED: latencies.stored}
