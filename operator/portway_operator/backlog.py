"""The latest deltas as they went out: whoever was away for a moment gets those that it missed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

__all__ = ["Backlog"]

_MOST: Final = 1000
_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class _Entry:
    base: str
    line: bytes
    wide: bool


class Backlog:
    """An unbroken chain of deltas that ends at what is published now; old ones fall off at `most` or `size` bytes."""

    __slots__ = ("_bytes", "_entries", "_most", "_size")

    def __init__(self, most: int = _MOST, size: int = _BYTES) -> None:
        self._entries: deque[_Entry] = deque()
        self._bytes = 0
        self._most = most
        self._size = size

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, base: str, line: bytes, *, wide: bool = False) -> None:
        """Add the delta that leads from the content `base` to what is published now."""
        self._entries.append(_Entry(base, line, wide))
        self._bytes += len(line)
        while len(self._entries) > self._most or self._bytes > self._size:
            self._bytes -= len(self._entries.popleft().line)

    def clear(self) -> None:
        """Break the chain: something other than a delta was published."""
        self._entries.clear()
        self._bytes = 0

    def since(self, digest: str, *, wide: bool = True) -> list[bytes] | None:
        """Return the deltas that lead from the content `digest` to what is published now.

        None when that is too old, and when one of them is wide for who does not take `wide` ones.
        """
        found: list[bytes] = []
        # From the end: content may have been the same before, and the shorter way is as good.
        for entry in reversed(self._entries):
            if entry.wide and not wide:
                break
            found.append(entry.line)
            if entry.base == digest:
                found.reverse()
                return found
        return None
