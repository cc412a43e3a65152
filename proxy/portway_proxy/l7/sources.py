"""Where clients may come from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from portway_proxy.errors import Forbidden
from portway_proxy.networks import Networks

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage, Step

__all__ = ["EitherSuffices", "FromNetworks"]

_REMEMBERED = 1024  # Addresses whose verdict is known before they are forgotten: a client sends more than one request.


class FromNetworks:
    """The step that lets through clients of `allow` (any networks, when there are none) that are not in `deny`."""

    __slots__ = ("_allow", "_any", "_deny", "_known")

    def __init__(self, allow: Iterable[str], deny: Iterable[str]) -> None:
        self._allow = Networks(allow)
        self._deny = Networks(deny)
        self._any = not self._allow
        self._known: dict[bytes, tuple[bool, bool]] = {}

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:  # noqa: ARG002 - a step's signature
        """Return True; raises `Forbidden` for a client of any other network."""
        if not self.verdict(exchange.peer)[0]:
            raise Forbidden
        return True

    def verdict(self, peer: bytes) -> tuple[bool, bool]:
        """Return whether the address may come, and whether it is welcome by name: in `allow` and not in `deny`."""
        found = self._known.get(peer)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[peer] = self._look_up(peer)
        return found

    def _look_up(self, peer: bytes) -> tuple[bool, bool]:
        if self._deny and self._deny.hold(peer):
            return False, False
        welcome = self._allow.hold(peer)
        return welcome or self._any, welcome


class EitherSuffices:
    """The step that lets through who is welcome by network, or else who passes `other` (nginx: `satisfy any`)."""

    __slots__ = ("_networks", "_other")

    def __init__(self, networks: FromNetworks, other: Step) -> None:
        self._networks = networks
        self._other = other

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return whether the request may go on now."""
        return self._networks.verdict(exchange.peer)[1] or self._other(exchange, passage)
