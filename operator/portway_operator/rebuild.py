"""Compiles when objects changed, and publishes what differs: routes after a short hold-off, endpoints at once.

A whole compile is done in a thread, on a copy of the store: it takes as long as a fifth of a second, and nothing else
must wait for it, endpoints least of all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from math import inf

import msgspec

from portway_operator.batches import Batches
from portway_operator.causes import Causes
from portway_operator.compile import Compiled, compile_snapshot, compile_upstream
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.codec import Digest
from portway_proxy.deltas import Delta, diff, find, patch
from portway_proxy.errors import ProxyError
from portway_proxy.history import Cause
from portway_proxy.snapshot import Snapshot, Upstream
from portway_proxy.tasks import Tasks

__all__ = ["LIMIT", "QUIET", "Publish", "Rebuild", "Settled", "Update"]

_log = logging.getLogger(__name__)

QUIET = 0.05
"""Seconds without a change until a compile begins."""

LIMIT = 0.5
"""Seconds from the first change until a compile begins, whatever still changes."""

_DAY = 86_400
_MOST = 1000  # Parts of a snapshot that change together; more are sooner read, built and merged as a whole one.


@dataclass(frozen=True, slots=True)
class Update:
    """A snapshot that differs from the one published before it.

    With a `delta`, what differs is in it alone: who has the snapshot of its `base` needs nothing else. `causes` are the
    objects that changed meanwhile, as far as anybody said it.
    """

    snapshot: Snapshot
    digest: str
    delta: Delta | None = None
    causes: tuple[Cause, ...] = ()


Publish = Callable[[Update], Awaitable[None]]
"""Hands an update on; raises `ProxyError` when it was refused. It is called for one update after the other."""

Settled = Callable[[Compiled], None]
"""Takes note that what is published is equal to what a whole compile came to, newly or still."""

Apart = Callable[[Callable[[], tuple[Compiled, Digest]]], Awaitable[tuple[Compiled, Digest]]]
"""Does a piece of work where it holds nothing up."""


@dataclass(frozen=True, slots=True)
class _Result:
    """What a whole compile came to, its digest, and how long it took in seconds."""

    compiled: Compiled
    digest: Digest
    seconds: float


class Rebuild:
    """Keeps what is published equal to what the store compiles to.

    All methods belong to the event loop's thread. `compiled` is the last result, published or not; None before the
    first. `compile_seconds` is how long it took. Whoever pokes says in `causes` why.
    """

    def __init__(
        self,
        store: ObjectStore,
        settings: CompileSettings,
        publish: Publish,
        settled: Settled = lambda _: None,
        apart: Apart = asyncio.to_thread,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Take the parts; `apart` is where a whole compile is done, `wall` tells seconds since the epoch."""
        self.compiled: Compiled | None = None
        self.causes = Causes()
        self._store = store
        self._settings = settings
        self._publish = publish
        self._settled = settled
        self._apart = apart
        self._wall = wall
        self._today = 0
        self.compile_seconds = 0.0
        self._published: Update | None = None
        self._digest = Digest.of(Snapshot())
        self._refused = ""
        self._ready = False
        # The loop's time of the first and the last change that no compile has seen.
        self._first = self._last = -inf
        self._pending = True
        # Whose endpoints changed since they were published, and which of them no compile that is over has seen.
        self._services: set[tuple[str, str]] = set()
        self._late: set[tuple[str, str]] = set()
        self._batches = Batches()
        self._compiling = False
        self._result: _Result | None = None
        self._tasks = Tasks()
        self._wake = asyncio.Event()

    def ready(self) -> None:
        """Allow the first compile: every source has been listed once."""
        self._ready = True
        self._wake.set()

    def poke(self) -> None:
        """Compile soon: something in the store changed."""
        self._last = asyncio.get_running_loop().time()
        if not self._pending:
            self._pending, self._first = True, self._last
        self._wake.set()

    def poke_for(self, cause: Cause) -> None:
        """Compile soon, for that reason."""
        self.causes.note(cause)
        self.poke()

    def endpoint_changed(self, namespace: str, service: str) -> None:
        """Publish the upstreams of a Service at once: of all that routes depend on, only its endpoints changed.

        Where very many change they are published together (`Batches`).
        """
        self._services.add((namespace, service))
        self._batches.add(asyncio.get_running_loop().time())
        self._wake.set()

    async def run(self) -> None:
        """Compile and publish, for ever."""
        try:
            while True:
                await self._wait()
                try:
                    await self._step()
                except ProxyError as error:
                    _log.error("the proxies refused the snapshot, the one before stays: %s", error)
                except Exception:  # noqa: BLE001 - the loop must survive; it is logged
                    _log.exception("cannot compile or publish; the next change tries again")
        finally:
            await self._tasks.close()

    async def _wait(self) -> None:
        """Wait until there is something to do."""
        while (delay := self._due()) > 0:
            self._wake.clear()
            # Not `wait_for`: until Python 3.12 it loses a cancellation that comes together with what it waits for.
            with suppress(TimeoutError):
                async with asyncio.timeout(None if delay == inf else delay):
                    await self._wake.wait()

    def _due(self) -> float:
        """Return the seconds until there is something to do; infinite when nothing is."""
        if not self._ready:
            return inf
        if self._result is not None:
            return 0.0
        now = asyncio.get_running_loop().time()
        endpoints = self._batches.due(now) if self._published is not None else inf
        return min(endpoints, self._until_compile(now))

    def _until_compile(self, now: float) -> float:
        """Return the seconds until the next compile; infinite when none is wanted, or one runs.

        A new day, by which certificates may expire, is a change too.
        """
        if self._compiling:
            return inf
        if not self._pending:
            return (self._today + 1) * _DAY - self._wall() if self._today else inf
        return min(self._last + QUIET, self._first + LIMIT) - now

    async def _step(self) -> None:
        now = asyncio.get_running_loop().time()
        result, self._result = self._result, None
        if result is not None:
            await self._rebuilt(result)
        elif self._until_compile(now) <= 0:
            self._pending, self._compiling = False, True
            self._late.clear()
            self._tasks.spawn(self._compile(), "compile")
        if self._published is not None and self._batches.due(now) <= 0:
            self._batches.publish(now)
            services, self._services = self._services, set()
            self._late |= services
            await self._republish(services)

    async def _compile(self) -> None:
        began = time.perf_counter()
        store, before = self._store.frozen(), self.compiled
        self.causes.begin()
        self._today = int(self._wall() // _DAY)
        settings = replace(self._settings, today=self._today)

        def work() -> tuple[Compiled, Digest]:
            compiled = compile_snapshot(store, settings, before)
            return compiled, Digest.of(compiled.snapshot)

        try:
            compiled, digest = await self._apart(work)
            self._store.certificates.learn(store.certificates, self._store.secrets)
            self._result = _Result(compiled, digest, time.perf_counter() - began)
        finally:
            self._compiling = False
            self._wake.set()

    async def _rebuilt(self, result: _Result) -> None:
        """Publish what a compile came to, with the endpoints that changed while it ran."""
        self.compiled, self.compile_seconds = result.compiled, result.seconds
        self._late |= self._services
        self._services.clear()
        compiled, digest = result.compiled, result.digest
        upstreams = self._renewed(compiled.snapshot, digest, self._late)
        snapshot = patch(compiled.snapshot, upstreams) if upstreams else compiled.snapshot
        causes = self.causes.of_compile(compiled.by_service)
        await self._hand_on(Update(snapshot, str(digest), self._difference(snapshot, str(digest)), causes), digest)
        if self._published is not None and self._published.digest == str(digest):
            self.causes.compiled()
            self._settled(compiled)

    def _difference(self, snapshot: Snapshot, digest: str) -> Delta | None:
        """Return what leads from what is published to `snapshot`; None when that is about as much as all of it."""
        base = self._published
        if base is None or _alike(base, snapshot, digest):
            return None
        delta = diff(base.snapshot, snapshot, base.digest, digest)
        return delta if delta.size <= _MOST else None

    async def _republish(self, services: Collection[tuple[str, str]]) -> None:
        """Publish new upstreams for the endpoints of some Services, beside an otherwise unchanged snapshot."""
        base = self._published
        if base is None:
            return
        digest, causes = copy(self._digest), self.causes.of_endpoints(services, self._by_service)
        if upstreams := self._renewed(base.snapshot, digest, services):
            snapshot = patch(base.snapshot, upstreams)
            delta = Delta(base.digest, str(digest), upstreams)
            await self._hand_on(Update(snapshot, str(digest), delta, causes), digest)
        elif self._pending:
            # What they changed only a compile can tell.
            self.causes.keep(causes)

    @property
    def _by_service(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """The names of upstreams by their Services, as of the last compile."""
        return {} if self.compiled is None else self.compiled.by_service

    def _renewed(self, snapshot: Snapshot, digest: Digest, services: Iterable[tuple[str, str]]) -> tuple[Upstream, ...]:
        """Return the upstreams of some Services that are others now than in the snapshot, and account for them."""
        names = sorted(name for service in services for name in self._by_service.get(service, ()))
        old = find(snapshot, names)
        new = []
        for name in names:
            before, after = old.get(name), compile_upstream(self._store, self._settings, name)
            if before is not None and after is not None and before.tls != after.tls:
                # Its keyring is of a snapshot that is yet to come.
                self.poke()
                after = msgspec.structs.replace(after, tls=before.tls)
            if before is None or after is None or before.reason != after.reason:
                # More than its endpoints is another now, its problems at least: a whole compile tells.
                self.poke()
            if before is not None and after is not None and before != after:
                digest.replace(before, after)
                new.append(after)
        return tuple(new)

    async def _hand_on(self, update: Update, digest: Digest) -> None:
        """Publish what differs from what was published, and was not refused before."""
        if self._published is not None and _alike(self._published, update.snapshot, update.digest):
            self._refused = ""
        elif update.digest != self._refused:
            try:
                await self._publish(update)
            except ProxyError:
                self._refused = update.digest
                self.causes.keep(update.causes)
                raise
            self._refused = ""
            self._published, self._digest = update, digest


def _alike(update: Update, snapshot: Snapshot, digest: str) -> bool:
    """Return whether a snapshot serves what `update` does, and tells people the same of where it came from."""
    return digest == update.digest and snapshot.sources == update.snapshot.sources
