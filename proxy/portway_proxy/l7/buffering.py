"""Bodies that wait in memory: of requests until they are whole, of responses for clients that do not keep up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway_proxy.errors import ClientError
from portway_proxy.l7 import flow
from portway_proxy.l7.framing import Framing
from portway_proxy.l7.response import ResponseHead

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage

__all__ = ["GatherBody", "Gathering", "WidenBuffer"]

_CONTINUE = ResponseHead(1, 100, b"Continue")


class Gathering:
    """The body of one request while it is gathered; `framing` finds its end, and hands nothing out."""

    __slots__ = ("_exchange", "_framing", "_left")

    def __init__(self, exchange: Exchange, framing: Framing, most: int) -> None:
        self._exchange = exchange
        self._framing = framing
        self._left = most

    def take(self, data: bytes) -> bool:
        """Look at what came of the body; return whether more is to be gathered. Raises like the framing."""
        self._left -= self._framing.take(data, [])
        return not self._framing.done and self._left > 0

    def over(self) -> None:
        """Let the request go on its way."""
        flow.go_on(self._exchange)

    def failed(self, error: ClientError) -> None:
        """Refuse a request whose body is none."""
        flow.fail(self._exchange, error)


class GatherBody:
    """The step that holds a request until its body is whole, or has `most` bytes."""

    __slots__ = ("_most",)

    def __init__(self, most: int) -> None:
        self._most = most

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:  # noqa: ARG002 - a step's signature
        """Return whether the request may go on now."""
        client, head = exchange.client, exchange.head
        if head.bodiless:
            return True
        if head.expects:
            head.expects = b""  # Who waits for this would never send the body that is waited for.
            client.interim(head, _CONTINUE)
        return client.gather(Gathering(exchange, client.framing_of(head), self._most))


class WidenBuffer:
    """The step that has more of a response wait for a client that does not keep up, so that its endpoint need not."""

    __slots__ = ("_size",)

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return True."""
        client = exchange.client
        if self._size > client.http.limits.buffer:
            client.widen(self._size)
            passage.widened = client
        return True
