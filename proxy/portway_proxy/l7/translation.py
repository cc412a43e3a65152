"""Heads between HTTP/1.1's form, which policies know, and the field blocks of endpoints that speak HTTP/2."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from portway_proxy.errors import UpstreamBadResponse
from portway_proxy.http2.packing import pack, pack_field
from portway_proxy.http2.semantics import check_trailers, read_response
from portway_proxy.l7.fields import ResponseRole, response_role
from portway_proxy.l7.grpc import is_grpc, timeout_of
from portway_proxy.l7.response import ResponseHead
from portway_proxy.l7.rewrite import response_head
from portway_proxy.l7.trailers import Passing, passing_to_client

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portway_proxy.http2.unpacking import Block, Field
    from portway_proxy.l7.request import RequestHead

__all__ = ["HeadReader", "Packed", "RequestPacker", "read_trailers"]

_REMEMBERED: Final = 512  # Blocks of fields, and targets, that are packed once, of
_LONGEST: Final = 2048  # bytes at most: together they stay below 4 MiB.
_ID: Final = b"x-request-id"
_REQUEST_ID: Final = b"\0%c%b%%c%%b" % (len(_ID), _ID)  # As `pack_field` has it.
_TAKES_TRAILERS: Final = pack_field(b"te", b"trailers")
_LEFT_OUT: Final = frozenset((b"connection", b"te"))
_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_BODILESS: Final = (204, 304)
_STRICT: Final = b"strict-transport-security"


class Packed(NamedTuple):
    """The fields of a request as a block, and what they say of it: whether it is gRPC, and its seconds until then."""

    block: bytes
    grpc: bool
    timeout: float


class RequestPacker:
    """Makes blocks of the heads of requests; fields that come again and again are packed once."""

    __slots__ = ("_fields", "_starts")

    def __init__(self) -> None:
        self._fields: dict[bytes, Packed] = {}
        self._starts: dict[tuple[bytes, bytes, bool], bytes] = {}

    def request(self, head: RequestHead, fields: bytes, *, secure: bool) -> Packed:
        """Return a request with its whole block; `fields` are what `rewrite.request_fields` makes."""
        packed = self._fields.get(fields)
        if packed is None:
            packed = self._pack(fields)
        start = self._starts.get((head.method, head.target, secure))
        if start is None:
            start = self._start(head, secure=secure)
        block = start + packed.block
        if head.request_id:
            size = len(head.request_id)
            block += _REQUEST_ID % (size, head.request_id) if size < 0x7F else pack_field(_ID, head.request_id)
        if head.length is not None:
            block += pack_field(b"content-length", b"%d" % head.length)
        if head.expects:
            block += pack_field(b"expect", head.expects)
        return Packed(block, packed.grpc, packed.timeout)

    def _start(self, head: RequestHead, *, secure: bool) -> bytes:
        scheme = b"https" if secure else b"http"
        start = pack(((b":method", head.method), (b":scheme", scheme), (b":path", head.target)))
        if len(head.target) <= _LONGEST:
            if len(self._starts) >= _REMEMBERED:
                self._starts.clear()
            self._starts[head.method, head.target, secure] = start
        return start

    def _pack(self, fields: bytes) -> Packed:
        parts = []
        lines = fields.splitlines(keepends=True)
        for line in lines:
            name, _, value = line.partition(b":")
            lower = name.lower()
            if lower not in _LEFT_OUT:
                parts.append((b":authority" if lower == b"host" else lower, value.strip()))
        packed = Packed(pack(parts) + _TAKES_TRAILERS, is_grpc(lines), timeout_of(lines))
        if len(fields) <= _LONGEST:
            if len(self._fields) >= _REMEMBERED:
                self._fields.clear()
            self._fields[fields] = packed
        return packed


class HeadReader:
    """Reads heads of responses of at most `most` fields; what comes again is not read again.

    `strict` is the Strict-Transport-Security line in the place of every endpoint's own, if any. `signed`: a response
    without a Server field gets ours.
    """

    __slots__ = ("_known", "_most", "_signed", "_strict")

    def __init__(self, most: int, strict: bytes = b"", *, signed: bool = True) -> None:
        self._most = most
        self._strict = strict
        self._signed = signed
        self._known: dict[tuple[Field, ...], ResponseHead] = {}

    def read(self, block: Block) -> ResponseHead:
        """Return the head that a block is; nobody may change it.

        Raises `StreamFault` for what HTTP/2 forbids and `UpstreamBadResponse` for what is too long.
        """
        meaning: tuple[HeadReader, ResponseHead] | None = block.meaning
        if meaning is not None and meaning[0] is self:
            return meaning[1]
        if block.oversize or len(block.fields) > self._most:
            raise UpstreamBadResponse("the response head is too long, or has too many fields")
        # Other blocks may say the same: some endpoints put it into the table anew each time.
        fields = tuple(block.fields)
        head = self._known.get(fields)
        if head is None:
            head = _read(block, self._strict, signed=self._signed)
            if block.size <= _LONGEST:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[fields] = head
        block.meaning = self, head
        return head


def _read(block: Block, strict: bytes, *, signed: bool) -> ResponseHead:
    status, fields, length = read_response(block.fields)
    head = ResponseHead(1, status, _PHRASES.get(status, b""))
    head.length = None if length < 0 else length
    head.named = not signed
    head.lines = _lines(head, fields, strict)
    if head.length is not None and status >= 200 and status not in _BODILESS and head.dated:
        head.plain = response_head(head, b"Content-Length: %d\r\n" % head.length, b"", b"")
    return head


def _lines(head: ResponseHead, fields: Iterable[Field], strict: bytes) -> list[bytes]:
    lines = []
    for name, value in fields:
        role = response_role(name)
        head.named = head.named or role is ResponseRole.SERVER
        head.dated = head.dated or role is ResponseRole.DATE
        if role in (ResponseRole.PASS, ResponseRole.SERVER, ResponseRole.DATE) and not (strict and name == _STRICT):
            lines.append(b"%b: %b\r\n" % (name, value))
    return [*lines, strict] if strict else lines


def read_trailers(block: Block) -> Passing:
    """Return the trailers that a block is, as a client may get them; raises `StreamFault` for what HTTP/2 forbids."""
    if block.meaning is None:
        block.meaning = passing_to_client([b"%b: %b" % field for field in check_trailers(block.fields)])
    passing: Passing = block.meaning
    return passing
