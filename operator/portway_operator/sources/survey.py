"""Reads a cluster once into a store, by lists alone, for `portway check`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import aiohttp
import msgspec

from portway_operator.compile.named import named_objects
from portway_operator.objects import Kind
from portway_operator.settings import CompileSettings
from portway_operator.sources.connection import Connection
from portway_operator.sources.listing import ApiRefused, fetch
from portway_operator.sources.resources import RESOURCES, Target
from portway_operator.store import ObjectStore

__all__ = ["Seen", "Survey", "Unreachable"]

_KINDS = (Kind.INGRESS_CLASS, Kind.INGRESS, Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.SECRET)
_NAMELESS = (401, 403)

Seen = Callable[[Kind, int, int], None]
"""Takes note of how many objects of a kind were read, and how many there are as far as the server says it."""


class Unreachable(Exception):
    """The cluster cannot be read; the message says why."""


class Survey:
    """One look at a cluster. `refused` has the kinds that we may not read, and what the server said."""

    def __init__(self, connection: Connection, store: ObjectStore, seen: Seen) -> None:
        self.refused: dict[Kind, str] = {}
        self._connection = connection
        self._store = store
        self._seen = seen

    async def read(self, namespaces: Sequence[str], config_maps: Iterable[tuple[str, str]]) -> None:
        """Read some namespaces, or all, and single ConfigMaps where they exist; raises `Unreachable`."""
        try:
            async with self._connection.session() as session:
                for kind in _KINDS:
                    for namespace in (namespaces if RESOURCES[kind].namespaced else ()) or (None,):
                        await self._take(session, Target(kind, namespace))
                for key in config_maps:
                    await self._take(session, Target(Kind.CONFIG_MAP, *key))
        except (aiohttp.ClientError, msgspec.MsgspecError, OSError, TimeoutError) as error:
            raise Unreachable(f"{self._connection.server}: {str(error) or 'it does not answer in time'}") from None

    async def read_named(self, settings: CompileSettings) -> None:
        """Read the Secrets and ConfigMaps that annotations name; raises `Unreachable`."""
        try:
            async with self._connection.session() as session:
                for kind, namespace, name in sorted(named_objects(self._store, settings)):
                    known = self._store.secrets if kind is Kind.SECRET else self._store.config_maps
                    if kind not in self.refused and (namespace, name) not in known:
                        await self._take(session, Target(kind, namespace, name))
        except (aiohttp.ClientError, msgspec.MsgspecError, OSError, TimeoutError) as error:
            raise Unreachable(f"{self._connection.server}: {str(error) or 'it does not answer in time'}") from None

    async def _take(self, session: aiohttp.ClientSession, target: Target) -> None:
        try:
            listing = await fetch(session, self._connection, target, lambda read, of: self._seen(target.kind, read, of))
        except ApiRefused as error:
            if error.status not in _NAMELESS or target.kind is Kind.INGRESS:
                raise Unreachable(f"{target}: {error}") from None
            self.refused[target.kind] = str(error)
            return
        for item in listing.items:
            if item.object is not None:
                self._store.put(item.object)
            elif item.problem is not None:
                self._store.report(f"{target.kind} {'/'.join(item.name)}", [item.problem])
