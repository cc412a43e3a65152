"""Layer 7 of a worker on connections in memory: whoever writes bytes here decides what comes, in which pieces and when.

The parts are the worker's own; only the transports, which uvloop makes elsewhere, are lists of bytes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from portway_proxy.l7.client import ClientConnection
from portway_proxy.l7.upstream import UpstreamConnection
from portway_proxy.live import Live
from portway_proxy.snapshot import Endpoint, Host, Origin, PathMatch, Route, Snapshot, Upstream
from worker_parts import Parts

__all__ = ["Loop", "Proxy", "Wire"]

WEB = "shop/web:80"
_ENDPOINTS = 2  # Of the upstream; connections to both are alike.
_ORIGIN = Origin("Ingress", "shop", "web")
_TURNS = 12  # Of the loop, until nothing is left to do: a connect takes the most.


def _snapshot(first: int) -> Snapshot:
    endpoints = tuple(Endpoint("192.0.2.1", first + number) for number in range(_ENDPOINTS))
    return Snapshot(
        hosts=(Host("", (Route("/", PathMatch.PREFIX, WEB, _ORIGIN),)),),
        upstreams=(Upstream(WEB, endpoints=endpoints),),
    )


class _Socket(socket.socket):
    """A socket of the system, to be polled, which takes any option: TCP's are not for its family."""

    def setsockopt(self, *_: object) -> None:
        """Do nothing."""


class Wire(asyncio.Transport):
    """One connection: `sent` is what the proxy wrote, `how` how the proxy ended it: empty, `eof`, `close` or `abort`.

    Like uvloop's it tells the protocol to pause once more than the limit waits for a peer that takes nothing.
    """

    def __init__(self, loop: Loop, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("192.0.2.9", 4), "sockname": ("192.0.2.8", 80)})
        self.sent = bytearray()
        self.how = ""
        self.lost = False
        self._loop = loop
        self._protocol = protocol
        ours, self._theirs = socket.socketpair()
        self._ours = _Socket(fileno=ours.detach())
        self._ours.setblocking(False)
        self._limit = 65536
        self._paused = False
        self._full = False
        self._stalled = False
        self._waiting = 0
        self._pending: list[Callable[[], None]] = []

    # --- what the peer does

    def deliver(self, data: bytes) -> None:
        """Have bytes arrive, now or when the proxy reads again."""
        if data:
            self._later(lambda: self._protocol.data_received(data))

    def end(self) -> None:
        """Have the peer's end arrive."""
        self._later(self._end)

    def reset(self) -> None:
        """Have a RST arrive; what waits to be read is lost."""
        self._pending.clear()
        self._lose(ConnectionResetError())

    def stall(self) -> None:
        """Take nothing of what the proxy writes."""
        self._stalled = True

    def take(self) -> None:
        """Take all that waits, and everything after it."""
        self._stalled = False
        self._waiting = 0
        if self._full:
            self._full = False
            if not self.lost:
                self._protocol.resume_writing()
        if self.how == "close":
            self._loop.call_soon(self._lose, None)

    # --- what the proxy does

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._ours if name == "socket" else super().get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:  # noqa: ARG002 - asyncio's signature
        self._limit = high or 65536

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert self.how == "" or self.lost, f"the proxy writes behind its own {self.how}"
        if self.lost:
            return
        self.sent += data
        if self._stalled:
            self._waiting += len(data)
            if self._waiting > self._limit and not self._full:
                self._full = True
                self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return False  # As over TLS: what it carries has no socket that could be spliced.

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def write_eof(self) -> None:
        if not self.how:
            self.how = "eof"

    def pause_reading(self) -> None:
        assert not self._paused
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._loop.call_soon(self._flush)

    def is_closing(self) -> bool:
        return self.how in ("close", "abort") or self.lost

    def close(self) -> None:
        if self.is_closing():
            return
        self.how = "close"
        if not self._waiting:
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        if self.how != "abort":
            self.how = "abort"
            self._loop.call_soon(self._lose, None)

    # --- both

    def connect(self) -> None:
        """Tell the protocol that it is connected."""
        self._protocol.connection_made(self)

    def free(self) -> None:
        """Close what the system knows of it."""
        self._ours.close()
        self._theirs.close()

    def _later(self, happen: Callable[[], None]) -> None:
        self._pending.append(happen)
        self._flush()

    def _flush(self) -> None:
        while self._pending and not self._paused and not self.is_closing():
            self._pending.pop(0)()

    def _end(self) -> None:
        if not self._protocol.eof_received():
            self.close()

    def _lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self._protocol.connection_lost(error)


class Loop(asyncio.SelectorEventLoop):
    """A loop whose connections are wires; `refusing` makes endpoints refuse them. Its faults are in `faults`."""

    def __init__(self) -> None:
        super().__init__()
        self.wires: list[Wire] = []
        self.refusing = False
        self.faults: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    async def create_connection(  # type: ignore[override] # whatever is asked for, it is a wire
        self, factory: Callable[[], asyncio.Protocol], *_: object, **__: object
    ) -> tuple[Wire, asyncio.Protocol]:
        """Connect to an endpoint."""
        if self.refusing:
            raise ConnectionRefusedError
        protocol = factory()
        wire = Wire(self, protocol)
        self.wires.append(wire)
        wire.connect()
        return wire, protocol


class Proxy:
    """A worker with one client and as many connections to endpoints as it makes (`wires`, in their order)."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        loop.wires = []
        loop.faults = []
        loop.refusing = False
        loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self.parts = Parts()
        self.swap()
        idle = self.parts.exchange()
        self.client = Wire(self.loop, ClientConnection(idle.client.http, tls=False))
        self.client.connect()

    def swap(self) -> None:
        """Replace one of the endpoints, as a worker does."""
        live = self.parts.live
        self.parts.live = Live.build(_snapshot(80 + live.generation), live.generation + 1, "", live)

    @property
    def wires(self) -> list[Wire]:
        return self.loop.wires

    @property
    def newest(self) -> Wire | None:
        """The connection to an endpoint that was made last."""
        return self.wires[-1] if self.wires else None

    def happen(self, action: Callable[[], object]) -> None:
        """Have `action` happen in the loop, and all that follows from it; nothing of it may fail."""
        self.loop.call_soon(action)
        self.loop.run_until_complete(self._turns())
        assert self.loop.faults == [], self.loop.faults

    async def _turns(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def close(self) -> None:
        """End everything; nothing may be left of it."""
        try:
            self.happen(self._end_all)
            assert not self.parts.clients
            assert not [timed for timed in self.parts.clock._watched if isinstance(timed, UpstreamConnection)]
            assert all(pool.load == 0 for some in self.parts.live.upstreams.values() for pool in some.pools)
        finally:
            self.loop.run_until_complete(self.parts.tasks.close())
            for wire in (self.client, *self.wires):
                wire.free()
            self.parts.splicer.close()

    def _end_all(self) -> None:
        for wire in (self.client, *self.wires):
            wire.take()
            if not wire.lost:
                wire.reset()
