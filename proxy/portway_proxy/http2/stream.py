"""One stream of a connection: what may be sent on it, what came, and when it is over (RFC 9113, 5)."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Final

from portway_proxy.http2 import frames
from portway_proxy.http2.codes import END_STREAM, LARGEST_FRAME, LARGEST_WINDOW, Code, StreamFault

if TYPE_CHECKING:
    from portway_proxy.http2.outgoing import Outgoing
    from portway_proxy.http2.unpacking import Block

__all__ = ["Stream"]

_DRIBBLE: Final = 256  # Bytes of a frame that a client makes so small by its window (CVE-2019-9511).


class Stream(metaclass=ABCMeta):
    """One stream; whoever serves or asks derives from it and is told what comes by the methods `on_...`.

    `window` is how many bytes the peer takes now, `queued` how many wait for it to take more; `room` is how many it may
    still send. `missing` counts what is left of a body whose length was announced; it is negative for any other.
    `headed` says that the head came, and what is still to come are trailers. The peer has ended its side when
    `received` is true, we ours when `sent` is; a `two_way` stream goes on in one direction when the other has ended.
    """

    __slots__ = (
        "_held",
        "_owed",
        "_queue",
        "_trailers",
        "connection",
        "ending",
        "headed",
        "id",
        "missing",
        "queued",
        "received",
        "room",
        "sent",
        "turn",
        "two_way",
        "window",
    )

    def __init__(self, connection: Outgoing, number: int) -> None:
        self.connection = connection
        self.id = number
        self.window = connection.first_window
        self.room = connection.terms.window
        self.queued = 0
        self.missing = -1
        self.headed = False
        self.received = False
        self.sent = False
        self.ending = False
        self.turn = False
        self.two_way = False
        self._held = 0
        self._owed = 0
        self._queue: deque[memoryview] | None = None
        self._trailers = b""

    # --- what comes

    @abstractmethod
    def on_head(self, block: Block, *, end: bool) -> None:
        """Take a head, behind which nothing comes if this is the `end`; set `headed` unless it is an interim one.

        Raises `StreamFault` for a malformed one.
        """

    @abstractmethod
    def on_data(self, data: bytes) -> None:
        """Take a part of the body; what is done with it is to be told to `credit`."""

    @abstractmethod
    def on_end(self, trailers: Block | None) -> None:
        """Take the end of the body, with its trailers. Raises `StreamFault` for malformed ones."""

    @abstractmethod
    def on_reset(self, code: Code) -> None:
        """Take the end of the stream: the peer broke it off, or did what may not be."""

    def on_drained(self) -> None:  # noqa: B027 - of interest to those alone that hold something back
        """Take the news that nothing is `queued` any more."""

    def take(self, data: bytes, *, end: bool) -> None:
        """Hand on a part of the body; raises `StreamFault` when it is not of the length that was announced."""
        if self.missing >= 0:
            self.missing -= len(data)
            if self.missing < 0 or (end and self.missing):
                raise StreamFault(Code.PROTOCOL_ERROR, "the body is not as long as was announced")
        if data:
            self._held += len(data)
            self.on_data(data)
        if end:
            self.take_end(None)

    def take_end(self, trailers: Block | None) -> None:
        """Hand on the end of the body; raises `StreamFault`."""
        if self.missing > 0:
            raise StreamFault(Code.PROTOCOL_ERROR, "the body is shorter than was announced")
        self.received = True
        self.on_end(trailers)
        if self.sent:
            self.connection.forget(self)

    def credit(self, size: int) -> None:
        """Note that `size` bytes of the body are done with, so that the peer may send as many more."""
        self._held -= size
        self.give_back(size)

    def give_back(self, size: int) -> None:
        """Let the peer send as many bytes more as it sent for nothing."""
        self.connection.credit(size)
        if self.received:
            return
        self._owed += size
        # In halves, or every little frame would be answered by another.
        if self._owed * 2 >= self.connection.terms.window:
            self.connection.emit(frames.window_update(self.id, self._owed))
            self.room += self._owed
            self._owed = 0

    # --- what leaves

    def send_head(self, block: bytes, *, end: bool) -> None:
        """Send a head, which is the `end` when nothing follows."""
        connection = self.connection
        connection.emit(connection.head(self.id, block, END_STREAM if end else 0))
        if end:
            self._end()

    def send_whole(self, block: bytes, body: bytes) -> None:
        """Send a head and the whole body."""
        size = len(body)
        connection = self.connection
        head = connection.head(self.id, block, 0 if size else END_STREAM)
        if not size:
            connection.emit(head)
            self._end()
        elif self._fits(size):
            self._spend(size)
            connection.emit(head + frames.data(self.id, body, END_STREAM))
            self._end()
        else:
            connection.emit(head)
            self._wait(body, end=True)

    def send(self, data: bytes, *, end: bool) -> None:
        """Send a part of the body as far as the peer takes it now; the rest is `queued`."""
        size = len(data)
        if size and not self.queued and self._fits(size):
            self._spend(size)
            self.connection.emit(frames.data(self.id, data, END_STREAM if end else 0))
            if end:
                self._end()
        else:
            self._wait(data, end=end)

    def send_end(self, trailers: bytes) -> None:
        """Send the end of the body, with a block of trailers unless that is empty."""
        if trailers and not self.queued:
            self.connection.emit(self.connection.head(self.id, trailers, END_STREAM))
            self._end()
            return
        self._trailers = trailers
        self._wait(b"", end=True)

    def _fits(self, size: int) -> bool:
        connection = self.connection
        return size <= self.window and size <= connection.window and size <= LARGEST_FRAME and not connection.paused

    def _spend(self, size: int) -> None:
        connection = self.connection
        self.window -= size
        connection.window -= size
        connection.data_sent += 1

    def _wait(self, data: bytes, *, end: bool) -> None:
        if data:
            self._queue = self._queue or deque()
            self._queue.append(memoryview(data))
            self.queued += len(data)
        self.ending = end
        self.connection.stand_in_line(self)

    def serve(self) -> int:
        """Send the next frame that may leave; return how many bytes of a body it had, -1 when there is none."""
        connection = self.connection
        if self.queued:
            most = min(self.window, connection.window, LARGEST_FRAME)
            if most <= 0:
                return -1
            data = self._take(most)
            self._spend(len(data))
            if self.queued and most < _DRIBBLE:
                connection.data_sent -= 1  # It buys no WINDOW_UPDATE: one byte after the other is a flood.
            end = self.ending and not self.queued and not self._trailers
            connection.emit(frames.data(self.id, data, END_STREAM if end else 0))
            if end:
                self._end()
            return len(data)
        if not self.ending or self.sent:
            return -1
        if self._trailers:
            connection.emit(connection.head(self.id, self._trailers, END_STREAM))
        else:
            connection.emit(frames.data(self.id, b"", END_STREAM))
        self._end()
        return 0

    def _take(self, most: int) -> bytes:
        """Take at most so many bytes out of the queue."""
        queue = self._queue
        parts: list[memoryview] = []
        missing = most
        while queue and missing:
            part = queue.popleft()
            if len(part) > missing:
                queue.appendleft(part[missing:])
                part = part[:missing]
            parts.append(part)
            missing -= len(part)
        self.queued -= most - missing
        return b"".join(parts)

    def _end(self) -> None:
        self.sent = True
        connection = self.connection
        connection.patience.regain()
        if self.received:
            connection.forget(self)
        elif connection.server and not self.two_way:
            # Whoever was answered need not send the rest.
            self.reset(Code.NO_ERROR)

    def open_window(self, size: int) -> None:
        """Let so many more bytes go (fewer, if negative); raises `StreamFault` when that is more than there can be."""
        self.window += size
        if self.window > LARGEST_WINDOW:
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "the window of a stream is too large")
        if self.queued:
            self.connection.stand_in_line(self)

    def reset(self, code: Code) -> None:
        """Break the stream off; harmless when it is over."""
        self.connection.cut(self, code)

    def drop(self) -> None:
        """Forget what came and what waits to leave: nobody will take it."""
        self.queued = 0
        self._queue = None
        self.sent = self.received = True
        self.connection.credit(self._held)
        self._held = 0
