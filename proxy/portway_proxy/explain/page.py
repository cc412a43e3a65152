"""`/explain` on the admin server: what becomes of a request at this proxy now, and how its endpoints fare."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from aiohttp import web

from portway_proxy.endpoint_states import EndpointPage, EndpointQuery, EndpointRow
from portway_proxy.explain.explanation import Explanation
from portway_proxy.explain.question import BadQuestion, Question
from portway_proxy.explain.text import describe_explanation
from portway_proxy.pages import json_page, wants_json
from portway_proxy.snapshot import Snapshot

if TYPE_CHECKING:
    from portway_proxy.settings import ProxySettings
    from portway_proxy.snapshot import Problem

__all__ = ["ExplainPage", "Explained"]


class Explained(Protocol):
    """What is explained: a proxy, or whoever knows what proxies serve.

    The ports are the real ones, None where there is none.
    """

    @property
    def settings(self) -> ProxySettings:
        """Its limits, and the ports that it is known by."""

    @property
    def http_port(self) -> int | None:
        """The port for HTTP."""

    @property
    def https_port(self) -> int | None:
        """The port for HTTPS."""

    @property
    def generation(self) -> int:
        """The number of what is served."""

    @property
    def affinity_key(self) -> bytes:
        """What signs cookies for want of a key in the snapshot."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot that is served, or None before the first."""

    @property
    def problems(self) -> Sequence[Problem]:
        """What is wrong here, beyond the snapshot's own problems."""

    async def endpoints(self, query: EndpointQuery) -> EndpointPage:
        """Return how the endpoints fare that are asked for."""


class ExplainPage:
    """The page; one explanation is made after the other, in a thread: a password's hash takes a moment.

    `further` returns problems that nobody has but who asks about their hosts.
    """

    def __init__(self, explained: Explained, further: Callable[[], Sequence[Problem]] = tuple) -> None:
        self._explained = explained
        self._further = further
        self._turn = asyncio.Lock()

    def add_to(self, app: web.Application) -> None:
        """Serve the page."""
        app.router.add_get("/explain", self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        asked = request.query
        try:
            question = Question.of(
                asked.get("url", ""), asked.get("method", "GET"), asked.getall("header", []), asked.get("client_ip", "")
            )
        except BadQuestion as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        async with self._turn:
            found = await self._explain(question)
        if wants_json(request):
            return json_page(msgspec.json.encode(found))
        return web.Response(text=describe_explanation(found))

    async def _explain(self, question: Question) -> Explanation:
        """Explain a request, and once more where it comes to endpoints: with how they fare."""
        found = await self._explained_with(question, {})
        if not found.upstream:
            return found
        page = await self._explained.endpoints(EndpointQuery(found.upstream))
        rows = tuple(row for row in page.endpoints if row.upstream == found.upstream)
        return await self._explained_with(question, {found.upstream: rows}) if rows else found

    async def _explained_with(self, question: Question, rows: dict[str, tuple[EndpointRow, ...]]) -> Explanation:
        """Look at what is served now, and explain a request by it in a thread."""
        explained = self._explained
        ports = {"http_port": explained.http_port, "https_port": explained.https_port}
        parts = {
            "snapshot": explained.snapshot or Snapshot(),
            "generation": explained.generation,
            "settings": msgspec.structs.replace(explained.settings, **ports),
            "rows": rows,
            "problems": (*explained.problems, *self._further()),
            "key": explained.affinity_key,
        }
        return await asyncio.to_thread(_explain, question, parts)


def _explain(question: Question, parts: dict[str, Any]) -> Explanation:
    from portway_proxy.explain.explaining import View, explain  # noqa: PLC0415 - 5 MB, for supervisors that are asked

    return explain(question, View(now=time.time(), **parts))
