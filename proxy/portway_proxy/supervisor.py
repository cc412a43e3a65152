"""The supervisor: owns the listening sockets, keeps the workers running, gives them what to serve, and drains them."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final

import msgspec

from portway_proxy import codec, ingress_nginx
from portway_proxy.admin import Admin
from portway_proxy.admin_access import Access, AccessRules
from portway_proxy.channel import Configure, store
from portway_proxy.crew import Crew
from portway_proxy.dashboard.board import Board
from portway_proxy.dashboard.feed import Role
from portway_proxy.dashboard.looks import Looks
from portway_proxy.dashboard.of_proxy import OfProxy
from portway_proxy.deltas import Delta, diff, patch
from portway_proxy.descriptors import allowed, most_connections, raise_limit
from portway_proxy.endpoint_states import EndpointPage, EndpointQuery
from portway_proxy.errors import BadSnapshot
from portway_proxy.flows import FlowPage, FlowQuery
from portway_proxy.gathering import Gathering, snapshot_samples
from portway_proxy.history import Cause, Step
from portway_proxy.history_pages import Chronicle
from portway_proxy.ingress_nginx import INGRESS_NGINX, Controller
from portway_proxy.listeners import HTTP, HTTPS, Listeners
from portway_proxy.metrics import (
    CONFIG_STALE,
    GENERATION,
    SNAPSHOT_REJECTED,
    WORKER_RESIDENT,
    WORKER_RESTARTS,
    WORKERS,
    Sample,
)
from portway_proxy.openssl import TICKET_KEY
from portway_proxy.process import WorkerEnded, WorkerProcess
from portway_proxy.settings import ProxySettings, Timeouts
from portway_proxy.signals import ENDING, heard
from portway_proxy.snapshot import Problem, Snapshot, Sources
from portway_proxy.tasks import Tasks
from portway_proxy.tls import self_signed
from portway_proxy.tuning import tuned

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)

_SCRAPE: Final = 1.0  # Seconds that a worker may take for its samples; Prometheus gives up after ten.
_MARGIN: Final = 1.0  # Beyond a drain's deadline, for a worker to cut what is left by itself.

_TICKET_AGE: Final = 12 * 3600.0  # Seconds that a key of session tickets is used; Cloudflare's and Go's take a day.

# What the sockets that are open say, and the proxy's name in what others know of it.
_FIXED: Final = ("address", "http_port", "https_port", "admin_address", "admin_port", "admin_access", "workers", "node")


class Supervisor:
    """A proxy: its ports, its workers and the snapshot they serve.

    `http_port`, `https_port` and `admin_port` are the real ones after `start`. `generation` is the number of
    `snapshot`, and 0 before the first; numbers of snapshots that were rejected are not used again. It is served since
    `served_since` (seconds since the epoch). `stale` is for whoever feeds it to set: nobody vouches that what is served
    is what should be. `role` is what its dashboard says that it is, and `looks` find its figures; `affinity_key` signs
    cookies for who has no key. `access` is who may see its pages.
    """

    def __init__(self, settings: ProxySettings, role: Role = Role.PROXY) -> None:
        self.settings = settings
        self.http_port = settings.http_port
        self.https_port = settings.https_port
        self.admin_port = settings.admin_port
        self.snapshot: Snapshot | None = None
        self.generation = 0
        self.digest = ""
        self.served_since = 0.0
        self.draining = False
        self.stale = False
        self.history = Chronicle()
        self._content = codec.Digest.of(Snapshot())
        self._listeners = Listeners(settings.address, settings.workers)
        self._tasks = Tasks()
        # Of no use to anyone but the workers, of which each may have to know what another one issued.
        self.affinity_key = secrets.token_bytes(32)
        self._configure = Configure(settings, affinity_key=self.affinity_key)
        self._lock = asyncio.Lock()
        self._gathering = Gathering(lambda: self._crew.processes)
        self._crew = Crew(self._bring_up, self._gathering.retire)
        self._serving = self._crew.serving
        self.looks = Looks(self._crew)
        self.access = Access(AccessRules.of(settings.admin_access))
        self._admin = Admin(self, self.access, Board(OfProxy(self, self.looks, role)))
        self._ticket_age = _TICKET_AGE
        self._number = 0
        self._began = 0.0
        self._rejected = 0
        self._ending = False
        self._stop = asyncio.Event()
        self._cut = asyncio.Event()

    # --- what others see

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong on this machine, beyond the snapshot's own problems: ports that cannot be opened."""
        return self._listeners.problems

    def unready(self) -> str:
        """Return why no traffic should come now, or nothing when it should."""
        if self.draining:
            return "draining"
        if self.snapshot is None:
            return "no snapshot yet"
        return "" if self._serving else "no worker runs"

    async def collect(self) -> list[Sample]:
        """Return the samples of all workers and of the proxy; a worker that does not answer counts as it last did."""
        return [*await self._gathering.collect(), *self._own_samples()]

    async def flows(self, query: FlowQuery) -> FlowPage:
        """Return what passes through at layer 4 and is asked for; a worker that does not answer is left out."""
        return FlowPage.join(await self._crew.ask(lambda one: one.flows(query, _SCRAPE)), query.limit)

    async def endpoints(self, query: EndpointQuery) -> EndpointPage:
        """Return how the endpoints fare that are asked for; a worker that does not answer is left out."""
        return EndpointPage.join(await self._crew.ask(lambda one: one.endpoints(query, _SCRAPE)), query.limit)

    # --- what it is told

    async def start(self) -> None:
        """Open the ports and start the workers; they serve from the first `apply` on.

        Raises `listeners.PortUnavailable` for the HTTP, HTTPS or admin port, `TooFewDescriptors` when workers could
        not have the connections that they are to serve, and `WorkerEnded` when one cannot start.
        """
        raise_limit()
        most_connections(self.settings.limits.connections, allowed())
        try:
            await self._open()
            await self._crew.start(self._configure, self.settings.workers)
            self._tasks.spawn(self._gathering.keep_up(), "gathering")
            self._tasks.spawn(self._change_ticket_keys(), "ticket keys")
        except BaseException:
            await self.close()
            raise

    async def apply(self, snapshot: Snapshot, digest: str = "", causes: Sequence[Cause] = ()) -> int:
        """Serve `snapshot`, which `causes` led to, and return its generation, once every worker does.

        Raises `BadSnapshot` with the reason when a worker cannot; then all serve what they served before. The same
        for content that does not have the `digest` that it was sent with, where it is known.
        """
        async with self._lock:
            generation = self._next()
            content = codec.Digest.of(snapshot)
            content.insist(digest or str(content))
            self._listeners.want(snapshot.listeners)
            try:
                await self._spread(generation, snapshot, str(content))
            except BadSnapshot as error:
                await self._revert(error)
                raise
            self._listeners.drop_unwanted()
            self._now_serve(Step(generation, snapshot, str(content), None, causes), content)
            return generation

    async def patch(self, delta: Delta, causes: Sequence[Cause] = ()) -> int:
        """Serve what `delta` makes of the snapshot and return the generation, once every worker does.

        Raises `BadSnapshot` when the delta is not for the snapshot that is served, or cannot be applied; then all serve
        what they served before.
        """
        async with self._lock:
            generation = self._next()
            if self.snapshot is None or delta.base != self.digest:
                raise BadSnapshot(f"the delta is for the snapshot {delta.base}, {self.digest or 'none'} is served")
            snapshot = patch(self.snapshot, delta.upstreams, delta.changes)
            if delta.digest == self.digest:
                self.retell(snapshot.sources)
                return self.generation
            content = self._content.after(self.snapshot, delta, snapshot)
            content.insist(delta.digest)
            try:
                await self._spread_delta(generation, snapshot, delta)
            except BadSnapshot as error:
                await self._revert(error)
                raise
            self._now_serve(Step(generation, snapshot, delta.digest, delta, causes), content)
            return generation

    def retell(self, sources: tuple[Sources, ...]) -> None:
        """Say from now on that the values of what is served came from `sources`; workers have no part in it."""
        if self.snapshot is not None:
            self.snapshot = msgspec.structs.replace(self.snapshot, sources=sources)

    async def renew(self, settings: ProxySettings) -> None:
        """Go by other settings: workers with them take the places of those that run, and nobody is turned away.

        Addresses, ports and the number of workers stay what they are. Raises `TooFewDescriptors` and `WorkerEnded` as
        `start` does; workers that are not replaced by then go by the settings before.
        """
        most_connections(settings.limits.connections, allowed())
        before = self.settings
        kept = {name: getattr(before, name) for name in _FIXED}
        self.settings = msgspec.structs.replace(settings, **kept)
        real = msgspec.structs.replace(self.settings, http_port=self.http_port, https_port=self.https_port)
        self._configure = msgspec.structs.replace(self._configure, settings=real)
        await self._crew.renew(self._configure, self._timeouts.drain)

    def heeding_signals(self, reread: Callable[[], ProxySettings] | None = None) -> AbstractContextManager[None]:
        """Return a context in which signals steer the proxy; it begins before `start`, and ends after everything.

        SIGTERM and SIGINT are `stop`. SIGHUP renews the workers, by the settings that `reread` returns then; SIGUSR1
        opens the file of the access log again.
        """
        renew = {signal.SIGHUP: lambda: self._tasks.spawn(self._renew(reread), "renewal")}
        return heard(dict.fromkeys(ENDING, self.stop) | renew | {signal.SIGUSR1: self.reopen})

    def stop(self) -> None:
        """Have `run_until_stopped` drain and return; a second call has it return at once."""
        if self._stop.is_set():
            self._cut.set()
        self._stop.set()

    def reopen(self) -> None:
        """Have all workers open the file of the access log again."""
        for process in self._crew.processes:
            process.reopen()

    async def run_until_stopped(self) -> None:
        """Serve until `stop`, then drain and close; a second `stop` ends everything at once."""
        try:
            await self.stopped()
            await self._drain()
        finally:
            await self.close()

    async def stopped(self) -> None:
        """Wait until somebody has called `stop`."""
        await self._stop.wait()

    async def close(self) -> None:
        """End everything at once: workers, ports and admin server."""
        self._ending = True
        self.draining = True
        self._listeners.close()
        await self._crew.close()
        await self._tasks.close()
        await self._admin.close()
        await self.history.close()

    # --- starting

    async def _open(self) -> None:
        settings = self.settings
        chain = key = b""
        if settings.http_port is not None:
            self.http_port = self._listeners.open(HTTP, settings.http_port)
        if settings.https_port is not None:
            self.https_port = self._listeners.open(HTTPS, settings.https_port)
            chain, key = await asyncio.to_thread(self_signed)
        self.admin_port = await self._admin.start(settings.admin_address, settings.admin_port)
        # Workers name their ports in redirects and forwarded fields: they need the real ones.
        real = msgspec.structs.replace(settings, http_port=self.http_port, https_port=self.https_port)
        self._configure = Configure(real, chain, key, self.affinity_key, ticket_key=secrets.token_bytes(TICKET_KEY))

    async def _change_ticket_keys(self) -> None:
        """Give up the key of session tickets now and then, for ever: who finds it reads what was said under it."""
        while True:
            await asyncio.sleep(self._ticket_age)
            self._configure = msgspec.structs.replace(self._configure, ticket_key=secrets.token_bytes(TICKET_KEY))
            self._crew.rekey(self._configure)

    async def _renew(self, reread: Callable[[], ProxySettings] | None) -> None:
        try:
            await self.renew(self.settings if reread is None else reread())
        except (ValueError, OSError, WorkerEnded) as error:
            _log.error("the workers that serve stay: %s", error)
        else:
            _log.info("all workers are renewed")

    async def _bring_up(self, process: WorkerProcess) -> None:
        """Bring a new worker to what the others serve."""
        await process.ready()
        async with self._lock:
            process.send_sockets(self._listeners.of_worker(process.slot))
            if self.snapshot is not None:
                fd = store(codec.encode(self.snapshot.served, self.digest))
                try:
                    await process.apply(self.generation, fd)
                except BadSnapshot as error:
                    _log.error("%r rejects what the others serve: %s", process, error)
                finally:
                    os.close(fd)
            if not process.ended.done():
                self._serving[process.slot] = process

    # --- changing

    def _next(self) -> int:
        if self._ending:
            raise BadSnapshot("this proxy is shutting down")
        self._number += 1
        self._began = time.monotonic()
        return self._number

    def _now_serve(self, step: Step, content: codec.Digest) -> None:
        self.snapshot, self.generation, self.digest = step.snapshot, step.generation, step.digest
        self.served_since = time.time()
        self._content = content
        self.history.note(step, time.monotonic() - self._began)

    async def _spread(self, generation: int, snapshot: Snapshot, digest: str) -> None:
        """Have workers serve a snapshot; where they all serve the one before, only what differs is sent."""
        self._send_sockets()
        if self.snapshot is not None and all(one.generation == self.generation for one in self._serving.values()):
            data = msgspec.msgpack.encode(diff(self.snapshot.served, snapshot.served, self.digest, digest))
            await self._crew.order(data, lambda process, fd: process.patch(generation, fd))
        else:
            data = codec.encode(snapshot.served, digest)
            await self._crew.order(data, lambda process, fd: process.apply(generation, fd))

    async def _spread_delta(self, generation: int, snapshot: Snapshot, delta: Delta) -> None:
        if delta.wide:
            self._listeners.want(snapshot.listeners)
            self._send_sockets()
        data = msgspec.msgpack.encode(delta.served)
        await self._crew.order(data, lambda process, fd: process.patch(generation, fd))
        if delta.wide:
            self._listeners.drop_unwanted()

    def _send_sockets(self) -> None:
        for process in self._serving.values():
            process.send_sockets(self._listeners.of_worker(process.slot))

    async def _revert(self, error: BadSnapshot) -> None:
        """Give all workers what they served before: some may have applied what others rejected."""
        if self._ending:
            return
        self._rejected += 1
        _log.error("a snapshot is rejected, the one before stays: %s", error)
        before = self.snapshot or Snapshot()
        self._listeners.want(before.listeners)
        for process in self._serving.values():
            # A worker closes the sockets that a snapshot does not name, so it may lack those of this one.
            process.forget()
        with suppress(BadSnapshot):
            await self._spread(self.generation, before, self.digest or codec.digest(before))
        self._listeners.drop_unwanted()

    # --- ending

    @property
    def _timeouts(self) -> Timeouts:
        return tuned(self.settings, self.snapshot.settings if self.snapshot is not None else ()).timeouts

    async def _drain(self) -> None:
        """Stop in order: readiness, then accepting, then what runs; at the deadline, or when cut short, the rest."""
        timeouts = self._timeouts
        self.draining = True
        _log.info("draining: accepting for %g s more, then finishing within %g s", timeouts.grace, timeouts.drain)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._cut.wait(), timeouts.grace)
        self._ending = True
        self._listeners.close()
        self._crew.drain(timeouts.drain)
        cut = self._tasks.spawn(self._cut.wait(), "second signal")
        ended = self._tasks.spawn(self._crew.ended(), "workers end")
        await asyncio.wait({cut, ended}, timeout=timeouts.drain + _MARGIN, return_when=asyncio.FIRST_COMPLETED)
        _log.info("drained" if ended.done() else "ending what still runs")

    # --- metrics

    def _own_samples(self) -> Iterator[Sample]:
        yield WORKERS.sample(len(self._serving))
        yield WORKER_RESTARTS.sample(self._crew.restarts)
        for process in self._serving.values():
            yield WORKER_RESIDENT.sample(process.resident(), str(process.slot))
        yield GENERATION.sample(self.generation)
        yield SNAPSHOT_REJECTED.sample(self._rejected)
        yield CONFIG_STALE.sample(self.stale)
        snapshot = self.snapshot or Snapshot()
        yield from snapshot_samples(snapshot, self.problems)
        if self.settings.metrics_names == INGRESS_NGINX:
            controller = Controller.of(self.settings.namespace, self.settings.node)
            yield from ingress_nginx.snapshot_samples(snapshot, self.digest, controller, current=not self.stale)
