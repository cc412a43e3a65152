"""The pipes that carry bytes from socket to socket inside the kernel: made when needed, pooled, bounded."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Final, NamedTuple

__all__ = ["LARGE", "Pipe", "Pipes"]

LARGE: Final = 256 << 10
"""The capacity of a large pipe in bytes: 64 slots, each a page or a network buffer of up to 32 KiB.

CPU seconds per GB with one stream, median of four runs beside each other on a busy machine: 0.46 with the usual 64 KiB,
0.30 with this, 0.25 with 1 MiB, which would leave an unprivileged user a quarter as many.
"""

_MOST_IDLE: Final = 64  # 128 descriptors: as many pipes as relays have their turn at once.
_MOST_LARGE: Final = 64  # A quarter of what Linux allows an unprivileged user (pipe-user-pages-soft, 64 MiB).


class Pipe(NamedTuple):
    """The two descriptors of a pipe, and its capacity in bytes."""

    reader: int
    writer: int
    capacity: int


class Pipes:
    """Every pipe of a worker. A pipe is borrowed while bytes are in it, so that an idle relay holds none.

    The first ones are large, for speed; those beyond have the system's usual capacity, so that many slow readers
    hold little of the kernel's memory.
    """

    __slots__ = ("_idle", "_large", "_most_idle", "_most_large", "open")

    def __init__(self, most_idle: int = _MOST_IDLE, most_large: int = _MOST_LARGE) -> None:
        self._idle: list[Pipe] = []
        self._most_idle = most_idle
        self._most_large = most_large
        self._large = 0
        self.open = 0

    def take(self) -> Pipe | None:
        """Return an empty pipe, which the caller gives back or drops; None when no descriptor is left."""
        return self._idle.pop() if self._idle else self._make()

    def give(self, pipe: Pipe) -> None:
        """Take back a pipe that is empty again."""
        if len(self._idle) < self._most_idle:
            self._idle.append(pipe)
        else:
            self.drop(pipe)

    def drop(self, pipe: Pipe) -> None:
        """Close a pipe. One with bytes left must end here: the next relay would send them."""
        os.close(pipe.reader)
        os.close(pipe.writer)
        self.open -= 1
        self._large -= pipe.capacity == LARGE

    def close(self) -> None:
        """Close the pipes that nobody has borrowed."""
        while self._idle:
            self.drop(self._idle.pop())

    def _make(self) -> Pipe | None:
        try:
            reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        if self._large < self._most_large:
            # Refused beyond the user's allowance: then the pipe is smaller and works all the same.
            with contextlib.suppress(PermissionError):
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, LARGE)
        capacity = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
        self.open += 1
        self._large += capacity == LARGE
        return Pipe(reader, writer, capacity)
