"""Requests that the proxy makes itself, on the way of all others: balanced, sent again, timed, on kept connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway_proxy.errors import ProxyError, UpstreamBadResponse
from portway_proxy.l7 import flow
from portway_proxy.l7.client import ClientConnection
from portway_proxy.l7.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from portway_proxy.l7.asker import Asker
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.l7.response import ResponseHead
    from portway_proxy.live import LiveUpstream

__all__ = ["Errand"]

_MOST = 1 << 20  # Bytes of an answer that nobody reads: more is a mistake, or endless.


class Errand(ClientConnection):
    """The client of one such request, without a body: no connection, no access line.

    `then` is called once, with the head of the response, or with None when there was none or it was cut off. The
    response's body is dropped. `asker` is the client for whose sake it is.
    """

    __slots__ = ("_sent", "_size", "_then")

    def __init__(self, asker: Asker, then: Callable[[ResponseHead | None], None]) -> None:
        super().__init__(asker.http, tls=asker.tls)
        self.peer = asker.peer
        self.secure = asker.secure
        self.forwarded = asker.forwarded
        self.note = _unnoted
        self._then = then
        self._size = 0
        self._sent: Exchange | None = None

    def run(self, head: RequestHead, upstream: LiveUpstream) -> None:
        """Send the request to an endpoint of `upstream`."""
        exchange = self.exchange = self._sent = Exchange(self, head, self.http.loop.time())
        exchange.upstream = upstream
        try:
            flow.attempt(exchange)
        except ProxyError as error:
            flow.fail(exchange, error)

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the response any more: never."""
        return False

    def write(self, data: bytes) -> None:
        """Drop a part of the response."""
        self._size += len(data)
        if self._size > _MOST and self.exchange is not None:
            too_long = UpstreamBadResponse("the answer to a request of the proxy's own is too long")
            self.http.loop.call_soon(flow.fail, self.exchange, too_long)

    def keeps(self, head: RequestHead) -> bool:  # noqa: ARG002 - a client's signature
        """Return whether there will be more; it does not matter."""
        return True

    def reply(
        self,
        head: RequestHead,  # noqa: ARG002 - a client's signature
        status: int,  # noqa: ARG002 - a client's signature
        fields: bytes,  # noqa: ARG002 - a client's signature
        *,
        keeps: bool,  # noqa: ARG002 - a client's signature
    ) -> tuple[int, int]:
        """Send nothing: an answer of ours would be to ourselves."""
        return 0, 0

    def finished(self, *, keeps: bool) -> None:  # noqa: ARG002 - a client's signature
        """Tell what came of the request."""
        self._then(None if self._sent is None else self._sent.response)

    def abort(self) -> None:
        """Tell that the response was cut off."""
        self._then(None)

    def pause(self) -> None:
        """Do nothing: there is nothing to read."""

    def resume(self) -> None:
        """Do nothing."""


def _unnoted(exchange: Exchange) -> None:
    """Leave no access line and no count."""
