"""Responses that reach their clients no faster than a rate: nginx's limit_rate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage
    from portway_proxy.l7.upstream import UpstreamConnection
    from portway_proxy.snapshot import Rate

__all__ = ["Meter", "Paced", "SetPace"]

_TICK: Final = 0.1  # Seconds between two parts.


class SetPace:
    """The step that gives a response its pace."""

    __slots__ = ("_rate",)

    def __init__(self, rate: Rate) -> None:
        self._rate = rate

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:  # noqa: ARG002 - a step's signature
        """Return True."""
        passage.pace = self._rate
        return True


class Paced(asyncio.Protocol):
    """The protocol of an endpoint's connection while a response with a pace comes: it hands on what is due.

    Nothing is read from the endpoint while something waits, so that all that waits is one read.
    """

    __slots__ = ("_begun", "_connection", "_held", "_loop", "_rate", "_sent", "_timer", "_transport")

    def __init__(
        self,
        connection: UpstreamConnection,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        rate: Rate,
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._loop = loop
        self._rate = rate
        self._held = b""
        self._sent = 0
        self._begun = 0.0
        self._timer: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Take what the endpoint sent."""
        self._begun = self._begun or self._loop.time()
        self._held += data
        if self._timer is None:
            self.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on: nothing waits, or nobody waits for it."""
        self._stop()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._connection.resume_writing()

    def go_on(self) -> None:
        """Hand on what is due, unless the client does not keep up even with that."""
        self._stop()
        exchange = self._connection.exchange
        if exchange is None or exchange.client.write_paused:
            return
        due = int(self._rate.after + self._rate.bytes * (self._loop.time() - self._begun + 1.0)) - self._sent
        data, self._held = self._held[: max(due, 0)], self._held[max(due, 0) :]
        if self._held:
            self._transport.pause_reading()
            self._timer = self._loop.call_later(_TICK, self.go_on)
        if data:
            self._sent += len(data)
            self._connection.data_received(data)
        if not self._held and self._connection.exchange is exchange and not exchange.client.write_paused:
            self._transport.resume_reading()

    def end(self) -> bool:
        """Leave the connection to itself; return whether the endpoint has sent nothing beyond its response."""
        self._stop()
        if not self._transport.is_closing():
            self._transport.set_protocol(self._connection)
            self._transport.resume_reading()
        return not self._held

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Meter:
    """Holds what came of a response and is not due yet; `go_on` is called when more may be.

    `size` is how many bytes are held.
    """

    __slots__ = ("_begun", "_go_on", "_held", "_loop", "_rate", "_sent", "_waking")

    def __init__(self, rate: Rate, loop: asyncio.AbstractEventLoop, go_on: Callable[[], None]) -> None:
        self._rate = rate
        self._loop = loop
        self._go_on = go_on
        self._held = b""
        self._sent = 0
        self._begun = loop.time()
        self._waking = False

    @property
    def size(self) -> int:
        """How many bytes are held."""
        return len(self._held)

    def take(self, pieces: list[bytes]) -> list[bytes]:
        """Take what came, and return what is due, if anything is."""
        held = b"".join((self._held, *pieces))
        due = int(self._rate.after + self._rate.bytes * (self._loop.time() - self._begun + 1.0)) - self._sent
        part, self._held = held[: max(due, 0)], held[max(due, 0) :]
        self._sent += len(part)
        if self._held and not self._waking:
            self._waking = True
            self._loop.call_later(_TICK, self._wake)
        return [part] if part else []

    def _wake(self) -> None:
        self._waking = False
        self._go_on()
