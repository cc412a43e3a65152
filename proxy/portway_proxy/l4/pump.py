"""One direction of a relay: from a socket through a pipe into another socket, inside the kernel."""

from __future__ import annotations

import os
import socket
from enum import Enum
from typing import Final

from portway_proxy.l4.bulk import Bulk
from portway_proxy.l4.pipes import LARGE, Pipe, Pipes

__all__ = ["NOTHING", "SINK", "SOURCE", "Need", "Pump"]

_splice: Final = os.splice
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_SPAN: Final = 4 * LARGE  # The most that one call moves: a slot of a pipe often holds more than a page.
_ROUNDS: Final = 4  # Fills of the pipe in one turn; then other relays have theirs.
_BURST: Final = 65536  # A segment at its largest. After less the source is most likely empty; being told costs less.
_COPY: Final = 65536


class Need(Enum):
    """What a pump waits for."""

    SOURCE = "source"  # Bytes, or their end.
    SINK = "sink"  # Room.
    NOTHING = "nothing"  # The source has ended, and the sink has all of it.


# Looking a member up in its class takes ten times as long in Python 3.11.
SOURCE: Final = Need.SOURCE
SINK: Final = Need.SINK
NOTHING: Final = Need.NOTHING


class Pump:
    """Moves bytes from `source` to `sink`, until the source ends.

    The pipe is empty whenever more is read. So "would block" has one meaning each time: on the way in the source has
    nothing, on the way out the sink has no room. `moved` counts the bytes that the sink took. `last` may be set once
    the source is known to send no more than what has come.
    """

    __slots__ = (
        "_bulk",
        "_from",
        "_head",
        "_held",
        "_pipe",
        "_pipes",
        "_to",
        "last",
        "moved",
        "need",
        "sink",
        "source",
    )

    def __init__(self, pipes: Pipes, bulk: Bulk, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self._from = source.fileno()
        self._to = sink.fileno()
        self._pipes = pipes
        self._bulk = bulk
        self._pipe: Pipe | None = None
        self._held = 0
        self._head = b""
        self.last = False
        self.moved = 0
        self.need = SOURCE

    @property
    def sink_failed(self) -> bool:
        """Whether it was the sink that made `run` raise OSError, not the source."""
        return bool(self._held or self._head or self.need is NOTHING)

    def put(self, head: bytes) -> None:
        """Let `head` go before all that is read from the source; to be called before the first `run`."""
        self._head = head
        self.need = SINK

    def run(self) -> Need:
        """Move what can be moved now, within the bounds of a turn, and return what more takes.

        Raises OSError when a socket fails.
        """
        before = self.moved
        if self.need is SINK and not self._drained():
            return SINK
        pipe = self._pipe or self._pipes.take()
        if pipe is None:
            self.need = need = self._copy()
            return need
        self._pipe = pipe
        self.need = need = self._move(pipe, before)
        if self.moved - before >= _BURST:
            self._bulk.add(self)
        if need is not SINK:
            self._pipes.give(pipe)
            self._pipe = None
        return need

    def close(self) -> None:
        """Let go of the pipe; bytes in it are lost. The sockets are still open."""
        self._bulk.drop(self)
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            if self._held:
                self._pipes.drop(pipe)
            else:
                self._pipes.give(pipe)

    def _move(self, pipe: Pipe, before: int) -> Need:
        """Move as much as a turn may, which began when `before` bytes had been moved."""
        try:
            for _ in range(_ROUNDS):
                self._held = held = _splice(self._from, pipe.writer, _SPAN, None, None, _FLAGS)
                if not held:
                    return NOTHING
                sent = _splice(pipe.reader, self._to, held, None, None, _FLAGS)
                self.moved += sent
                self._held = held - sent
                if sent < held:
                    return SINK
                if held < _BURST and not self.last:
                    break
        except BlockingIOError:
            if self._held:
                return SINK
            if self.moved == before:
                return self._copy()
        return SOURCE

    def _copy(self) -> Need:
        """Move bytes through user space: when no pipe is left, and across TCP's urgent mark, where splice stops."""
        try:
            self._head = self.source.recv(_COPY)
        except BlockingIOError:
            return SOURCE
        if not self._head:
            return NOTHING
        return SOURCE if self._drained() else SINK

    def _drained(self) -> bool:
        """Send what waits and return whether all of it went."""
        sent = 0
        try:
            if self._head:
                sent = self.sink.send(self._head)
                self._head = self._head[sent:]
            elif self._pipe is not None:
                sent = _splice(self._pipe.reader, self._to, self._held, None, None, _FLAGS)
                self._held -= sent
        except BlockingIOError:
            return False
        self.moved += sent
        return not self._head and not self._held
