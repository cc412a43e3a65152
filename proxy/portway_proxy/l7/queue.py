"""Requests that wait because every endpoint has as many as it may: a bounded number, each for a bounded time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from portway_proxy.clock import NEVER, Watch
from portway_proxy.errors import ProxyError, QueueFull, QueueTimeout
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import PENDING, Exchange
from portway_proxy.l7.pool import Pool
from portway_proxy.l7.trail import trail_of

__all__ = ["Queue"]


class Queue:
    """The first to come is the first to go, unless it is tied to one endpoint that is still busy.

    An exchange that ended meanwhile is skipped when its turn comes. `find` returns a pool with room for an exchange, or
    None; it raises a `ProxyError` when there is nothing left to wait for.
    """

    __slots__ = ("_clock", "_find", "_scheduled", "_waiting", "deadline", "most", "timeout")

    def __init__(self, clock: Watch, find: Callable[[Exchange], Pool | None]) -> None:
        self.most = 0
        self.timeout = 0.0
        self.deadline = NEVER
        self._clock = clock
        self._find = find
        self._waiting: deque[tuple[float, Exchange, Pool | None]] = deque()
        self._scheduled = False

    def __len__(self) -> int:
        return sum(exchange.state is PENDING for _, exchange, _ in self._waiting)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def holds_up(self, tie: Pool | None) -> bool:
        """Return whether somebody waits whose turn is before that of a newcomer, who is tied to `tie` or to nobody."""
        return any(other is None or other is tie for _, exchange, other in self._waiting if exchange.state is PENDING)

    def add(self, exchange: Exchange, tie: Pool | None) -> None:
        """Let `exchange` wait; raises `QueueFull` when as many as may do already."""
        if len(self._waiting) >= self.most:
            self._waiting = deque(entry for entry in self._waiting if entry[1].state is PENDING)
            if len(self._waiting) >= self.most:
                raise QueueFull(f"{self.most} requests wait already")
        until = exchange.client.http.loop.time() + self.timeout
        if not self._waiting:
            self.deadline = until
            self._clock.watch(self)
        self._waiting.append((until, exchange, tie))

    def freed(self) -> None:
        """Send who waits to where there is room, in the loop's next turn."""
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._waiting[0][1].client.http.loop.call_soon(self.serve)

    def serve(self) -> None:
        """Send who waits to where there is room."""
        self._scheduled = False
        served = set()
        for entry in tuple(self._waiting):
            _, exchange, tie = entry
            if exchange.state is PENDING:
                try:
                    pool = self._find(exchange)
                except ProxyError as error:
                    flow.fail(exchange, error)
                else:
                    if pool is not None:
                        trail_of(exchange).sent = exchange.client.http.loop.time()
                        flow.send(exchange, pool)
                    elif tie is None:
                        break  # There is no room at all.
                    else:
                        continue
            served.add(entry)
        self._waiting = deque(entry for entry in self._waiting if entry not in served)
        self._rewind()

    def expire(self) -> None:
        """Answer those who waited too long."""
        now = self._clock.now
        while self._waiting and self._waiting[0][0] <= now:
            _, exchange, _ = self._waiting.popleft()
            if exchange.state is PENDING:
                flow.fail(exchange, QueueTimeout(f"no endpoint had room within {self.timeout:g} s"))
        self._rewind()

    def _rewind(self) -> None:
        if self._waiting:
            self.deadline = self._waiting[0][0]
        else:
            self.deadline = NEVER
            self._clock.unwatch(self)
