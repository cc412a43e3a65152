"""The responses that the proxy makes itself."""

from __future__ import annotations

from http import HTTPStatus

__all__ = ["SIGNATURE", "plain_http", "redirect", "reply", "text_of"]

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}

SIGNATURE = b"Server: portway\r\n"
"""The field that says who answers, where settings do not turn it off."""

# What ingress-nginx's default backend said; monitors look for it.
_NOT_FOUND = b"default backend - 404"


def reply(status: int, fields: bytes, *, bodiless: bool) -> bytes:
    """Return a whole plain-text response; `fields` are further lines, each ended by CRLF.

    With `bodiless` the body is announced and left out, as an answer to HEAD must.
    """
    phrase = _PHRASES.get(status, b"Unknown")
    if status == HTTPStatus.NO_CONTENT:
        return b"HTTP/1.1 204 %b\r\n%b\r\n" % (phrase, fields)
    body = text_of(status)
    fields += b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, phrase, fields, b"" if bodiless else body)


def text_of(status: int) -> bytes:
    """Return the body of a response of our own; nothing where none may be."""
    if status == HTTPStatus.NO_CONTENT:
        return b""
    return _NOT_FOUND if status == HTTPStatus.NOT_FOUND else b"%d %b\n" % (status, _PHRASES.get(status, b"Unknown"))


def plain_http(fields: bytes) -> bytes:
    """Return what somebody gets who sends a request without TLS to a port for TLS: nginx's sentence.

    `fields` are further lines, as for `reply`.
    """
    text = b"400 The plain HTTP request was sent to HTTPS port\n"
    return (
        b"HTTP/1.1 400 Bad Request\r\n%bConnection: close\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%b" % (fields, len(text), text)
    )


def redirect(host: bytes, target: bytes, port: int) -> bytes:
    """Return the Location field that leads to https; the port is named unless it is 443.

    `host` is without a port, `target` begins with `/`.
    """
    authority = host if port == 443 else b"%b:%d" % (host, port)
    return b"Location: https://%b%b\r\n" % (authority, target)
