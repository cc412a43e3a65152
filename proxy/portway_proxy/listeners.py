"""The listening sockets: makes the open ones equal what the snapshot asks for.

Each port has one SO_REUSEPORT socket for each worker, and the supervisor keeps a copy of all of them: a worker that
dies leaves its backlog to its successor.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterable
from typing import Final

from portway_proxy.snapshot import Listener, Origin, Problem, Transport

__all__ = ["BACKLOG", "HTTP", "HTTPS", "KEEP_ALIVE", "Listeners", "PortUnavailable", "key_of"]

_log = logging.getLogger(__name__)

HTTP: Final = "http"
"""The key of the HTTP port's sockets."""

HTTPS: Final = "https"
"""The key of the HTTPS port's sockets."""

BACKLOG: Final = 4096
"""Connections that wait to be accepted, for each socket; the kernel bounds it by net.core.somaxconn (4096)."""

KEEP_ALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
"""Options by which dead peers are found within two minutes: a probe after a silent minute, then four more."""

_KINDS: Final = {Transport.TCP: socket.SOCK_STREAM, Transport.UDP: socket.SOCK_DGRAM}


class PortUnavailable(OSError):
    """A port cannot be opened; the message is a sentence for the user."""

    def __init__(self, address: str, port: int, error: OSError | OverflowError) -> None:
        super().__init__(getattr(error, "errno", None), f"Port {port} of {address} cannot be opened: {_reason(error)}.")
        self.port = port

    def __str__(self) -> str:
        """Return the sentence alone."""
        return str(self.args[1])


def key_of(listener: Listener) -> str:
    """Return `tcp/5432`: the name of a layer 4 listener on the channel and in metrics; `tcp/25:20025` with its bind."""
    inside = f":{listener.bind}" if listener.bind else ""
    return f"{listener.transport}/{listener.port}{inside}"


class Listeners:
    """The open ports of a proxy: for each key, as many sockets as there are workers.

    The kernel gives each TCP connection, and each UDP client, to one of them. The supervisor keeps them all, so that it
    is the same one when a worker is replaced.
    """

    def __init__(self, address: str, workers: int) -> None:
        self._address = address
        self._workers = workers
        self._open: dict[str, list[socket.socket]] = {}
        self._wanted: frozenset[str] = frozenset()
        self.problems: tuple[Problem, ...] = ()

    def open(self, key: str, port: int) -> int:
        """Open `port` (0: one that is free) under `key` for good, and return its number.

        Raises `PortUnavailable`.
        """
        sockets = self._open[key] = self._bind_all(port)
        return int(sockets[0].getsockname()[1])

    def want(self, listeners: Iterable[Listener]) -> None:
        """Open the ports that `listeners` ask for and that are not open yet.

        One that cannot be opened becomes one of `problems`, costs itself only and is tried again at the next call.
        """
        problems = []
        wanted = set()
        for listener in listeners:
            key = key_of(listener)
            wanted.add(key)
            if key in self._open:
                continue
            try:
                self._open[key] = self._bind_all(listener.bind or listener.port, _KINDS[listener.transport])
            except PortUnavailable as error:
                problems.append(_problem(listener.origin, error))
        self._wanted = frozenset(wanted)
        new = tuple(problems)
        if new != self.problems:
            for problem in new:
                _log.error("%s", problem)
        self.problems = new

    def drop_unwanted(self) -> None:
        """Close the layer 4 ports that the last `want` did not name."""
        for key in [key for key in self._open if key not in (HTTP, HTTPS) and key not in self._wanted]:
            for sock in self._open.pop(key):
                sock.close()

    def of_worker(self, slot: int) -> dict[str, socket.socket]:
        """Return the sockets of the worker in `slot`, by key."""
        return {key: sockets[slot] for key, sockets in self._open.items()}

    def close(self) -> None:
        """Close all ports; connections that no worker accepted are reset once the workers close theirs too."""
        for sockets in self._open.values():
            for sock in sockets:
                sock.close()
        self._open.clear()
        self._wanted = frozenset()

    def _bind_all(self, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[socket.socket]:
        sockets: list[socket.socket] = []
        # Of UDP it would share the port with anybody who asks for the same.
        options = () if kind is socket.SOCK_DGRAM else (socket.SO_REUSEADDR,)
        try:
            if port:
                # SO_REUSEPORT would let us share the port with another proxy of the same user without a word.
                self._bind(port, kind, *options).close()
            for _ in range(self._workers):
                sock = self._bind(port, kind, *options, socket.SO_REUSEPORT)
                sockets.append(sock)
                port = sock.getsockname()[1]
            for sock in sockets if kind is socket.SOCK_STREAM else ():
                sock.listen(BACKLOG)
        except (OSError, OverflowError) as error:
            for sock in sockets:
                sock.close()
            raise PortUnavailable(self._address, port, error) from None
        return sockets

    def _bind(self, port: int, kind: socket.SocketKind, *options: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in self._address else socket.AF_INET, kind)
        try:
            for option in options:
                sock.setsockopt(socket.SOL_SOCKET, option, 1)
            # Connections inherit what their listening socket has.
            for level, option, value in KEEP_ALIVE if kind is socket.SOCK_STREAM else ():
                sock.setsockopt(level, option, value)
            sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
            sock.bind((self._address, port))
        except BaseException:
            sock.close()
            raise
        return sock


_REASONS: Final = {
    errno.EADDRINUSE: "another program, or another part of this proxy, has it",
    errno.EACCES: "this user may not open it",
    errno.EADDRNOTAVAIL: "this machine does not have the address",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}


def _reason(error: OSError | OverflowError) -> str:
    if isinstance(error, OverflowError):
        return "ports end at 65535"
    if isinstance(error, socket.gaierror) or error.errno is None:
        return "the address is malformed"
    return _REASONS.get(error.errno) or os.strerror(error.errno)


def _problem(origin: Origin, error: PortUnavailable) -> Problem:
    return Problem(
        origin=origin,
        code="port_unavailable",
        found=str(error),
        done="Nobody can connect to it; everything else is served.",
        remedy="Free the port or choose another; it is tried again with the next change.",
    )
