"""What gRPC has of its own over HTTP/2: deadlines, and statuses behind the body (its "PROTOCOL-HTTP2").

A client of gRPC looks at no HTTP status but 200, and at no body that is none of its messages: errors of ours come as a
`grpc-status`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from portway_proxy.clock import NEVER
from portway_proxy.l7.lookup import field
from portway_proxy.l7.response import ResponseHead

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange

__all__ = ["is_grpc", "status_lines", "timeout_of", "trailers_only"]

_TYPE: Final = re.compile(rb"application/grpc(?:[+;].*)?", re.IGNORECASE)
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class Status(IntEnum):
    """The statuses of gRPC that we have a reason to send."""

    CANCELLED = 1
    UNKNOWN = 2
    DEADLINE_EXCEEDED = 4
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


# Where the HTTP status says too little.
_OF_REASONS: Final[Mapping[str, Status]] = {
    "deadline_exceeded": Status.DEADLINE_EXCEEDED,
    "limited": Status.RESOURCE_EXHAUSTED,
    "request_overdue": Status.DEADLINE_EXCEEDED,
    "upstream_timeout": Status.DEADLINE_EXCEEDED,
}
# gRPC's "HTTP to gRPC status code mapping", with what is too large or too much beside it.
_OF_STATUSES: Final[Mapping[int, Status]] = {
    400: Status.INTERNAL,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.UNIMPLEMENTED,
    405: Status.UNIMPLEMENTED,
    408: Status.DEADLINE_EXCEEDED,
    413: Status.RESOURCE_EXHAUSTED,
    414: Status.RESOURCE_EXHAUSTED,
    421: Status.UNAVAILABLE,
    429: Status.RESOURCE_EXHAUSTED,
    431: Status.RESOURCE_EXHAUSTED,
    499: Status.CANCELLED,
    501: Status.UNIMPLEMENTED,
    502: Status.UNAVAILABLE,
    503: Status.UNAVAILABLE,
    504: Status.UNAVAILABLE,
}


def is_grpc(lines: Iterable[bytes]) -> bool:
    """Return whether a request with these fields is a call of gRPC; gRPC-Web is HTTP like any other."""
    kind = field(lines, b"content-type")
    return kind is not None and _TYPE.fullmatch(kind) is not None


def timeout_of(lines: Iterable[bytes]) -> float:
    """Return after how many seconds the client gives up; `NEVER` when it does not say."""
    value = field(lines, b"grpc-timeout")
    found = _TIMEOUT.fullmatch(value) if value else None
    return NEVER if found is None else int(found[1]) * _SECONDS[found[2]]


def status_lines(exchange: Exchange, status: int) -> bytes:
    """Return the lines that tell a client of gRPC of an error that has this HTTP status."""
    code = _OF_REASONS.get(exchange.reason) or _OF_STATUSES.get(status, Status.UNKNOWN)
    return b"grpc-status: %d\r\ngrpc-message: %d %b\r\n" % (code, status, exchange.reason.encode())


def trailers_only(exchange: Exchange, status: int, fields: bytes) -> ResponseHead:
    """Return the head that is the whole response to such a client; `fields` are further lines, each ended by CRLF."""
    client, passage = exchange.client, exchange.passage
    head = ResponseHead(1, 200, b"OK")
    head.lines = [b"content-type: application/grpc\r\n", status_lines(exchange, status), fields]
    if exchange.head.request_id:
        head.lines.append(b"x-request-id: %b\r\n" % exchange.head.request_id)
    if client.strict:
        head.lines.append(client.http.strict)
    if passage is not None:
        head.lines.append(passage.own_lines(status))
    return head
