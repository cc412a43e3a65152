"""A contest: the contenders of a row are started together and measured in turn, round after round."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench.accounting import cpu_seconds, tree
from bench.load import answer
from bench.peers import Peer
from bench.processes import Fault, last_line, pinned, started
from bench.scene import Place, Scene
from bench.stage import Stage

__all__ = [
    "Budget",
    "Column",
    "Contender",
    "Effort",
    "Outcome",
    "Row",
    "Running",
    "Values",
    "contest",
    "measured_apart",
    "serving",
]

Values = dict[str, float]
"""One measurement: a value for each column, by the column's key."""

_READY = 20.0  # A proxy reads 10,000 routes first.
_STEP = 0.05


@dataclass(frozen=True)
class Contender:
    """A proxy in a scene; `label` tells it from the same proxy in another one."""

    peer: Peer
    scene: Scene
    suffix: str = ""

    @property
    def label(self) -> str:
        """Its name in the table."""
        return f"{self.peer.label}{self.suffix}"


@dataclass(frozen=True)
class Column:
    """A column of a table: `unit` stands in its title, `compared` adds the ratios to the row's baselines."""

    key: str
    unit: str
    digits: int = 1
    compared: bool = False


@dataclass(frozen=True)
class Budget:
    """What the project wants: the median of `label` at most (or at least) `limit` times that of `against`.

    Without `against` the limit is absolute. One of `more` is what it may be beyond that of `against`.
    """

    label: str
    column: str
    limit: float
    against: str = ""
    least: bool = False
    more: bool = False

    def __str__(self) -> str:
        """Return `portway: at most 1.7 x nginx`."""
        if self.more:
            return f"{self.label}: at most {self.limit:g} more than {self.against}"
        return f"{self.label}: at {'least' if self.least else 'most'} {self.limit:g}" + (
            f" x {self.against}" if self.against else ""
        )


@dataclass(frozen=True)
class Effort:
    """How long to measure: `rounds` of `seconds` each, after `warm` seconds that do not count."""

    rounds: int
    seconds: float
    warm: float


class Running:
    """A contender that serves."""

    def __init__(self, stage: Stage, contender: Contender, place: Place, process: subprocess.Popen[bytes]) -> None:
        self.stage = stage
        self.scene = contender.scene
        self.port = place.port
        self.admin = place.spare[1]
        self.directory = place.directory
        self._place = place
        self._peer = contender.peer
        self._root = process.pid

    @property
    def processes(self) -> list[int]:
        """The processes whose cost counts."""
        return self._peer.measured(self._root)

    @property
    def aside(self) -> list[int]:
        """Its other processes: a supervisor."""
        measured = self.processes
        return [pid for pid in tree(self._root) if pid not in measured]

    def cpu(self) -> tuple[float, float]:
        """Return the CPU seconds spent so far by what counts and by the rest."""
        return cpu_seconds(self.processes), cpu_seconds(self.aside)

    def logged(self) -> int:
        """Return the bytes in the log, and empty it."""
        # Not its size: a writer that does not append (HAProxy) goes on behind a hole.
        size = self._place.log.stat().st_blocks * 512
        os.truncate(self._place.log, 0)
        return size


@dataclass(frozen=True)
class Row:
    """One table: who takes part, what is measured, and the method that measures it once.

    `once` is for what does not vary: a single round. `baselines` are the labels that ratios are taken to.
    """

    key: str
    title: str
    contenders: tuple[Contender, ...]
    columns: tuple[Column, ...]
    measure: Callable[[Running, float], Values]
    baselines: tuple[str, ...] = ()
    budgets: tuple[Budget, ...] = ()
    once: bool = False


def measured_apart(_running: Running, _seconds: float) -> Values:
    """Stand for the method of a row that is not measured contender by contender."""
    raise Fault("this row is measured by itself")


@dataclass
class Outcome:
    """What came out of a row: the rounds of every contender, and why some have none."""

    row: Row
    rounds: dict[str, list[Values]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def contest(stage: Stage, row: Row, effort: Effort) -> Outcome:
    """Start every contender that is here and measure them in turn, in an order that changes from round to round."""
    outcome = Outcome(row)
    with ExitStack() as stack:
        running = dict(_start(stage, row, outcome, stack))
        if effort.warm and not row.once:
            for label in running:
                # What a proxy does for the first time (caches, pools, lazy imports) is no round.
                _measure(row, running, label, effort.warm, outcome)
            outcome.rounds.clear()
        for number in range(1 if row.once else effort.rounds):
            for label in _turned(list(running), number):
                _measure(row, running, label, effort.seconds, outcome)
    return outcome


def _turned(labels: list[str], by: int) -> list[str]:
    start = by % max(1, len(labels))
    return labels[start:] + labels[:start]


def _measure(row: Row, running: dict[str, Running], label: str, seconds: float, outcome: Outcome) -> None:
    if label in outcome.absent:
        return
    try:
        values = row.measure(running[label], seconds)
    except (Fault, OSError) as error:
        outcome.absent[label] = f"failed: {error}"
        return
    outcome.rounds.setdefault(label, []).append(values)


def _start(stage: Stage, row: Row, outcome: Outcome, stack: ExitStack) -> Iterator[tuple[str, Running]]:
    for contender in row.contenders:
        if missing := contender.peer.missing():
            outcome.absent[contender.label] = f"not installed: {missing}"
            continue
        try:
            yield contender.label, stack.enter_context(serving(stage, contender))
        except (Fault, OSError) as error:
            outcome.absent[contender.label] = f"does not serve: {error}"


@contextmanager
def serving(stage: Stage, contender: Contender) -> Iterator[Running]:
    """Run a contender; raises `Fault` when it does not serve."""
    place = stage.place(contender.peer.label.split(",")[0], contender.scene)
    command = pinned(stage.cores.proxy, contender.peer.command(contender.scene, place))
    with started(command, place.log) as process:
        _await_answer(contender, place, process)
        yield Running(stage, contender, place, process)


def _await_answer(contender: Contender, place: Place, process: subprocess.Popen[bytes]) -> None:
    said = ""
    deadline = time.monotonic() + _READY
    while time.monotonic() < deadline:
        try:
            said = answer(contender.scene, place.port, 1).split(b"\r\n", 1)[0].decode(errors="replace")
        except OSError as error:
            said = str(error)
        if said.startswith(("HTTP/1.1 200", "HTTP/1.1 401")):  # Where a password is asked for, the load knows it.
            return
        try:
            process.wait(_STEP)
        except subprocess.TimeoutExpired:
            continue
        raise Fault(f"it ended with {process.returncode}: {last_line(place.log.read_text(errors='replace'))}")
    raise Fault(f"no answer after {_READY:.0f} s, last: {said}")
