"""What `portway diff` can compare: files, what a cluster has, and generations that run or ran; read into snapshots."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from portway_operator.ask_admin import ask
from portway_operator.check import adopt
from portway_operator.compile import compile_snapshot
from portway_operator.settings import CompileSettings
from portway_operator.sources.connection import Connection
from portway_operator.sources.files import FileSource, Unreadable
from portway_operator.sources.survey import Survey
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import Snapshot

__all__ = ["Place", "PlaceKind", "Read", "Reader"]

_UNDERSTOOD: Final = (
    "a file or folder of YAML or JSON; `cluster:` or `cluster:CONTEXT`; an admin port as http://HOST:PORT; "
    "or a generation of the one that --admin names, as 7 or @7"
)
_GENERATION: Final = re.compile(r"@?([0-9]{1,15})")
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
    """A side as the user names it: `value` is a path, a context (empty: the current one), a URL, or a number."""

    kind: PlaceKind
    value: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """Return what `text` stands for, without a look whether it is there; raises `ValueError` for half a URL."""
        found = _GENERATION.fullmatch(text)
        if found is not None:
            return cls(PlaceKind.GENERATION, found[1])
        if text.startswith(_CLUSTER):
            return cls(PlaceKind.CLUSTER, text.removeprefix(_CLUSTER))
        if text.startswith((_ADMIN, *_URLS)):
            url = text.removeprefix(_ADMIN)
            if not url.startswith(_URLS):
                raise ValueError(f"{text!r} names no admin port. A side is {_UNDERSTOOD}.")
            return cls(PlaceKind.LIVE, url)
        return cls(PlaceKind.FILES, text)

    def __str__(self) -> str:
        """Return what the user calls it."""
        if self.kind is PlaceKind.CLUSTER:
            return f"{_CLUSTER}{self.value}"
        return f"generation {self.value}" if self.kind is PlaceKind.GENERATION else self.value


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of a place; `notes` say what could not be."""

    snapshot: Snapshot
    notes: tuple[str, ...] = ()


class _Row(msgspec.Struct):
    """What counts here of a row of `/history`."""

    generation: int


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads places. `settings` are for compiling, with `standalone` as it is for a cluster."""

    settings: CompileSettings
    controllers: frozenset[str]
    namespaces: tuple[str, ...]
    kubeconfig: str | None
    admin: str
    token_file: Path | None

    def read(self, place: Place) -> Read:
        """Return what is or would be served there.

        Raises `Unreadable`, `NoCluster` and `Unreachable`; ends the command where an admin port does not answer.
        """
        match place.kind:
            case PlaceKind.FILES:
                return Read(self._files(Path(place.value)))
            case PlaceKind.CLUSTER:
                return asyncio.run(self._cluster(place.value))
            case PlaceKind.LIVE:
                rows = ask(place.value, "/history", list[_Row], token_file=self.token_file)
                return Read(self._generation(place.value, rows[0].generation) if rows else Snapshot())
        return Read(self._generation(self.admin, int(place.value)))

    def history_of(self, place: Place) -> str:
        """Return the admin port that a place's snapshot comes from; empty for one that is compiled here."""
        urls = {PlaceKind.LIVE: place.value, PlaceKind.GENERATION: self.admin}
        return urls.get(place.kind, "").rstrip("/")

    def _generation(self, admin: str, number: int) -> Snapshot:
        return ask(admin, f"/history/{number}", Snapshot, token_file=self.token_file)

    def _files(self, path: Path) -> Snapshot:
        if not path.exists():
            raise Unreadable(f"There is no file or folder {str(path)!r}. A side is {_UNDERSTOOD}.")
        store = ObjectStore()
        FileSource([path], store).load()
        return compile_snapshot(store, replace(self.settings, standalone=True)).snapshot

    async def _cluster(self, context: str) -> Read:
        store = ObjectStore()
        named = (self.settings.config_map, self.settings.tcp_services, self.settings.udp_services)
        keys = [(namespace, name) for text in named if text for namespace, _, name in [text.partition("/")]]
        survey = Survey(Connection.load(self.kubeconfig, context or None), store, lambda *_: None)
        await survey.read(self.namespaces, keys)
        adopt(store, self.controllers, self.settings.controller)
        await survey.read_named(self.settings)
        notes = [f"{_CLUSTER}{context} does not show {kind}s: {why}" for kind, why in sorted(survey.refused.items())]
        snapshot = compile_snapshot(store, self.settings).snapshot
        if len(store.ingresses) and not snapshot.hosts and snapshot.default is None:
            names = ", ".join(sorted(self.controllers))
            notes.append(f"None of the {len(store.ingresses)} Ingresses of {_CLUSTER}{context} is of {names}.")
        return Read(snapshot, tuple(notes))
