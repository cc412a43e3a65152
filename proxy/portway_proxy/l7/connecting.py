"""Attempts to connect to an endpoint: in clear or over TLS, with word of the client before, each with a deadline."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from portway_proxy.clock import NEVER
from portway_proxy.endpoint_contexts import RESUMED
from portway_proxy.errors import (
    ConnectFailed,
    ConnectTimeout,
    EndpointUnreadable,
    EndpointUnverified,
    NoDescriptors,
    ProxyError,
)
from portway_proxy.l7.passage import timeouts_of

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.pool import Pool
    from portway_proxy.snapshot import Endpoint, ProxyVersion

__all__ = ["Attempt"]

# What this machine lacks, not what the endpoint did: the last is a port for our side of the connection.
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)


class Attempt:
    """One attempt to connect `protocol` to the endpoint of a pool, for the sake of an exchange.

    It ends with a call of `reached`, with the seconds that it took, or of `failed`.
    """

    __slots__ = ("_began", "_exchange", "_failed", "_http", "_pool", "_reached", "deadline", "task")

    def __init__(
        self, pool: Pool, exchange: Exchange, reached: Callable[[float], None], failed: Callable[[ProxyError], None]
    ) -> None:
        self._pool = pool
        self._exchange = exchange
        self._http = http = exchange.client.http
        self._reached = reached
        self._failed = failed
        self._began = http.loop.time()
        self.deadline = self._began + timeouts_of(exchange).connect
        self.task: asyncio.Task[None] | None = None

    def begin(self, protocol: asyncio.Protocol) -> None:
        """Begin, in a task."""
        self._pool.connecting += 1
        self.task = self._http.tasks.spawn(self._run(protocol), f"connect {self._pool.endpoint}")

    def expire(self) -> None:
        """Give up."""
        self.deadline = NEVER
        if self.task is not None:
            self.task.cancel()
        self._fail(ConnectTimeout(f"{self._pool.endpoint} did not accept the connection in time"))

    async def _run(self, protocol: asyncio.Protocol) -> None:
        pool, http = self._pool, self._http
        http.clock.watch(self)
        try:
            await self._connect(protocol)
        except (OSError, EndpointUnreadable) as error:
            self._fail(_failure(error, pool.endpoint))
            return
        except asyncio.CancelledError:
            # Given up just when it connected, it is closed without being told.
            protocol.connection_lost(None)
            raise
        finally:
            self._settle()
        pool.connected += 1
        self._reached(http.loop.time() - self._began)

    async def _connect(self, protocol: asyncio.Protocol) -> None:
        pool, loop = self._pool, self._http.loop
        tls = pool.context()
        name = None if tls is None else pool.speech.name
        RESUMED.set(pool.session)
        if pool.announce is None:
            endpoint = pool.endpoint
            await loop.create_connection(
                lambda: protocol, endpoint.address, endpoint.port, ssl=tls, server_hostname=name
            )
        else:
            sock = await self._introduce(pool.announce)
            await loop.create_connection(lambda: protocol, sock=sock, ssl=tls, server_hostname=name)

    async def _introduce(self, version: ProxyVersion) -> socket.socket:
        """Return a socket that is connected to the endpoint, and has told it who the client is."""
        endpoint, loop = self._pool.endpoint, self._http.loop
        sock = socket.socket(socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET)
        try:
            sock.settimeout(0)
            await loop.sock_connect(sock, (endpoint.address, endpoint.port))
            await loop.sock_sendall(sock, self._exchange.client.announcement(version))
        except BaseException:
            sock.close()
            raise
        return sock

    def _settle(self) -> None:
        """Count this attempt no longer among those under way."""
        self._http.clock.unwatch(self)
        self._pool.connecting -= 1
        if self._pool.limited:
            self._pool.owner.freed()

    def _fail(self, error: ProxyError) -> None:
        self._pool.failed += 1
        if not isinstance(error, NoDescriptors):
            self._pool.owner.failed(self._pool)
        elif self._http.exhausted is not None:
            self._http.exhausted()
        self._failed(error)


def _failure(error: OSError | EndpointUnreadable, endpoint: Endpoint) -> ProxyError:
    """Return why there is no connection."""
    if isinstance(error, EndpointUnreadable):
        return error
    text = f"{endpoint}: {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return EndpointUnverified(text)
    if isinstance(error, ssl.SSLError):
        return EndpointUnreadable(text)
    if error.errno in _OURS:
        return NoDescriptors(text)
    return ConnectFailed(text, refused=isinstance(error, ConnectionRefusedError))
