"""How much of a peer a connection bears."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from portway_proxy.http2.codes import Code, ConnectionFault

__all__ = ["Patience", "Terms"]


class Terms(msgspec.Struct, frozen=True):
    """What one side of a connection allows the other; sizes are bytes."""

    streams: int = 128  # At once; nginx and ingress-nginx 128, Envoy's edge guide 100.
    window: int = 65536  # Of a body that nobody has taken yet, for each stream; Envoy's edge guide 64 KiB.
    connection_window: int = 1 << 20  # The same for all streams together; Envoy's edge guide 1 MiB.
    head: int = 65536  # Of one list of fields, unpacked, as RFC 9113, 6.5.2 counts; Envoy 60 KiB.
    continuations: int = 10  # Frames of one field block beyond the first; nghttp2 8, Envoy 5.
    glitches: int = (
        500  # Oddities that cost work and serve nobody, at once; Envoy 500 resets, HAProxy's guide 100 to 1000.
    )
    glitch_rate: float = 20.0  # Of these that are forgiven each second: keep-alive pings are not to add up.


class Patience:
    """Counts what a peer does that is allowed, costs work and serves nobody: resets, pings, settings, empty frames."""

    __slots__ = ("_now", "_rate", "_since", "left", "most")

    def __init__(self, terms: Terms, now: Callable[[], float]) -> None:
        self.most = self.left = float(terms.glitches)
        self._rate = terms.glitch_rate
        self._now = now
        self._since = now()

    def regain(self) -> None:
        """Count a stream that served somebody."""
        if self.left < self.most:
            self.left += 1

    def lose(self, what: str) -> None:
        """Count an oddity; raises `ConnectionFault` when there were too many."""
        self.left -= 1
        if self.left >= 0:
            return
        now = self._now()
        self.left = min(self.most, (now - self._since) * self._rate) - 1
        self._since = now
        if self.left < 0:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"too many of it: {what}")
