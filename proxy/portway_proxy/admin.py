"""The admin server: whether the proxy lives and is ready, what it serves, what is wrong, and its metrics.

Nothing that it answers ever holds a key. `admin_access` says who may see it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
from aiohttp import web

from portway_proxy.admin_access import Access
from portway_proxy.admin_site import AdminSite
from portway_proxy.dashboard.board import Board
from portway_proxy.dashboard.pages import DashboardPages
from portway_proxy.describe import describe, describe_json
from portway_proxy.explain.page import Explained, ExplainPage
from portway_proxy.exposition import CONTENT_TYPE, render
from portway_proxy.flows import FlowPage, FlowQuery, describe_page
from portway_proxy.history_pages import Chronicle, add_history
from portway_proxy.listeners import PortUnavailable
from portway_proxy.metrics import LOOP_LAG, MEMORY_SHARE, Sample
from portway_proxy.pages import add_upstreams, asked_for, json_page, wants_json
from portway_proxy.snapshot import Snapshot

__all__ = ["Admin", "Served"]


class Served(Explained, Protocol):
    """What the admin server shows: the proxy behind it."""

    @property
    def history(self) -> Chronicle:
        """The last generations that were served."""

    def unready(self) -> str:
        """Return why no traffic should come now, or nothing when it should."""

    async def collect(self) -> list[Sample]:
        """Return the samples of all workers and of the proxy itself."""

    async def flows(self, query: FlowQuery) -> FlowPage:
        """Return what passes through at layer 4 and is asked for."""


class Admin:
    """The server and its pages, for those whom `access` lets in; without it for this machine.

    Where there is a `board`, the dashboard is among the pages.
    """

    def __init__(self, served: Served, access: Access | None = None, board: Board | None = None) -> None:
        self._served = served
        app = web.Application()
        (access or Access()).guard(app)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._readiness)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/routes", self._routes)
        app.router.add_get("/problems", self._problems)
        app.router.add_get("/flows", self._flows)
        add_upstreams(app, served)
        add_history(app, served.history)
        ExplainPage(served).add_to(app)
        if board is not None:
            DashboardPages(board).add_to(app)
        self._site = AdminSite(app)

    async def start(self, address: str, port: int) -> int:
        """Open `port` (0: one that is free) and return its number. Raises `PortUnavailable`."""
        try:
            return await self._site.start(address, port)
        except (OSError, OverflowError) as error:
            raise PortUnavailable(address, port, error) from None

    async def close(self) -> None:
        """Close the server; harmless when it never started."""
        await self._site.close()

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readiness(self, request: web.Request) -> web.Response:
        reason = self._served.unready()
        lines = [reason or "ready"]
        if "verbose" in request.query:
            told = {
                LOOP_LAG.name: "its loop was up to {:.3f} s late",
                MEMORY_SHARE.name: "it uses {:.0%} of its memory",
            }
            lines += [
                f"worker {sample.labels[0]}: {told[sample.name].format(sample.value)}"
                for sample in sorted(await self._served.collect(), key=lambda sample: (sample.labels, sample.name))
                if sample.name in told
            ]
        return web.Response(text="".join(f"{line}\n" for line in lines), status=503 if reason else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        # In a thread, as below: many hosts are many lines.
        body = await asyncio.to_thread(render, await self._served.collect())
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _routes(self, request: web.Request) -> web.Response:
        snapshot = self._served.snapshot or Snapshot()
        # In a thread: 100,000 routes are seconds of text, and readiness must answer meanwhile.
        if wants_json(request):
            return json_page(await asyncio.to_thread(describe_json, snapshot))
        return web.Response(text=await asyncio.to_thread(describe, snapshot))

    async def _problems(self, request: web.Request) -> web.Response:
        snapshot = self._served.snapshot or Snapshot()
        problems = (*snapshot.problems, *self._served.problems)
        if wants_json(request):
            return json_page(msgspec.json.encode(problems))
        return web.Response(text="".join(f"{problem.severity} {problem.code} {problem}\n" for problem in problems))

    async def _flows(self, request: web.Request) -> web.Response:
        page = await self._served.flows(asked_for(request, FlowQuery))
        if wants_json(request):
            return json_page(msgspec.json.encode(page))
        return web.Response(text=describe_page(page))
