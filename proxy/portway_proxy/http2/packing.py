"""HPACK, put together (RFC 7541): fields to field blocks that leave the dynamic table alone, as nginx's do.

Such a block means the same on every connection and at every time, so that one that was made once serves again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from portway_proxy.http2.unpacking import STATIC, Field

__all__ = ["NO_TABLE", "pack", "pack_field", "pack_status"]

NO_TABLE: Final = b"\x20"
"""The word to the peer that its dynamic table stays empty."""

# The names whose values nobody between may keep in a table either (RFC 7541, 7.1.3).
_SECRET: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))

_WHOLE: Final = {field: bytes((0x80 | index,)) for index, field in enumerate(STATIC, 1)}
_NAMES: Final = {field[0]: index for index, field in reversed(list(enumerate(STATIC, 1)))}


def pack(fields: Iterable[Field]) -> bytes:
    """Return the block of `fields`, whose names are lower-case."""
    return b"".join([pack_field(name, value) for name, value in fields])


def pack_field(name: bytes, value: bytes) -> bytes:
    """Return the part of a block that is one field."""
    whole = _WHOLE.get((name, value))
    if whole is not None:
        return whole
    first = 0x10 if name in _SECRET else 0x00
    index = _NAMES.get(name, 0)
    if index:
        return _integer(first, 0x0F, index) + _string(value)
    return b"%c%b%b" % (first, _string(name), _string(value))


def pack_status(status: int) -> bytes:
    """Return the part of a block that is the status of a response."""
    return pack_field(b":status", b"%d" % status)


def _string(text: bytes) -> bytes:
    """Return a string as it is: Huffman's code would save a fifth of its bytes, and cost microseconds to make."""
    size = len(text)
    return b"%c%b" % (size, text) if size < 0x7F else _integer(0, 0x7F, size) + text


def _integer(first: int, mask: int, value: int) -> bytes:
    """Return a number in the low bits of `first` that `mask` says, and in as many bytes behind as it needs."""
    if value < mask:
        return bytes((first | value,))
    out = bytearray((first | mask,))
    value -= mask
    while value >= 0x80:
        out.append(0x80 | (value & 0x7F))
        value >>= 7
    out.append(value)
    return bytes(out)
