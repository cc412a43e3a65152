"""What is fuzzed: each target takes any bytes and raises AssertionError where the proxy does what it never may.

The oracle is h11: what we accept it must read in the same way, and what we write it must accept. The reverse does not
hold; where we are stricter, and why, is written in `tests/proxy/l7/test_request_against_h11.py`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

import h11

from fuzz.paths import ADMIN, OTHER, readings, rules
from fuzz.reading import Beyond, read_request_head, read_requests, read_response_head
from fuzz.talk import talk
from portway_proxy.errors import BadChunk, BadTarget, ClientError, UpstreamBadResponse
from portway_proxy.l7.fields import RequestRole, ResponseRole, request_role, response_role, tokens
from portway_proxy.l7.framing import Chunked
from portway_proxy.l7.head import find_end
from portway_proxy.l7.recall import Block
from portway_proxy.l7.request import RequestHead, RequestParser
from portway_proxy.l7.response import ResponseParser
from portway_proxy.l7.rewrite import forwarded_fields, request_head, response_head
from portway_proxy.l7.target import canonical_path
from portway_proxy.settings import Limits

__all__ = ["TARGETS", "chunked_body", "exchange", "request", "response", "target"]

LIMITS = Limits()
_PASSED = (RequestRole.PASS, RequestRole.SINGLE, RequestRole.REFERER, RequestRole.AGENT)
_RESPONSE_PASSED = (ResponseRole.PASS, ResponseRole.SERVER, ResponseRole.DATE)
_FORWARDED = forwarded_fields("192.0.2.1", 80, b"http")
_CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_DATE = b"Thu, 01 Jan 1970 00:00:00 GMT"
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
# One of each for all inputs: what they remember of one must not tell in another.
_requests = RequestParser(LIMITS)
_blocks: deque[Block] = deque(maxlen=8)
_responses = ResponseParser(LIMITS)
_table = rules()


def understood(head: RequestHead) -> dict[str, object]:
    """Return all that a head says, by its name; whether its beginning is remembered is no part of that."""
    return {name: getattr(head, name) for name in RequestHead.__slots__ if name != "beginning"}


def request(data: bytes) -> None:
    """Check that a request head is refused, or read as h11 reads it and written in one clean form."""
    try:
        end = find_end(data, 0, LIMITS)
        if not end:
            return
        head = RequestParser(LIMITS).parse(data[:end])
    except ClientError:
        return
    for _ in range(3):
        assert understood(_requests.parse(data[:end])) == understood(head)
        if _requests.block is not None and _requests.block not in _blocks:
            _blocks.append(_requests.block)
    for block in _blocks:
        again = _requests.again(data[:end], block)
        assert again is None or understood(again) == understood(head)
    _check_request(head, read_request_head(data[:end]))
    head.request_id = head.request_id or b"id"
    written = request_head(head, _FORWARDED, b"10.0.0.1:80")
    theirs = read_request_head(written)
    assert (theirs.method, theirs.target) == (head.method, head.target)
    names = [name for name, _ in theirs.headers]
    assert names.count(b"host") == names.count(b"x-forwarded-for") == names.count(b"x-request-id") == 1
    assert not any(b"_" in name for name in names)
    assert all(_VALUE.fullmatch(value) for _, value in theirs.headers)
    ours = RequestParser(LIMITS).parse(written)
    assert (ours.target, ours.path, ours.length, ours.chunked) == (head.target, head.path, head.length, head.chunked)


def _check_request(head: RequestHead, theirs: h11.Request) -> None:
    assert (head.method, head.raw_target, b"1.%d" % head.minor) == (
        theirs.method,
        theirs.target,
        theirs.http_version,
    )
    fields = [(bytes(name), bytes(value)) for name, value in theirs.headers.raw_items()]
    nominated = [token for name, value in fields if name.lower() == b"connection" for token in tokens(value)]
    passed = [
        b"%b: %b\r\n" % (name, value)
        for name, value in fields
        if request_role(name) in _PASSED and name.lower() not in nominated
    ]
    codings = b",".join(value for name, value in fields if name.lower() == b"te").lower().split(b",")
    if b"trailers" in [coding.strip(b" \t") for coding in codings] and head.minor == 1 and not head.upgrade:
        passed += [b"Connection: TE\r\n", b"TE: trailers\r\n"]
    assert head.lines == passed
    values = {name.lower(): value for name, value in fields}
    assert head.raw_host == values.get(b"host") or head.raw_target.lower().startswith(b"http")
    assert head.chunked == (b"transfer-encoding" in values)
    assert head.length == (int(values[b"content-length"]) if b"content-length" in values else None)


def response(data: bytes) -> None:
    """Check that a response head is refused, or read as h11 reads it and written in one clean form."""
    end = data.find(b"\r\n\r\n") + 4
    if not 4 <= end <= LIMITS.head:
        return
    try:
        head = ResponseParser(LIMITS).parse(data[:end])
    except UpstreamBadResponse:
        return
    again = _responses.parse(data[:end])
    assert (again.status, again.lines, again.length) == (head.status, head.lines, head.length)
    if head.status == 101 or (head.status < 200 and (head.length is not None or head.chunked)):
        return  # h11 has an opinion on upgrades; interim responses have no body, whatever they say.
    theirs = read_response_head(data[:end])
    assert (head.status, head.phrase, b"1.%d" % head.minor) == (
        theirs.status_code,
        theirs.reason,
        theirs.http_version,
    )
    fields = [(bytes(name), bytes(value)) for name, value in theirs.headers.raw_items()]
    nominated = [token for name, value in fields if name.lower() == b"connection" for token in tokens(value)]
    assert head.lines == [
        b"%b: %b\r\n" % (name, value)
        for name, value in fields
        if response_role(name) in _RESPONSE_PASSED and name.lower() not in nominated
    ]
    values = {name.lower(): value for name, value in fields}
    assert head.chunked == (b"transfer-encoding" in values)
    assert head.length == (int(values[b"content-length"]) if b"content-length" in values else None)
    written = read_response_head(response_head(head, b"Content-Length: 0\r\n", _DATE, b""))
    assert [name for name, _ in written.headers].count(b"content-length") == 1
    assert all(_VALUE.fullmatch(value) for _, value in written.headers)


def chunked_body(data: bytes) -> None:
    """Check that a chunked body is refused, or ends where h11 ends it, in whatever pieces it comes.

    The first byte says how large the pieces are.
    """
    size, data = data[0] if data else 1, data[1:]
    whole = _chunks(data, len(data))
    assert _chunks(data, size or 1) == whole
    if whole is None:
        return
    payload, used, done = whole
    try:
        [theirs], rest = (reading := read_requests(_CHUNKED + data, most=1)).messages, reading.rest
    except Beyond:
        return
    assert (theirs.body, theirs.complete) == (payload, done)
    if done:
        assert rest == data[used:]


def _chunks(data: bytes, size: int) -> tuple[bytes, int, bool] | None:
    framing = Chunked(LIMITS)
    out: list[bytes] = []
    used = 0
    try:
        for place in range(0, len(data), max(size, 1)):
            if not framing.done:
                used += framing.take(data[place : place + size], out)
    except BadChunk:
        return None
    return b"".join(out), used, framing.done


def target(data: bytes) -> None:
    """Check that a path under `/admin`, in any reading of what goes on, is refused or matched by the rule on it."""
    path = b"/" + data
    if not re.fullmatch(rb"[!-~]+", path) or b"?" in path:
        return
    try:
        canonical = canonical_path(path)
        upstream = _table.match(b"h", canonical).upstream
    except BadTarget:
        return
    assert canonical_path(canonical) == canonical
    under = {reading == b"/admin" or reading.startswith(b"/admin/") for reading in readings(canonical)}
    assert upstream == (ADMIN if under == {True} else OTHER), (canonical, under)
    assert len(under) == 1, (canonical, under)


def exchange(data: bytes) -> None:
    """Check a whole conversation between a client, the proxy and its endpoints."""
    talk(data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "request": request,
    "response": response,
    "chunked": chunked_body,
    "target": target,
    "exchange": exchange,
}
"""The targets by the names of their directories in `corpus`."""
