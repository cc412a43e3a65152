"""Heads as they leave: written from what was understood, never copied from what was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.l7.response import ResponseHead

__all__ = ["forwarded_fields", "request_head", "response_head", "switching_head"]

_REQUEST_ID = b"\r\nX-Request-ID: "


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
    name = head.raw_host or host
    ending = b"\r\n"
    if head.chunked:
        ending = b"Transfer-Encoding: chunked\r\n\r\n"
    elif head.length is not None:
        ending = b"Content-Length: %d\r\n\r\n" % head.length
    if head.upgrade:
        ending = b"Connection: Upgrade\r\nUpgrade: %b\r\n%b" % (head.upgrade, ending)
    if head.expects:
        ending = b"Expect: 100-continue\r\n" + ending
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%bX-Forwarded-Host: %b%b%b\r\n%b" % (
        head.method,
        head.target,
        as_host or name,
        b"".join(head.lines),
        forwarded,
        head.forwarded_host or name,
        _REQUEST_ID if head.request_id else b"",
        head.request_id,
        ending,
    )


def response_head(response: ResponseHead, framing: bytes, date: bytes, persistence: bytes) -> bytes:
    """Return the head that a client gets.

    `framing` is the field that frames the body, `persistence` the Connection field (both with CRLF, or empty). `date`
    is the value of a Date field for a response that has none.
    """
    own = framing + persistence
    if not response.named:
        own += b"Server: portway\r\n"
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
