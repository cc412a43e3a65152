"""The part of a stream that takes the body of its request, and passes it on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from portway_proxy.clock import NEVER
from portway_proxy.errors import ClientError
from portway_proxy.http2.semantics import check_trailers
from portway_proxy.l7 import flow
from portway_proxy.l7.framing import Framing, UntilClose
from portway_proxy.l7.stream_guest import StreamGuest
from portway_proxy.l7.uploader import end_body, send_on

if TYPE_CHECKING:
    from portway_proxy.http2.unpacking import Block
    from portway_proxy.l7.buffering import Gathering
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.http2 import Http2Client
    from portway_proxy.l7.request import RequestHead

__all__ = ["StreamUploader"]


class StreamUploader(StreamGuest):
    """A stream of a client, as far as it is about the body of its request.

    What comes of it is credited once the endpoint's connection has taken it, so that no more than the window of a
    stream waits here, or than is gathered.
    """

    __slots__ = (
        "_dropping",
        "_early",
        "_gathering",
        "_passed",
        "_paused",
        "_prepaid",
        "_uncredited",
        "body_limit",
        "exchange",
        "trailers",
    )

    def __init__(self, home: Http2Client, number: int) -> None:
        super().__init__(home, number)
        self.exchange: Exchange | None = None
        self.body_limit = 0
        self.trailers: Sequence[bytes] = ()
        self._dropping = False
        self._early: list[bytes] = []
        self._gathering: Gathering | None = None
        self._passed = False
        self._paused = False
        self._prepaid = 0
        self._uncredited = 0

    def on_data(self, data: bytes) -> None:
        """Pass on a part of the body, or hold it until somebody takes it."""
        exchange = self.exchange
        if self._dropping or exchange is None:
            self._done_with(len(data))
        elif self._gathering is not None:
            self._gather(self._gathering, data)
        elif exchange.connection is None or self._early or self.two_way:
            self._early.append(data)
        else:
            self._pass_on(exchange, data)

    def on_end(self, trailers: Block | None) -> None:
        """Pass on the end of the body."""
        if trailers is not None:
            self.trailers = [b"%b: %b" % field for field in check_trailers(trailers.fields)]
        exchange = self.exchange
        if self._gathering is not None:
            gathering, self._gathering = self._gathering, None
            self._watch(NEVER)
            gathering.over()
        elif exchange is not None and exchange.connection is not None and not self._early and not self.two_way:
            self._watch(NEVER)
            if not self._dropping:
                self._passed = True
                end_body(exchange, exchange.connection)

    @property
    def request_read(self) -> bool:
        """Whether the whole body of the request was passed on."""
        return self._passed

    def send_body(self) -> None:
        """Send what came of the body, then the rest as it comes."""
        exchange = self.exchange
        early, self._early = self._early, []
        self._paused = False
        for data in early:
            if exchange is not None and exchange.connection is not None:
                self._pass_on(exchange, data)
        if exchange is None or exchange.connection is None:
            return
        if self.received:
            self._passed = True
            end_body(exchange, exchange.connection)
        else:
            self._watch(self._patience())

    def _pass_on(self, exchange: Exchange, data: bytes) -> None:
        connection = exchange.connection
        if connection is None:
            return
        try:
            send_on(exchange, connection, [data], self.body_limit)
        except ClientError as error:
            flow.fail(exchange, error)
            return
        if self._paused:
            self._uncredited += len(data)
            return
        self._done_with(len(data))
        if not self.queued:
            # Each byte buys a little time: who sends one now and then, always in time, runs out of it.
            until = self._patience()
            rate = self.http.limits.body_rate
            self._watch(min(until, self.deadline + len(data) / rate) if rate else until)

    def _done_with(self, size: int) -> None:
        """Credit what was passed on, unless it was when it was gathered."""
        paid = min(size, self._prepaid)
        self._prepaid -= paid
        if size > paid:
            self.credit(size - paid)

    def framing_of(self, head: RequestHead) -> Framing:  # noqa: ARG002 - an asker's signature
        """Return a framing without an end: a stream tells of its own."""
        return UntilClose()

    def gather(self, gathering: Gathering) -> bool:
        """Hold the body of the request for a while; return whether enough of it is there already."""
        if self.received or not gathering.take(b"".join(self._early)):
            return True
        self._gathering = gathering
        self._prepay(sum(map(len, self._early)))
        self._watch(self.http.clock.now + self.http.timeouts.body)
        return False

    def _gather(self, gathering: Gathering, data: bytes) -> None:
        self._early.append(data)
        self._prepay(len(data))
        self._watch(self.http.clock.now + self.http.timeouts.body)
        if not gathering.take(data):
            self._gathering = None
            self._watch(NEVER)
            gathering.over()

    def _prepay(self, size: int) -> None:
        """Credit what is still held: more is to come than a window holds."""
        self._prepaid += size
        self.credit(size)

    def drop_body(self) -> None:
        """Send what is left of the body nowhere."""
        self._dropping = True
        early, self._early = self._early, []
        self._done_with(sum(map(len, early)))

    def pause(self) -> None:
        """Credit nothing for now: the endpoint does not keep up."""
        self._paused = True
        if not self.queued:
            self._watch(NEVER)

    def resume(self) -> None:
        """Let the client go on."""
        self._paused = False
        size, self._uncredited = self._uncredited, 0
        if size:
            self._done_with(size)
        if not self.queued:
            self._watch(self._patience())

    def _patience(self) -> float:
        """Return the deadline of a client that keeps up with its response."""
        exchange = self.exchange
        connection = None if exchange is None else exchange.connection
        if connection is None or connection.open_ended or self.received or self._paused or self._dropping:
            return NEVER
        return self.http.clock.now + self.http.timeouts.body
