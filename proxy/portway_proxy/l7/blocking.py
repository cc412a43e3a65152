"""Clients that are kept out by what they call themselves, or by where they say they come from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from portway_proxy.errors import Forbidden
from portway_proxy.patterns import compile_pattern

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage
    from portway_proxy.snapshot import Blocked

__all__ = ["BlockClients"]


class _Texts:
    """Texts in nginx's form: `~pattern`, `~*pattern` in upper or lower case, else the whole text in either."""

    __slots__ = ("_patterns", "_whole")

    def __init__(self, texts: Iterable[str]) -> None:
        self._whole = {text.lower().encode() for text in texts if not text.startswith("~")}
        self._patterns = [
            compile_pattern(text.removeprefix("~").removeprefix("*"), exact=not text.startswith("~*"))
            for text in texts
            if text.startswith("~")
        ]

    def hold(self, value: bytes) -> bool:
        """Return whether one of them is, or is in, `value`."""
        return value.lower() in self._whole or any(one.search(value) is not None for one in self._patterns)


class BlockClients:
    """The step that keeps such clients out."""

    __slots__ = ("_agents", "_referers")

    def __init__(self, blocked: Blocked) -> None:
        self._agents = _Texts(blocked.agents)
        self._referers = _Texts(blocked.referers)

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:  # noqa: ARG002 - a step's signature
        """Return True; raises `Forbidden` for a client that is blocked."""
        head = exchange.head
        if self._agents.hold(head.agent) or self._referers.hold(head.referer):
            raise Forbidden
        return True
