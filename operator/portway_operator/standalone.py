"""`portway run`: files in, routed traffic out, in one process group and without a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Self

from portway_operator.console import Console
from portway_operator.rebuild import Rebuild, Update
from portway_operator.settings import CompileSettings
from portway_operator.sources.files import FileSource
from portway_operator.sources.manifest import Adapt, as_it_is
from portway_operator.store import ObjectStore
from portway_proxy.dashboard.feed import Role
from portway_proxy.settings import ProxySettings
from portway_proxy.supervisor import Supervisor
from portway_proxy.tasks import Tasks

__all__ = ["Standalone"]

_FIRST = 60.0
"""Seconds that `start` waits for the first snapshot to be served; 100,000 routes take a few."""

_COMPILING = CompileSettings(standalone=True)

_REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where people reach what listens everywhere


class Standalone:
    """A proxy that serves what some files say, as they change.

    `adapt` may change raw objects before they are decoded; `compiling` is what the compile is told.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        settings: ProxySettings,
        adapt: Adapt = as_it_is,
        compiling: CompileSettings = _COMPILING,
    ) -> None:
        self._store = ObjectStore()
        self._source = FileSource(paths, self._store, adapt)
        self._settings = settings
        self._compiling = compiling
        self._supervisor = Supervisor(settings, Role.STANDALONE)
        self._console = Console(self._source.place, settings.log_format)
        self._tasks = Tasks()
        self._first = asyncio.Event()

    def heeding_signals(self) -> AbstractContextManager[None]:
        """Return a context in which SIGINT and SIGTERM end it; it begins before `start`."""
        return self._supervisor.heeding_signals()

    async def start(self) -> Self:
        """Read the files, open the ports and serve; returns when the first snapshot is served, or a signal came.

        Raises `Unreadable` for a path that cannot be read at all, `OSError` for a port that cannot be opened and
        `WorkerEnded` when the proxy cannot run here.
        """
        self._source.load()
        await self._supervisor.start()
        try:
            await self._begin()
        except BaseException:
            await self.close()
            raise
        return self

    async def run_until_stopped(self) -> None:
        """Serve until a signal, then finish what still runs."""
        try:
            await self._supervisor.run_until_stopped()
        finally:
            await self.close()

    async def close(self) -> None:
        """End everything at once."""
        await self._tasks.close()
        await self._supervisor.close()

    async def _begin(self) -> None:
        supervisor = self._supervisor
        self._console.listening(**{name: self.url(name) for name in ("http", "https", "admin") if self.url(name)})
        own = {supervisor.http_port, supervisor.https_port, supervisor.admin_port}
        reserved = frozenset(port for port in own if port)
        settings = replace(self._compiling, reserved_ports=reserved)
        rebuild = Rebuild(self._store, settings, self._publish)
        rebuild.ready()
        self._tasks.spawn(rebuild.run(), "rebuild")
        self._tasks.spawn(self._source.follow(rebuild.poke, rebuild.causes.note), "files")
        served = self._tasks.spawn(self._first.wait(), "first snapshot")
        stopped = self._tasks.spawn(supervisor.stopped(), "early stop")
        await asyncio.wait((served, stopped), timeout=_FIRST, return_when=asyncio.FIRST_COMPLETED)

    def url(self, name: str) -> str:
        """Return `http://127.0.0.1:8080` for `http`, `https` or `admin`; empty when it has no port."""
        settings, supervisor = self._settings, self._supervisor
        address, port = {
            "http": (settings.address, supervisor.http_port),
            "https": (settings.address, supervisor.https_port),
            "admin": (settings.admin_address, supervisor.admin_port),
        }[name]
        if port is None:
            return ""
        reachable = _REACHABLE.get(address, address)
        shown = f"[{reachable}]" if ":" in reachable else reachable
        return f"{'https' if name == 'https' else 'http'}://{shown}:{port}"

    async def _publish(self, update: Update) -> None:
        try:
            if update.delta is None:
                generation = await self._supervisor.apply(update.snapshot, causes=update.causes)
            else:
                generation = await self._supervisor.patch(update.delta, update.causes)
        finally:
            self._first.set()
        self._console.applied(generation, update.snapshot)
