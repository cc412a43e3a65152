"""A UDP port: each client address gets a socket of its own to one endpoint, until both have been silent for a while."""

from __future__ import annotations

import logging
import socket
import struct
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from portway_proxy.clock import NEVER
from portway_proxy.errors import NoEndpoints
from portway_proxy.flows import Flow
from portway_proxy.l4.counts import Counts
from portway_proxy.l4.passage import RelayWorker, Terms
from portway_proxy.l4.splicer import READABLE
from portway_proxy.l4.udp_client import Asked, Key, UdpClient, datagram
from portway_proxy.listeners import key_of
from portway_proxy.metrics import Sample
from portway_proxy.snapshot import Listener

__all__ = ["EVICTED", "UdpPassthrough"]

EVICTED: Final = "evicted"
"""Another client needed its place in the full table, and it had been silent the longest."""

_BATCH: Final = 64  # Datagrams read in one turn of the loop; then others have theirs.
_BUSY: Final = 3.0  # Seconds since the last datagram after which a drain does not wait for a client any more.
_COMPLAINTS: Final = 60.0  # Seconds between two lines in the log about want of descriptors.

_IP_PKTINFO: Final = 8  # Python has no name for it before 3.14.
_V4 = struct.Struct("=I4s4s")  # struct in_pktinfo: interface, our address, the address that was asked.
_V6 = struct.Struct("=16sI")  # struct in6_pktinfo.
_ROOM: Final = socket.CMSG_SPACE(_V6.size)
_LINK_LOCAL: Final = b"\xfe\x80"

_log = logging.getLogger(__name__)


class UdpPassthrough:
    """Reads a UDP socket, which belongs to it, and keeps the table of its clients.

    `listener` may be replaced by one of the same port: clients that come later go to its upstream. The table has room
    for as many clients as the listener's policy says, or the settings; then who was silent the longest makes room.
    """

    def __init__(self, worker: RelayWorker, listener: Listener, sock: socket.socket) -> None:
        self.worker = worker
        self.name = key_of(listener)
        self.deadline = NEVER
        self._sock = sock
        self._clients: OrderedDict[Key, UdpClient] = OrderedDict()
        self._counts = Counts(self.name)
        self._asked = _wants_asked(sock)
        self._stopped = False
        self._closed = False
        self._complain_after = 0.0
        self.take(listener)

    @property
    def relays(self) -> list[UdpClient]:
        """The clients that a drain has to wait for: those of which something came or went just now."""
        since = self.worker.splicer.clock.now - _BUSY
        return [client for client in self._clients.values() if client.active > since]

    def take(self, listener: Listener) -> None:
        """Serve as `listener` says from now on."""
        self.listener = listener
        settings = self.worker.settings
        self._terms = Terms.of(listener.policy, settings, settings.timeouts.udp)
        self._most = self._terms.clients or settings.limits.udp_clients

    def start(self) -> None:
        """Begin to read."""
        self._sock.settimeout(0)
        self.worker.splicer.watch(self._sock.fileno(), READABLE, self._readable)
        self.worker.splicer.clock.watch(self)

    def finish_accepting(self) -> None:
        """Read no more: this worker ends soon, and another one may read in its place. Answers under way still go."""
        self._stopped = True
        self._unwatch()

    def retire(self) -> None:
        """End, because the port is given up; what has come already is passed on first."""
        if not self._closed:
            if not self._stopped:
                self._readable(0)
            self.close()

    def close(self) -> None:
        """End at once."""
        if self._closed:
            return
        self._closed = self._stopped = True
        for client in list(self._clients.values()):
            client.close()
        self.worker.splicer.clock.unwatch(self)
        self._unwatch()
        self._sock.close()

    def expire(self) -> None:
        """End the clients that have been silent for too long."""
        # The clock's time may be a second old.
        until = self.worker.splicer.clock.now - self._terms.idle - 1.0
        for client in list(self._clients.values()):
            if client.active > until:
                break
            client.fall_silent()
        oldest = next(iter(self._clients.values()), None)
        self.deadline = NEVER if oldest is None else oldest.active + self._terms.idle + 1.0

    def finish(self, client: UdpClient, reason: str) -> None:
        """Count and log a client that has ended, and forget it."""
        self._clients.pop(client.key, None)
        self._counts.end(client, reason)
        self.worker.access.relay(client.record(reason))

    def answer(self, client: UdpClient, data: memoryview) -> int:
        """Send a datagram back, from the address that was asked; return how many bytes went."""
        address, asked = client.key
        self._touch(client)
        try:
            if asked is None:
                return self._sock.sendto(data, address)
            return self._sock.sendmsg([data], [asked], 0, address)
        except OSError:
            # No room, or a client that cannot be reached: lost, as UDP has it.
            return 0

    def flows(self, now: float) -> Iterator[Flow]:
        """Return what a table of flows says of each client."""
        return (client.flow(now) for client in self._clients.values())

    def samples(self) -> Iterator[Sample]:
        """Return a sample for each count."""
        return self._counts.samples(self._clients.values())

    def _unwatch(self) -> None:
        self.worker.splicer.unwatch(self._sock.fileno())

    def _touch(self, client: UdpClient) -> None:
        client.active = self.worker.splicer.clock.now
        self._clients.move_to_end(client.key)

    def _readable(self, _events: int) -> None:
        sock, asked = self._sock, None
        for _ in range(_BATCH):
            try:
                if self._asked:
                    size, ancillary, _flags, address = sock.recvmsg_into([datagram], _ROOM)
                    asked = _from(ancillary)
                else:
                    size, address = sock.recvfrom_into(datagram)
            except BlockingIOError:
                return
            except OSError as error:
                _log.warning("%s cannot be read: %s", self.name, error)
                return
            client = self._clients.get((address, asked)) or self._enter((address, asked))
            if client is not None:
                self._touch(client)
                client.send(datagram[:size])

    def _enter(self, key: Key) -> UdpClient | None:
        """Take in a client; None when it cannot be served, and its datagram is lost."""
        if len(self._clients) >= self._most:
            self._evict()
        client = UdpClient(self, key, self.listener.upstream)
        upstream = self.worker.live.upstreams.get(client.upstream)
        try:
            reason = NoEndpoints.reason if upstream is None else client.connect(upstream)
        except OSError:
            self._complain()
            self._evict()
            return None
        if reason:
            self._counts.refuse(reason)
            return None
        self._counts.accept()
        self._clients[key] = client
        self.deadline = min(self.deadline, client.active + self._terms.idle + 1.0)
        return client

    def _evict(self) -> None:
        oldest = next(iter(self._clients.values()), None)
        if oldest is not None:
            oldest.close(EVICTED)

    def _complain(self) -> None:
        now = self.worker.splicer.clock.now
        if now >= self._complain_after:
            self._complain_after = now + _COMPLAINTS
            _log.warning("%s: no descriptor is left, so that datagrams are lost", self.name)


def _wants_asked(sock: socket.socket) -> bool:
    """Have the kernel tell which address was asked, where there are many; return whether it does."""
    if sock.getsockname()[0] not in ("0.0.0.0", "::"):  # noqa: S104 - it is compared
        return False
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    return True


def _from(ancillary: list[tuple[int, int, bytes]]) -> Asked:
    """Return the control message for answers to a datagram that came with `ancillary`."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            # The interface is left to the routes: the way back need not be the way in.
            return level, kind, _V4.pack(0, _V4.unpack(data)[1], bytes(4))
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            address, interface = _V6.unpack(data)
            return level, kind, _V6.pack(address, interface if address.startswith(_LINK_LOCAL) else 0)
    return None
