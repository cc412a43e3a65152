"""Cross-origin requests (the Fetch standard, 3.2), with the answers of ingress-nginx."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from portway_proxy.l7 import flow
from portway_proxy.l7.lookup import field

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage
    from portway_proxy.snapshot import Cors

__all__ = ["AnswerOrigins"]

_LABEL = re.compile(rb"[a-z0-9-]+")
_ORIGIN = b"access-control-allow-origin"


class AnswerOrigins:
    """The step that answers preflights, and adds to all other answers what browsers ask of them.

    A request of an origin that may not gets no field, and goes on.
    """

    __slots__ = ("_any", "_exact", "_fields", "_open", "_replaced")

    def __init__(self, cors: Cors) -> None:
        self._any = "*" in cors.origins
        self._exact = {origin.encode() for origin in cors.origins}
        self._open = [
            (head.encode(), tail.encode()) for head, star, tail in (o.partition("*") for o in cors.origins) if star
        ]
        fields = [
            ("Access-Control-Allow-Credentials", "true" if cors.credentials else ""),
            ("Access-Control-Allow-Methods", cors.methods),
            ("Access-Control-Allow-Headers", cors.headers),
            ("Access-Control-Expose-Headers", cors.expose),
            ("Access-Control-Max-Age", str(cors.max_age)),
        ]
        self._fields = b"".join(f"{name}: {value}\r\n".encode() for name, value in fields if value)
        self._replaced = frozenset({_ORIGIN, *(name.lower().encode() for name, value in fields if value)})

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return whether the request is one that has to go on."""
        origin = self._allowed(field(exchange.head.lines, b"origin") or b"")
        if not origin:
            return True
        passage.answer += b"Access-Control-Allow-Origin: %b\r\n%b" % (origin, self._fields)
        passage.replaced |= self._replaced
        if exchange.head.method != b"OPTIONS":
            return True
        exchange.reason = "preflight"
        flow.answer(exchange, 204, keeps=True)
        return False

    def _allowed(self, origin: bytes) -> bytes:
        """Return what the client is told of its origin; empty when that may not."""
        if self._any:
            return b"*"
        lower = origin.lower()
        if lower in self._exact:
            return origin
        for head, tail in self._open:
            inside = lower[len(head) : len(lower) - len(tail)]
            if lower.startswith(head) and lower.endswith(tail) and _LABEL.fullmatch(inside):
                return origin
        return b""
