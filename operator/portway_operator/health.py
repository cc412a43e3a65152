"""The operator's own small server: whether it lives and is ready, its metrics, which proxies serve an object.

And the dashboard of the whole fleet, with what is explained and remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from portway_operator.fleet import Fleet
from portway_operator.objects import Kind
from portway_operator.serving import Answer, Question
from portway_proxy.admin_access import Access
from portway_proxy.admin_site import AdminSite
from portway_proxy.dashboard.board import Board
from portway_proxy.dashboard.pages import DashboardPages
from portway_proxy.explain.page import ExplainPage
from portway_proxy.history_pages import Chronicle, add_history
from portway_proxy.pages import add_upstreams
from portway_proxy.snapshot import Problem

__all__ = ["APPLIED_PATH", "Health", "Vital"]

APPLIED_PATH: Final = "/v1/applied"
"""Where `portway wait-applied` asks."""

_KINDS: Final = {"ingress": Kind.INGRESS, "service": Kind.SERVICE}
_LONGEST: Final = 253


class Vital(Protocol):
    """What the server tells of: the operator behind it."""

    @property
    def registry(self) -> CollectorRegistry:
        """The metrics."""

    @property
    def lag(self) -> float:
        """How late the event loop was at worst in the last minute, in seconds."""

    @property
    def busy(self) -> float:
        """How much of that at most was its own work, in seconds."""

    @property
    def history(self) -> Chronicle:
        """The last generations that were published."""

    @property
    def fleet(self) -> Fleet:
        """The proxies and what they serve, for the dashboard and for who asks what becomes of a request."""

    def foreign_rules(self) -> Sequence[Problem]:
        """Return a finding for each host that is left to other controllers."""

    def ailing(self) -> str:
        """Return why this process should be started anew, or nothing."""

    def unready(self) -> str:
        """Return why nobody should rely on it now, or nothing."""

    async def applied(self, question: Question) -> Answer:
        """Return which proxies serve an object."""


class Health:
    """The server and its pages, for those whom `access` lets in; it only ever reads."""

    def __init__(self, vital: Vital, access: Access | None = None) -> None:
        self._vital = vital
        app = web.Application()
        (access or Access()).guard(app)
        app.router.add_get("/livez", self._live)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get(APPLIED_PATH, self._applied)
        add_history(app, vital.history)
        ExplainPage(vital.fleet, vital.foreign_rules).add_to(app)
        add_upstreams(app, vital.fleet)
        DashboardPages(Board(vital.fleet)).add_to(app)
        self._site = AdminSite(app)

    async def start(self, address: str, port: int) -> int:
        """Open `port` (0: any that is free) and return its number. Raises `OSError`."""
        return await self._site.start(address, port)

    async def close(self) -> None:
        """Close the server; harmless when it never started."""
        await self._site.close()

    async def _live(self, _request: web.Request) -> web.Response:
        vital = self._vital
        lag = f"the loop was at most {vital.lag:.3f} s late, by its own work at most {vital.busy:.3f} s"
        return _verdict(vital.ailing(), f"alive; {lag}")

    async def _ready(self, _request: web.Request) -> web.Response:
        return _verdict(self._vital.unready(), "ready")

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = generate_latest(self._vital.registry)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})

    async def _applied(self, request: web.Request) -> web.Response:
        query = request.query
        kind = _KINDS.get(query.get("kind", ""))
        namespace, name = query.get("namespace", ""), query.get("name", "")
        if kind is None or not (namespace and name):
            return web.Response(text="ask for ?kind=ingress&namespace=NAMESPACE&name=NAME\n", status=400)
        question = Question(kind, namespace[:_LONGEST], name[:_LONGEST], query.get("resource_version", ""))
        answer = await self._vital.applied(question)
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def _verdict(reason: str, otherwise: str) -> web.Response:
    return web.Response(text=f"{reason or otherwise}\n", status=503 if reason else 200)
