"""What clients in chosen networks are told in responses: why we answered ourselves, and where a request went."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from portway_proxy.l7 import flow
from portway_proxy.l7.lookup import field
from portway_proxy.l7.passage import Passage, without
from portway_proxy.networks import Networks

if TYPE_CHECKING:
    from portway_proxy.l7.asker import Asker
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.request import RequestHead

__all__ = ["Telling"]

_ASKED: Final = b"x-portway-explain"
_YES: Final = b"1"
_UNPRINTABLE: Final = re.compile(r"[^ -~]")


class Telling:
    """Tells clients whose address is in one of `networks` what became of their requests.

    A client is who everything else takes it for: who connected, or whom a trusted peer speaks for. Why we answered it
    hears unasked. Where its request went it hears when it asks by a field of the request, which then goes no further.
    Raises ValueError for what is no network.
    """

    __slots__ = ("_networks", "networks")

    def __init__(self, networks: tuple[str, ...]) -> None:
        self.networks = networks
        self._networks = Networks(networks)

    def begin(self, client: Asker, head: RequestHead) -> None:
        """Do what `flow.begin` does, for all clients, and see who of them asks."""
        asks = self._networks.hold(client.peer) and field(head.lines, _ASKED) == _YES
        if not asks:
            flow.begin(client, head)
            return
        without(head, _ASKED)
        # It goes no further, like what a Connection field nominates; that is how it is known again.
        head.nominated = (*head.nominated, _ASKED)
        flow.begin(client, head)
        if client.exchange is not None:
            self.accompany(client.exchange)

    def accompany(self, exchange: Exchange) -> None:
        """Have the head of a response that an endpoint makes for `exchange` tell of it, too."""
        if exchange.passage is None:
            exchange.passage = Passage(())
        exchange.passage.told = partial(self.lines, exchange)

    def lines(self, exchange: Exchange) -> bytes:
        """Return what the client of `exchange` is told now, as lines that each end in CRLF; nothing for all others."""
        if not self._networks.hold(exchange.peer):
            return b""
        said = _reason(exchange.reason) if exchange.reason else b""
        if _ASKED in exchange.head.nominated:
            said += b"".join(_line(name, value) for name, value in _way(exchange) if value)
        return said

    def refusal(self, peer: str, reason: str) -> bytes:
        """Return the line for a client that is turned away before it can ask, or nothing."""
        return _reason(reason) if self._networks.hold(peer.encode()) else b""


def _way(exchange: Exchange) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the fields that say where a request went: of the endpoints, to the last one."""
    route, upstream, pool = exchange.route, exchange.upstream, exchange.pool
    yield "Route", "" if route is None else str(route.origin)
    yield "Upstream", "" if upstream is None else upstream.upstream.name
    yield "Endpoint", "" if pool is None else str(pool.endpoint)


def _reason(code: str) -> bytes:
    return _line("Reason", code)


def _line(name: str, value: str) -> bytes:
    # Names out of a snapshot that nobody checked must not begin a line of their own.
    return f"X-Portway-{name}: {_UNPRINTABLE.sub('?', value)}\r\n".encode()
