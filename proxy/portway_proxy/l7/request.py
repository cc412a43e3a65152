"""Request heads to values; what RFC 9112 forbids is refused, never repaired."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import ClassVar

import httptools

from portway_proxy.errors import (
    BadHead,
    BadHost,
    BadTarget,
    ClientError,
    ExpectationFailed,
    FieldsTooLarge,
    MethodNotAllowed,
    TargetTooLong,
    UnknownCoding,
    VersionUnsupported,
)
from portway_proxy.l7.fields import RequestRole, request_role, tokens, upgrades
from portway_proxy.l7.head import DIGITS, ORDINARY, FieldParser, TakeTable, drop_nominated
from portway_proxy.l7.recall import Beginning, Block, Recall
from portway_proxy.l7.target import canonical_target, parse_host, split_absolute
from portway_proxy.l7.trailers import ACCEPTED
from portway_proxy.settings import Limits

__all__ = ["RequestHead", "RequestParser"]

_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_REMEMBERED = 1024  # Spellings of hosts that a parser remembers before it starts over.
# The beginning that a remembered block may follow, the Host included where it comes first; llhttp judges the others.
_PLAIN = re.compile(rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH) (/[!-~]*) HTTP/1\.1\r\n(?:[Hh]ost: ([!-~]+)\r\n)?")
_VERSION_SIZE = 11  # Bytes between the target and the first field.


class RequestHead:
    """A request's head, understood.

    `size` counts the bytes of the head as it came. `trace_parent` is the value of Traceparent, which is among `lines`
    too; several are joined by commas.

    `path` is canonical and decides the route; `target` is what goes on. `lines` are the fields that go on, each ended
    by CRLF. `length` is the body's; None without Content-Length. `upgrade` lists what an endpoint may switch to.
    `forwarded_host` is the Host that a trusted peer says the client used, or empty. `nominated` are fields that go
    no further, wherever they stand, in lower case. Heads with one
    `beginning` have one host and path.
    """

    __slots__ = (
        "agent",
        "beginning",
        "chunked",
        "expects",
        "forwarded_host",
        "host",
        "keep_alive",
        "length",
        "lines",
        "method",
        "minor",
        "nominated",
        "path",
        "raw_host",
        "raw_target",
        "referer",
        "request_id",
        "size",
        "target",
        "trace_parent",
        "upgrade",
    )

    def __init__(self, method: bytes, target: bytes, minor: int) -> None:
        # Types said outright, as in `Exchange`.
        self.method: bytes = method
        self.raw_target: bytes = target
        self.target = target
        self.path: bytes = target
        self.minor: int = minor
        self.lines: list[bytes] = []
        self.raw_host: bytes | None = None
        self.host: bytes = b""
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = minor == 1
        self.upgrade = b""
        self.expects = b""
        self.request_id: bytes = b""
        self.forwarded_host = b""
        self.referer: bytes = b""
        self.agent: bytes = b""
        self.size: int = 0
        self.trace_parent = b""
        self.nominated: Sequence[bytes] = ()
        self.beginning: Beginning | None = None

    def again(self, beginning: Beginning, size: int) -> RequestHead:
        """Return the head of another request with the same fields behind another beginning; both share `lines`."""
        # Each attribute once: `__init__` would set most of them for nothing.
        head = RequestHead.__new__(RequestHead)
        head.method = beginning.method
        head.raw_target = beginning.raw_target
        head.target = beginning.target
        head.path = beginning.path
        head.minor = 1
        head.lines = self.lines
        if beginning.host is None:
            head.raw_host = self.raw_host
            head.host = self.host
            head.beginning = None
        else:
            head.raw_host = beginning.raw_host
            head.host = beginning.host
            head.beginning = beginning
        head.length = self.length
        head.chunked = False
        head.keep_alive = self.keep_alive
        head.upgrade = head.expects = head.request_id = head.forwarded_host = head.trace_parent = b""
        head.referer = self.referer
        head.agent = self.agent
        head.size = size
        head.nominated = self.nominated
        return head

    @property
    def outer_host(self) -> bytes:
        """The host that the client named to the first proxy that is trusted: lower-case, without port."""
        return parse_host(self.forwarded_host) if self.forwarded_host else self.host

    @property
    def bodiless(self) -> bool:
        """Whether the request has no body."""
        return not self.length and not self.chunked

    @property
    def ordinary(self) -> bool:
        """Whether the fields mean the same after every plain start line of HTTP/1.1."""
        special = self.chunked or self.upgrade or self.expects or self.request_id or self.trace_parent
        return self.minor == 1 and not special and self.raw_target.startswith(b"/")


class RequestParser(FieldParser):
    """Parses request heads, one whole head at a time."""

    __slots__ = (
        "_fault",
        "_head",
        "_hosts",
        "_limits",
        "_recall",
        "_short",
        "_singles",
        "_takes_trailers",
        "_upgrade",
        "block",
    )

    _REMEMBERS: ClassVar[bool] = True

    def __init__(self, limits: Limits, role: Callable[[bytes], int] = request_role) -> None:
        super().__init__(role, self._TAKE)
        self._limits = limits
        self._short = min(limits.request_line, limits.field, limits.head)
        self._hosts: dict[bytes, bytes] = {}
        self._recall = Recall()
        self.block: Block | None = None

    def again(self, data: bytes, block: Block) -> RequestHead | None:
        """Return the whole head that `data` is, when it ends in `block` behind a beginning that is known; else None.

        `block` is what this parser said of another head, perhaps long ago.
        """
        if block.recall is not self._recall or len(data) > self._short or not data.endswith(block.text):
            return None
        beginning = block.beginnings.get(data[: block.start])
        return None if beginning is None else block.model.again(beginning, len(data))

    def parse(self, data: bytes) -> RequestHead:
        """Return the request head that `data` is, the empty line at its end included.

        Raises a `ClientError` for everything that RFC 9112 forbids; nothing is repaired. What was parsed before is not
        parsed again; `block` is what a client is likely to repeat, or None.
        """
        begun = _PLAIN.match(data)
        if begun is None or not self._REMEMBERS:
            self.block = None
            return self._parse(data)
        hosted = begun[3] is not None
        text = data[begun.end() :]
        self.block = block = self._recall.block(text, hosted=hosted)
        if block is not None and begun.end(2) + _VERSION_SIZE <= self._limits.request_line:
            return self._again(begun, block, len(data))
        head = self._parse(data)
        # An Upgrade counts after GET alone, so that fields with one mean something else after other methods.
        if not self._upgrade and head.ordinary:
            # A head of its own: what a policy changes of this one is for this request alone.
            model = head.again(Beginning(head.method, head.target, head.path, head.raw_target), len(data))
            self._recall.keep_block(text, model, hosted=hosted)
        return head

    def _again(self, begun: re.Match[bytes], block: Block, size: int) -> RequestHead:
        """Return the head of `size` bytes that `block` makes with another beginning; that one is remembered for it."""
        text, method, target, raw_host = begun.group(0, 1, 2, 3)
        # The host first, as in `_finish_target`: what is wrong with both has one reason, whatever is remembered.
        host = None if raw_host is None else self._hosts.get(raw_host) or self._host_of(raw_host)
        path, sent = canonical_target(target)
        beginning = Beginning(method, sent, path, target)
        beginning.raw_host, beginning.host = raw_host, host
        head = block.model.again(beginning, size)
        if self._recall.has_room(text):
            self._recall.keep_beginning(text, beginning)
        else:
            head.beginning = None  # Nobody will see it again.
        return head

    def _parse(self, data: bytes) -> RequestHead:
        self._fault: ClientError | None = None
        self._head = head = self._start_line(data)
        self._begin(data, head.lines)
        self._upgrade = b""
        self._takes_trailers = False
        self._singles: list[bytes] = []
        try:
            # One parser for each head (0.2 us): bodies are framed by us, and llhttp would wait for this one's.
            httptools.HttpRequestParser(self).feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # The head is complete; whether it upgrades is ours to decide.
        except httptools.HttpParserError as error:
            raise _refusal(error) from None
        if self._fault is not None:
            raise self._fault
        self._finish(head)
        head.size = len(data)
        return head

    def _start_line(self, data: bytes) -> RequestHead:
        end = data.find(b"\r\n")
        limits = self._limits
        if end > limits.request_line:
            raise TargetTooLong(f"the request line is longer than {limits.request_line} bytes")
        parts = data[:end].split(b" ")
        # llhttp skips line ends before a method, which would go on as a part of it.
        if len(parts) != 3 or not parts[1] or data[0] < 0x21:
            raise BadHead("the request line is not a method, a target and a version with one space between them")
        version = parts[2]
        if version not in (b"HTTP/1.1", b"HTTP/1.0"):
            if _VERSION.fullmatch(version) and not version.startswith(b"HTTP/1."):
                raise VersionUnsupported("this port speaks HTTP/1.1")
            raise BadHead("the request line names no version of HTTP that exists")
        lines = data.count(b"\r\n")
        if data.count(b"\n") != lines:
            # llhttp takes `GET /x` and LF for a request of HTTP/0.9, and the rest of the line for a field.
            raise BadHead("a line of the head ends without CR")
        if lines - 2 > limits.fields:
            raise FieldsTooLarge(f"the head has more than {limits.fields} fields")
        if len(data) > limits.field and max(map(len, data.split(b"\r\n"))) > limits.field:
            raise FieldsTooLarge(f"a field is longer than {limits.field} bytes")
        return RequestHead(parts[0], parts[1], 1 if version == b"HTTP/1.1" else 0)

    def _host(self, _: bytes, value: bytes) -> None:
        if self._head.raw_host is not None:
            self._fault = BadHost("the Host is repeated")
        self._head.raw_host = value

    def _length(self, _: bytes, value: bytes) -> None:
        if self._head.length is not None or not DIGITS.fullmatch(value):
            self._fault = BadHead("the Content-Length is repeated or malformed")
        else:
            self._head.length = int(value)

    def _coding(self, _: bytes, value: bytes) -> None:
        if self._head.chunked or value.lower() != b"chunked":
            self._fault = UnknownCoding("the only transfer coding is a single `chunked`")
        self._head.chunked = True

    def _connection(self, _: bytes, value: bytes) -> None:
        self._nominated.extend(tokens(value))

    def _upgrade_field(self, _: bytes, value: bytes) -> None:
        # Two fields are one list (RFC 9110, 5.3).
        self._upgrade = self._upgrade + b"," + value if self._upgrade else value

    def _te(self, _: bytes, value: bytes) -> None:
        # Codings with which a response may arrive are of one connection; whether trailers are taken is of them all.
        codings = [coding.strip(b" \t") for coding in value.lower().split(b",")]
        self._takes_trailers = self._takes_trailers or b"trailers" in codings

    def _expect(self, _: bytes, value: bytes) -> None:
        head = self._head
        head.expects = head.expects + b"," + value if head.expects else value.lower()

    def _request_id(self, _: bytes, value: bytes) -> None:
        # Two of them, or one that a log line cannot hold, are none.
        head = self._head
        head.request_id = value if not head.request_id and _REQUEST_ID.fullmatch(value) else b""

    def _trace_parent(self, name: bytes, value: bytes) -> None:
        head = self._head
        head.trace_parent = head.trace_parent + b"," + value if head.trace_parent else value
        self._lines.append(b"%b: %b\r\n" % (name, value))

    def _single(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower in self._singles:
            self._fault = BadHead("a field is repeated that may come once")
        self._singles.append(lower)
        self._lines.append(b"%b: %b\r\n" % (name, value))

    def _referer(self, name: bytes, value: bytes) -> None:
        self._head.referer = value
        self._lines.append(b"%b: %b\r\n" % (name, value))

    def _agent(self, name: bytes, value: bytes) -> None:
        self._head.agent = value
        self._lines.append(b"%b: %b\r\n" % (name, value))

    def _finish(self, head: RequestHead) -> None:
        if head.method == b"CONNECT":
            raise MethodNotAllowed("CONNECT is for forward proxies")
        if head.chunked and (head.length is not None or head.minor == 0):
            raise BadHead("a Transfer-Encoding is beside a Content-Length or in HTTP/1.0")
        self._finish_target(head)
        if self._nominated:
            self._finish_connection(head)
        if self._takes_trailers and head.minor == 1 and not head.upgrade:
            head.lines += (b"Connection: TE\r\n", ACCEPTED)
        if head.expects:
            if head.expects != b"100-continue":
                raise ExpectationFailed("the only expectation is 100-continue")
            if head.minor == 0 or head.bodiless:
                head.expects = b""

    def _finish_target(self, head: RequestHead) -> None:
        target = head.target
        authority = None
        if not target.startswith(b"/"):
            if target == b"*" and head.method == b"OPTIONS":
                head.path = target
            else:
                authority, head.target = split_absolute(target)
        self._finish_host(head, authority)
        if head.path != b"*":
            head.path, head.target = canonical_target(head.target)

    def _finish_host(self, head: RequestHead, authority: bytes | None) -> None:
        raw = head.raw_host
        if raw is None:
            if head.minor == 1:
                raise BadHost("the Host is missing")
            if authority is None:
                return
            raw = head.raw_host = authority
        head.host = self._host_of(raw)
        if authority is not None and authority.lower() != raw.lower():
            raise BadHost("the target names another host than the Host field")

    def _host_of(self, raw: bytes) -> bytes:
        host = self._hosts.get(raw)
        if host is None:
            host = parse_host(raw)
            if len(self._hosts) >= _REMEMBERED:
                self._hosts.clear()
            self._hosts[raw] = host
        return host

    def _finish_connection(self, head: RequestHead) -> None:
        nominated = self._nominated
        head.keep_alive = b"close" not in nominated and (head.minor == 1 or b"keep-alive" in nominated)
        # Never with a body: an upgrade that is refused must leave nothing behind.
        if b"upgrade" in nominated and head.bodiless and head.minor == 1:
            head.upgrade = b", ".join(upgrades(self._upgrade, head.method))
        if nominated not in ORDINARY:
            head.nominated = nominated
            drop_nominated(head.lines, nominated)

    _TAKE: ClassVar[TakeTable] = {
        RequestRole.HOST: _host,
        RequestRole.LENGTH: _length,
        RequestRole.CODING: _coding,
        RequestRole.CONNECTION: _connection,
        RequestRole.UPGRADE: _upgrade_field,
        RequestRole.EXPECT: _expect,
        RequestRole.TE: _te,
        RequestRole.SINGLE: _single,
        RequestRole.REQUEST_ID: _request_id,
        RequestRole.REFERER: _referer,
        RequestRole.AGENT: _agent,
        RequestRole.TRACE_PARENT: _trace_parent,
    }


def _refusal(error: httptools.HttpParserError) -> ClientError:
    text = str(error)
    if isinstance(error, httptools.HttpParserInvalidURLError):
        return BadTarget("the target holds characters that do not belong into one")
    return BadHead(text[:1].lower() + text[1:])
