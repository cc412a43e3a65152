"""What the first bytes of a connection tell: TLS and the name that its client asks for, PostgreSQL, HTTP, or else.

Each function takes all bytes that were seen so far and changes none; `None` is "more are needed". RFC 8446 4.1.2,
RFC 6066 3, and PostgreSQL's message formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Final

__all__ = ["GSS_REQUEST", "LONGEST", "SSL_REQUEST", "Opening", "opening", "postgres_request", "server_name"]

LONGEST: Final = 32768
"""Bytes of a ClientHello that are looked at, records included; browsers send 2 KiB, OpenSSL takes 16 at most."""

SSL_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""With it a client of PostgreSQL asks for TLS; `S` answers that it may begin (PostgreSQL 55.7, SSLRequest)."""

GSS_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x30"
"""With it one that has Kerberos asks for its encryption first; after `N` it asks for TLS (GSSENCRequest)."""

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0
_RECORD = 5  # Bytes of a record's head: type, version, length.
_MOST = 16384 + 256

# The methods that llhttp knows, and the beginning of HTTP/2. Another protocol's command may be followed by a space too.
_METHODS = frozenset(
    b"ACL BIND CHECKOUT CONNECT COPY DELETE DESCRIBE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE"
    b" NOTIFY OPTIONS PATCH POST PRI PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE"
    b" UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)
_BEGUN = frozenset(method[:length] for method in _METHODS for length in range(1, len(method) + 1))
_LONGEST_METHOD = max(map(len, _METHODS))
_NAME = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", re.IGNORECASE)


class Opening(Enum):
    """How a connection to a port that others share begins."""

    HTTP = "http"
    TLS = "tls"
    OTHER = "other"


def opening(data: bytes) -> Opening | None:
    """Return what the first bytes begin; RFC 9112 has servers skip an empty line before a request."""
    if data[:1] == b"\x16":
        return Opening.TLS if data[1:2] == b"\x03" else Opening.OTHER if len(data) > 1 else None
    text = data[2:] if data[:2] == b"\r\n" else data
    if text in _BEGUN or data in (b"", b"\r", b"\r\n"):
        return None
    return Opening.HTTP if text[: _LONGEST_METHOD + 1].partition(b" ")[0] in _METHODS else Opening.OTHER


def postgres_request(data: bytes) -> bytes | None:
    """Return `SSL_REQUEST` or `GSS_REQUEST` if the first bytes are one of them, and nothing if they are not."""
    for request in (SSL_REQUEST, GSS_REQUEST):
        if data.startswith(request):
            return request
    return None if SSL_REQUEST.startswith(data) or GSS_REQUEST.startswith(data) else b""


def server_name(data: bytes) -> str | None:
    """Return the name that a ClientHello asks for: lower-case, without a dot at its end; empty when it asks for none.

    Raises `ValueError` for what is no ClientHello, or a longer one than `LONGEST`.
    """
    hello = _handshake(data)
    if hello is None:
        if len(data) >= LONGEST:
            raise ValueError("the ClientHello does not end")
        return None
    fields = _Fields(hello)
    fields.take(2 + 32)  # Its version and its random bytes.
    fields.take_counted(1)  # The session.
    fields.take_counted(2)  # The ciphers.
    fields.take_counted(1)  # The compressions.
    if fields.done:
        return ""
    extensions = _Fields(fields.take_counted(2))
    while not extensions.done:
        kind = extensions.take_number(2)
        content = extensions.take_counted(2)
        if kind == _SERVER_NAME:
            return _host_name(content)
    return ""


def _handshake(data: bytes) -> bytes | None:
    """Return the ClientHello without its head, put together out of the records that hold it."""
    message = bytearray()
    for content in _records(data):
        message += content
        if message and message[0] != _CLIENT_HELLO:
            raise ValueError("the handshake does not begin with a ClientHello")
        size = 4 + int.from_bytes(message[1:4])
        if size > LONGEST:
            raise ValueError("the ClientHello is too long")
        if 4 <= len(message) >= size:
            return bytes(message[4:size])
    return None


def _records(data: bytes) -> Iterator[bytes]:
    """Yield what the records of a handshake hold, the last one as far as it was seen."""
    at = 0
    while at < len(data):
        if data[at] != _HANDSHAKE or (len(data) > at + 1 and data[at + 1] != 3):
            raise ValueError("it is no handshake of TLS")
        if len(data) < at + _RECORD:
            return
        size = int.from_bytes(data[at + 3 : at + _RECORD])
        if not 0 < size <= _MOST:
            raise ValueError("a record of TLS has no length that there is")
        yield data[at + _RECORD : at + _RECORD + size]
        at += _RECORD + size


def _host_name(content: bytes) -> str:
    names = _Fields(_Fields(content).take_counted(2))
    while not names.done:
        kind = names.take_number(1)
        name = names.take_counted(2)
        if kind == _HOST_NAME:
            name = name.removesuffix(b".")
            # What is no name matches none.
            return name.decode().lower() if len(name) < 256 and _NAME.fullmatch(name) else ""
    return ""


class _Fields:
    """The fields of a message, taken one after the other; raises `ValueError` where one is cut off."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def done(self) -> bool:
        """Whether all was taken."""
        return self._at >= len(self._data)

    def take(self, size: int) -> bytes:
        """Take so many bytes."""
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise ValueError("a field of the ClientHello is cut off")
        self._at += size
        return taken

    def take_number(self, size: int) -> int:
        """Take a number of so many bytes."""
        return int.from_bytes(self.take(size))

    def take_counted(self, size: int) -> bytes:
        """Take a field whose length is in the `size` bytes before it."""
        return self.take(self.take_number(size))
