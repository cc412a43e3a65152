"""Which requests of a route go to its other upstream."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from portway_proxy.l7.lookup import cookie, field
from portway_proxy.patterns import compile_pattern

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage
    from portway_proxy.live import LiveUpstream
    from portway_proxy.snapshot import Canary

__all__ = ["ChooseUpstream"]

_ALWAYS, _NEVER = b"always", b"never"


class ChooseUpstream:
    """The step that sends a request to the canary, or leaves it where its route sends it."""

    __slots__ = ("_asked", "_cookie", "_header", "_pattern", "_random", "_value")

    def __init__(self, canary: Canary) -> None:
        self._asked = canary
        self._header = canary.header.lower().encode()
        self._value = canary.value.encode()
        self._pattern = compile_pattern(canary.pattern, exact=True) if canary.pattern and not canary.value else None
        self._cookie = canary.cookie.encode()
        self._random = random.Random()  # noqa: S311 - a share of the traffic, no secret

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:  # noqa: ARG002 - a step's signature
        """Return True."""
        live = exchange.client.http.worker.live
        other = live.upstreams.get(self._asked.upstream)
        chosen = self._tied(exchange, other) if self._asked.sticky else None
        if chosen is None:
            chosen = self._chosen(exchange.head.lines)
        if chosen is None:
            chosen = self._random.random() * self._asked.total < self._asked.weight
        if chosen and other is not None:
            exchange.upstream = other
        return True

    def _tied(self, exchange: Exchange, other: LiveUpstream | None) -> bool | None:
        """Return to which of both upstreams a cookie ties the client; None when to neither."""
        if exchange.upstream is not None and exchange.upstream.knows(exchange):
            return False
        return True if other is not None and other.knows(exchange) else None

    def _chosen(self, lines: list[bytes]) -> bool | None:
        """Return what the header, or else the cookie, says; None when neither does."""
        said = self._said(field(lines, self._header)) if self._header else None
        if said is None and self._cookie:
            said = _word(cookie(lines, self._cookie))
        return said

    def _said(self, value: bytes | None) -> bool | None:
        if value is None:
            return None
        if self._value:
            return True if value == self._value else None
        if self._pattern is not None:
            return True if self._pattern.search(value) is not None else None
        return _word(value)


def _word(value: bytes | None) -> bool | None:
    return {_ALWAYS: True, _NEVER: False}.get(value or b"")
