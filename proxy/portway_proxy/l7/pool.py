"""The connections to one endpoint: idle ones wait here for the next request, new ones are made here."""

from __future__ import annotations

import asyncio
import functools
import ssl
from typing import TYPE_CHECKING

from portway_proxy.clock import NEVER
from portway_proxy.errors import ConnectFailed, ConnectTimeout, ProxyError
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import Exchange, State
from portway_proxy.l7.upstream import UpstreamConnection

if TYPE_CHECKING:
    from portway_proxy.l7.http import Http
    from portway_proxy.snapshot import Endpoint

__all__ = ["Pool"]


class Pool:
    """The idle connections of one worker to one endpoint.

    The one that was used last is taken first, so that spare ones grow old and end. `label` is the endpoint for access
    lines. `connected` and `failed` count attempts.
    """

    __slots__ = ("_idle", "connected", "endpoint", "failed", "label", "retired", "secure")

    def __init__(self, endpoint: Endpoint, *, secure: bool) -> None:
        self.endpoint = endpoint
        self.secure = secure
        self.label = str(endpoint).encode()
        self.retired = False
        self.connected = 0
        self.failed = 0
        self._idle: list[UpstreamConnection] = []

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> UpstreamConnection | None:
        """Return an idle connection that has neither ended nor said anything since, or None."""
        while self._idle:
            connection = self._idle.pop()
            if connection.quiet():
                connection.reused = True
                return connection
            connection.close()
        return None

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose response ended exactly where it should, or end it when there are enough."""
        http = connection.http
        if self.retired or len(self._idle) >= http.limits.pool or http.worker.draining:
            connection.close()
        else:
            connection.deadline = http.clock.now + http.timeouts.upstream_idle
            self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """Drop a connection that ended while it was idle."""
        if connection in self._idle:
            self._idle.remove(connection)

    def retire(self) -> None:
        """End the idle connections and keep no others: the endpoint is gone."""
        self.retired = True
        while self._idle:
            self._idle.pop().close()

    def connect(self, http: Http, exchange: Exchange) -> None:
        """Make a connection and start `exchange` on it, or fail the exchange."""
        attempt = _Attempt(self, http, exchange)
        attempt.task = http.tasks.spawn(attempt.run(), f"connect {self.endpoint}")


class _Attempt:
    """One attempt to connect, with its deadline."""

    __slots__ = ("_exchange", "_http", "_pool", "deadline", "task")

    def __init__(self, pool: Pool, http: Http, exchange: Exchange) -> None:
        self._pool = pool
        self._http = http
        self._exchange = exchange
        self.deadline = http.loop.time() + http.timeouts.connect
        self.task: asyncio.Task[None] | None = None

    def expire(self) -> None:
        """Give up."""
        self.deadline = NEVER
        if self.task is not None:
            self.task.cancel()
        self._fail(ConnectTimeout(f"{self._pool.endpoint} did not accept the connection in time"))

    async def run(self) -> None:
        """Connect; the exchange may have ended meanwhile, then the connection waits for another one."""
        pool, http = self._pool, self._http
        connection = UpstreamConnection(http, pool)
        http.clock.watch(self)
        try:
            await http.loop.create_connection(
                lambda: connection,
                pool.endpoint.address,
                pool.endpoint.port,
                ssl=_context() if pool.secure else None,
                server_hostname="" if pool.secure else None,
            )
        except (OSError, ssl.SSLError) as error:
            self._fail(ConnectFailed(f"{pool.endpoint}: {error}"))
            return
        except asyncio.CancelledError:
            # Given up just when it connected, it is closed without being told.
            http.clock.unwatch(connection)
            raise
        finally:
            http.clock.unwatch(self)
        pool.connected += 1
        if self._wanted():
            connection.start(self._exchange)
        else:
            pool.release(connection)

    def _wanted(self) -> bool:
        exchange = self._exchange
        return exchange.state is State.PENDING and exchange.pool is self._pool

    def _fail(self, error: ProxyError) -> None:
        self._pool.failed += 1
        if self._wanted():
            flow.fail(self._exchange, error)


@functools.cache
def _context() -> ssl.SSLContext:
    # As ingress-nginx's default: encrypted, not verified; an endpoint's certificate seldom names a pod's address.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
