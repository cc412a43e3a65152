"""Writes where our Ingresses and layer 4 Services are reached into their statuses; the leader alone does.

An object's status is written once some proxy serves it, and whenever it says something else than it should. One that
is ours no more is left as it is: whoever has it now writes it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Protocol

from portway_operator.api_objects import ApiObjects, ApiUnavailable, Conflict, Missing, Raw
from portway_operator.applied import Applied, Owned
from portway_operator.objects import Ingress, Kind, Service
from portway_operator.public_addresses import Addresses, PublicAddresses
from portway_operator.sources.backoff import Backoff
from portway_operator.sources.resources import RESOURCES
from portway_operator.store import ObjectStore
from portway_operator.throttle import Throttle

__all__ = ["Leads", "Status", "StatusPace"]

_log = logging.getLogger(__name__)

Key = tuple[Kind, str, str]

# Five seconds of writing, then newer objects have their turn.
_ONE_LOOK = 100
_ENOUGH = 10


class Leads(Protocol):
    """Knows whether this replica may write; see `leader.Leader`."""

    @property
    def leading(self) -> bool:
        """Whether we lead at this very moment."""


@dataclass(frozen=True, slots=True)
class StatusPace:
    """How much is written, and how often is looked; times are seconds.

    rate: writes a second; a start with 5,000 Ingresses takes four minutes, and no API server notices.
    at_once: requests under way at the same time (ingress-nginx 10).
    every: between two looks without a cause (ingress-nginx 60): it mends what others changed.
    pause: between two looks with one.
    """

    rate: float = 20.0
    at_once: int = 10
    every: float = 60.0
    pause: float = 1.0


@dataclass(frozen=True, slots=True)
class _Write:
    """A status that says something else than it should."""

    object: Ingress | Service
    addresses: Addresses

    @property
    def key(self) -> Key:
        return self.object.kind, *self.object.meta.key

    def path(self) -> str:
        namespace, name = self.object.meta.key
        return f"{RESOURCES[self.object.kind].path(namespace)}/{name}/status"

    def body(self) -> Raw:
        """Return the merge patch; the uid makes it fail for a namesake that was made meanwhile."""
        points = [self._point(ip=each.ip, hostname=each.hostname) for each in self.addresses]
        meta = {"uid": self.object.meta.uid}
        return {"metadata": meta, "status": {"loadBalancer": {"ingress": points or None}}}

    def _point(self, ip: str, hostname: str) -> dict[str, str]:
        if not ip:
            return {"hostname": hostname}
        # Else kube-proxy would take the address for the Service's own, and in IPVS mode away from its node (KEP-1860).
        return {"ip": ip, "ipMode": "Proxy"} if self.object.kind is Kind.SERVICE else {"ip": ip}


class Status:
    """Keeps the statuses right while `leads` says that we lead.

    Poke it when leadership was won, when something was published, and when a proxy serves a newer version.
    """

    def __init__(
        self,
        api: ApiObjects,
        leads: Leads,
        addresses: PublicAddresses,
        store: ObjectStore,
        applied: Applied,
        pace: StatusPace = StatusPace(),
    ) -> None:
        self._api = api
        self._leads = leads
        self._addresses = addresses
        self._store = store
        self._applied = applied
        self._pace = pace
        self._throttle = Throttle(pace.rate, pace.at_once)
        self._slots = asyncio.Semaphore(pace.at_once)
        self._backoff = Backoff()
        self._wake = asyncio.Event()
        self._due = -inf
        self._known: Addresses | None = None
        # What the watch has not told yet: the version that our write made, and what it says.
        self._written: dict[Key, tuple[int, Addresses]] = {}
        # What the API server will not take; tried again when something else is to be written.
        self._refused: dict[Key, tuple[str, _Write]] = {}
        self._trouble = self._said = ""

    def poke(self) -> None:
        """Look soon."""
        self._due = -inf
        self._wake.set()

    async def run(self) -> None:
        """Look and write until cancelled."""
        while True:
            await self._wait()
            self._due = asyncio.get_running_loop().time() + self._pace.every
            if self._leads.leading:
                try:
                    await self._look()
                except Exception:  # noqa: BLE001 - the loop must survive; it is logged
                    _log.exception("statuses cannot be written; tried again soon")
            await asyncio.sleep(self._pace.pause)

    async def clear(self) -> None:
        """Empty the statuses that say what we wrote, because nothing of us will be reached any more."""
        if self._known and self._leads.leading:
            ours = [one for owned in self._applied if (one := self._now(owned)) is not None]
            stale = [_Write(one, ()) for one in ours if self._published(one) == self._known]
            await asyncio.gather(*(self._send(write) for write in stale))

    async def _wait(self) -> None:
        """Wait until there is a cause to look, a Service with other addresses included."""
        loop = asyncio.get_running_loop()
        while loop.time() < self._due and not self._moved():
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.pause):
                    await self._wake.wait()

    def _moved(self) -> bool:
        found = self._addresses.glance()
        return found is not None and found != self._known

    async def _look(self) -> None:
        try:
            found = await self._addresses.find()
        except ApiUnavailable as trouble:
            self._later(f"the proxies' addresses cannot be found: {trouble}")
            return
        if found is None:
            return
        self._known = found
        self._forget()
        missing = [owned for owned in self._applied if self._missing(owned, found) is not None]
        # The newest first: somebody waits for it.
        missing.sort(key=lambda owned: owned.contained, reverse=True)
        failed = 0
        for start in range(0, min(len(missing), _ONE_LOOK), self._pace.at_once):
            batch = missing[start : start + self._pace.at_once]
            failed += (await asyncio.gather(*(self._write(owned, found) for owned in batch))).count(False)
            if failed >= _ENOUGH:
                break
        if failed:
            self._later(self._trouble)
            return
        self._said = ""
        if len(missing) > _ONE_LOOK:
            self._due = -inf

    def _later(self, trouble: str) -> None:
        """Look again after a while, and say why; once, not every time."""
        if trouble != self._said:
            _log.warning("statuses are written later: %s", trouble)
        self._said = trouble
        self._due = asyncio.get_running_loop().time() + self._backoff.next()

    def _now(self, owned: Owned) -> Ingress | Service | None:
        """Return the object as it is now; None when it is not the one that was compiled any more."""
        kind, meta = owned.object.kind, owned.object.meta
        shelf = self._store.ingresses if kind is Kind.INGRESS else self._store.services
        one = shelf.get(meta.key)
        return None if one is None or one != owned.object or one.meta.uid != meta.uid else one

    def _missing(self, owned: Owned, addresses: Addresses) -> _Write | None:
        """Return what has to be written into the status of an object, if anything."""
        if not self._applied.acknowledged(owned) or (one := self._now(owned)) is None:
            return None
        write = _Write(one, addresses if owned.served else ())
        if self._published(one) == write.addresses:
            return None
        return None if self._refused.get(write.key) == (one.meta.uid, write) else write

    def _published(self, one: Ingress | Service) -> Addresses:
        """Return what the status of an object says, our own writes that no watch told of yet included."""
        version, addresses = self._written.get((one.kind, *one.meta.key), (0, ()))
        return addresses if version > _number(one.meta.resource_version) else one.published

    def _forget(self) -> None:
        """Forget what was noted of objects that are gone, or whose watch has caught up."""
        known = {
            (owned.object.kind, *owned.object.meta.key): one for owned in self._applied if (one := self._now(owned))
        }
        self._written = {
            key: noted
            for key, noted in self._written.items()
            if key in known and noted[0] > _number(known[key].meta.resource_version)
        }
        self._refused = {key: write for key, write in self._refused.items() if key in known}

    async def _write(self, owned: Owned, addresses: Addresses) -> bool:
        """Write the status of an object if that is still to be done; return whether nothing is left to do."""
        await self._throttle.turn()
        # Asked again: the turn may have come late.
        write = self._missing(owned, addresses)
        if write is None or not self._leads.leading:
            return True
        return await self._send(write)

    async def _send(self, write: _Write) -> bool:
        try:
            async with self._slots:
                answer = await self._api.merge(write.path(), write.body())
        except ApiUnavailable as trouble:
            return self._take(write, trouble)
        self._written[write.key] = (_number(_version(answer)), write.addresses)
        return True

    def _take(self, write: _Write, trouble: ApiUnavailable) -> bool:
        """Return whether a write that failed need not be tried again."""
        if trouble.passing:
            self._trouble = str(trouble)
            return False
        # Gone, or another by now: the watch is about to tell.
        if not isinstance(trouble, Missing | Conflict):
            self._refused[write.key] = write.object.meta.uid, write
            _log.warning("the status of %s %s/%s is refused: %s", *write.key, trouble)
        return True


def _version(raw: Raw) -> str:
    metadata = raw.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) else ""


def _number(version: str) -> int:
    return int(version) if version.isdecimal() else 0
