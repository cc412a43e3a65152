"""The connections to one endpoint that speaks HTTP/2: few, each shared by many calls."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from portway_proxy.clock import NEVER, Watch
from portway_proxy.errors import ConnectFailed, ConnectTimeout, ProxyError, UpstreamBadResponse
from portway_proxy.l7 import flow
from portway_proxy.l7.connecting import Attempt
from portway_proxy.l7.passage import timeouts_of
from portway_proxy.l7.pool import Owner, Pool, Speech
from portway_proxy.l7.shared import SharedConnection
from portway_proxy.l7.trail import trail_of

if TYPE_CHECKING:
    from portway_proxy.l7.call import Call
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.http import Http
    from portway_proxy.snapshot import Endpoint

__all__ = ["SharedPool"]


class _Line:
    """Calls that wait for a connection, the first to come at its head, each for a bounded time."""

    __slots__ = ("_clock", "_pool", "_waiting", "deadline")

    _clock: Watch

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: deque[tuple[float, Exchange]] = deque()
        self.deadline = NEVER

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, exchange: Exchange) -> None:
        """Let a call wait."""
        self._clock = clock = exchange.client.http.clock
        until = clock.now + timeouts_of(exchange).connect
        self._waiting.append((until, exchange))
        self.deadline = min(self.deadline, until)
        clock.watch(self)

    def take(self) -> Exchange | None:
        """Return whose turn it is, if anybody still waits."""
        exchange = self.first()
        if exchange is not None:
            self._waiting.popleft()
        return exchange

    def first(self) -> Exchange | None:
        """Return whose turn is next, if anybody still waits."""
        while self._waiting and not self._pool.awaited(self._waiting[0][1]):
            self._waiting.popleft()
        return self._waiting[0][1] if self._waiting else None

    def expire(self) -> None:
        """Fail the calls that waited for too long."""
        now, left = self.deadline, self._waiting
        self._waiting = deque(entry for entry in left if entry[0] > now)
        self.deadline = min((until for until, _ in self._waiting), default=NEVER)
        if not self._waiting:
            self._clock.unwatch(self)
        for until, exchange in left:
            if until <= now and self._pool.awaited(exchange):
                flow.fail(exchange, ConnectTimeout(f"{self._pool.endpoint} had no room for another call in time"))


class SharedPool(Pool):
    """The connections of one worker to one endpoint.

    A call goes to the first connection that has room for it. When none has, another connection is made, one at a time
    and at most as many as may be; meanwhile calls wait.
    """

    __slots__ = ("_connections", "_line")

    def __init__(self, endpoint: Endpoint, owner: Owner, since: float, speech: Speech) -> None:
        super().__init__(endpoint, owner, since, speech)
        self._connections: list[SharedConnection] = []
        self._line = _Line(self)

    def __len__(self) -> int:
        return sum(connection.idle for connection in self._connections)

    @property
    def load(self) -> int:
        """How many calls are under way, or wait."""
        return len(self._open) + len(self._line)

    @property
    def connections(self) -> int:
        """How many are open, or being made."""
        return len(self._connections) + self.connecting

    def has_room(self, connections: int, requests: int) -> bool:
        """Return whether one more request would keep to these limits; 0 is none."""
        if requests and self.load >= requests:
            return False
        return not connections or self._roomy() is not None or len(self._connections) + self.connecting < connections

    def take(self) -> SharedConnection | None:
        """Return a connection that takes a call, or None."""
        return None if self.announce is not None else self._roomy()

    def _roomy(self) -> SharedConnection | None:
        for connection in self._connections:
            if connection.room > 0:
                return connection
        return None

    def connect(self, http: Http, exchange: Exchange) -> None:
        """Start `exchange` on a connection that has room, or is made; or fail it."""
        if self.announce is None:
            self._line.add(exchange)
            self._serve(http)
        else:
            self._connect(http, exchange)

    def _connect(self, http: Http, exchange: Exchange) -> None:
        connection = SharedConnection(http, self, exchange, alone=self.announce is not None)
        attempt = Attempt(self, exchange, partial(self._joined, connection), partial(self._failed, exchange))
        attempt.begin(connection)

    def _joined(self, connection: SharedConnection, seconds: float) -> None:
        """Take in a connection that was made; it is of use once the endpoint has said its settings."""
        trail_of(connection.asker).connect = seconds
        self._connections.append(connection)
        if connection.lost:
            self.parted(connection)
        elif connection.ready:  # What it said came before the word that it is there.
            self.ready(connection)

    def ready(self, connection: SharedConnection) -> None:
        """Start who waited for a connection."""
        if connection not in self._connections:
            return
        if self.announce is None:
            self._serve(connection.http)
        elif self.awaited(connection.asker):
            connection.start(connection.asker)
        if connection.idle:
            connection.rest()

    def _failed(self, asker: Exchange, error: ProxyError) -> None:
        """Fail who waited for the connection that could not be made."""
        if self.awaited(asker):
            flow.fail(asker, error)
        while self.announce is None and (other := self._line.take()) is not None:
            flow.fail(other, error)

    def _serve(self, http: Http) -> None:
        """Start who waits where there is room, and see that there will be room for the others."""
        while len(self._line) and (connection := self._roomy()) is not None:
            exchange = self._line.take()
            if exchange is not None:
                connection.start(exchange)
        coming = self.connecting or any(not connection.ready for connection in self._connections)
        if len(self._line) and not coming and len(self._connections) < http.limits.pool:
            exchange = self._line.first()
            if exchange is not None:
                self._connect(http, exchange)

    def ended(self, connection: SharedConnection, call: Call) -> None:
        """Count a call no longer, and give its place to who waits."""
        self.left(call)
        if self.secure and self.session is None:
            self.session = connection.session()
        if len(self._line):
            connection.http.loop.call_soon(self._serve, connection.http)
        elif self.limited:
            self.owner.freed()

    def parted(self, connection: SharedConnection) -> None:
        """Drop a connection that ended; harmless when it was dropped before."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        if not connection.ready:
            self.failed += 1
            self.owner.failed(self)
            fault = connection.fault
            hung_up = ConnectFailed(f"{self.endpoint} hung up at once, or took no calls")
            self._failed(connection.asker, UpstreamBadResponse(f"{self.endpoint}: {fault}") if fault else hung_up)
        elif len(self._line):
            connection.http.loop.call_soon(self._serve, connection.http)

    def empty(self) -> None:
        """End the idle connections."""
        for connection in tuple(self._connections):
            if connection.idle:
                connection.close()

    def retire(self, clock: Watch, drain: float) -> None:
        """End the idle connections, and the others with their last call, which has `drain` seconds."""
        super().retire(clock, drain)
        for connection in tuple(self._connections):
            connection.wind_down()
