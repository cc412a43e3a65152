"""What a transport does not tell or do, asked of its socket."""

from __future__ import annotations

import asyncio
import select
import socket
import struct

from portway_proxy.listeners import KEEP_ALIVE

__all__ = ["BROKEN", "ENDED", "acknowledged", "heard", "keep_alive", "reset_when_closed"]

ENDED = select.POLLRDHUP
"""The other side will send nothing more."""

BROKEN = select.POLLERR | select.POLLHUP
"""The other side broke off."""

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: closing sends RST.
_ACKNOWLEDGED = struct.Struct("=120xQ")  # tcpi_bytes_acked of struct tcp_info, in Linux since 4.1.


def acknowledged(transport: asyncio.Transport) -> int:
    """Return how many bytes the other side has acknowledged since it connected, or 0 when the socket is closed."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return 0
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
    return int(_ACKNOWLEDGED.unpack(info)[0]) if len(info) == _ACKNOWLEDGED.size else 0


def heard(transport: asyncio.Transport) -> int:
    """Return what the system knows of the other side's end though nobody reads: `ENDED`, `BROKEN`, both or neither."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return BROKEN
    poll = select.poll()
    poll.register(sock.fileno(), ENDED)
    return sum(mask for _, mask in poll.poll(0))


def keep_alive(transport: asyncio.Transport) -> None:
    """Have the connection end when the other side vanished without a word."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        for level, option, value in KEEP_ALIVE:
            sock.setsockopt(level, option, value)


def reset_when_closed(transport: asyncio.Transport) -> None:
    """Have the other side see a RST, not an end, when the socket is closed."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
