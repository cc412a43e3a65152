"""What fields have to be like in HTTP/2 (RFC 9113, 8.2 and 8.3; RFC 8441, 4): anything else is malformed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from portway_proxy.http2.codes import Code, StreamFault
from portway_proxy.http2.unpacking import Field

__all__ = ["Request", "Response", "check_trailers", "read_request", "read_response"]

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_OF_A_CONNECTION: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_OF_A_REQUEST: Final = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_OF_A_RESPONSE: Final = frozenset((b":status",))
_NOTHING: Final[frozenset[bytes]] = frozenset()


class Request(NamedTuple):
    """The head of a request; `protocol` is that of an extended CONNECT, `length` the Content-Length, -1 for none."""

    method: bytes
    scheme: bytes
    authority: bytes
    path: bytes
    protocol: bytes
    fields: Sequence[Field]
    length: int


class Response(NamedTuple):
    """The head of a response; `length` is the Content-Length, -1 for none."""

    status: int
    fields: Sequence[Field]
    length: int


def read_request(fields: Iterable[Field]) -> Request:
    """Return the request that a block is; raises `StreamFault` for a malformed one."""
    pseudo, regular, length = _split(fields, _OF_A_REQUEST)
    method, scheme, path = (pseudo.get(name) for name in (b":method", b":scheme", b":path"))
    authority, protocol = pseudo.get(b":authority", b""), pseudo.get(b":protocol")
    if not method or (protocol is not None and (method != b"CONNECT" or not protocol)):
        raise _malformed("a request without a method, or with a protocol that does not belong to it")
    if method == b"CONNECT" and protocol is None:
        if scheme is not None or path is not None or not authority:
            raise _malformed("CONNECT names an authority, and nothing else")
    elif not scheme or not path:
        raise _malformed("a request without a scheme or a path")
    return Request(method, scheme or b"", authority, path or b"", protocol or b"", regular, length)


def read_response(fields: Iterable[Field]) -> Response:
    """Return the response that a block is; raises `StreamFault` for a malformed one."""
    pseudo, regular, length = _split(fields, _OF_A_RESPONSE)
    status = pseudo.get(b":status", b"")
    if len(status) != 3 or not status.isdigit() or status < b"100" or status == b"101":
        raise _malformed("a response without a status")
    return Response(int(status), regular, length)


def check_trailers(fields: Iterable[Field]) -> Sequence[Field]:
    """Return the trailers that a block is; raises `StreamFault` for malformed ones."""
    return _split(fields, _NOTHING)[1]


def _split(fields: Iterable[Field], known: frozenset[bytes]) -> tuple[dict[bytes, bytes], list[Field], int]:
    """Return the pseudo-fields, the others, and the length of the body."""
    pseudo: dict[bytes, bytes] = {}
    regular: list[Field] = []
    length = -1
    for field in fields:
        name, value = field
        if not _VALUE.fullmatch(value):
            raise _malformed("a field's value holds what does not belong into one")
        if name[:1] == b":":
            if regular or name in pseudo or name not in known:
                raise _malformed("a pseudo-field is unknown, repeated, or behind the others")
            pseudo[name] = value
            continue
        _check(name, value)
        if name == b"content-length":
            length = _length(value, length)
        regular.append(field)
    return pseudo, regular, length


def _check(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise _malformed("a field's name holds what does not belong into one")
    if name in _OF_A_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
        raise _malformed("a field is about connections of HTTP/1.1")


def _length(value: bytes, before: int) -> int:
    if before >= 0 or not _LENGTH.fullmatch(value):
        raise _malformed("the content-length is repeated or no number")
    return int(value)


def _malformed(text: str) -> StreamFault:
    return StreamFault(Code.PROTOCOL_ERROR, text)
