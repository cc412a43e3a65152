"""A connection to an endpoint that speaks HTTP/2, shared by many calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from portway_proxy.clock import NEVER
from portway_proxy.endpoint_contexts import Kept
from portway_proxy.http2 import frames
from portway_proxy.http2.codes import Code, ConnectionFault, Kind
from portway_proxy.http2.connection import Connection
from portway_proxy.http2.terms import Terms
from portway_proxy.l7.call import Call
from portway_proxy.l7.passage import timeouts_of

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.http import Http
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.l7.shared_pool import SharedPool
    from portway_proxy.l7.translation import Packed

__all__ = ["SharedConnection"]

# What an endpoint may send of one response before its client has taken it is bounded by the stream's window, and so by
# the number of streams for all: one slow client must not hold up the others of the connection.
_TERMS: Final = Terms(window=1 << 17, connection_window=1 << 30, glitches=10_000, glitch_rate=1000.0)
_SILENCE: Final = 320.0  # Seconds until an endpoint with calls is asked whether it lives: gRPC's servers bear 300.
_ANSWER: Final = 20.0  # Seconds for the answer; gRPC's keepalive timeout 20.


class SharedConnection(asyncio.Protocol):
    """The protocol of the connection.

    One that is `alone` is for a single call. It is `ready` once the endpoint's settings say how many calls it takes,
    `lost` when it has ended. `deadline` is when it has been idle for too long, or is asked whether it lives.
    """

    __slots__ = (
        "_alone",
        "_busy",
        "_calls",
        "_came",
        "_heard",
        "_later",
        "_pinged",
        "_served",
        "_streams",
        "_transport",
        "_waking",
        "asker",
        "deadline",
        "http",
        "lost",
        "pool",
        "ready",
    )

    _transport: asyncio.Transport

    def __init__(self, http: Http, pool: SharedPool, asker: Exchange, *, alone: bool) -> None:
        """Make one for the sake of `asker`."""
        self.asker = asker
        self.http = http
        self.pool = pool
        self.deadline = NEVER
        self.ready = False
        self.lost = False
        self._alone = alone
        self._streams = Connection(_TERMS, self._wake, http.loop.time)
        self._calls = 0
        self._served = 0
        self._heard = 0.0
        self._pinged = False
        self._busy = False
        self._waking = False
        self._later: list[Call] = []
        self._came: list[Call] = []

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._calls

    @property
    def room(self) -> int:
        """How many more calls it takes now."""
        streams = self._streams
        if not self.ready or self.lost or not streams.can_open or self._transport.is_closing():
            return 0
        return 1 - self._served if self._alone else streams.most_streams - len(streams.streams)

    @property
    def fault(self) -> str:
        """What the endpoint did that may not be, if it did."""
        return str(self._streams.fault or "")

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin as a client does."""
        self._transport = cast("asyncio.Transport", transport)
        self.deadline = self.http.clock.now + timeouts_of(self.asker).connect
        self._transport.set_write_buffer_limits(high=self.http.limits.buffer)
        self.http.clock.watch(self)
        self._streams.begin()

    def data_received(self, data: bytes) -> None:
        """Take what the endpoint sent, and hand it on, all of each call together."""
        self._heard = self.http.clock.now
        self._pinged = False
        self._busy = True
        self._streams.receive(data)
        if not self.ready and self._streams.frames and self._streams.fault is None:
            self._hear_terms()
        while self._came:
            came, self._came = self._came, []
            for call in came:
                call.hand_on()
        self._busy = False
        self._flush()
        if self._streams.fault is not None:
            self._transport.close()
        elif not self._calls:
            self.rest()

    def _hear_terms(self) -> None:
        """Be ready for calls, or end: who takes none from the first would have us connect again and again."""
        if self._streams.can_open:
            self.ready = True
            self.pool.ready(self)
        else:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """End what is under way."""
        self.lost = True
        self.http.clock.unwatch(self)
        self.pool.parted(self)
        self._streams.drop_streams(Code.CONNECT_ERROR)

    def pause_writing(self) -> None:
        """Send no bodies: the endpoint does not keep up."""
        self._streams.paused = True

    def resume_writing(self) -> None:
        """Send bodies again."""
        self._streams.paused = False
        self._streams.pump()
        self._wake()

    def expire(self) -> None:
        """End an idle connection, ask a silent endpoint whether it lives, and give up one that does not answer."""
        now = self.http.clock.now
        if not self._calls:
            self.close()
        elif self._pinged:
            self._streams.end(ConnectionFault(Code.NO_ERROR, "the endpoint does not answer a ping"))
            self.close()
        elif now - self._heard >= _SILENCE:
            self._pinged = True
            self.deadline = now + _ANSWER
            self._streams.emit(frames.frame(Kind.PING, 0, 0, b"portway?"))
        else:
            self.deadline = self._heard + _SILENCE

    # --- the pool's side

    def start(self, exchange: Exchange) -> None:
        """Send a request; only while there is `room`."""
        call = Call(self, exchange, first=not self._served)
        self.pool.opened(call)
        self.http.clock.watch(call)
        if not self._calls:
            self.deadline = self.http.clock.now + _SILENCE
        self._calls += 1
        self._served += 1
        call.begin(self._streams, exchange)

    def wind_down(self) -> None:
        """Take no more calls, and end with the last one."""
        self._streams.leaving = True
        if not self._calls:
            self.close()

    def close(self) -> None:
        """End the connection at once."""
        self.deadline = NEVER
        self.pool.parted(self)
        self._transport.abort()

    def rest(self) -> None:
        """Wait for another call, unless there will be none."""
        http = self.http
        if self._streams.leaving or self._alone or self.pool.retired or http.worker.draining:
            self.close()
        else:
            self.deadline = http.clock.now + http.timeouts.upstream_idle

    # --- the calls' side

    def pack(self, exchange: Exchange, head: RequestHead) -> Packed:
        """Return a request as it leaves."""
        client, passage = exchange.client, exchange.passage
        label = self.pool.label
        if passage is None or not passage.touches_request:
            fields = client.repeats.fields(head, client.forwarded, label)
        else:
            fields = passage.request_fields(head, client.forwarded, label)
        return self.http.request_packer.request(head, fields, secure=self.pool.secure)

    def later(self, call: Call) -> None:
        """Have `call.push` called before anything leaves."""
        self._later.append(call)
        self._wake()

    def came(self, call: Call) -> None:
        """Have `call.hand_on` called when all that came was taken."""
        self._came.append(call)

    def leave(self, call: Call) -> None:
        """Count a call no longer."""
        self.http.clock.unwatch(call)
        self.pool.ended(self, call)
        self._calls -= 1
        if not self._calls and not self._busy and not self.lost:
            self._wake()

    def session(self) -> Kept | None:
        """Return the TLS session, if there is one to go on with."""
        return Kept.of(self._transport.get_extra_info("ssl_object"))

    # --- what leaves

    def _wake(self) -> None:
        if not self._waking and not self._busy:
            self._waking = True
            self.http.loop.call_soon(self._woken)

    def _woken(self) -> None:
        self._waking = False
        if self.lost:
            return
        if self._streams.more:
            self._streams.pump()
        self._flush()
        if not self._calls:
            self.rest()

    def _flush(self) -> None:
        """Send what is to leave now."""
        while self._later:
            later, self._later = self._later, []
            for call in later:
                call.push()
        out = self._streams.out
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self._transport.write(data)
        if self._streams.more:
            self._wake()
