"""Runs kopf in a thread and a loop of its own, and starts it again whenever it ends.

kopf cancels every task of its loop when it ends, gives up on errors that pass, never tells of objects that vanished
between two watches, and lists slowly. So it gets a session whose middleware answers it: each watch that begins anew
is preceded by our own list, nothing but success ever reaches it, and it cannot write.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping

import aiohttp
import kopf
import uvloop
from yarl import URL

from portway_operator.sources.backoff import Backoff
from portway_operator.sources.connection import Connection
from portway_operator.sources.kopf_settings import quieten, read_only_settings
from portway_operator.sources.listing import read_item
from portway_operator.sources.resources import RESOURCES, Resource
from portway_operator.sources.stream import Stream

__all__ = ["KopfThread"]

_log = logging.getLogger(__name__)

_BEAT_SECONDS = 1.0
_JOIN_SECONDS = 15.0
# Twice the life of a watch: a stream that was not asked for in so long is one that kopf lost.
_LOST_SECONDS = 600.0


class KopfThread:
    """Follows streams by kopf; what it reports comes from its own thread.

    `heartbeat` is the monotonic time of the last sign of life of a running operator. `on_restart` is called in the
    thread each time kopf ended by itself.
    """

    def __init__(
        self, connection: Connection, namespaces: tuple[str, ...], streams: list[Stream], on_restart: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._namespaces = namespaces
        self._streams: Mapping[str, Stream] = {
            URL(connection.url(stream.target.path)).path: stream for stream in streams
        }
        self._by_target = {(stream.target.kind, stream.target.namespace): stream for stream in streams}
        self._on_restart = on_restart
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None] | None] | None = None
        self.heartbeat = time.monotonic()

    def start(self) -> None:
        """Start the thread."""
        quieten()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End kopf and wait for its thread."""
        self._stopping.set()
        self._cancel()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _JOIN_SECONDS)
            if self._thread.is_alive():
                _log.error("kopf did not end within %.0f s", _JOIN_SECONDS)

    def _cancel(self) -> None:
        loop, task = self._running or (None, None)
        if loop is not None and task is not None:
            loop.call_soon_threadsafe(task.cancel)

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(self._operate())
                reason = "it returned"
            except asyncio.CancelledError:
                reason = "it was cancelled"
            except Exception as error:  # noqa: BLE001 - whatever ended it, the cluster must be watched on
                reason = f"{type(error).__name__}: {error}"
            if not self._stopping.is_set():
                _log.warning("kopf ended and is started again: %s", reason)
                self._on_restart()
                self._stopping.wait(backoff.next(least=0.2))

    async def _operate(self) -> None:
        loop = asyncio.get_running_loop()
        self._running = loop, asyncio.current_task()
        beat = asyncio.Event()
        try:
            if not self._stopping.is_set():
                self._beat(loop, beat)
                await self._serve_kopf()
        finally:
            beat.set()
            self._running = None

    def _beat(self, loop: asyncio.AbstractEventLoop, over: asyncio.Event) -> None:
        if over.is_set():
            return
        self.heartbeat = now = time.monotonic()
        lost = [stream for stream in self._streams.values() if now - stream.asked > _LOST_SECONDS]
        for stream in lost:
            stream.refused("lost", "kopf lost the watch")
            stream.asked = now
        if lost:
            self._cancel()
        loop.call_later(_BEAT_SECONDS, self._beat, loop, over)

    async def _serve_kopf(self) -> None:
        sessions: list[aiohttp.ClientSession] = []
        async with self._connection.session() as inner:

            async def answer(
                request: aiohttp.ClientRequest, _handler: aiohttp.ClientHandlerType
            ) -> aiohttp.ClientResponse:
                return await self._answer(inner, request)

            async def log_in(**_: object) -> kopf.AiohttpSession:
                sessions.append(aiohttp.ClientSession(middlewares=(answer,)))
                return kopf.AiohttpSession(server=self._connection.server, aiohttp_session=sessions[-1])

            registry = kopf.OperatorRegistry()
            kopf.on.login(registry=registry)(log_in)
            for resource in {RESOURCES[kind] for kind, _ in self._by_target}:
                self._register(registry, resource)
            try:
                await kopf.operator(
                    registry=registry,
                    settings=read_only_settings(),
                    clusterwide=not self._namespaces,
                    namespaces=self._namespaces,
                )
            finally:
                for session in sessions:
                    await session.close()

    async def _answer(self, session: aiohttp.ClientSession, request: aiohttp.ClientRequest) -> aiohttp.ClientResponse:
        """Do what kopf asks for in our way: with a list before a fresh watch, and until it succeeds."""
        if request.method != "GET":
            raise PermissionError(f"kopf may not {request.method} {request.url.path}")
        stream = self._streams.get(request.url.path)
        if stream is None or "watch" not in request.url.query:
            return await session.get(request.url)
        return await stream.open(session, request.url.query.get("resourceVersion"))

    def _register(self, registry: kopf.OperatorRegistry, resource: Resource) -> None:
        kind = resource.kind

        async def take(event: kopf.RawEvent, **_: object) -> None:
            item = read_item(kind, event["object"])
            namespace = item.name[0] if self._namespaces and resource.namespaced else None
            stream = self._by_target[kind, namespace]
            if event["type"] == "DELETED":
                stream.deleted(item)
            else:
                stream.seen(item)

        kopf.on.event(resource.group, resource.version, resource.plural, id=resource.plural, registry=registry)(take)
