"""The dashboard on an admin server: its page, the files of the page, the table and the stream."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import mimetypes
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

import msgspec
from aiohttp import web

from portway_proxy.dashboard.board import Board, Crowded, Reader

__all__ = ["DashboardPages"]

_PATIENCE: Final = 30.0  # Seconds for which a reader may read nothing; then it is to come again.
_SILENCE: Final = 3.0  # Seconds; the page takes three times as many without a byte for a lost connection.
_AGAIN: Final = "5"  # Seconds after which who found no room may try again.
_SMALL: Final = 1000  # Bytes that fit into one packet are sent as they are.

# Python's own list depends on the files of the machine.
_TYPES: Final = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}


class _File(NamedTuple):
    """A file of the page: its content, as it is and compressed (empty where that is no gain), and its tag."""

    kind: str
    plain: bytes
    packed: bytes
    tag: str


class DashboardPages:
    """The pages of `board`. The files are read once, and no name that a client sends is ever a path."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._files = {name: _file(name, content) for name, content in _found(resources.files(__package__) / "static")}

    def add_to(self, app: web.Application) -> None:
        """Serve the pages; when the server ends, so do the streams."""
        app.router.add_get("/", self._home)
        app.router.add_get("/dashboard", self._home)
        app.router.add_get("/dashboard/stream", self._stream, allow_head=False)  # It has no end.
        app.router.add_get("/dashboard/routes", self._table)
        app.router.add_get("/dashboard/{name:.*}", self._page)
        app.on_shutdown.append(self._end)

    async def _end(self, _app: web.Application) -> None:
        await self._board.close()

    async def _home(self, _request: web.Request) -> web.Response:
        # Relative: whoever passes requests on to this server may have put a path before it.
        # Not for ever: another server may have this port tomorrow.
        return web.Response(status=307, headers={"Location": "dashboard/"})

    async def _page(self, request: web.Request) -> web.Response:
        file = self._files.get(request.match_info["name"] or "index.html")
        if file is None:
            raise web.HTTPNotFound(text="the dashboard has no such file\n")
        fields = {"ETag": f'"{file.tag}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if any(tag.value == file.tag for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=fields)
        fields["Content-Type"] = file.kind
        if file.packed and "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=file.packed, headers={**fields, "Content-Encoding": "gzip"})
        return web.Response(body=file.plain, headers=fields)

    async def _table(self, request: web.Request) -> web.Response:
        table = await self._board.table()
        fields = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
        # In a thread: readiness must answer meanwhile.
        body = await asyncio.to_thread(msgspec.json.encode, table)
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            body = await asyncio.to_thread(gzip.compress, body, 1)
            fields["Content-Encoding"] = "gzip"
        return web.Response(body=body, content_type="application/json", headers=fields)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        mark = request.headers.get("Last-Event-ID", request.query.get("since", ""))
        try:
            with self._board.reading() as reader:
                response = web.StreamResponse(headers={"Cache-Control": "no-store"})
                response.content_type = "text/event-stream"
                await response.prepare(request)
                told = await self._board.begin(reader, mark)
                while told:
                    async with asyncio.timeout(_PATIENCE):
                        await response.write(told)
                    told = await self._news(reader)
                return response
        except Crowded as reason:
            raise web.HTTPServiceUnavailable(text=f"{reason}\n", headers={"Retry-After": _AGAIN}) from None
        except (ConnectionError, TimeoutError):
            # The reader has gone, or reads nothing.
            if request.transport is not None:
                request.transport.abort()
            return response

    async def _news(self, reader: Reader) -> bytes:
        """Return what is new for a reader, or after a while a comment: only a lost connection is silent."""
        try:
            async with asyncio.timeout(_SILENCE):
                return await self._board.next(reader)
        except TimeoutError:
            return b":\n\n"


def _found(folder: Traversable, path: str = "") -> Iterator[tuple[str, bytes]]:
    """Return the names of all files below a folder, with their content."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _found(entry, f"{path}{entry.name}/")
        else:
            yield path + entry.name, entry.read_bytes()


def _file(name: str, content: bytes) -> _File:
    suffix = f".{name.rpartition('.')[2]}"
    kind = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    text = kind.startswith("text/") or kind == _TYPES[".svg"]
    packed = gzip.compress(content, mtime=0) if text and len(content) > _SMALL else b""
    return _File(f"{kind}; charset=utf-8" if text else kind, content, packed, hashlib.sha256(content).hexdigest()[:16])
