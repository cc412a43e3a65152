"""One look at files or a cluster, and the snapshot that it comes to: for commands that judge and serve nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from portway_operator.check import adopt
from portway_operator.compile import compile_snapshot
from portway_operator.compile.classes import Classes
from portway_operator.settings import CompileSettings
from portway_operator.sources.connection import Connection
from portway_operator.sources.files import FileSource
from portway_operator.sources.survey import Survey
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import Origin, Problem, Snapshot

__all__ = ["Cluster", "Look", "look_at_cluster", "look_at_files"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster to read: a context of a kubeconfig (the current one, without), and namespaces; all without any.

    Ingresses count whose IngressClass has one of `controllers`; without any, those of the compile's own. Objects of the
    files `applied` count as if they had been applied to it.
    """

    kubeconfig: str | None = None
    context: str | None = None
    namespaces: tuple[str, ...] = ()
    controllers: frozenset[str] = frozenset()
    applied: tuple[Path, ...] = ()


def _nowhere(_: Origin) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen; `notes` say what was not, each as a sentence. `foreign` are rules of other controllers.

    `place` returns where a field stands in a file, or nothing.
    """

    snapshot: Snapshot
    notes: tuple[str, ...] = ()
    foreign: tuple[Problem, ...] = ()
    place: Callable[[Origin], str] = _nowhere


def look_at_files(paths: Sequence[Path], settings: CompileSettings) -> Look:
    """Return what files come to; raises `Unreadable`."""
    store = ObjectStore()
    source = FileSource(paths, store)
    source.load()
    settings = replace(settings, standalone=True)
    return Look(compile_snapshot(store, settings).snapshot, foreign=_foreign(store, settings), place=source.place)


def look_at_cluster(cluster: Cluster, settings: CompileSettings) -> Look:
    """Return what a cluster comes to; raises `NoCluster`, `Unreachable` and, for files to apply, `Unreadable`."""
    return asyncio.run(_look(cluster, settings))


async def _look(cluster: Cluster, settings: CompileSettings) -> Look:
    store = ObjectStore()
    survey = Survey(Connection.load(cluster.kubeconfig, cluster.context), store, lambda *_: None)
    maps = [text.partition("/") for text in (settings.config_map, settings.tcp_services, settings.udp_services) if text]
    await survey.read(cluster.namespaces, [(namespace, name) for namespace, _, name in maps])
    if cluster.applied:
        _apply(cluster.applied, store)
    adopt(store, cluster.controllers, settings.controller)
    await survey.read_named(settings)
    snapshot = compile_snapshot(store, settings).snapshot
    notes = [f"{kind}s cannot be read: {why}." for kind, why in sorted(survey.refused.items())]
    if len(store.ingresses) and not snapshot.hosts and snapshot.default is None:
        names = ", ".join(sorted(cluster.controllers)) or settings.controller
        notes.append(f"None of the {len(store.ingresses)} Ingresses there is of {names}.")
    return Look(snapshot, tuple(notes), _foreign(store, settings))


def _foreign(store: ObjectStore, settings: CompileSettings) -> tuple[Problem, ...]:
    return tuple(Classes(store.ingress_classes.values(), settings).foreign_rules(store.ingresses.values()))


def _apply(paths: Sequence[Path], store: ObjectStore) -> None:
    """Put the objects of files into the store, as old as those that they are put in the place of."""
    files = ObjectStore()
    FileSource(paths, files).load()
    store.report("files", files.reported)
    for shelf in (files.config_maps, files.endpoint_slices, files.ingress_classes, files.secrets, files.services):
        for new in shelf.values():
            store.put(new)
    for ingress in files.ingresses.values():
        known = store.ingresses.get(ingress.meta.key)
        meta = ingress.meta if known is None else replace(ingress.meta, created=known.meta.created)
        store.put(replace(ingress, meta=meta))
