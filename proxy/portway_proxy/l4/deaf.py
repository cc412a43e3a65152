"""A listening socket that hears nobody who begins to connect, so that it can be closed without resetting anybody.

Closing resets those who have connected and were not accepted yet; between the last `accept` and the close there is
always somebody. The kernel drops what a filter says (socket(7), SO_ATTACH_FILTER): clients that begin now try again a
second later, when the port is closed or open again, and those who have connected are accepted meanwhile.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from contextlib import suppress
from typing import Final

__all__ = ["deafen", "hear"]

_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27

_PROGRAM: Final = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # Load the flags of the TCP header,
        (0x54, 0, 0, 0x12),  # of them SYN and ACK;
        (0x15, 0, 1, 0x02),  # SYN alone, which begins a connection:
        (0x06, 0, 0, 0),  # drop it;
        (0x06, 0, 0, 0xFFFFFFFF),  # else take it whole.
    )
)
_program = ctypes.create_string_buffer(_PROGRAM, len(_PROGRAM))


def deafen(sock: socket.socket) -> None:
    """Let nobody begin to connect to a listening TCP socket any more."""
    description = struct.pack("@HP", len(_PROGRAM) // 8, ctypes.addressof(_program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, description)


def hear(sock: socket.socket) -> None:
    """Take that back; harmless when it was not done."""
    with suppress(FileNotFoundError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
