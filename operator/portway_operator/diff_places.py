"""What `portway diff` can compare: files, what a cluster has, and generations that run or ran; read into snapshots."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from portway_operator.ask_admin import ask
from portway_operator.look import Cluster, Look, look_at_cluster, look_at_files
from portway_operator.settings import CompileSettings
from portway_operator.sources.files import Unreadable
from portway_proxy.snapshot import Problem, Snapshot

__all__ = ["Place", "PlaceKind", "Reader"]

_UNDERSTOOD: Final = (
    "a file or folder of YAML or JSON; `cluster:` or `cluster:CONTEXT`, with `+PATH` as if the files there had been "
    "applied to it; an admin port as http://HOST:PORT; "
    "or a generation of the one that --admin names, as 7 or @7"
)
_GENERATION: Final = re.compile(r"@?([0-9]{1,15})")
_FILE: Final = "File"
_CLUSTER: Final = "cluster:"
_ADMIN: Final = "admin:"
_URLS: Final = ("http://", "https://")


class PlaceKind(StrEnum):
    """Where a side comes from."""

    FILES = "files"
    CLUSTER = "cluster"
    LIVE = "live"
    GENERATION = "generation"


@dataclass(frozen=True, slots=True)
class Place:
    """A side as the user names it: `value` is a path, a context (empty: the current one), a URL, or a number.

    `applied` is the path of files that count as if they had been applied to a cluster; empty for none.
    """

    kind: PlaceKind
    value: str
    applied: str = ""

    @classmethod
    def parse(cls, text: str) -> Place:
        """Return what `text` stands for, without a look whether it is there; raises `ValueError` for half a URL."""
        found = _GENERATION.fullmatch(text)
        if found is not None:
            return cls(PlaceKind.GENERATION, found[1])
        if text.startswith(_CLUSTER):
            context, _, path = text.removeprefix(_CLUSTER).partition("+")
            return cls(PlaceKind.CLUSTER, context, path)
        if text.startswith((_ADMIN, *_URLS)):
            url = text.removeprefix(_ADMIN)
            if not url.startswith(_URLS):
                raise ValueError(f"{text!r} names no admin port. A side is {_UNDERSTOOD}.")
            return cls(PlaceKind.LIVE, url)
        return cls(PlaceKind.FILES, text)

    def __str__(self) -> str:
        """Return what the user calls it."""
        if self.kind is PlaceKind.CLUSTER:
            return f"{_CLUSTER}{self.value}{self.applied and f'+{self.applied}'}"
        return f"generation {self.value}" if self.kind is PlaceKind.GENERATION else self.value


class _Row(msgspec.Struct):
    """What counts here of a row of `/history`."""

    generation: int


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads places: `cluster` by the context that a place names, generations from the port `admin`."""

    settings: CompileSettings
    cluster: Cluster
    admin: str
    token_file: Path | None

    def read(self, place: Place) -> Look:
        """Return what is or would be served there.

        Raises `Unreadable`, `NoCluster` and `Unreachable`; ends the command where an admin port does not answer.
        """
        match place.kind:
            case PlaceKind.FILES:
                return Look(self._files(_there(place.value)))
            case PlaceKind.CLUSTER:
                return self._cluster(place)
            case PlaceKind.LIVE:
                rows = ask(place.value, "/history", list[_Row], token_file=self.token_file)
                return Look(self._generation(place.value, rows[0].generation) if rows else Snapshot())
        return Look(self._generation(self.admin, int(place.value)))

    def history_of(self, place: Place) -> str:
        """Return the admin port that a place's snapshot comes from; empty for one that is compiled here."""
        urls = {PlaceKind.LIVE: place.value, PlaceKind.GENERATION: self.admin}
        return urls.get(place.kind, "").rstrip("/")

    def _generation(self, admin: str, number: int) -> Snapshot:
        return ask(admin, f"/history/{number}", Snapshot, token_file=self.token_file)

    def _cluster(self, place: Place) -> Look:
        applied = (_there(place.applied),) if place.applied else ()
        cluster = replace(self.cluster, context=place.value or None, applied=applied)
        found = look_at_cluster(cluster, self.settings)
        told = f"Cluster {place.value}".rstrip()
        return replace(found, notes=tuple(f"{told}: {note}" for note in found.notes))

    def _files(self, path: Path) -> Snapshot:
        found = look_at_files([path], self.settings).snapshot
        return msgspec.structs.replace(found, problems=tuple(_within(path, one) for one in found.problems))


def _there(text: str) -> Path:
    if not Path(text).exists():
        raise Unreadable(f"There is no file or folder {text!r}. A side is {_UNDERSTOOD}.")
    return Path(text)


def _within(path: Path, problem: Problem) -> Problem:
    """Return a problem with files named from the side's own folder on: the other side is called otherwise."""
    if problem.origin.kind != _FILE:
        return problem
    whole, short = (f"{path}/", "") if path.is_dir() else (str(path), "the file")
    origin = msgspec.structs.replace(problem.origin, name=problem.origin.name.replace(whole, short))
    return msgspec.structs.replace(problem, origin=origin, found=problem.found.replace(whole, short))
