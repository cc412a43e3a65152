"""What the pages of admin servers have in common."""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec
from aiohttp import web

from portway_proxy.endpoint_states import EndpointPage, EndpointQuery, describe_endpoints

__all__ = ["KnowsEndpoints", "add_upstreams", "asked_for", "json_page", "wants_json"]

Q = TypeVar("Q")


class KnowsEndpoints(Protocol):
    """A proxy, or whoever asks proxies."""

    async def endpoints(self, query: EndpointQuery) -> EndpointPage:
        """Return how the endpoints fare that are asked for."""


def wants_json(request: web.Request) -> bool:
    """Return whether a page is asked for as JSON: by `?format=json`, or by Accept."""
    if "format" in request.query:
        return request.query["format"] == "json"
    return "application/json" in request.headers.get("Accept", "")


def json_page(body: bytes) -> web.Response:
    """Return the answer that `body` is."""
    return web.Response(body=body, content_type="application/json")


def asked_for(request: web.Request, kind: type[Q]) -> Q:
    """Return what the target asks for; raises `HTTPBadRequest` for what cannot be asked."""
    asked = {name: value for name, value in request.query.items() if name != "format"}
    try:
        return msgspec.convert(asked, kind, strict=False)
    except msgspec.ValidationError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None


def add_upstreams(app: web.Application, known: KnowsEndpoints) -> None:
    """Add the page of endpoints to an admin server."""

    async def upstreams(request: web.Request) -> web.Response:
        page = await known.endpoints(asked_for(request, EndpointQuery))
        if wants_json(request):
            return json_page(msgspec.json.encode(page))
        return web.Response(text=describe_endpoints(page))

    app.router.add_get("/upstreams", upstreams)
