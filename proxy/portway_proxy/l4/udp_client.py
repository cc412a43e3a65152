"""One client of a UDP port, and the socket that leads its datagrams to an endpoint."""

from __future__ import annotations

import socket
from typing import Final, Protocol, TypeAlias

from portway_proxy.errors import NoEndpoints, ProxyError
from portway_proxy.flows import Flow
from portway_proxy.l4.connect import EXHAUSTED, Chooser
from portway_proxy.l4.passage import RelayWorker
from portway_proxy.l4.records import RelayRecord
from portway_proxy.l4.relay import CLOSED, DONE
from portway_proxy.l4.splicer import READABLE
from portway_proxy.l7.pool import Pool

__all__ = ["UNANSWERED", "Address", "Asked", "Key", "UdpClient", "UdpOwner", "datagram"]

UNANSWERED: Final = "unanswered"
"""Not one datagram came back in time."""

_REFUSED: Final = "connect_failed"
_ANSWERS: Final = 16  # Datagrams of one endpoint in one turn of the loop; then others have theirs.
_TRIES: Final = 3  # As connections.

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
Asked: TypeAlias = tuple[int, int, bytes] | None
"""The control message that sends an answer from the address that was asked; None where there is but one."""
Key: TypeAlias = tuple[Address, Asked]
"""What tells clients apart: their address, and the one that they asked."""

datagram: Final = memoryview(bytearray(65536))
"""Where datagrams are read, one at a time; each is sent on at once, so that all can share it."""


class UdpOwner(Protocol):
    """The port that a client came to."""

    @property
    def worker(self) -> RelayWorker:
        """Its worker."""

    @property
    def name(self) -> str:
        """The listener's name in logs and metrics."""

    def answer(self, client: UdpClient, data: memoryview) -> int:
        """Send a datagram back to a client; return how many bytes went."""

    def finish(self, client: UdpClient, reason: str) -> None:
        """Take note that a client has ended."""


class UdpClient:
    """A client of a UDP port and the socket to its endpoint; its interface is that of a passage.

    Until an answer comes the latest datagram is kept, so that it can go to another endpoint when this one refuses.
    """

    __slots__ = (
        "_owner",
        "_sock",
        "_tried",
        "_unanswered",
        "active",
        "began",
        "bytes_in",
        "bytes_out",
        "key",
        "peer",
        "pool",
        "upstream",
    )

    def __init__(self, owner: UdpOwner, key: Key, upstream: str) -> None:
        self._owner = owner
        self._sock: socket.socket | None = None
        self._tried: list[Pool] = []
        self._unanswered: bytes | None = b""
        self.key = key
        self.peer: str = key[0][0]
        self.upstream = upstream
        self.pool: Pool | None = None
        self.began = self.active = owner.worker.splicer.clock.now
        self.bytes_in = 0
        self.bytes_out = 0

    def connect(self, upstream: Chooser) -> str:
        """Take a socket to the next endpoint; return why there is none, or nothing. Raises OSError for want of one."""
        reason = _REFUSED
        while len(self._tried) < _TRIES:
            try:
                pool = upstream.reach(self.peer.encode(), self._tried)
            except ProxyError as error:
                return reason if self._tried else (error.code if isinstance(error, NoEndpoints) else error.reason)
            self._tried.append(pool)
            endpoint = pool.endpoint
            family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            try:
                sock.connect((endpoint.address, endpoint.port))
            except OSError as error:
                sock.close()
                if error.errno in EXHAUSTED:
                    raise
                reason = _REFUSED
                self._failed(upstream, pool)
                continue
            pool.connected += 1
            pool.opened(self)
            self.pool, self._sock = pool, sock
            self._owner.worker.splicer.watch(sock.fileno(), READABLE, self._answered)
            return ""
        return reason

    def send(self, data: memoryview) -> None:
        """Send a datagram on; one for which there is no room is lost, as UDP has it."""
        if self._unanswered is not None:
            self._unanswered = bytes(data)
        self.bytes_in += self._send(data)

    def close(self, reason: str = CLOSED) -> None:
        """End at once; harmless when it has ended."""
        if self._sock is not None:
            self._hang_up()
            self._owner.finish(self, reason)

    def cut(self, error: ProxyError) -> None:
        """End, because the endpoint is gone and the time to drain is over."""
        self.close(error.reason)

    def fall_silent(self) -> None:
        """End, because no datagram came either way for too long."""
        self.close(DONE if self._unanswered is None else UNANSWERED)

    def record(self, reason: str) -> RelayRecord:
        """Return what the access log says of it at its end."""
        return RelayRecord(
            listener=self._owner.name,
            client=self.peer,
            upstream=self.upstream,
            endpoint=self.pool.label.decode() if self.pool is not None else "",
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            seconds=self.active - self.began,
            reason=reason,
        )

    def flow(self, now: float) -> Flow:
        """Return what a table of flows says of it at `now`, a time of the loop."""
        host, port = self.key[0][:2]
        return Flow(
            listener=self._owner.name,
            client=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            upstream=self.upstream,
            endpoint=self.pool.label.decode() if self.pool is not None else "",
            seconds=now - self.began,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
        )

    def _send(self, data: memoryview | bytes) -> int:
        sock = self._sock
        assert sock is not None  # noqa: S101 - tells the type: one without a socket is in no table
        try:
            return sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            # The answer to an earlier datagram: nobody listens there.
            self._refused()
            return 0

    def _answered(self, _events: int) -> None:
        for _ in range(_ANSWERS):
            sock = self._sock
            if sock is None:
                return
            try:
                size = sock.recv_into(datagram)
            except BlockingIOError:
                return
            except OSError:
                self._refused()
                return
            if self._unanswered is not None:
                self._unanswered = None
                self._well()
            self.bytes_out += self._owner.answer(self, datagram[:size])

    def _well(self) -> None:
        pool, upstream = self.pool, self._owner.worker.live.upstreams.get(self.upstream)
        if pool is not None and pool.attentive and upstream is not None:
            upstream.succeeded(pool)

    def _refused(self) -> None:
        """Go to another endpoint with what was not answered, or end: the next datagram then begins anew."""
        upstream = self._owner.worker.live.upstreams.get(self.upstream)
        unanswered, pool = self._unanswered, self.pool
        if upstream is None or unanswered is None or pool is None:
            self.close(_REFUSED)
            return
        self._hang_up()
        self._failed(upstream, pool)
        try:
            reason = self.connect(upstream)
        except OSError:
            reason = _REFUSED
        if reason:
            self._owner.finish(self, reason)
        else:
            self._send(unanswered)

    def _failed(self, upstream: Chooser, pool: Pool) -> None:
        pool.failed += 1
        upstream.failed(pool)

    def _hang_up(self) -> None:
        if self._sock is not None:
            self._owner.worker.splicer.unwatch(self._sock.fileno())
            self._sock.close()
            self._sock = None
        if self.pool is not None:
            self.pool.left(self)
