"""What the pages of admin servers have in common."""

from __future__ import annotations

from aiohttp import web

__all__ = ["json_page", "wants_json"]


def wants_json(request: web.Request) -> bool:
    """Return whether a page is asked for as JSON: by `?format=json`, or by Accept."""
    if "format" in request.query:
        return request.query["format"] == "json"
    return "application/json" in request.headers.get("Accept", "")


def json_page(body: bytes) -> web.Response:
    """Return the answer that `body` is."""
    return web.Response(body=body, content_type="application/json")
