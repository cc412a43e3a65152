"""Frames as they leave (RFC 9113, 4.1 and 6)."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Final

from portway_proxy.http2.codes import ACK, END_HEADERS, END_STREAM, LARGEST_FRAME, Code, Kind, Parameter

__all__ = ["ANSWERED_SETTINGS", "data", "frame", "goaway", "head", "ping", "pong", "reset", "settings", "window_update"]

_DATA, _HEADERS, _CONTINUATION = int(Kind.DATA), int(Kind.HEADERS), int(Kind.CONTINUATION)
_HEAD: Final = Struct(">HBBBL")
_SETTING: Final = Struct(">HL")
_pack = _HEAD.pack


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame; `payload` must not be longer than the peer takes."""
    size = len(payload)
    return _pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def head(stream: int, block: bytes, end: int) -> bytes:
    """Return the frames of a field block; `end` is `END_STREAM` when nothing follows on the stream, else 0."""
    if len(block) <= LARGEST_FRAME:
        return frame(_HEADERS, END_HEADERS | end, stream, block)
    parts = [block[at : at + LARGEST_FRAME] for at in range(0, len(block), LARGEST_FRAME)]
    first, *others, last = parts
    frames = [frame(_HEADERS, end, stream, first)]
    frames += [frame(_CONTINUATION, 0, stream, part) for part in others]
    frames.append(frame(_CONTINUATION, END_HEADERS, stream, last))
    return b"".join(frames)


def data(stream: int, payload: bytes, end: int) -> bytes:
    """Return a frame of a body; `end` is `END_STREAM` when it is the last on the stream, else 0."""
    return frame(_DATA, end & END_STREAM, stream, payload)


def settings(values: Mapping[Parameter, int]) -> bytes:
    """Return a frame that sets `values`."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in values.items()))


ANSWERED_SETTINGS: Final = frame(Kind.SETTINGS, ACK, 0, b"")
"""The word that the peer's settings count from now on."""


def reset(stream: int, code: Code) -> bytes:
    """Return the frame that ends a stream at once."""
    return frame(Kind.RST_STREAM, 0, stream, code.to_bytes(4))


def goaway(last: int, code: Code, text: bytes = b"") -> bytes:
    """Return the frame that says that no stream after `last` is served."""
    return frame(Kind.GOAWAY, 0, 0, last.to_bytes(4) + code.to_bytes(4) + text)


def ping(payload: bytes) -> bytes:
    """Return a frame that is to be answered, with eight bytes."""
    return frame(Kind.PING, 0, 0, payload)


def pong(payload: bytes) -> bytes:
    """Return the answer to a ping."""
    return frame(Kind.PING, ACK, 0, payload)


def window_update(stream: int, size: int) -> bytes:
    """Return the frame that lets the peer send `size` bytes more, on the stream or (0) on all of them together."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, size.to_bytes(4))
