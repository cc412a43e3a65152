"""Requests of HTTP/2 as the heads that all of layer 7 knows: written as HTTP/1.1 has them, and parsed as such.

So every request passes the same checks, whatever it came by, and one parser says what its fields mean.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from portway_proxy.errors import BadHost, BadTarget, FieldsTooLarge, MethodNotAllowed, ProtocolUnknown
from portway_proxy.http2.semantics import Request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portway_proxy.http2.unpacking import Field
    from portway_proxy.l7.recall import Beginning
    from portway_proxy.l7.request import RequestHead, RequestParser

__all__ = ["Known", "unfold"]

_WEBSOCKET: Final = b"websocket"
# What a handshake of WebSocket over HTTP/1.1 is made of, which the client has no say in (RFC 8441, 5.1).
_OF_THE_HANDSHAKE: Final = (b"sec-websocket-key", b"sec-websocket-accept")


class Known(NamedTuple):
    """What was made of a field block: a head, and its beginning, as `parser` read them."""

    parser: RequestParser
    model: RequestHead
    beginning: Beginning


def unfold(request: Request, *, oversize: bool) -> bytes:
    """Return the head of HTTP/1.1 that says what `request` does; nothing in it frames a body but a Content-Length.

    Raises a `ClientError` for what has no such form. With `oversize` not all fields are there.
    """
    if oversize:
        raise FieldsTooLarge("the head is too long")
    if request.method == b"CONNECT" and request.protocol.lower() != _WEBSOCKET:
        if request.protocol:
            raise ProtocolUnknown("there are no tunnels for this protocol")
        raise MethodNotAllowed("CONNECT is for forward proxies")
    if not request.path.startswith(b"/") and (request.path != b"*" or request.method != b"OPTIONS"):
        raise BadTarget("the target is no path")
    lines = list(_lines(request.fields, _host(request)))
    method = request.method
    if request.protocol:
        method = b"GET"
        key = base64.b64encode(os.urandom(16))
        lines = [line for line in lines if not line.startswith(_OF_THE_HANDSHAKE)]
        lines.append(b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: %b\r\n" % key)
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, request.path, b"".join(lines))


def _host(request: Request) -> bytes:
    """Return the host that is asked for; raises `BadHost` when there are two."""
    host = request.authority
    for name, value in request.fields:
        if name == b"host":
            if host and value.lower() != host.lower():
                raise BadHost("the authority is another host than the Host field")
            host = value
    return host


def _lines(fields: Iterable[Field], host: bytes) -> Iterable[bytes]:
    """Yield the lines of a head, the Host first and the parts of its cookie together (RFC 9113, 8.2.3)."""
    if host:
        yield b"host: %b\r\n" % host
    cookies = []
    for name, value in fields:
        if name == b"cookie":
            cookies.append(value)
        elif name != b"host":
            yield b"%b: %b\r\n" % (name, value)
    if cookies:
        yield b"cookie: %b\r\n" % b"; ".join(cookies)
