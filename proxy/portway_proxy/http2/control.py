"""What both sides say about the connection: settings, pings, windows, and the end of streams and of everything."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping
from struct import iter_unpack
from typing import Any, ClassVar, Final, TypeAlias

from portway_proxy.http2 import frames
from portway_proxy.http2.codes import (
    ACK,
    LARGEST_WINDOW,
    PREFACE,
    USUAL_WINDOW,
    Code,
    ConnectionFault,
    Kind,
    Parameter,
    StreamFault,
)
from portway_proxy.http2.outgoing import Outgoing
from portway_proxy.http2.packing import NO_TABLE
from portway_proxy.http2.stream import Stream
from portway_proxy.http2.terms import Terms

__all__ = ["Control", "FrameTable"]

FrameTable: TypeAlias = Mapping[int, Callable[[Any, int, int, bytes], None]]
"""Kind of a frame -> method of the connection that takes its flags, its stream and its payload."""

_SETTING: Final = ">HL"
_SETTING_SIZE: Final = 6
_SETTINGS: Final = 32  # In one frame; nghttp2 32.
_FRAMES: Final = (16384, (1 << 24) - 1)  # What MAX_FRAME_SIZE may be.
_FAREWELL: Final = b"farewell"  # A ping whose answer tells that the peer knows of the end.
_UPDATES: Final = 16  # WINDOW_UPDATE frames that are nothing special, and for each frame of a body
_UPDATES_EACH: Final = 4  # so many.


class Control(Outgoing, metaclass=ABCMeta):
    """The part of a connection that is about the connection.

    `last` is the highest stream that the peer opened. `settled` says that it has confirmed our settings, `leaving` that
    it will open no stream any more (as a server: serve none), `most_streams` how many it takes at once, `tunnels`
    whether it knows CONNECT with a protocol (RFC 8441). `fault` is why the connection ended.
    """

    __slots__ = ("_final", "_updates", "fault", "last", "leaving", "most_streams", "settled", "tunnels")

    def __init__(self, terms: Terms, wake: Callable[[], None], now: Callable[[], float], *, server: bool) -> None:
        super().__init__(terms, wake, now, server=server)
        self.last = 0
        self.settled = False
        self.leaving = False
        self.most_streams = LARGEST_WINDOW
        self.tunnels = False
        self.fault: ConnectionFault | None = None
        self._final = LARGEST_WINDOW
        self._updates = -_UPDATES

    def begin(self) -> None:
        """Send what a connection begins with."""
        terms = self.terms
        values: dict[Parameter, int] = {
            Parameter.INITIAL_WINDOW_SIZE: terms.window,
            Parameter.MAX_HEADER_LIST_SIZE: terms.head,
        }
        if self.server:
            values[Parameter.MAX_CONCURRENT_STREAMS] = terms.streams
            values[Parameter.ENABLE_CONNECT_PROTOCOL] = 1
        else:
            self.emit(PREFACE)
            values[Parameter.ENABLE_PUSH] = 0
        self.emit(frames.settings(values))
        if terms.connection_window > USUAL_WINDOW:
            self.emit(frames.window_update(0, terms.connection_window - USUAL_WINDOW))

    def wind_down(self) -> None:
        """Ask the peer to open no streams any more; those that are under way to us are still served (RFC 9113, 6.8)."""
        self.emit(frames.goaway(LARGEST_WINDOW, Code.NO_ERROR) + frames.ping(_FAREWELL))

    def refuse_more(self) -> None:
        """Serve no stream that has not come yet."""
        if not self.refuses_more:
            self._final = self.last
            self.emit(frames.goaway(self.last, Code.NO_ERROR))

    @property
    def refuses_more(self) -> bool:
        """Whether no stream is served that has not come yet."""
        return self._final != LARGEST_WINDOW

    def end(self, fault: ConnectionFault) -> None:
        """End the connection and tell why; nothing is taken or sent behind this. Harmless when it has ended."""
        if self.fault is None:
            self.fault = fault
            self.emit(frames.goaway(self.last, fault.code, str(fault).encode()))
            self.drop_streams(fault.code)

    def drop_streams(self, code: Code) -> None:
        """Tell all streams that they are over: the connection is."""
        streams = tuple(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.drop()
            stream.on_reset(code)

    # --- frames

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a confirmation of SETTINGS that is not empty")
            self.settled = True
            return
        if len(payload) % _SETTING_SIZE:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS of a broken length")
        self.patience.lose("settings")
        if len(payload) > _SETTINGS * _SETTING_SIZE:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "SETTINGS set more than there is")
        # The last value of each is what counts (RFC 9113, 6.5.3): every window costs a look at every stream.
        self._obey(dict(iter_unpack(_SETTING, payload)))
        self.emit(frames.ANSWERED_SETTINGS)

    def _obey(self, values: Mapping[int, int]) -> None:
        for name, value in values.items():
            taken = self._TAKE.get(name)
            if taken is not None:
                taken(self, value)

    def _take_table(self, _: int) -> None:
        self.prefix = NO_TABLE  # Whatever size it is: we use none.

    def _take_push(self, value: int) -> None:
        if value > 1 or (value and not self.server):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1, or a server's")

    def _take_streams(self, value: int) -> None:
        self.most_streams = value

    def _take_window(self, value: int) -> None:
        if value > LARGEST_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
        change, self.first_window = value - self.first_window, value
        for stream in tuple(self.streams.values()):
            try:
                stream.open_window(change)
            except StreamFault as fault:
                raise ConnectionFault(fault.code, str(fault)) from None

    def _take_frame_size(self, value: int) -> None:
        if not _FRAMES[0] <= value <= _FRAMES[1]:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of its bounds")

    def _take_connect(self, value: int) -> None:
        if value > 1 or (self.tunnels and not value):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "ENABLE_CONNECT_PROTOCOL is neither 0 nor 1, or taken back")
        self.tunnels = bool(value)

    _TAKE: ClassVar[Mapping[int, Callable[[Control, int], None]]] = {
        Parameter.HEADER_TABLE_SIZE: _take_table,
        Parameter.ENABLE_PUSH: _take_push,
        Parameter.MAX_CONCURRENT_STREAMS: _take_streams,
        Parameter.INITIAL_WINDOW_SIZE: _take_window,
        Parameter.MAX_FRAME_SIZE: _take_frame_size,
        Parameter.ENABLE_CONNECT_PROTOCOL: _take_connect,
    }

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING of a broken length")
        if flags & ACK:
            if payload == _FAREWELL:
                self.refuse_more()  # Whatever it sent before it knew is here.
        else:
            self.patience.lose("pings")
            self.emit(frames.pong(payload))

    def _goaway(self, _: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "GOAWAY of a broken length")
        self.patience.lose("goodbyes")
        self.leaving = True
        if self.server:
            return
        last = int.from_bytes(payload[:4]) & LARGEST_WINDOW
        for stream in [stream for stream in self.streams.values() if stream.id > last]:
            self._end_stream(stream, Code.REFUSED_STREAM)

    def _end_stream(self, stream: Stream, code: Code) -> None:
        """Take the peer's word that a stream is over."""
        self.forget(stream)
        stream.drop()
        stream.on_reset(code)

    def _priority(self, _: int, number: int, payload: bytes) -> None:
        """Check what asks for an order of streams, which nobody follows (RFC 9113, 5.3.2)."""
        if not number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY without a stream")
        self.patience.lose("priorities")
        if len(payload) != 5:
            raise StreamFault(Code.FRAME_SIZE_ERROR, "PRIORITY of a broken length")
        if int.from_bytes(payload[:4]) & LARGEST_WINDOW == number:
            raise StreamFault(Code.PROTOCOL_ERROR, "a stream depends on itself")

    def _reset(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "RST_STREAM of a broken length")
        stream = self.streams.get(number)
        if stream is None:
            self._check_opened(number, "RST_STREAM")
            self.end_cut(number)
            self.patience.lose("resets of what is over")
            return
        self.patience.lose("resets")
        code = int.from_bytes(payload)
        self._end_stream(stream, Code(code) if code <= max(Code) else Code.INTERNAL_ERROR)

    def _window_update(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a broken length")
        self._updates += 1
        if self._updates > self.data_sent * _UPDATES_EACH:
            self.patience.lose("window updates")
        size = int.from_bytes(payload) & LARGEST_WINDOW
        if not number:
            if not size:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a window is widened by nothing")
            self.open_window(size)
            return
        stream = self.streams.get(number)
        if stream is None:
            self._check_opened(number, "WINDOW_UPDATE")
            return
        if not size:
            raise StreamFault(Code.PROTOCOL_ERROR, "a window is widened by nothing")
        stream.open_window(size)

    def _push(self, _: int, __: int, ___: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "nobody asked for a PUSH_PROMISE")

    _TAKE_FRAME: ClassVar[FrameTable] = {
        Kind.PRIORITY: _priority,
        Kind.RST_STREAM: _reset,
        Kind.SETTINGS: _settings,
        Kind.PUSH_PROMISE: _push,
        Kind.PING: _ping,
        Kind.GOAWAY: _goaway,
        Kind.WINDOW_UPDATE: _window_update,
    }

    def _fail_stream(self, number: int, fault: StreamFault) -> None:
        """Break off a stream on which the peer did what may not be."""
        self.patience.lose("faults")
        stream = self.streams.get(number)
        if stream is None:
            self._check_opened(number, "a fault")
            self.note_cut(number, fault.code)
            return
        self.cut(stream, fault.code)
        stream.on_reset(fault.code)

    @abstractmethod
    def _check_opened(self, number: int, what: str) -> None:
        """Raise `ConnectionFault` for a stream that nobody has opened."""
