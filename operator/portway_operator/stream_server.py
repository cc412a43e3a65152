"""The configuration server: `GET /v1/stream` for what is published, `POST /v1/ack` for what became of it.

`POST /v1/report` is for the figures of proxies, while somebody looks at the dashboard.
`POST /v1/review` is for proxies, which have no way to the API server: whether a token lets somebody see their pages.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from aiohttp import hdrs, web

from portway_operator.publish import Publisher
from portway_operator.stream_auth import Auth, Caller, Denied
from portway_operator.subscription import Subscription
from portway_proxy.admin_tokens import TokenRefused, TokenUnknowable, Verifier
from portway_proxy.codec import SCHEMA
from portway_proxy.stream import (
    ACK_PATH,
    ALL_DELTAS,
    REPORT_PATH,
    REVIEW_PATH,
    STREAM_PATH,
    UNTOLD,
    WATCH_FIELD,
    Ack,
    BadMessage,
    Position,
    Refusal,
    Report,
    Review,
    ShownToken,
    decode_ack,
    decode_report,
    decode_token,
    encode,
    valid_node,
)

__all__ = ["StreamServer"]

Said = TypeVar("Said", Ack, Report, ShownToken)

_log = logging.getLogger(__name__)

_TYPE: Final = "application/x-ndjson"
_SLICE: Final = 64 << 10  # A slow reader's snapshot waits in our one copy of it, not in its transport.
_STALLED: Final = 60.0  # Seconds that a proxy may take to read a slice.
_ACK_BODY: Final = 64 << 10
_ACK_TIME: Final = 10.0
_REPORT_BODY: Final = 4 << 20  # 20,000 routes that all move.
_STREAMS: Final = 1024
_KEEP_ALIVE: Final = 75.0
_SHUTDOWN: Final = 2.0
_BACKLOG: Final = 128
_SAY_AGAIN: Final = 60.0
_REASONS: Final = 100
_SOCKET_MODE: Final = 0o660


class StreamServer:
    """Serves what `publisher` publishes to those whom `auth` lets in, and tells them which tokens `verifier` knows."""

    def __init__(self, publisher: Publisher, auth: Auth, verifier: Verifier | None = None) -> None:
        self._publisher = publisher
        self._auth = auth
        self._verifier = verifier
        app = web.Application()
        app.router.add_get(STREAM_PATH, self._stream, allow_head=False)
        app.router.add_post(ACK_PATH, self._ack)
        app.router.add_post(REPORT_PATH, self._report)
        if verifier is not None:
            app.router.add_post(REVIEW_PATH, self._review)
        # Cancelled as soon as a proxy is gone: it is no longer somebody to wait for.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            keepalive_timeout=_KEEP_ALIVE,
            shutdown_timeout=_SHUTDOWN,
        )
        self._streams: set[Subscription] = set()
        self._said: dict[str, float] = {}

    async def listen(self, address: str, port: int, context: ssl.SSLContext | None) -> int:
        """Open a TCP port (0: any that is free) and return its number. Raises `OSError`."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, address, port, ssl_context=context, backlog=_BACKLOG)
        await site.start()
        return int(self._runner.addresses[-1][1])

    async def listen_unix(self, path: Path) -> None:
        """Open a Unix socket for our own user and group, where a dead operator may have left one. Raises `OSError`."""
        await self._runner.setup()
        await web.SockSite(self._runner, _bind(path), backlog=_BACKLOG).start()

    async def close(self) -> None:
        """End every stream in order, and close the ports; harmless when none was opened."""
        for subscription in self._streams:
            subscription.close()
        await self._runner.cleanup()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        try:
            caller = await self._auth.check(request)
            node = _node(request.query.get("node", ""), caller)
            self._admit(request.query.get("schema", ""))
        except Denied as error:
            return self._refuse(request, error)
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: _TYPE, hdrs.CACHE_CONTROL: "no-store"})
        response.enable_chunked_encoding()
        response.force_close()
        await response.prepare(request)
        position = Position.parse(request.headers.get(hdrs.IF_NONE_MATCH, ""))
        if request.query.get("sources") == UNTOLD and self._publisher.tells:
            position = None
        wide = request.query.get("deltas") == ALL_DELTAS
        subscription = self._publisher.subscribe(node, position, wide=wide)
        self._streams.add(subscription)
        _log.info("proxy %s follows", node)
        try:
            await self._send(subscription, response, caller)
            if request.transport is not None and request.transport.get_write_buffer_size():
                # The end of the response would wait for its turn, and its reader sleeps.
                request.transport.abort()
        finally:
            self._streams.discard(subscription)
            self._publisher.unsubscribe(subscription)
            _log.info("proxy %s follows no more", node)
        return response

    def _admit(self, wanted: str) -> None:
        """Raise `Denied` for a schema version that we do not speak, and when too many follow already."""
        if wanted != str(SCHEMA):
            raise Denied(400, f"schema version {wanted[:20]!r} is asked for, this operator knows {SCHEMA}")
        if self._publisher.subscriptions >= _STREAMS:
            raise Denied(503, f"{_STREAMS} proxies follow already")

    async def _send(self, subscription: Subscription, response: web.StreamResponse, caller: Caller) -> None:
        """Send until the subscription ends, the proxy is gone or reads nothing, or its credentials expire."""
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(caller.remaining()):
                while (messages := await subscription.next()) is not None:
                    await _write(response, messages)

    async def _ack(self, request: web.Request) -> web.StreamResponse:
        found = await self._take(request, _ACK_BODY, decode_ack)
        if isinstance(found, web.Response):
            return found
        self._publisher.acknowledge(found)
        return self._taken()

    async def _report(self, request: web.Request) -> web.StreamResponse:
        found = await self._take(request, _REPORT_BODY, decode_report)
        if isinstance(found, web.Response):
            return found
        self._publisher.take(found)
        return self._taken()

    async def _take(self, request: web.Request, longest: int, read: Callable[[bytes], Said]) -> Said | web.Response:
        """Return what a proxy says, which is for it to say; else the answer that tells why that is not taken."""
        try:
            caller = await self._auth.check(request)
            async with asyncio.timeout(_ACK_TIME):
                found = read(await _body(request, longest))
            _node(found.node, caller)
        except Denied as error:
            return self._refuse(request, error)
        except BadMessage as error:
            return self._refuse(request, Denied(400, str(error)))
        except TimeoutError:
            return self._refuse(request, Denied(408, "the request did not come"))
        return found

    def _taken(self) -> web.Response:
        """Return the answer to what was taken; with it goes whether reports are wanted."""
        watch = self._publisher.reported.watch
        return web.Response(status=204, headers={WATCH_FIELD: watch.field} if watch.seconds else None)

    async def _review(self, request: web.Request) -> web.StreamResponse:
        found = await self._take(request, _ACK_BODY, decode_token)
        if isinstance(found, web.Response):
            return found
        return web.Response(body=msgspec.json.encode(await self._verdict(found.token)), content_type="application/json")

    async def _verdict(self, token: str) -> Review:
        assert self._verifier is not None  # noqa: S101 - there is no such page without
        try:
            await self._verifier.verify(token)
        except TokenRefused as error:
            return Review(error.status, str(error))
        except TokenUnknowable as error:
            return Review(503, str(error))
        return Review()

    def _refuse(self, request: web.Request, error: Denied) -> web.Response:
        now = asyncio.get_running_loop().time()
        # Anybody can make us refuse, and so write lines: each reason is said once a minute.
        if self._said.get(str(error), -inf) < now - _SAY_AGAIN:
            if len(self._said) >= _REASONS:
                self._said.clear()
            self._said[str(error)] = now
            who = request.remote or "a socket"
            _log.warning("%s %s from %s is refused: %s", request.method, request.path, who, error)
        fields = {hdrs.CONTENT_TYPE: _TYPE}
        if error.status == 401:
            fields[hdrs.WWW_AUTHENTICATE] = "Bearer"
        return web.Response(status=error.status, body=encode(Refusal(str(error))), headers=fields)


async def _body(request: web.Request, longest: int) -> bytes:
    """Return the body of a request; raises `Denied` for one that is too long."""
    body = bytearray()
    async for part in request.content.iter_any():
        body += part
        if len(body) > longest:
            raise Denied(413, f"the request has more than {longest} bytes")
    return bytes(body)


def _node(name: str, caller: Caller) -> str:
    """Return the name, when the caller may use it; raises `Denied`."""
    if not valid_node(name):
        raise Denied(400, "the proxy must say its name: node=NAME")
    if caller.node not in ("", name):
        raise Denied(403, f"the token is of the pod {caller.node}, it cannot speak for {name}: start it with --node")
    return name


def _bind(path: Path) -> socket.socket:
    with suppress(FileNotFoundError):
        if path.is_socket():
            path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before it has a name: there must be no moment at which others could connect.
        os.fchmod(sock.fileno(), _SOCKET_MODE)
        sock.bind(str(path))
        path.chmod(_SOCKET_MODE)
    except BaseException:
        sock.close()
        raise
    return sock


async def _write(response: web.StreamResponse, messages: Sequence[bytes]) -> None:
    """Write, as fast as the proxy reads; raises `TimeoutError` when it stopped."""
    for data in (b"".join(messages),) if sum(map(len, messages)) <= _SLICE else messages:
        view = memoryview(data)
        for start in range(0, len(view), _SLICE):
            async with asyncio.timeout(_STALLED):
                await response.write(view[start : start + _SLICE])
