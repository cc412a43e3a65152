"""The half of a connection that sends: frames in their order, bodies by turns as far as the windows go."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from portway_proxy.http2 import frames
from portway_proxy.http2.codes import LARGEST_WINDOW, USUAL_WINDOW, Code, ConnectionFault
from portway_proxy.http2.stream import Stream
from portway_proxy.http2.terms import Patience, Terms

__all__ = ["Outgoing"]

_AT_ONCE = 1 << 17  # Bytes of bodies that leave in one go: what is faster than its reader is to notice in time.
_REMEMBERED = 1024  # Streams that we broke off, whose frames may still be under way.


class Outgoing:
    """What leaves, and the streams that it belongs to.

    `out` holds what is to be sent now: whoever has the transport empties it, after `wake` was called. While `paused`
    the transport takes no bodies. `window` is how many bytes of all bodies the peer takes now, `first_window` how many
    of a new stream; `room` is how many it may still send. `prefix` is what the next field block has to begin with.
    """

    __slots__ = (
        "_cut",
        "_line",
        "_owed",
        "data_sent",
        "first_window",
        "more",
        "out",
        "patience",
        "paused",
        "prefix",
        "room",
        "server",
        "streams",
        "terms",
        "wake",
        "window",
    )

    def __init__(self, terms: Terms, wake: Callable[[], None], now: Callable[[], float], *, server: bool) -> None:
        self.terms = terms
        self.server = server
        self.wake = wake
        self.patience = Patience(terms, now)
        self.out: list[bytes] = []
        self.prefix = b""
        self.paused = False
        self.window = self.first_window = USUAL_WINDOW
        self.room = terms.connection_window
        self.streams: dict[int, Stream] = {}
        self.data_sent = 0
        self.more = False
        self._owed = 0
        self._line: deque[Stream] = deque()
        self._cut: deque[int] = deque(maxlen=_REMEMBERED)

    def emit(self, data: bytes) -> None:
        """Send a frame, behind those that wait already."""
        if not self.out:
            self.wake()
        self.out.append(data)

    def head(self, number: int, block: bytes, end: int) -> bytes:
        """Return the frames of a field block, as `frames.head` does."""
        if self.prefix:
            block, self.prefix = self.prefix + block, b""
        return frames.head(number, block, end)

    def credit(self, size: int) -> None:
        """Note that `size` bytes of bodies are done with."""
        self._owed += size
        if self._owed * 2 >= self.terms.connection_window:
            self.emit(frames.window_update(0, self._owed))
            self.room += self._owed
            self._owed = 0

    def stand_in_line(self, stream: Stream) -> None:
        """Send what a stream has when its turn comes, which may be now."""
        if not stream.turn:
            stream.turn = True
            self._line.append(stream)
        self.pump()

    def pump(self) -> None:
        """Send of bodies what may leave now, a frame of each stream in turn; `more` says that it was not all."""
        line, held_up = self._line, []
        most = _AT_ONCE
        while line and most > 0 and not self.paused:
            stream = line.popleft()
            if stream.queued and self.window <= 0:
                held_up.append(stream)
                continue
            sent = stream.serve()
            if sent < 0 or stream.sent or not (stream.queued or stream.ending):
                stream.turn = False
            else:
                line.append(stream)
            if sent > 0:
                most -= sent
                if not stream.queued:
                    stream.on_drained()
        self.more = most <= 0
        line.extendleft(reversed(held_up))

    def open_window(self, size: int) -> None:
        """Let so many more bytes of bodies go; raises `ConnectionFault` when that is more than there can be."""
        self.window += size
        if self.window > LARGEST_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the window of the connection is too large")
        self.pump()

    def forget(self, stream: Stream) -> None:
        """Note that both sides of a stream have ended."""
        self.streams.pop(stream.id, None)

    def cut(self, stream: Stream, code: Code) -> None:
        """Break a stream off, and bear it that the peer still sends on it what it sent before it knew."""
        if self.streams.pop(stream.id, None) is not None:
            self.note_cut(stream.id, code)
        stream.drop()

    def note_cut(self, number: int, code: Code) -> None:
        """Tell the peer that a stream is broken off."""
        self.emit(frames.reset(number, code))
        self._cut.append(number)

    def end_cut(self, number: int) -> None:
        """Note that the peer has ended a stream too: nothing of it is under way any more."""
        if number in self._cut:
            self._cut.remove(number)

    def was_cut(self, number: int) -> bool:
        """Return whether we broke a stream off a short while ago."""
        return number in self._cut
