"""Heads as clients of HTTP/2 get them: lines, as all of layer 7 has them, to field blocks."""

from __future__ import annotations

from typing import Final

from portway_proxy.http2.packing import pack_field, pack_status

__all__ = ["Packer"]

_REMEMBERED: Final = 512  # Lines that are known again, of
_LONGEST: Final = 512  # bytes at most: below 1 MiB.


class Packer:
    """Packs lines; most repeat from response to response."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}

    def head(self, status: int, lines: bytes) -> bytes:
        """Return the block of a response; `lines` are `Name: value`, each ended by CRLF."""
        return pack_status(status) + self.fields(lines)

    def fields(self, lines: bytes) -> bytes:
        """Return the block, or a part of one, that `lines` are."""
        known = self._known
        return b"".join([known.get(line) or self._pack(line) for line in lines.split(b"\r\n") if line])

    def _pack(self, line: bytes) -> bytes:
        name, _, value = line.partition(b":")
        packed = pack_field(name.lower(), value.strip(b" \t"))
        if len(line) <= _LONGEST:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[line] = packed
        return packed
