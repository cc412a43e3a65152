"""Two sockets coupled: what arrives on one leaves on the other, until both have ended."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final

from portway_proxy.clock import NEVER
from portway_proxy.l4.pump import NOTHING, SINK, SOURCE, Pump
from portway_proxy.l4.splicer import FAILED, LAST, QUIET, READABLE, WRITABLE, Splicer
from portway_proxy.listeners import KEEP_ALIVE

__all__ = ["CLIENT_RESET", "CLOSED", "DONE", "IDLE", "LIFETIME", "UPSTREAM_RESET", "Relay", "reset"]

DONE: Final = "done"
"""Both sides ended what they had to send, and all of it was passed on."""

CLIENT_RESET: Final = "client_reset"
"""The client broke off, or no longer answers the kernel."""

UPSTREAM_RESET: Final = "upstream_reset"
"""The endpoint broke off, or no longer answers the kernel."""

IDLE: Final = "idle"
"""No byte moved in either direction for too long."""

LIFETIME: Final = "lifetime"
"""It has lasted as long as it may."""

CLOSED: Final = "closed"
"""The proxy ended it."""

_YOUNG: Final = 10.0  # Seconds. Most have ended by then, and cost no system call for what only a silent minute needs.
_ABORTIVE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time.


def reset(sock: socket.socket) -> None:
    """Close a socket so that its peer gets a RST and cannot take this for the regular end of what it was sent."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORTIVE)
    sock.close()


def _interest(reader: Pump, writer: Pump) -> int:
    """Return what is of interest in a socket that one pump reads from and the other writes to."""
    return (READABLE if reader.need is SOURCE else 0) | (WRITABLE if writer.need is SINK else 0) or QUIET


class Relay:
    """Couples `client` and `upstream`, non-blocking stream sockets that belong to the relay from now on.

    A descriptor that an event loop's transport uses must be duplicated for it. `idle` and `lifetime` (0: no end) are in
    seconds. `on_done` is called once, when both sockets are closed; `reason` says by then why: one of this module's or
    what `abort` got.
    """

    __slots__ = (
        "_client_interest",
        "_down",
        "_end",
        "_idle",
        "_last",
        "_on_done",
        "_quiet",
        "_splicer",
        "_up",
        "_upstream_interest",
        "client",
        "deadline",
        "reason",
        "upstream",
    )

    def __init__(
        self,
        splicer: Splicer,
        client: socket.socket,
        upstream: socket.socket,
        *,
        idle: float,
        lifetime: float = 0.0,
        on_done: Callable[[Relay], None],
    ) -> None:
        self.client = client
        self.upstream = upstream
        self.reason = ""
        self._splicer = splicer
        # The clock's time may be a second old: without that second a relay could end early.
        self._idle = idle + 1.0
        now = splicer.clock.now
        self._quiet = now + self._idle
        self._last = now + lifetime + 1.0 if lifetime else NEVER
        self._end = min(now + _YOUNG, self._last)
        self._on_done = on_done
        self._up = Pump(splicer.pipes, splicer.bulk, client, upstream)
        self._down = Pump(splicer.pipes, splicer.bulk, upstream, client)
        self._client_interest = READABLE
        self._upstream_interest = READABLE
        self.deadline = min(self._quiet, self._end)

    def __repr__(self) -> str:
        return f"<Relay {self._up.need} {self.sent} {self._down.need} {self.received} {self.reason or 'running'}>"

    @property
    def sent(self) -> int:
        """The bytes that went from the client to the upstream so far."""
        return self._up.moved

    @property
    def received(self) -> int:
        """The bytes that went from the upstream to the client so far."""
        return self._down.moved

    def start(self, to_upstream: bytes = b"", to_client: bytes = b"") -> None:
        """Begin, with bytes that were read from one side already and that the other gets first."""
        if to_upstream:
            self._up.put(to_upstream)
        if to_client:
            self._down.put(to_client)
        if to_upstream or to_client:
            self._client_interest = _interest(self._up, self._down)
            self._upstream_interest = _interest(self._down, self._up)
        self._splicer.watch(self.client.fileno(), self._client_interest, self._on_client)
        self._splicer.watch(self.upstream.fileno(), self._upstream_interest, self._on_upstream)
        self._splicer.clock.watch(self)
        if self._up.need is SOURCE:
            # Most clients speak first, and their bytes have come while the endpoint was connected to.
            self._run(self._up)

    def abort(self, reason: str = CLOSED) -> None:
        """End at once: both sides get a RST. Harmless when it has ended."""
        self._finish(reason, reset)

    def expire(self) -> None:
        """End, because nothing moved for too long or its time is over; when it is no longer young, have it watched."""
        if self.deadline < self._end:
            self.abort(IDLE)
        elif self._end == self._last:
            self.abort(LIFETIME)
        else:
            self._end = self._last
            self.deadline = min(self._quiet, self._end)
            for level, option, value in KEEP_ALIVE:
                # The client's socket has it from its listening one.
                self.upstream.setsockopt(level, option, value)

    def _on_client(self, events: int) -> None:
        self._serve(events, self._up, self._down)

    def _on_upstream(self, events: int) -> None:
        self._serve(events, self._down, self._up)

    def _serve(self, events: int, reader: Pump, writer: Pump) -> None:
        """Do what the events of a socket allow: `reader` reads from it, `writer` writes to it."""
        self._quiet = quiet = self._splicer.clock.now + self._idle
        self.deadline = min(quiet, self._end)
        if reader.need is SOURCE and events & ~WRITABLE:
            if events & LAST:
                reader.last = True
            self._run(reader)
        if writer.need is SINK and events & ~READABLE:
            self._run(writer)
        elif events & FAILED and reader.need is not SOURCE:
            # Nobody reads here, so that only the event tells.
            self.abort(self._blame(reader.source))

    def _run(self, pump: Pump) -> None:
        if self.reason:
            return
        before = pump.need
        try:
            need = pump.run()
            if need is NOTHING and not self._ended():
                pump.sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._break_off(pump)
            return
        if need is before:
            return
        if self._ended():
            self._finish(DONE, socket.socket.close)
        else:
            self._follow()

    def _ended(self) -> bool:
        return self._up.need is NOTHING and self._down.need is NOTHING

    def _follow(self) -> None:
        """Make the interest in the sockets equal what the pumps need."""
        interest = _interest(self._up, self._down)
        if interest != self._client_interest:
            self._client_interest = interest
            self._splicer.want(self.client.fileno(), interest)
        interest = _interest(self._down, self._up)
        if interest != self._upstream_interest:
            self._upstream_interest = interest
            self._splicer.want(self.upstream.fileno(), interest)

    def _break_off(self, pump: Pump) -> None:
        """End after a pump's failure; what the failed side had sent before it broke off is passed on first."""
        if not pump.sink_failed:
            self.abort(self._blame(pump.source))
            return
        back = self._down if pump is self._up else self._up
        if back.need is SOURCE:
            with contextlib.suppress(OSError):
                back.run()
        self.abort(self._blame(pump.sink))

    def _blame(self, sock: socket.socket) -> str:
        return CLIENT_RESET if sock is self.client else UPSTREAM_RESET

    def _finish(self, reason: str, close: Callable[[socket.socket], None]) -> None:
        if self.reason:
            return
        self.reason = reason
        self._splicer.clock.unwatch(self)
        for pump in (self._up, self._down):
            self._splicer.unwatch(pump.source.fileno())
            pump.close()
            close(pump.source)
        self._on_done(self)
