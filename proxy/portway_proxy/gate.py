"""Who may come in: counts a worker's client connections, all together and, where a limit asks for it, by address."""

from __future__ import annotations

import socket
from collections import defaultdict

from portway_proxy.errors import TooManyConnections, TooManyFromAddress

__all__ = ["Gate", "origin_of"]

_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96: IPv4 as a socket for both sees it.


class Gate:
    """Lets in up to `most` connections, `each` from one address (0: as many as come), and counts those it turns away.

    Both limits may change at any time; who is in stays.
    """

    __slots__ = ("_by_origin", "each", "most", "open", "refused")

    def __init__(self, most: int, each: int = 0) -> None:
        self.most = most
        self.each = each
        self.open = 0
        self.refused: defaultdict[str, int] = defaultdict(int)
        self._by_origin: dict[bytes, int] = {}

    def enter(self, address: str | None) -> bytes:
        """Count a connection and return what `leave` takes; raises `TooManyConnections` or `TooManyFromAddress`.

        Without an address it counts among all alone: that of a proxy that brings many clients, or none that is known
        yet (`claim`).
        """
        if self.open >= self.most:
            self.refused[TooManyConnections.reason] += 1
            raise TooManyConnections(f"{self.most} connections are open")
        origin = b"" if address is None else self.claim(address)
        self.open += 1
        return origin

    def claim(self, address: str) -> bytes:
        """Count a connection that is in, or about to be, for `address`; as `enter`, but for that address alone."""
        if not self.each:
            return b""
        origin = origin_of(address)
        present = self._by_origin.get(origin, 0)
        if present >= self.each:
            self.refused[TooManyFromAddress.reason] += 1
            raise TooManyFromAddress(f"{address} has {present} connections open")
        self._by_origin[origin] = present + 1
        return origin

    def leave(self, origin: bytes) -> None:
        """Count a connection no longer."""
        self.open -= 1
        if origin:
            present = self._by_origin[origin] - 1
            if present:
                self._by_origin[origin] = present
            else:
                del self._by_origin[origin]


def origin_of(address: str) -> bytes:
    """Return what stands for one client: an IPv4 address, or the /64 of an IPv6 one, of which anybody has plenty."""
    if ":" not in address:
        return socket.inet_pton(socket.AF_INET, address)
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return packed[12:] if packed.startswith(_MAPPED) else packed[:8]
