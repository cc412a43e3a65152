"""How much one client address may ask for: the leaky buckets of nginx's limit_req, and its limit_conn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway_proxy.errors import Limited
from portway_proxy.networks import Networks

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage
    from portway_proxy.snapshot import RateLimit

__all__ = ["Limit"]

_MOST = 65_536  # Addresses that a zone knows; nginx's own zones of 5 MiB hold 80,000.


class Limit:
    """The step that refuses what an address asks for beyond its limits; its counts go on from snapshot to snapshot.

    Each bucket drains at its rate, and takes `burst` requests beyond it; a request that finds no room gets 503, and
    counts for nothing.
    """

    __slots__ = ("_buckets", "_exempt", "_under_way", "asked")

    def __init__(self, asked: RateLimit) -> None:
        self.asked = asked
        self._exempt = Networks(asked.exempt)
        self._buckets: list[dict[bytes, tuple[float, float]]] = [{} for _ in asked.rates]
        self._under_way: dict[bytes, int] = {}

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return True; raises `Limited` for a request too many."""
        peer = exchange.peer
        if self._exempt and self._exempt.hold(peer):
            return True
        if self.asked.connections:
            self._enter(peer, passage)
        now = exchange.started
        levels = [self._level(number, peer, now) for number in range(len(self._buckets))]
        for (_, burst), level in zip(self.asked.rates, levels, strict=True):
            if level > burst:
                raise Limited(self.asked.rate_status)
        for bucket, level in zip(self._buckets, levels, strict=True):
            if len(bucket) >= _MOST and peer not in bucket:
                _make_room(bucket)
            bucket[peer] = (level + 1.0, now)
        return True

    def leave(self, peer: bytes) -> None:
        """Count a request under way less."""
        left = self._under_way.pop(peer, 1) - 1
        if left:
            self._under_way[peer] = left

    def _level(self, number: int, peer: bytes, now: float) -> float:
        level, since = self._buckets[number].get(peer, (0.0, now))
        return max(0.0, level - (now - since) * self.asked.rates[number][0])

    def _enter(self, peer: bytes, passage: Passage) -> None:
        under_way = self._under_way.get(peer, 0)
        if under_way >= self.asked.connections:
            raise Limited(self.asked.connections_status)
        self._under_way[peer] = under_way + 1
        passage.leaves.append((self, peer))


def _make_room(bucket: dict[bytes, tuple[float, float]]) -> None:
    """Forget the half of the addresses that has been known for longest: dicts keep the order of arrival."""
    for peer in list(bucket)[: len(bucket) // 2]:
        del bucket[peer]
