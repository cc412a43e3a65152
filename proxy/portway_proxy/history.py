"""The last generations: what each one changed, who caused it, and what it served.

What is served now is there anyhow. Of a generation before it only what leads back to it is kept: packed, and without
secrets. A run of generations that changed nothing but endpoints is one, so that it does not push out the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from portway_proxy.deltas import Changes, Delta, diff, find
from portway_proxy.packed import Packed, join_packed, pack, packed_delta, patch_packed, precede, unpack
from portway_proxy.redaction import Redaction
from portway_proxy.snapshot import Origin, Snapshot, Upstream
from portway_proxy.summary import count, endpoints_of, routes_of, summary

__all__ = ["MOST", "Action", "Cause", "Generation", "History", "NotKept", "Step", "not_kept"]

MOST: Final = 50
"""Generations that are remembered, runs of changes of endpoints not counted."""

ROOM: Final = 8 << 20
"""Bytes for what leads back; the oldest content goes first, and what is told of it stays."""

_CAUSES: Final = 20
_OPEN: Final = 1000  # Parts that what leads back from the newest may have unpacked, for it may soon change.
_SLICE: Final = "EndpointSlice"
_NONE: Final = "no_endpoints"  # The reason of an upstream, and the code of the problem that it is.


class Action(StrEnum):
    """What became of an object.

    `read` is one that was there before, and is looked at from now on; `refused` one that proxies cannot apply.
    """

    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"
    READ = "read"
    REFUSED = "refused"


class Cause(msgspec.Struct, frozen=True):
    """An object that changed between two generations.

    `manager` is who wrote it last by its managedFields (`helm`, `kubectl-client-side-apply`), `file` for one of a file,
    and empty where nobody says. `at` is when, in UTC. `place` is where it stands in a file: `shop.yaml:14`.
    """

    kind: str
    namespace: str
    name: str
    action: Action
    manager: str
    at: datetime
    place: str = ""

    def __str__(self) -> str:
        """Return `Ingress shop/web changed by alice at 2026-01-31 12:00:00 UTC`."""
        who = Origin(self.kind, self.namespace, self.name)
        by = f" by {self.manager}" if self.manager else ""
        place = f" ({self.place})" if self.place else ""
        return f"{who} {self.action}{by} at {self.at:%Y-%m-%d %H:%M:%S} UTC{place}"


class Generation(msgspec.Struct, frozen=True):
    """One row of the history, or a run of changes of endpoints from `first` to `generation`.

    `at` is when the last of them was published. `causes` are the first of all, `more` is how many others there were.
    `took` is how many seconds it took this proxy to apply the last, 0 where none did. `kept` says whether the snapshot
    can still be had.
    """

    generation: int
    first: int
    at: datetime
    digest: str
    causes: tuple[Cause, ...]
    more: int
    summary: str
    endpoints: bool = False
    took: float = 0.0
    kept: bool = True

    @property
    def number(self) -> str:
        """Return `7`, or `7-9` for a run."""
        return str(self.generation) if self.first == self.generation else f"{self.first}-{self.generation}"


class Step(msgspec.Struct, frozen=True):
    """A generation as it comes; where `delta` is known, it leads to it from the one before."""

    generation: int
    snapshot: Snapshot
    digest: str
    delta: Delta | None = None
    causes: Sequence[Cause] = ()


class NotKept(Exception):
    """The snapshot of a generation cannot be had; the message is a sentence."""


class History:
    """The generations of one publisher or proxy, the last `most` of them.

    One thread at a time may use it.
    """

    def __init__(self, redaction: Redaction, most: int = MOST, room: int = ROOM) -> None:
        """Take what hides secrets, how many generations to remember and how many bytes their content may take."""
        self._redaction = redaction
        self._most = most
        self._room = room
        self._newest = Snapshot()
        self._rows: list[Generation] = []
        # What leads from each row's snapshot to that of the row before; an empty one for what is no longer kept.
        self._backs: list[Packed | bytes] = []

    def rows(self) -> list[Generation]:
        """Return what is remembered, the newest first."""
        return self._rows[::-1]

    @property
    def size(self) -> int:
        """Return how many bytes the packed content takes."""
        return sum(len(back) for back in self._backs if isinstance(back, bytes))

    def add(self, step: Step, at: datetime, took: float = 0.0) -> None:
        """Remember a generation that follows on the last: published `at` a time, and applied in `took` seconds.

        `settle` belongs behind the last of several.
        """
        if self._rows:
            self._follow(step, at, took)
        else:
            self._append(_began(step, at, took), b"")
        self._newest = step.snapshot

    def settle(self) -> None:
        """Keep in few bytes what was added."""
        self._pack(_OPEN)
        left = self._room
        for place in range(len(self._backs) - 1, 0, -1):
            back = self._backs[place]
            left -= len(back) if isinstance(back, bytes) else 0
            if left < 0 or not back:
                self._forget(place)
                return

    def find(self, generation: int) -> tuple[Generation, Snapshot]:
        """Return a generation and what it served, without secrets.

        Raises `NotKept` when that is not known, or no longer.
        """
        for place, row in enumerate(self._rows):
            if row.generation == generation and row.kept:
                return row, self._snapshot(place)
        raise NotKept(not_kept(self._rows, generation))

    def _follow(self, step: Step, at: datetime, took: float) -> None:
        before, last = self._newest, self._rows[-1]
        back = _back(step, before, last.digest)
        quiet = _only_endpoints(back, step.snapshot) and all(one.kind == _SLICE for one in step.causes)
        hidden = packed_delta(self._redaction.delta(back))
        if quiet and last.endpoints:
            # What leads back may have been too much to keep.
            if known := self._backs[-1]:
                self._backs[-1] = precede(_unpacked(known), hidden)
            self._rows[-1] = _joined(last, _row(step, at, took, endpoints_of(hidden.upstreams), endpoints=True))
        else:
            words = endpoints_of(hidden.upstreams) if quiet else summary(back, before, step.snapshot)
            self._pack(-1)
            self._append(_row(step, at, took, words, endpoints=quiet), hidden)

    def _snapshot(self, place: int) -> Snapshot:
        whole = Packed()
        for back in self._backs[:place:-1]:
            whole = join_packed(whole, _unpacked(back))
        return patch_packed(self._redaction.snapshot(self._newest), whole)

    def _append(self, row: Generation, back: Packed | bytes) -> None:
        self._rows.append(row)
        self._backs.append(back)
        while sum(not one.endpoints for one in self._rows) > self._most:
            del self._rows[0], self._backs[0]
        self._backs[0] = b""

    def _pack(self, most: int) -> None:
        """Pack what leads back from the newest row, when it has more than so many parts; of a run, say what it is."""
        back, row = self._backs[-1], self._rows[-1]
        if isinstance(back, Packed) and row.endpoints:
            self._rows[-1] = msgspec.structs.replace(row, summary=endpoints_of(back.upstreams))
        if isinstance(back, Packed) and back.size > most:
            self._backs[-1] = pack(back)

    def _forget(self, place: int) -> None:
        """Keep no content of what is before the row at `place`."""
        for index in range(place):
            self._rows[index] = msgspec.structs.replace(self._rows[index], kept=False)
            self._backs[index + 1] = b""


def not_kept(rows: Sequence[Generation], generation: int) -> str:
    """Return the sentence that a generation is not kept, and which of `rows`, the oldest first, are."""
    for row in rows:
        if row.first <= generation < row.generation:
            return (
                f"Generation {generation} is one of the changes of endpoints {row.number}, of which only the last is"
                f" kept: ask for {row.generation}."
            )
    known = [str(row.generation) for row in rows if row.kept]
    said = f"{known[0]} to {known[-1]} are" if len(known) > 1 else f"{known[0] if known else 'none'} is"
    return f"Generation {generation} is not kept: {said}."


def _unpacked(back: Packed | bytes) -> Packed:
    return back if isinstance(back, Packed) else unpack(back)


def _back(step: Step, before: Snapshot, digest: str) -> Delta:
    """Return what leads from a generation back to the one before."""
    delta = step.delta
    if delta is not None and not delta.wide and delta.base == digest:
        names = [one.name for one in delta.upstreams]
        return Delta(step.digest, digest, tuple(find(before, names).values()))
    return diff(step.snapshot, before, step.digest, digest)


def _only_endpoints(back: Delta, after: Snapshot) -> bool:
    """Return whether what leads back changes nothing but endpoints, and what is said of there being none."""
    changes = back.changes or Changes()
    rest = changes.rest
    if msgspec.structs.replace(changes, rest=None) != Changes() or (rest is not None and _rest(rest) != _rest(after)):
        return False
    now = find(after, [one.name for one in back.upstreams])
    return all(one.name in now and _terms(one) == _terms(now[one.name]) for one in back.upstreams)


def _rest(snapshot: Snapshot) -> Snapshot:
    """Return what has nothing to do with endpoints."""
    problems = tuple(problem for problem in snapshot.problems if problem.code != _NONE)
    return msgspec.structs.replace(snapshot, hosts=(), certificates=(), upstreams=(), problems=problems)


def _terms(upstream: Upstream) -> Upstream:
    reason = "" if upstream.reason == _NONE else upstream.reason
    return msgspec.structs.replace(upstream, endpoints=(), reason=reason)


def _began(step: Step, at: datetime, took: float) -> Generation:
    """Return the row of the first generation: all that there was."""
    words = f"the first: {count(len(routes_of(step.snapshot)), 'route')}"
    return _row(step, at, took, words, endpoints=False)


def _row(step: Step, at: datetime, took: float, words: str, *, endpoints: bool) -> Generation:
    number, causes = step.generation, tuple(step.causes)
    shown, more = causes[:_CAUSES], max(0, len(causes) - _CAUSES)
    return Generation(number, number, at, step.digest, shown, more, words, endpoints, took)


def _joined(run: Generation, row: Generation) -> Generation:
    """Return a run of changes of endpoints with one more of them; of each object the last change is told."""
    causes = {(one.namespace, one.name): one for one in (*run.causes, *row.causes)}
    latest = sorted(causes.values(), key=lambda one: one.at)[-_CAUSES:]
    more = run.more + row.more + len(causes) - len(latest)
    return msgspec.structs.replace(row, first=run.first, causes=tuple(latest), more=more)
