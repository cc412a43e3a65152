"""A Kubernetes cluster as the source of objects: it is watched, and the store follows within milliseconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from portway_operator.objects import Kind
from portway_operator.resync import Resync
from portway_operator.sources.connection import Connection
from portway_operator.sources.follower import follow
from portway_operator.sources.intake import Change, Intake, SourceCounters
from portway_operator.sources.kopf_thread import KopfThread
from portway_operator.sources.resources import RESOURCES, Target
from portway_operator.sources.scope import Pace, Scope
from portway_operator.sources.stream import Message, Stream
from portway_operator.store import ObjectStore
from portway_proxy.tasks import Tasks

__all__ = ["Change", "KubeSource", "Pace", "Scope"]

_log = logging.getLogger(__name__)

_EVERYTHING = Scope()
_USUAL = Pace()
_WATCHED = (Kind.INGRESS, Kind.INGRESS_CLASS, Kind.SERVICE)


class KubeSource:
    """Keeps a store equal to the cluster; made inside of the running loop that alone touches the store.

    `listed` is set when every kind was listed: from then on `on_change` is called for every change of something that
    we read, and the first compile may begin. The API server may be away, refuse or forget: it is asked on for ever.

    kopf watches what people write. EndpointSlices come in storms, of which kopf takes half a millisecond an event where
    `follow` takes a tenth, so those are followed without it, as are single objects, which it cannot watch.
    """

    def __init__(
        self,
        connection: Connection,
        store: ObjectStore,
        on_change: Callable[[Change], None],
        scope: Scope = _EVERYTHING,
        pace: Pace = _USUAL,
    ) -> None:
        self._connection = connection
        self._scope = scope
        self._intake = Intake(store, on_change)
        self._pace = pace
        self._tasks = Tasks()
        self._loop = asyncio.get_running_loop()
        self._session = connection.session()
        self._streams: dict[Target, Stream] = {}
        watched = [self._stream(target) for target in self._watched()]
        self._kopf = KopfThread(connection, scope.namespaces, watched, pace.silent, self._restarted)
        self._followed: dict[Target, asyncio.Task[None]] = {}

    @property
    def listed(self) -> asyncio.Event:
        """Return the event that is set once every kind was listed."""
        return self._intake.listed

    @property
    def caught_up(self) -> asyncio.Event:
        """Return the event that is set while everything that is followed was listed at least once, or refused."""
        return self._intake.caught_up

    @property
    def heartbeat(self) -> float:
        """Return the monotonic time of kopf's last sign of life."""
        return self._kopf.heartbeat

    @property
    def counters(self) -> SourceCounters:
        """Return what was counted so far."""
        return self._intake.counters

    def objects(self) -> dict[str, int]:
        """Return how many objects of each kind are known."""
        return self._intake.objects()

    def troubles(self) -> list[str]:
        """Return a sentence for each part of the cluster that was not listed yet or cannot be watched now."""
        return self._intake.troubles()

    def start(self) -> None:
        """Begin to list and to watch; returns at once."""
        secrets = {Target(Kind.SECRET, namespace) for namespace in self._scope.secret_namespaces or ()}
        for target in sorted({*self._all_of(Kind.ENDPOINT_SLICE), *secrets, *self._scope.named}, key=str):
            self._follow(target)
        self._tasks.spawn(Resync(self._session, self._streams, self._pace).run(), "resync")
        self._kopf.start()

    async def stop(self) -> None:
        """End all watching; the store stays as it is."""
        await self._tasks.close()
        await self._kopf.stop()
        await self._session.close()

    def follow(self, named: Collection[Target]) -> None:
        """Make `named` all single objects that are followed beside those of the scope; the others are forgotten."""
        wanted = {target for target in named if target.name} - self._scope.named
        extra = {target for target in self._followed if target.name} - self._scope.named
        for target in extra - wanted:
            self._followed.pop(target).cancel()
            del self._streams[target]
            self._intake.drop(target)
        for target in sorted(wanted - extra, key=str):
            self._follow(target)

    def _watched(self) -> list[Target]:
        kinds = _WATCHED if self._scope.secret_namespaces is not None else (*_WATCHED, Kind.SECRET)
        return [target for kind in kinds for target in self._all_of(kind)]

    def _all_of(self, kind: Kind) -> list[Target]:
        namespaces = self._scope.namespaces if RESOURCES[kind].namespaced else ()
        return [Target(kind, namespace) for namespace in namespaces or (None,)]

    def _stream(self, target: Target) -> Stream:
        stream = Stream(target, self._connection, self._intake.add(target), self._report)
        self._streams[target] = stream
        return stream

    def _follow(self, target: Target) -> None:
        task = self._tasks.spawn(follow(self._session, self._stream(target), self._pace.silent), f"follow {target}")
        self._followed[target] = task

    def _report(self, message: Message) -> None:
        self._hand_over(lambda: self._intake.take(message))

    def _restarted(self) -> None:
        self._hand_over(self._intake.counters.restarted)

    def _hand_over(self, action: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(action)
        except RuntimeError:
            # The loop was closed while kopf's thread was still ending: nobody is left to tell.
            _log.debug("a late message was dropped")
