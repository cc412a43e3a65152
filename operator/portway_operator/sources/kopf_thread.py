"""Runs kopf in a thread and a loop of its own, and starts it again should it ever end.

By itself kopf ends at errors that pass, never tells of objects that vanished between two watches, and lists slowly.
So it gets a session whose middleware answers it: each watch that begins anew is preceded by our own list, nothing but
success and well-formed events ever reaches it, and it cannot write.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from typing import cast

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
from portway_operator.sources.watch import Broken, read_watch

__all__ = ["KopfThread"]

_log = logging.getLogger(__name__)

_BEAT_SECONDS = 1.0
_JOIN_SECONDS = 15.0
_END_SECONDS = 3.0
# For connections that say farewell in TLS, as aiohttp's guide asks for before a loop is closed.
_FAREWELL_SECONDS = 0.25
# Three lives of a watch: a stream that was not asked for in so long is one that kopf lost.
_LOST_SECONDS = 900.0


class KopfThread:
    """Follows streams by kopf; what it reports comes from its own thread.

    `heartbeat` is the monotonic time of the last sign of life of a running operator. `on_restart` is called in the
    thread each time kopf ended by itself.
    """

    def __init__(
        self,
        connection: Connection,
        namespaces: tuple[str, ...],
        streams: list[Stream],
        silent_seconds: float,
        on_restart: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._namespaces = namespaces
        self._streams: Mapping[str, Stream] = {
            URL(connection.url(stream.target.path)).path: stream for stream in streams
        }
        self._by_target = {(stream.target.kind, stream.target.namespace): stream for stream in streams}
        self._silent_seconds = silent_seconds
        self._on_restart = on_restart
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._wake: Callable[[], object] = lambda: None
        self.heartbeat = time.monotonic()

    def start(self) -> None:
        """Start the thread."""
        quieten()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End kopf and wait for its thread."""
        self._stopping.set()
        with contextlib.suppress(RuntimeError):  # its loop may be closed by now
            self._wake()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _JOIN_SECONDS)
            if self._thread.is_alive():
                _log.error("kopf did not end within %.0f s", _JOIN_SECONDS)

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            loop = uvloop.new_event_loop()
            try:
                reason = loop.run_until_complete(self._operate(loop))
            except Exception as error:  # noqa: BLE001 - whatever ended it, the cluster must be watched on
                reason = f"{type(error).__name__}: {error}"
            finally:
                loop.close()
            if not self._stopping.is_set():
                _log.warning("kopf ended and is started again: %s", reason)
                self._on_restart()
                self._stopping.wait(backoff.next(least=0.2))

    async def _operate(self, loop: asyncio.AbstractEventLoop) -> str:
        """Run one operator until it ends or `stop` is called; return why it ended."""
        wake = asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(wake.set)
        sessions: list[aiohttp.ClientSession] = []
        try:
            async with self._connection.session() as inner:
                root = await kopf.spawn_tasks(
                    # Else kopf asks for the user's name, and a container's user may have none.
                    identity="portway",  # type: ignore[arg-type]  # kopf's NewType of it is not public
                    registry=self._registry(inner, sessions),
                    settings=read_only_settings(),
                    clusterwide=not self._namespaces,
                    namespaces=self._namespaces,
                )
                try:
                    return await self._watch_over(root, wake)
                finally:
                    await _end_all(root)
        finally:
            for session in sessions:
                await session.close()
            await asyncio.sleep(_FAREWELL_SECONDS)

    async def _watch_over(self, root: Collection[asyncio.Task[object]], wake: asyncio.Event) -> str:
        """Return the reason when one of kopf's root tasks ended, a stream was lost, or `stop` was called."""
        while not self._stopping.is_set():
            self.heartbeat = now = time.monotonic()
            for task in root:
                if task.done():
                    return "it was cancelled" if task.cancelled() else repr(task.exception())
            for stream in self._streams.values():
                if now - stream.asked > _LOST_SECONDS:
                    stream.asked = now
                    return f"it lost the watch of {stream.target}"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), _BEAT_SECONDS)
        return "it was told to"

    def _registry(self, inner: aiohttp.ClientSession, sessions: list[aiohttp.ClientSession]) -> kopf.OperatorRegistry:
        """Return the handlers: a login whose sessions go through `inner`, and one for each kind's events."""

        async def answer(request: aiohttp.ClientRequest, _: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            return await self._answer(inner, request)

        async def log_in(**_: object) -> kopf.AiohttpSession:
            sessions.append(aiohttp.ClientSession(middlewares=(answer,)))
            return kopf.AiohttpSession(server=self._connection.server, aiohttp_session=sessions[-1])

        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(log_in)
        for resource in {RESOURCES[kind] for kind, _ in self._by_target}:
            self._register(registry, resource)
        return registry

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

    async def _answer(self, session: aiohttp.ClientSession, request: aiohttp.ClientRequest) -> aiohttp.ClientResponse:
        """Do what kopf asks for in our way: with a list before a fresh watch, and until it succeeds."""
        if request.method != "GET":
            raise PermissionError(f"kopf may not {request.method} {request.url.path}")
        stream = self._streams.get(request.url.path)
        if stream is None or "watch" not in request.url.query:
            return await session.get(request.url)
        response = await stream.open(session, request.url.query.get("resourceVersion"))
        response.content = cast("aiohttp.StreamReader", _Checked(response, stream, self._silent_seconds))
        return response


class _Checked:
    """The body of a watch as kopf reads it: without what would end kopf."""

    def __init__(self, response: aiohttp.ClientResponse, stream: Stream, silent_seconds: float) -> None:
        self._response = response
        self._content = response.content
        self._stream = stream
        self._silent_seconds = silent_seconds

    def __getattr__(self, name: str) -> object:
        return getattr(self._content, name)

    async def iter_chunked(self, _size: int) -> AsyncGenerator[bytes, None]:
        """Yield whole lines."""
        try:
            async with contextlib.aclosing(read_watch(self._content, self._silent_seconds)) as batches:
                async for lines in batches:
                    yield b"".join(line + b"\n" for line in lines)
        except Broken as error:
            self._stream.start_over(error)
        finally:
            # No TLS farewell to a server that may be gone: it would outlive the loop.
            if (connection := self._response.connection) is not None and connection.transport is not None:
                connection.transport.abort()


async def _end_all(root: Collection[asyncio.Task[object]]) -> None:
    """End kopf's tasks, the way down from its root; those that will not end are abandoned with their loop."""
    await _end(root)
    current = asyncio.current_task()
    # A watcher whose pause waiter is cancelled with it takes that for a pause, and goes on for ever.
    rest = {task for task in asyncio.all_tasks() if task is not current}
    await _end({task for task in rest if not task.get_name().startswith("pause-waiter")})
    await _end({task for task in asyncio.all_tasks() if task is not current})
    await asyncio.get_running_loop().shutdown_asyncgens()


async def _end(tasks: Collection[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=_END_SECONDS)
        for task in done:
            # Looked at, so that it is not reported as forgotten.
            _ = None if task.cancelled() else task.exception()
