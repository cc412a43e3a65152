"""Answers that send the client elsewhere, in the forms of ingress-nginx; each is a step (`passage.Step`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway_proxy.l7 import flow
from portway_proxy.l7.replies import redirect
from portway_proxy.l7.template import Template

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage

__all__ = ["ToAppRoot", "ToOther", "ToWww", "to_https"]


def to_https(exchange: Exchange, passage: Passage) -> bool:  # noqa: ARG001 - a step's signature
    """Send a request that came without TLS to https, unless its path is for those who cannot."""
    head, http = exchange.head, exchange.client.http
    if head.raw_host is None:
        return True  # HTTP/1.0 without Host: there is no name to redirect to.
    if (head.path + b"/").startswith(http.plain_paths):
        return True
    exchange.reason = "https_redirect"
    target = head.target if head.path != b"*" else b"/"
    flow.answer(exchange, http.tls.redirect, redirect(head.outer_host, target, http.https_port), keeps=True)
    return False


class ToOther:
    """Sends every request to one place."""

    __slots__ = ("_location", "_status")

    def __init__(self, status: int, location: str) -> None:
        self._status = status
        self._location = Template(location)

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:  # noqa: ARG002 - a step's signature
        """Answer the request."""
        return _send(exchange, self._status, self._location.fill(exchange))


class ToAppRoot:
    """Sends a request for exactly `/` to the application's first page; its query does not go along."""

    __slots__ = ("_path", "_relative")

    def __init__(self, path: str, *, relative: bool = False) -> None:
        self._path = path.encode()
        self._relative = relative

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:  # noqa: ARG002 - a step's signature
        """Answer the request if it is one of those."""
        if exchange.head.path != b"/":
            return True
        origin = b"" if self._relative else _origin(exchange, exchange.head.raw_host or b"")
        return _send(exchange, 302, origin + self._path)


class ToWww:
    """Sends every request to the same target of another host."""

    __slots__ = ("_host",)

    def __init__(self, host: str) -> None:
        self._host = host.encode()

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:  # noqa: ARG002 - a step's signature
        """Answer the request."""
        head = exchange.head
        target = head.target if head.path != b"*" else b"/"
        return _send(exchange, 308, _origin(exchange, self._host) + target)


def _origin(exchange: Exchange, authority: bytes) -> bytes:
    """Return `https://shop.example`; nothing where an HTTP/1.0 client named no host, so that the path alone is left."""
    return b"%b://%b" % (b"https" if exchange.secure else b"http", authority) if authority else b""


def _send(exchange: Exchange, status: int, location: bytes) -> bool:
    exchange.reason = "redirect"
    flow.answer(exchange, status, b"Location: %b\r\n" % location, keeps=True)
    return False
