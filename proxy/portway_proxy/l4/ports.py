"""The layer 4 ports of a worker: made equal to what a snapshot asks for, and asked together what passes through."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Final, TypeAlias

from portway_proxy.flows import Flow
from portway_proxy.l4.passthrough import ListenerWorker, Passthrough
from portway_proxy.l4.sharing import Shared
from portway_proxy.l4.udp import UdpPassthrough
from portway_proxy.listeners import key_of
from portway_proxy.metrics import Sample
from portway_proxy.snapshot import Listener, Transport

__all__ = ["Ports"]

_LAST_CALL: Final = 0.01  # Seconds; a handshake that has begun takes the time of one way, a millisecond in a cluster.

_Port: TypeAlias = Passthrough | UdpPassthrough


class Ports:
    """The ports that are open, those that are not any more but whose relays run on, and what shares other ports."""

    __slots__ = ("_closing", "_open", "_retired", "_shared", "_worker")

    def __init__(self, worker: ListenerWorker) -> None:
        self._worker = worker
        self._open: dict[str, _Port] = {}
        self._closing: list[_Port] = []
        self._retired: list[_Port] = []
        self._shared: list[Shared] = []

    def share(self, port: Shared) -> None:
        """Take in what passes through a port that is not ours."""
        self._shared.append(port)

    def follow(self, listeners: Iterable[Listener], sockets: MutableMapping[str, socket.socket]) -> None:
        """Serve these listeners and no others; relays of those that go run on. `settle` has to follow.

        `sockets` are new ones by name: those that are needed are taken out of it.
        """
        wanted = {key_of(listener): listener for listener in listeners}
        for key in [key for key in self._open if key not in wanted]:
            self._closing.append(port := self._open.pop(key))
            if isinstance(port, Passthrough):
                port.deafen()
        for key, listener in wanted.items():
            sock = sockets.pop(key, None)
            running = self._open.get(key)
            if running is not None:
                running.take(listener)
                if sock is not None:
                    sock.close()
            elif sock is not None:
                self._open[key] = port = self._make(listener, sock)
                port.start()
        self._retired = [port for port in self._retired if port.relays]

    async def settle(self) -> None:
        """Close the ports that are not wanted any more, once those who are about to connect have connected."""
        if self._closing:
            await asyncio.sleep(_LAST_CALL)
        for port in self._closing:
            port.retire()
        self._retired += [port for port in self._closing if port.relays]
        self._closing.clear()

    def busy(self) -> bool:
        """Return whether anything is relayed."""
        return any(port.relays for port in self._all())

    def hold(self) -> None:
        """Accept no connection until `release`."""
        for port in self._tcp():
            port.hold()

    def release(self) -> None:
        """Accept connections again."""
        for port in self._tcp():
            port.release()

    def finish_accepting(self) -> None:
        """Take in who has come already, and nobody else."""
        for port in self._open.values():
            port.finish_accepting()

    def close(self) -> None:
        """End everything at once."""
        for port in self._all():
            port.close()

    def flows(self) -> Iterator[Flow]:
        """Return all that passes through now."""
        now = self._worker.loop.time()
        for port in self._all():
            yield from port.flows(now)

    def samples(self) -> Iterator[Sample]:
        """Return a sample for each count."""
        for port in self._all():
            yield from port.samples()

    def _make(self, listener: Listener, sock: socket.socket) -> _Port:
        kind = UdpPassthrough if listener.transport is Transport.UDP else Passthrough
        return kind(self._worker, listener, sock)

    def _tcp(self) -> Iterator[Passthrough]:
        return (port for port in self._open.values() if isinstance(port, Passthrough))

    def _all(self) -> Iterator[_Port | Shared]:
        yield from self._open.values()
        yield from self._closing
        yield from self._retired
        yield from self._shared
