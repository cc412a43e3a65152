"""Response heads to values; an endpoint that breaks RFC 9112 is not passed on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import httptools

from portway_proxy.errors import UpstreamBadResponse
from portway_proxy.l7.fields import ResponseRole, response_role, tokens
from portway_proxy.l7.head import DIGITS, ORDINARY, FieldParser, TakeTable, drop_nominated
from portway_proxy.l7.rewrite import response_head
from portway_proxy.settings import Limits

__all__ = ["ResponseHead", "ResponseParser"]

_REMEMBERED = 512  # Heads that a parser remembers before it starts over, of
_LONGEST = 1024  # bytes at most: together they stay below 2 MiB.
_BODILESS = (204, 304)
_STRICT = b"strict-transport-security:"
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")


class ResponseHead:
    """A response's head, understood.

    `lines` are the fields that go on, each ended by CRLF. `length` is None without Content-Length. `plain` is the
    whole head for a client whose connection stays, when nothing but the fields themselves decides it; else empty.
    Where `plain` is not empty, `text` is the head as it came to `parser`, and `whole` its size with that of the body.
    `packed` is for whoever makes the same of it for HTTP/2.
    `named`: it is not for us to add a Server field.
    `nominated` are the fields, in lower case, that go no further, wherever they stand.
    """

    __slots__ = (
        "chunked",
        "dated",
        "keep_alive",
        "length",
        "lines",
        "minor",
        "named",
        "nominated",
        "packed",
        "parser",
        "phrase",
        "plain",
        "status",
        "text",
        "upgrade",
        "whole",
    )

    def __init__(self, minor: int, status: int, phrase: bytes) -> None:
        self.minor = minor
        self.status = status
        self.phrase = phrase
        self.lines: list[bytes] = []
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = minor == 1
        self.upgrade = b""
        self.dated = False
        self.named = False
        self.plain = b""
        self.text = b""
        self.whole = 0
        self.parser: ResponseParser | None = None
        self.packed = b""
        self.nominated: Sequence[bytes] = ()

    def alike(self, lines: list[bytes]) -> ResponseHead:
        """Return the same head with other fields."""
        head = ResponseHead(self.minor, self.status, self.phrase)
        head.lines = lines
        head.length = self.length
        head.chunked = self.chunked
        head.named = self.named
        head.dated = self.dated
        head.nominated = self.nominated
        return head


class ResponseParser(FieldParser):
    """Parses response heads, one whole head at a time."""

    __slots__ = ("_edits", "_fault", "_head", "_known", "_limits", "_signed", "_strict")

    def __init__(self, limits: Limits, strict: bytes = b"", *, signed: bool = True) -> None:
        """Take the limits, and the Strict-Transport-Security that takes the place of every endpoint's own, if any.

        `signed`: a response without a Server field gets ours.
        """
        super().__init__(response_role, self._TAKE)
        self._strict = strict
        self._signed = signed
        self._edits = bool(strict) or not signed
        self._limits = limits
        self._known: dict[bytes, ResponseHead] = {}

    def parse(self, data: bytes) -> ResponseHead:
        """Return the response head that `data` is, the empty line at its end included; nobody may change it.

        Raises `UpstreamBadResponse` for everything that RFC 9112 forbids. Endpoints repeat themselves: a head that was
        parsed before is not parsed again.
        """
        known = self._known.get(data)
        if known is not None:
            return known
        head = self._parse(data)
        if len(data) <= _LONGEST:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[data] = head
        return head

    def _parse(self, data: bytes) -> ResponseHead:
        found = _STATUS_LINE.fullmatch(data, 0, data.find(b"\r\n"))
        if found is None:
            raise UpstreamBadResponse("the status line is malformed")
        if data.count(b"\r\n") - 2 > self._limits.fields:
            raise UpstreamBadResponse(f"the response has more than {self._limits.fields} fields")
        self._head = head = ResponseHead(int(found[1]), int(found[2]), found[3] or b"")
        self._begin(data, head.lines)
        self._fault = ""
        try:
            httptools.HttpResponseParser(self).feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise UpstreamBadResponse(str(error)) from None
        if self._fault:
            raise UpstreamBadResponse(self._fault)
        self._finish(head, data)
        return head

    def _length(self, _: bytes, value: bytes) -> None:
        if self._head.length is not None or not DIGITS.fullmatch(value):
            self._fault = "the Content-Length is repeated or malformed"
        else:
            self._head.length = int(value)

    def _coding(self, _: bytes, value: bytes) -> None:
        if self._head.chunked or value.lower() != b"chunked":
            self._fault = "the only transfer coding is a single `chunked`"
        self._head.chunked = True

    def _connection(self, _: bytes, value: bytes) -> None:
        self._nominated.extend(tokens(value))

    def _upgrade(self, _: bytes, value: bytes) -> None:
        head = self._head
        head.upgrade = b"%b, %b" % (head.upgrade, value) if head.upgrade else value

    def _server(self, name: bytes, value: bytes) -> None:
        self._head.named = True
        self._lines.append(b"%b: %b\r\n" % (name, value))

    def _date(self, name: bytes, value: bytes) -> None:
        self._head.dated = True
        self._lines.append(b"%b: %b\r\n" % (name, value))

    def _finish(self, head: ResponseHead, data: bytes) -> None:
        if head.chunked and (head.length is not None or head.minor == 0):
            raise UpstreamBadResponse("a Transfer-Encoding is beside a Content-Length or in HTTP/1.0")
        nominated = self._nominated
        if nominated:
            head.keep_alive = b"close" not in nominated and (head.minor == 1 or b"keep-alive" in nominated)
            if nominated not in ORDINARY:
                head.nominated = nominated
                drop_nominated(head.lines, nominated)
        if self._edits:
            self._edit(head)
        delimited = head.length is not None and head.status >= 200 and head.status not in _BODILESS
        if delimited and head.keep_alive and head.dated:
            length = head.length or 0
            head.plain = response_head(head, b"Content-Length: %d\r\n" % length, b"", b"")
            head.text = data
            head.parser = self
            head.whole = len(data) + length

    def _edit(self, head: ResponseHead) -> None:
        head.named = head.named or not self._signed
        if self._strict:
            head.lines = [line for line in head.lines if line[: len(_STRICT)].lower() != _STRICT]
            head.lines.append(self._strict)

    _TAKE: ClassVar[TakeTable] = {
        ResponseRole.LENGTH: _length,
        ResponseRole.CODING: _coding,
        ResponseRole.CONNECTION: _connection,
        ResponseRole.UPGRADE: _upgrade,
        ResponseRole.SERVER: _server,
        ResponseRole.DATE: _date,
    }
