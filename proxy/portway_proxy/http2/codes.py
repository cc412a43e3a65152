"""The numbers of HTTP/2: frames, flags, settings and errors (RFC 9113, 6, 7 and 11), and what goes wrong."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = [
    "ACK",
    "END_HEADERS",
    "END_STREAM",
    "FRAME_HEAD",
    "LARGEST_FRAME",
    "LARGEST_WINDOW",
    "PADDED",
    "PREFACE",
    "PRIORITIZED",
    "USUAL_WINDOW",
    "Code",
    "ConnectionFault",
    "Fault",
    "Kind",
    "Parameter",
    "StreamFault",
]


class Kind(IntEnum):
    """What a frame is."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Parameter(IntEnum):
    """What a SETTINGS frame sets."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6
    ENABLE_CONNECT_PROTOCOL = 8  # RFC 8441.


END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client begins with, before its first frame."""

FRAME_HEAD: Final = 9
"""The bytes before the payload of a frame."""

LARGEST_FRAME: Final = 16384
"""The payload that everybody has to take, and the largest that we send and take."""

USUAL_WINDOW: Final = 65535
LARGEST_WINDOW: Final = (1 << 31) - 1


class Fault(Exception):
    """Something that the peer did and may not; `code` is what it is told."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamFault(Fault):
    """A fault that ends one stream."""


class ConnectionFault(Fault):
    """A fault that ends the connection."""
