"""Accepts connections on a listening socket, in bounded turns, and waits a moment when descriptors have run out.

libuv's own way out of that (accept, and close at once) would turn clients away that can be served a moment later.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Final

__all__ = ["Acceptor"]

_BATCH: Final = 64  # Connections accepted in one turn of the loop; then those that run have theirs.
_PAUSE: Final = 0.1  # Seconds without accepting when descriptors have run out; asyncio waits 1.
_COMPLAINTS: Final = 60.0  # Seconds between two lines in the log about that.

# Errors of the connection that was about to be accepted, not of the listener (accept(2)): the next may be sound.
_STILLBORN: Final = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN)

_log = logging.getLogger(__name__)


class Acceptor:
    """Gives each connection of the listening socket `sock`, which belongs to it, and its peer's address to `take`.

    `name` is the listener's in the log.
    """

    __slots__ = (
        "_complain_after",
        "_family",
        "_held",
        "_listening",
        "_loop",
        "_name",
        "_resumption",
        "_sock",
        "_stopped",
        "_take",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        name: str,
        take: Callable[[socket.socket, str], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._family = sock.family
        self._name = name
        self._take = take
        self._listening = False
        self._held = False
        self._stopped = False
        self._resumption: asyncio.TimerHandle | None = None
        self._complain_after = 0.0

    def start(self) -> None:
        """Begin to accept."""
        self._sock.settimeout(0)
        self._follow()

    def stop(self) -> None:
        """Accept no more and close the socket. Harmless when it has stopped."""
        if not self._stopped:
            self._stopped = True
            if self._resumption is not None:
                self._resumption.cancel()
                self._resumption = None
            self._follow()
            self._sock.close()

    def last_call(self) -> None:
        """Accept who has connected already, whom closing would reset, and stop."""
        while self._listening and self._accept():
            pass
        self.stop()

    def hold(self) -> None:
        """Accept nothing until `release`; clients wait in the backlog."""
        self._held = True
        self._follow()

    def release(self) -> None:
        """Accept again; harmless when nothing held it."""
        self._held = False
        self._follow()

    def pause(self) -> None:
        """Accept nothing for a moment, because descriptors have run out."""
        if self._stopped or self._resumption is not None:
            return
        self._resumption = self._loop.call_later(_PAUSE, self._resume)
        self._follow()
        now = self._loop.time()
        if now >= self._complain_after:
            self._complain_after = now + _COMPLAINTS
            _log.warning("%s: no descriptor is left, so that clients wait", self._name)

    def _resume(self) -> None:
        self._resumption = None
        self._follow()

    def _follow(self) -> None:
        """Make the interest in the socket equal what is asked for."""
        listening = not (self._stopped or self._held or self._resumption is not None)
        if listening == self._listening:
            return
        self._listening = listening
        if listening:
            self._loop.add_reader(self._sock.fileno(), self._accept)
        else:
            self._loop.remove_reader(self._sock.fileno())

    def _accept(self) -> bool:
        """Accept a batch; return whether more may wait."""
        for _ in range(_BATCH):
            try:
                # `accept` finds out again what is known here: 2 of the 60 us that a relayed connection costs.
                descriptor, peer = self._sock._accept()  # type: ignore[attr-defined] # noqa: SLF001 - it has no name
                client = socket.socket(self._family, socket.SOCK_STREAM, 0, descriptor)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in _STILLBORN:
                    continue
                self.pause()
                return False
            self._take(client, peer[0])
            if not self._listening:
                return False
        return True
