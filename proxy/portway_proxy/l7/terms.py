"""What the policy of an upstream makes of each request: the cookie and the key that choose for it, and room for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from portway_proxy.affinity import CookieMaker
from portway_proxy.l7.exchange import Exchange
from portway_proxy.l7.lookup import cookie, field
from portway_proxy.l7.pool import Pool
from portway_proxy.l7.template import Template
from portway_proxy.l7.trail import trail_of
from portway_proxy.snapshot import Balance, Capacity, HashOn, HashSource, PathMatch, Upstream, UpstreamPolicy

__all__ = ["Terms"]

_ORDINARY = UpstreamPolicy()


class Terms:
    """The terms of one upstream, for one of a number of workers."""

    __slots__ = ("_cookies", "_hash", "_name", "_pinned", "_text", "capacity")

    def __init__(self, upstream: Upstream, key: bytes, workers: int) -> None:
        policy = upstream.policy or _ORDINARY
        self.capacity = None if policy.capacity is None else _part(policy.capacity, workers)
        self._cookies = None if policy.affinity is None else CookieMaker(policy.affinity, key, upstream.name)
        self._hash = (policy.hash_on or HashOn()) if upstream.balance is Balance.HASH else None
        self._name = b"" if self._hash is None else self._hash.name.encode()
        if self._hash is not None and self._hash.source is HashSource.HEADER:
            self._name = self._name.lower()
        self._text = Template("" if self._hash is None else self._hash.name)
        self._pinned: dict[bytes, Pool] = {}

    @classmethod
    def of(cls, upstream: Upstream, key: bytes, workers: int) -> Self | None:
        """Return the terms of `upstream`, or None when it treats all requests alike."""
        policy = upstream.policy or _ORDINARY
        if upstream.balance is not Balance.HASH and policy.affinity is None and policy.capacity is None:
            return None
        return cls(upstream, key, workers)

    @property
    def sticky(self) -> bool:
        """Whether a cookie ties clients to endpoints."""
        return self._cookies is not None

    @property
    def stays(self) -> bool:
        """Whether a cookie stays as it is though its endpoint fails."""
        return self._cookies is not None and self._cookies.stays

    def knows(self, exchange: Exchange) -> bool:
        """Return whether the request's cookie is of this upstream, and still means something."""
        cookies = self._cookies
        if cookies is None:
            return False
        return cookies.made(self._value(exchange, cookies)) if cookies.spreads else self.pinned(exchange) is not None

    def tie(self, pools: Iterable[Pool]) -> None:
        """Take the endpoints to which a cookie may tie a client."""
        if self._cookies is not None and not self._cookies.spreads:
            self._pinned = {self._cookies.value(pool.endpoint): pool for pool in pools}

    def pinned(self, exchange: Exchange) -> Pool | None:
        """Return the endpoint that the request's cookie stands for; a forged one stands for none."""
        if self._cookies is None or self._cookies.spreads:
            return None
        return self._pinned.get(self._value(exchange, self._cookies))

    def _value(self, exchange: Exchange, cookies: CookieMaker) -> bytes:
        return cookie(exchange.head.lines, cookies.name) or b""

    def _word(self, exchange: Exchange, cookies: CookieMaker) -> bytes:
        """Return the word that a client is spread by: that of its cookie, or a new one, as after a failure."""
        anew = bool(exchange.tried) and not cookies.stays
        word = b"" if exchange.trail is None else exchange.trail.tie
        if word and not anew:
            return word
        word = self._value(exchange, cookies)
        if anew or not cookies.made(word):
            word = trail_of(exchange).tie = cookies.word()
        return word

    def key(self, exchange: Exchange) -> bytes | None:
        """Return what a consistent hash is taken of, or None when the request does not have it."""
        if self._cookies is not None and self._cookies.spreads:
            return self._word(exchange, self._cookies)
        if self._hash is None:
            return None
        head = exchange.head
        match self._hash.source:
            case HashSource.ADDRESS:
                return exchange.peer
            case HashSource.URI:
                return head.target
            case HashSource.TEXT:
                return self._text.fill(exchange) or None
            case HashSource.COOKIE:
                return cookie(head.lines, self._name)
        return field(head.lines, self._name)

    def full(self, pools: Iterable[Pool]) -> list[Pool]:
        """Return the endpoints without room for another request."""
        capacity = self.capacity
        if capacity is None:
            return []
        return [pool for pool in pools if not pool.has_room(capacity.connections, capacity.requests)]

    def cookie_for(self, exchange: Exchange, pool: Pool) -> bytes:
        """Return the line that ties the client to the endpoint of `pool`; empty when no cookie does."""
        cookies = self._cookies
        if cookies is None:
            return b""
        value = (
            (b"" if exchange.trail is None else exchange.trail.tie) if cookies.spreads else cookies.value(pool.endpoint)
        )
        if not value:
            return b""
        route = exchange.route
        path = "/" if route is None or route.match is PathMatch.REGEX or ";" in route.path else route.path
        agent = field(exchange.head.lines, b"user-agent") or b""
        return cookies.field(value, tls=exchange.secure, path=path, agent=agent, now=exchange.client.http.clock.wall)


def _part(capacity: Capacity, workers: int) -> Capacity:
    """Return one worker's part of what all workers together may use."""

    def part(whole: int) -> int:
        return max(1, whole // workers) if whole else 0

    return Capacity(part(capacity.connections), part(capacity.requests), part(capacity.queue), capacity.timeout)
