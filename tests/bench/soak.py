"""The rows of the soak: a million requests over 10,000 connections while a thousand snapshots are swapped.

What is looked at is what is left behind: between its rounds the proxy is at rest, and is measured there.
"""

from __future__ import annotations

import json
import re
import resource
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.accounting import memory
from bench.contest import Budget, Column, Contender, Outcome, Row, Running, Values, measured_apart, serving
from bench.load import Load, Manner, wrk
from bench.peers import Portway
from bench.processes import Fault
from bench.scene import Scene
from bench.stage import Stage

__all__ = ["SOAK", "measure_soak"]

_REQUESTS = 1_000_000
_SWAPS = 1000
_CONNECTIONS = 10_000
_PERIOD = 0.2  # Seconds between two changes of the objects; those that come sooner are served together.
_ROUND = 20.0  # Seconds under load.
_WARM = 3  # Rounds before the first look: memory of a heap grows in steps, by the most that was ever held at once.
_MOST = 40  # Rounds, after which the machine is too slow for this.
_SPARE = 2000  # Descriptors.
_CALM = 60.0  # Seconds until idle connections to the endpoint have gone, and what is done now and then.
# About 4,000 a second, far below what a core can do: what runs over is refused, and only what is served can leak.
_SCRIPT = "function delay() return math.random(0, 5000) end"


class _Part(Portway):
    """What a line of these tables is about."""

    def __init__(self, label: str) -> None:
        self.label = label


def _contenders(*labels: str) -> tuple[Contender, ...]:
    return tuple(Contender(_Part(label), Scene()) for label in labels)


_LOAD = Row(
    "soak-load",
    f"{_REQUESTS:,} requests over {_CONNECTIONS:,} connections, or what descriptors allow, during {_SWAPS:,} swaps",
    _contenders("requests"),
    (
        Column("requests", "requests", 0),
        Column("failed", "failed", 0),
        Column("refused", "503 by overload", 0),
        Column("connections", "connections", 0),
        Column("swaps", "swaps", 0),
        Column("rate", "requests/s", 0),
        Column("p99", "worst p99 ms", 1),
    ),
    measured_apart,
    budgets=(Budget("requests", "failed", 0),),
    once=True,
)
_LEFT = Row(
    "soak-left",
    f"At rest, after {_WARM} rounds and after the last",
    _contenders("worker", "supervisor"),
    (
        Column("before", "RSS MB before", 1),
        Column("after", "RSS MB after", 1),
        Column("growth", "after/before", 3),
        Column("files", "descriptors before", 0),
        Column("more", "more after", 0),
        Column("threads", "more threads", 0),
    ),
    measured_apart,
    budgets=tuple(
        budget
        for part in ("worker", "supervisor")
        for budget in (Budget(part, "growth", 1.05), Budget(part, "more", 0), Budget(part, "threads", 0))
    ),
    once=True,
)

SOAK: tuple[Row, ...] = (_LOAD, _LEFT)
"""The rows, in the order in which they are shown."""


@dataclass(frozen=True)
class _Rest:
    """What a proxy has at rest: bytes resident, descriptors and threads of some of its processes."""

    rss: int
    files: int
    threads: int

    @classmethod
    def of(cls, pids: list[int]) -> _Rest:
        """Look at processes."""
        return cls(memory(pids).rss, sum(_count(pid, "fd") for pid in pids), sum(_count(pid, "task") for pid in pids))

    def until(self, after: _Rest) -> Values:
        """Return what has become of it."""
        return {
            "before": self.rss / 1e6,
            "after": after.rss / 1e6,
            "growth": after.rss / self.rss,
            "files": self.files,
            "more": after.files - self.files,
            "threads": after.threads - self.threads,
        }


def _count(pid: int, what: str) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/{what}").iterdir())


def measure_soak(stage: Stage, show: Callable[[Outcome], None]) -> list[Outcome]:
    """Measure both rows; about ten minutes."""
    outcomes = [Outcome(row) for row in SOAK]
    contender = Contender(Portway(), Scene())
    try:
        with serving(stage, contender) as running:
            load, parts = _Soak(running).run()
        outcomes[0].rounds = {"requests": [load]}
        outcomes[1].rounds = {part: [values] for part, values in parts.items()}
    except (Fault, OSError) as error:
        for outcome in outcomes:
            outcome.absent = {one.label: f"failed: {error}" for one in outcome.row.contenders}
    for outcome in outcomes:
        show(outcome)
    return outcomes


class _Soak:
    """A proxy that is loaded and changed, round after round."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._numbers = 0
        self._ended = threading.Event()
        # Each client may need one to an endpoint too, and the proxy keeps some for itself.
        allowed = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE) // 2
        self._manner = Manner(connections=min(_CONNECTIONS, allowed), script=_SCRIPT, timeout=20, crowded=True)

    def run(self) -> tuple[Values, dict[str, Values]]:
        """Return what became of the requests, and what is left of them in each part of the proxy."""
        # The first rounds make what is made once: heaps as large as they get, caches, pools.
        for _ in range(_WARM):
            self._round()
        before = self._rest()
        began = self._generation()
        done, refused, failed, seconds, p99, swaps = 0, 0, 0, 0.0, 0.0, 0
        for _ in range(_MOST):
            load = self._round()
            done += load.requests
            refused += load.refused
            failed += load.failed
            seconds += load.requests / load.rate
            p99 = max(p99, load.p99)
            swaps = self._generation() - began
            if done >= _REQUESTS and swaps >= _SWAPS:
                break
        after = self._rest()
        values = {
            "requests": float(done),
            "failed": float(failed),
            "refused": float(refused),
            "connections": float(self._manner.connections),
            "swaps": float(swaps),
            "rate": done / seconds,
            "p99": p99 * 1e3,
        }
        return values, {part: before[part].until(after[part]) for part in before}

    def _round(self) -> Load:
        changer = threading.Thread(target=self._change, daemon=True)
        self._ended.clear()
        changer.start()
        try:
            load = wrk(self._running, _ROUND, self._manner)
        finally:
            self._ended.set()
            changer.join()
        self._running.logged()
        return load

    def _change(self) -> None:
        directory = self._running.directory
        while not self._ended.wait(_PERIOD):
            self._numbers += 1
            new = directory / "new.yaml"
            new.write_text(json.dumps(_ingress(self._numbers)))
            new.replace(directory / "objects" / "changing.yaml")

    def _rest(self) -> dict[str, _Rest]:
        threading.Event().wait(_CALM)
        return {"worker": _Rest.of(self._running.processes), "supervisor": _Rest.of(self._running.aside)}

    def _generation(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._running.admin}/metrics", timeout=10) as response:
            found = re.search(r"^portway_generation ([\d.e+]+)$", response.read().decode(), re.MULTILINE)
        if found is None:
            raise Fault("the proxy does not tell its generation")
        return int(float(found[1]))


def _ingress(number: int) -> dict[str, object]:
    backend = {"service": {"name": "endpoint", "port": {"number": 80}}}
    rules = [{"path": f"/{part}-{number}", "pathType": "Prefix", "backend": backend} for part in "abc"]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "changing", "namespace": "bench"},
        "spec": {
            "ingressClassName": "portway",
            "rules": [{"host": f"h{number % 7}.bench.example", "http": {"paths": rules}}],
        },
    }
