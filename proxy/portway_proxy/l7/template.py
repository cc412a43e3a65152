"""Templates of annotations, filled in for each request (`portway_proxy.variables`)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from portway_proxy.l7.lookup import cookie, field
from portway_proxy.variables import split

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange

__all__ = ["Template"]

Value = Callable[["Exchange"], bytes]


class Template:
    """A text with variables; one without any costs nothing to fill in."""

    __slots__ = ("_fixed", "_parts")

    def __init__(self, text: str) -> None:
        parts = split(text)
        self._fixed = text.encode() if all(not name for _, name in parts) else None
        self._parts: list[bytes | Value] = [_value(name) if name else literal.encode() for literal, name in parts]

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return self._fixed != b""

    def fill(self, exchange: Exchange) -> bytes:
        """Return the text for a request; what a client sent cannot end a line, because no field of it could."""
        if self._fixed is not None:
            return self._fixed
        return b"".join(part if isinstance(part, bytes) else part(exchange) for part in self._parts)


def _value(name: str) -> Value:
    fixed = _VALUES.get(name)
    if fixed is not None:
        return fixed
    kind, _, rest = name.partition("_")
    wanted = rest.encode()
    if kind == "cookie":
        return lambda exchange: cookie(exchange.head.lines, wanted) or b""
    if kind == "arg":
        return lambda exchange: _argument(exchange, wanted.lower() + b"=")
    named = wanted.lower().replace(b"_", b"-")
    return lambda exchange: _field(exchange, named)


def _field(exchange: Exchange, name: bytes) -> bytes:
    if name == b"host":
        return exchange.head.raw_host or b""
    return field(exchange.head.lines, name) or b""


def _argument(exchange: Exchange, prefix: bytes) -> bytes:
    for pair in _query(exchange).split(b"&"):
        if pair[: len(prefix)].lower() == prefix:
            return pair[len(prefix) :]
    return b""


def _query(exchange: Exchange) -> bytes:
    return exchange.head.target.partition(b"?")[2]


def _path(exchange: Exchange) -> bytes:
    return exchange.head.path


def _scheme(exchange: Exchange) -> bytes:
    return b"https" if exchange.secure else b"http"


def _port(exchange: Exchange) -> bytes:
    http = exchange.client.http
    return b"%d" % (http.https_port if exchange.secure else http.settings.public_http_port or 80)


def _host(exchange: Exchange) -> bytes:
    return exchange.head.host


def _request_uri(exchange: Exchange) -> bytes:
    """Return the target as it came, whatever a rewrite has made of it."""
    passage = exchange.passage
    return exchange.head.target if passage is None else passage.target or exchange.head.target


def _raw_host(exchange: Exchange) -> bytes:
    return exchange.head.raw_host or b""


def _best_host(exchange: Exchange) -> bytes:
    return exchange.head.forwarded_host or exchange.head.raw_host or b""


def _content_length(exchange: Exchange) -> bytes:
    length = exchange.head.length
    return b"" if length is None else b"%d" % length


def _content_type(exchange: Exchange) -> bytes:
    return _field(exchange, b"content-type")


def _escaped(exchange: Exchange) -> bytes:
    return quote_from_bytes(_request_uri(exchange), safe="").encode()


def _hostname(_: Exchange) -> bytes:
    return socket.gethostname().encode()


def _is_args(exchange: Exchange) -> bytes:
    return b"?" if _query(exchange) else b""


def _peer(exchange: Exchange) -> bytes:
    return exchange.peer


def _method(exchange: Exchange) -> bytes:
    return exchange.head.method


_VALUES: dict[str, Value] = {
    "args": _query,
    "best_http_host": _best_host,
    "content_length": _content_length,
    "content_type": _content_type,
    "document_uri": _path,
    "escaped_request_uri": _escaped,
    "host": _host,
    "hostname": _hostname,
    "is_args": _is_args,
    "proxy_add_x_forwarded_for": _peer,
    "query_string": _query,
    "remote_addr": _peer,
    "request_method": _method,
    "request_uri": _request_uri,
    "scheme": _scheme,
    "server_name": _host,
    "server_port": _port,
    "uri": _path,
}
