"""Heads as they leave: written from what was understood, never copied from what was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway_proxy.l7.replies import SIGNATURE

if TYPE_CHECKING:
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.l7.response import ResponseHead

__all__ = ["Repeats", "forwarded_fields", "request_fields", "request_head", "response_head", "switching_head"]


def forwarded_fields(peer: str, port: int, scheme: bytes, chain: bytes = b"") -> bytes:
    """Return the fields that tell an endpoint about a client, made once for all requests of who speaks for itself.

    `peer` is the client's address, `port` the one that the client sees as ours. `chain` is what X-Forwarded-For says
    in the place of the address alone.
    """
    address = peer.encode()
    return (
        b"X-Forwarded-For: %b\r\nX-Real-IP: %b\r\nX-Forwarded-Port: %d\r\nX-Forwarded-Proto: %b\r\n"
        b"X-Forwarded-Scheme: %b\r\nX-Scheme: %b\r\n" % (chain or address, address, port, scheme, scheme, scheme)
    )


def request_head(head: RequestHead, forwarded: bytes, host: bytes, as_host: bytes = b"") -> bytes:
    """Return the head that an endpoint gets; `host` stands in where an HTTP/1.0 client named none.

    `as_host` is the Host that the endpoint gets in the place of the client's, when there is one.

    `forwarded` comes from `forwarded_fields`; it is added after the client's Connection nominations were applied, so
    that they cannot remove it.
    """
    return _join(head, request_fields(head, forwarded, host, as_host))


class Repeats:
    """Writes the heads of one client's requests: the fields, which most repeat from the one before, only once."""

    __slots__ = ("_fields", "_forwarded", "_host", "_lines")

    def __init__(self) -> None:
        self._lines: list[bytes] | None = None
        self._host: bytes | None = None
        self._forwarded = self._fields = b""

    def request_head(self, head: RequestHead, forwarded: bytes, host: bytes) -> bytes:
        """Return what `request_head` does."""
        # Heads share their lines only when all fields but the Host are equal (`RequestHead.alike`).
        if head.lines is not self._lines or head.raw_host != self._host or forwarded is not self._forwarded:
            self._renew(head, forwarded, host)
        return _join(head, self._fields)

    def fields(self, head: RequestHead, forwarded: bytes, host: bytes) -> bytes:
        """Return what `request_fields` does."""
        if head.lines is not self._lines or head.raw_host != self._host or forwarded is not self._forwarded:
            self._renew(head, forwarded, host)
        return self._fields

    def _renew(self, head: RequestHead, forwarded: bytes, host: bytes) -> None:
        self._lines, self._host, self._forwarded = head.lines, head.raw_host, forwarded
        self._fields = request_fields(head, forwarded, host)


def request_fields(head: RequestHead, forwarded: bytes, host: bytes, as_host: bytes = b"") -> bytes:
    """Return the lines of the head that an endpoint gets but those that are of this one request."""
    name = head.raw_host or host
    return b"Host: %b\r\n%b%bX-Forwarded-Host: %b\r\n" % (
        as_host or name,
        b"".join(head.lines),
        forwarded,
        head.forwarded_host or name,
    )


def _join(head: RequestHead, fields: bytes) -> bytes:
    plain = head.length is None and not (head.chunked or head.upgrade or head.expects)
    ending = b"\r\n" if plain else _framed(head)
    if not head.request_id:
        return b"%b %b HTTP/1.1\r\n%b%b" % (head.method, head.target, fields, ending)
    return b"%b %b HTTP/1.1\r\n%bX-Request-ID: %b\r\n%b" % (head.method, head.target, fields, head.request_id, ending)


def _framed(head: RequestHead) -> bytes:
    """Return the end of a head with the fields that are about more than what was asked for."""
    ending = b"\r\n"
    if head.chunked:
        ending = b"Transfer-Encoding: chunked\r\n\r\n"
    elif head.length is not None:
        ending = b"Content-Length: %d\r\n\r\n" % head.length
    if head.upgrade:
        ending = b"Connection: Upgrade\r\nUpgrade: %b\r\n%b" % (head.upgrade, ending)
    if head.expects:
        ending = b"Expect: 100-continue\r\n" + ending
    return ending


def response_head(response: ResponseHead, framing: bytes, date: bytes, persistence: bytes) -> bytes:
    """Return the head that a client gets.

    `framing` is the field that frames the body, `persistence` the Connection field (both with CRLF, or empty). `date`
    is the value of a Date field for a response that has none.
    """
    own = framing + persistence
    if not response.named:
        own += SIGNATURE
    if not response.dated:
        own += b"Date: %b\r\n" % date
    return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (response.status, response.phrase, b"".join(response.lines), own)


def switching_head(response: ResponseHead, lines: list[bytes], own: bytes) -> bytes:
    """Return the head of a 101 as a client gets it: `lines` of the response's, and `own` ones."""
    return b"HTTP/1.1 101 %b\r\n%b%bConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % (
        response.phrase,
        b"".join(lines),
        own,
        response.upgrade,
    )
