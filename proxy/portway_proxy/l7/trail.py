"""What is worth noting of a request that took more than one connection at hand and one answer in one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.tracing import Span

__all__ = ["Attempt", "Trail", "trail_of"]


class Attempt(NamedTuple):
    """An attempt at an endpoint that the client saw nothing of.

    `status` is the endpoint's, or that of the answer that its failure would have got. `connect` is how long connecting
    took, None on a connection that was there; times are seconds.
    """

    endpoint: bytes
    status: int
    connect: float | None
    seconds: float


class Trail:
    """The way of one request beyond the ordinary.

    `attempts` are those before the last one, which began at `sent`, took `connect` seconds to connect (None: there was
    a connection) and brought the head of a response at `headed`; 0 is never. Times are seconds of the loop's clock.
    `head_size` counts the bytes of the response's head as the client got it. `tie` is the value of the affinity cookie
    that the client is to get. `body` is what was sent of the request's body to an endpoint that did not take it.
    """

    __slots__ = ("attempts", "body", "connect", "head_size", "headed", "sent", "span", "tie")

    def __init__(self, sent: float) -> None:
        self.attempts: tuple[Attempt, ...] = ()
        self.body: list[bytes] = []
        self.sent = sent
        self.connect: float | None = None
        self.headed = 0.0
        self.head_size = 0
        self.span: Span | None = None
        self.tie = b""

    def failed(self, endpoint: bytes, status: int, now: float) -> None:
        """Note that the request is sent once more, at `now`, and what became of it before."""
        self.attempts += (Attempt(endpoint, status, self.connect, now - self.sent),)
        self.sent = now
        self.connect = None
        self.headed = 0.0


def trail_of(exchange: Exchange) -> Trail:
    """Return the trail of `exchange`, which begins with this unless it has one."""
    trail = exchange.trail
    if trail is None:
        trail = exchange.trail = Trail(exchange.started)
    return trail
