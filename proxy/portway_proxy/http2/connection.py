"""A connection, either side of it: bytes in, calls of its streams out (RFC 9113)."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import ClassVar, Final

from portway_proxy.http2.codes import (
    ACK,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    PADDED,
    PREFACE,
    PRIORITIZED,
    Code,
    ConnectionFault,
    Kind,
    StreamFault,
)
from portway_proxy.http2.control import Control, FrameTable
from portway_proxy.http2.stream import Stream
from portway_proxy.http2.terms import Terms
from portway_proxy.http2.unpacking import Block, Unpacker

__all__ = ["Connection"]

_HEAD: Final = Struct(">HBBBL")
_SETTINGS, _CONTINUATION = int(Kind.SETTINGS), int(Kind.CONTINUATION)
_GAPS: Final = 8  # Streams that the peer passed over, which hardly any does, and that are remembered.


class _Unfinished:
    """A field block whose end has not come."""

    __slots__ = ("flags", "frames", "number", "parts", "size")

    def __init__(self, number: int, flags: int, part: bytes) -> None:
        self.number = number
        self.flags = flags
        self.parts = [part]
        self.size = len(part)
        self.frames = 0


class Connection(Control):
    """A connection of which we are the `server`, or the client.

    `frames` counts those that came. As a server it makes a stream by `accept` for each that the peer opens; as a client
    it opens its own by `open`.
    """

    __slots__ = ("_accept", "_gaps", "_greeted", "_held", "_next", "_only", "_unfinished", "_unpacker", "frames")

    def __init__(
        self,
        terms: Terms,
        wake: Callable[[], None],
        now: Callable[[], float],
        accept: Callable[[int], Stream] | None = None,
    ) -> None:
        """Begin a connection of which we are the client, unless streams are to be made by `accept`.

        `wake` is called when there is something in `out`, `now` returns seconds.
        """
        super().__init__(terms, wake, now, server=accept is not None)
        self._accept = accept
        self.frames = 0
        self._held = b""
        self._greeted = accept is None
        self._only = _SETTINGS
        self._unfinished: _Unfinished | None = None
        self._unpacker = Unpacker(terms.head)
        self._gaps: list[range] = []
        self._next = 1

    @property
    def owed(self) -> bool:
        """Whether the peer has begun something, a frame or a head, and owes the rest."""
        return bool(self._held) or self._unfinished is not None

    def receive(self, data: bytes) -> None:
        """Take what the peer sent; when that ends the connection, `fault` says so."""
        if self.fault is not None:
            return
        if self._held:
            data = self._held + data
        try:
            self._held = self._take_frames(data)
        except ConnectionFault as fault:
            self.end(fault)

    def _take_frames(self, data: bytes) -> bytes:
        """Take whole frames and return what is left."""
        position, size = 0, len(data)
        if not self._greeted:
            position = self._greet(data)
        unpack, take = _HEAD.unpack_from, self._TAKE_FRAME
        while self._greeted and size - position >= FRAME_HEAD:
            high, low, kind, flags, number = unpack(data, position)
            end = position + FRAME_HEAD + (high << 8 | low)
            if end - position > FRAME_HEAD + LARGEST_FRAME:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame is larger than may be")
            if end > size:
                break
            if self._only >= 0:
                self._check_kind(kind, flags)
            number &= LARGEST_WINDOW
            try:
                take.get(kind, _take_unknown)(self, flags, number, data[position + FRAME_HEAD : end])
            except StreamFault as fault:
                self._fail_stream(number, fault)
            position = end
            self.frames += 1
        return data[position:] if position else data

    def _greet(self, data: bytes) -> int:
        """Return where the first frame begins."""
        if not data.startswith(PREFACE[: len(data)]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "this is not how a client begins")
        if len(data) < len(PREFACE):
            return 0
        self._greeted = True
        return len(PREFACE)

    def _check_kind(self, kind: int, flags: int) -> None:
        if kind != self._only or (kind == _SETTINGS and flags & ACK):
            wanted = Kind(self._only).name
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a frame of kind {kind} where only {wanted} may be")
        if kind == _SETTINGS:
            self._only = -1

    # --- heads

    def _take_headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS without a stream")
        if flags & PADDED:
            payload = _unpadded(payload)
        fault = None
        if flags & PRIORITIZED:
            if len(payload) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS are too short for their priority")
            if int.from_bytes(payload[:4]) & LARGEST_WINDOW == number:
                fault = StreamFault(Code.PROTOCOL_ERROR, "a stream depends on itself")
            payload = payload[5:]
        if not flags & END_HEADERS:
            self._unfinished = _Unfinished(number, flags, payload)
            self._only = _CONTINUATION
            return
        self._take_block(number, payload, fault, end=bool(flags & END_STREAM))

    def _take_continuation(self, flags: int, number: int, payload: bytes) -> None:
        block = self._unfinished
        if block is None or block.number != number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        block.frames += 1
        block.size += len(payload)
        if block.frames > self.terms.continuations or block.size > self.terms.head * 2:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a head has no end")
        block.parts.append(payload)
        if flags & END_HEADERS:
            self._unfinished = None
            self._only = -1
            self._take_block(number, b"".join(block.parts), None, end=bool(block.flags & END_STREAM))

    def _take_block(self, number: int, data: bytes, fault: StreamFault | None, *, end: bool) -> None:
        # Before anything else: a block that nobody wants changes the table too.
        block = self._unpacker.unpack(data)
        stream = self.streams.get(number)
        if stream is None:
            self._open_stream(number, block, fault, end=end)
        elif fault is not None:
            raise fault
        elif stream.received:
            raise StreamFault(Code.STREAM_CLOSED, "HEADERS behind the end of a stream")
        elif not stream.headed:
            self._begin_stream(stream, block, end=end)
        elif end:
            stream.take_end(block)
        else:
            raise StreamFault(Code.PROTOCOL_ERROR, "trailers that are not the end")

    def _open_stream(self, number: int, block: Block, fault: StreamFault | None, *, end: bool) -> None:
        """Take the head of a request."""
        if number <= self.last or self._accept is None or not number % 2:
            self._check_opened(number, "HEADERS")
            if self.was_cut(number):
                return
            raise ConnectionFault(Code.STREAM_CLOSED, "HEADERS on a stream that is over")
        if number > self._final:
            return  # The peer knows, or will soon, that this is not served.
        if number > self.last + 2 and len(self._gaps) < _GAPS:
            self._gaps.append(range(self.last + 2 if self.last else 1, number, 2))
        self.last = number
        if fault is not None:
            raise fault
        if len(self.streams) >= self.terms.streams:
            raise StreamFault(Code.REFUSED_STREAM, "there are as many streams as may be")
        stream = self.streams[number] = self._accept(number)
        self._begin_stream(stream, block, end=end)

    @staticmethod
    def _begin_stream(stream: Stream, block: Block, *, end: bool) -> None:
        stream.received = end
        stream.on_head(block, end=end)
        if end and stream.sent:
            stream.connection.forget(stream)

    # --- bodies

    def _take_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        if not number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA without a stream")
        self.room -= size
        if self.room < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more came than the connection's window allows")
        if flags & PADDED:
            payload = _unpadded(payload)
        end = bool(flags & END_STREAM)
        if not payload and not end:
            self.patience.lose("empty frames")
        stream = self.streams.get(number)
        if stream is None or stream.received or not stream.headed:
            self.credit(size)
            self._take_stray(number, stream)
            return
        stream.room -= size
        if stream.room < 0:
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "more came than the stream's window allows")
        if size > len(payload):
            stream.give_back(size - len(payload))
        stream.take(payload, end=end)

    def _take_stray(self, number: int, stream: Stream | None) -> None:
        """Take DATA for which there is no open stream; raises `ConnectionFault` and `StreamFault`."""
        if stream is not None and not stream.headed:
            raise StreamFault(Code.PROTOCOL_ERROR, "DATA before the head")
        self._check_opened(number, "DATA")
        if stream is not None or not self.was_cut(number):
            raise StreamFault(Code.STREAM_CLOSED, "DATA behind the end of a stream")

    _TAKE_FRAME: ClassVar[FrameTable] = {
        **Control._TAKE_FRAME,  # noqa: SLF001 - it extends that table
        Kind.DATA: _take_data,
        Kind.HEADERS: _take_headers,
        Kind.CONTINUATION: _take_continuation,
    }

    def let_go(self) -> None:
        """Forget who made this, so that both are gone at once: nothing is sent or taken any more."""
        self.wake = _nothing
        self._accept = None

    # --- streams of our own

    @property
    def can_open(self) -> bool:
        """Whether the peer takes another stream now."""
        return not self.leaving and len(self.streams) < self.most_streams and self._next < LARGEST_WINDOW

    def open(self, make: Callable[[int], Stream]) -> Stream:
        """Open a stream that `make` makes of its number; only while `can_open`."""
        number = self._next
        self._next += 2
        stream = self.streams[number] = make(number)
        return stream

    def _check_opened(self, number: int, what: str) -> None:
        """Raise `ConnectionFault` for a stream that nobody has opened."""
        opened = number <= self.last if self.server and number % 2 else not self.server and number < self._next
        if not opened or not number % 2 or any(number in gap for gap in self._gaps):
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"{what} on a stream that was not opened")


def _unpadded(payload: bytes) -> bytes:
    """Return a payload without its padding."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame has more padding than room")
    return payload[1 : len(payload) - payload[0]]


def _nothing() -> None:
    """Do nothing: nobody is there."""


def _take_unknown(connection: Connection, *_: object) -> None:
    """Take no notice of a frame of a kind that is not known (RFC 9113, 4.1)."""
    connection.patience.lose("frames of a kind that nobody knows")
