"""Pages that another upstream makes for errors: ingress-nginx's custom-http-errors and default-backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portway_proxy.l7.lookup import field
from portway_proxy.l7.passage import without_alike
from portway_proxy.l7.request import RequestHead

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage
    from portway_proxy.live import LiveUpstream
    from portway_proxy.snapshot import ErrorPages

__all__ = ["Pages"]

_UNAVAILABLE: Final = 503
_OURS: Final = frozenset(
    {b"x-code", b"x-format", b"x-original-uri", b"x-namespace", b"x-ingress-name", b"x-service-name", b"x-service-port"}
)


class Pages:
    """Whom to ask for a page, and in which words.

    Who makes them gets the fields of the request and, in X-Code and others, what it was about. It is asked for `/`, by
    GET, or by HEAD where the client asked so, and answers with a status of its own. Nobody makes a page for a page.
    """

    __slots__ = ("_asked", "_statuses")

    def __init__(self, asked: ErrorPages) -> None:
        self._asked = asked
        self._statuses = frozenset(asked.statuses)

    def ask(self, exchange: Exchange, passage: Passage, status: int) -> LiveUpstream | None:
        """Prepare the question for the page of an answer with `status`; return whom it goes to, None for nobody."""
        if status not in self._statuses:
            return None
        upstream = self._begin(exchange, passage, status)
        if upstream is not None:
            asked = exchange.head
            head = RequestHead(b"HEAD" if asked.method == b"HEAD" else b"GET", b"/", 1)
            head.host, head.raw_host, head.forwarded_host = asked.host, asked.raw_host, asked.forwarded_host
            head.request_id = asked.request_id
            head.lines = asked.lines
            passage.instead = head
            passage.failed = status
        return upstream

    def stand_in(self, exchange: Exchange, passage: Passage) -> LiveUpstream | None:
        """Prepare a request that has no endpoint for who stands in for them; return who that is, None for nobody."""
        return self._begin(exchange, passage, _UNAVAILABLE) if self._asked.stands_in else None

    def _begin(self, exchange: Exchange, passage: Passage, status: int) -> LiveUpstream | None:
        upstream = exchange.client.http.worker.live.upstreams.get(self._asked.upstream)
        if upstream is None:
            return None  # A newer snapshot does without it.
        passage.pages = None
        passage.host = b""
        passage.fields = _lines(exchange, passage, status)
        without_alike(exchange.head, _OURS)
        return upstream


def _lines(exchange: Exchange, passage: Passage, status: int) -> bytes:
    """Return what tells the upstream of the request; its id is among its fields anyway."""
    head, route = exchange.head, exchange.route
    form = field(head.lines, b"accept") or b""
    lines = b"X-Code: %d\r\nX-Format: %b\r\nX-Original-URI: %b\r\n" % (status, form, passage.target or head.target)
    if route is None:
        return lines
    service, _, port = route.upstream.partition("#")[0].rpartition("/")[2].partition(":")
    return (
        lines
        + (
            f"X-Namespace: {route.origin.namespace}\r\nX-Ingress-Name: {route.origin.name}\r\n"
            f"X-Service-Name: {service}\r\nX-Service-Port: {port}\r\n"
        ).encode()
    )
