"""Compiles when objects changed, and publishes what differs: routes after a short hold-off, endpoints at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from math import inf

from portway_operator.compile import Compiled, compile_snapshot, compile_upstream
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.codec import Delta, Digest, find, patch
from portway_proxy.errors import ProxyError
from portway_proxy.snapshot import Snapshot

__all__ = ["LIMIT", "QUIET", "Publish", "Rebuild", "Settled", "Update"]

_log = logging.getLogger(__name__)

QUIET = 0.05
"""Seconds without a change until a compile begins."""

LIMIT = 0.5
"""Seconds from the first change until a compile begins, whatever still changes."""


@dataclass(frozen=True, slots=True)
class Update:
    """A snapshot that differs from the one published before it.

    With a `delta`, what differs is in it alone: who has the snapshot of its `base` needs nothing else.
    """

    snapshot: Snapshot
    digest: str
    delta: Delta | None = None


Publish = Callable[[Update], Awaitable[None]]
"""Hands an update on; raises `ProxyError` when it was refused. It is called for one update after the other."""

Settled = Callable[[Compiled], None]
"""Takes note that what is published is equal to what a whole compile came to, newly or still."""


class Rebuild:
    """Keeps what is published equal to what the store compiles to.

    All methods belong to the event loop's thread. `compiled` is the last result, published or not; None before the
    first. `compile_seconds` is how long it took.
    """

    def __init__(
        self, store: ObjectStore, settings: CompileSettings, publish: Publish, settled: Settled = lambda _: None
    ) -> None:
        self.compiled: Compiled | None = None
        self._store = store
        self._settings = settings
        self._publish = publish
        self._settled = settled
        self.compile_seconds = 0.0
        self._published: Update | None = None
        self._digest = Digest.of(Snapshot())
        self._refused = ""
        self._ready = False
        # The loop's time of the first and the last change that no compile has seen.
        self._first = self._last = -inf
        self._pending = True
        self._services: set[tuple[str, str]] = set()
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

    def endpoint_changed(self, namespace: str, service: str) -> None:
        """Publish the upstreams of a Service at once: of all that routes depend on, only its endpoints changed."""
        self._services.add((namespace, service))
        self._wake.set()

    async def run(self) -> None:
        """Compile and publish, for ever."""
        while True:
            await self._wait()
            try:
                await self._step()
            except ProxyError as error:
                _log.error("the proxies refused the snapshot, the one before stays: %s", error)
            except Exception:  # noqa: BLE001 - the loop must survive; it is logged
                _log.exception("cannot compile or publish; the next change tries again")

    async def _wait(self) -> None:
        """Wait until there is something to do."""
        while not (self._ready and (self._due() <= 0 or (self._services and self._published))):
            self._wake.clear()
            delay = self._due() if self._ready else inf
            # Not `wait_for`: until Python 3.12 it loses a cancellation that comes together with what it waits for.
            with suppress(TimeoutError):
                async with asyncio.timeout(None if delay == inf else delay):
                    await self._wake.wait()

    def _due(self) -> float:
        """Return the seconds until the next compile; infinite when none is wanted."""
        if not self._pending:
            return inf
        return min(self._last + QUIET, self._first + LIMIT) - asyncio.get_running_loop().time()

    async def _step(self) -> None:
        services, self._services = self._services, set()
        if self._published is None or self._due() <= 0:
            # It reads all endpoints too.
            self._pending = False
            await self._rebuild()
        elif services:
            await self._republish(services)

    async def _rebuild(self) -> None:
        began = time.perf_counter()
        self.compiled = compiled = compile_snapshot(self._store, self._settings)
        digest = Digest.of(compiled.snapshot)
        self.compile_seconds = time.perf_counter() - began
        await self._hand_on(Update(compiled.snapshot, str(digest)), digest)
        if self._published is not None and self._published.digest == str(digest):
            self._settled(compiled)

    async def _republish(self, services: set[tuple[str, str]]) -> None:
        """Publish new upstreams for the endpoints of some Services, beside an otherwise unchanged snapshot."""
        base = self._published
        if base is None or self.compiled is None:
            return
        digest = copy(self._digest)
        names = sorted(name for service in services for name in self.compiled.by_service.get(service, ()))
        old = find(base.snapshot, names)
        new = []
        for name in names:
            before, after = old.get(name), compile_upstream(self._store, self._settings, name)
            if before is None or after is None or before.reason != after.reason:
                # More than its endpoints is another now, its problems at least: a whole compile tells.
                self.poke()
            if before is not None and after is not None and before != after:
                digest.replace(before, after)
                new.append(after)
        if new:
            upstreams = tuple(new)
            snapshot = patch(base.snapshot, upstreams)
            await self._hand_on(Update(snapshot, str(digest), Delta(base.digest, str(digest), upstreams)), digest)

    async def _hand_on(self, update: Update, digest: Digest) -> None:
        """Publish what differs from what was published, and was not refused before."""
        if self._published is not None and update.digest == self._published.digest:
            self._refused = ""
        elif update.digest != self._refused:
            try:
                await self._publish(update)
            except ProxyError:
                self._refused = update.digest
                raise
            self._refused = ""
            self._published, self._digest = update, digest
