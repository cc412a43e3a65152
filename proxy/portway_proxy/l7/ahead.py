"""What a client has sent and nobody has taken yet: a part of a head, pipelined requests, a body that came early."""

from __future__ import annotations

from portway_proxy.l7.head import find_end
from portway_proxy.settings import Limits

__all__ = ["Ahead"]

_CR = 0x0D


class Ahead:
    """The bytes ahead of what is served. `begun` says that they are the beginning of a head, and no more than that."""

    __slots__ = ("_forgiven", "_limits", "_searched", "_short", "held")

    def __init__(self, limits: Limits) -> None:
        self.held = bytearray()
        self._limits = limits
        self._short = min(limits.request_line, limits.field, limits.head)
        self._searched = 0
        self._forgiven = False

    @property
    def begun(self) -> bool:
        """Whether all that is held was searched for the end of a head, in vain."""
        return self._searched > 0

    def take_head(self, data: bytes | bytearray) -> bytes:
        """Return the next head, or nothing while it is incomplete; what is not returned is held.

        Raises like `head.find_end`.
        """
        held = self.held
        whole = not held and not self._forgiven and 0 < data.find(b"\r\n\r\n") == len(data) - 4
        if whole and len(data) <= self._short and data[0] != _CR:
            return bytes(data)  # As nearly all come, and too short to pass any limit.
        if held or data.startswith(b"\r\n"):
            data = self._gather(data)
        end = find_end(data, self._searched, self._limits)
        if not end:
            if data is not held:
                held += data
            self._searched = len(data)
            return b""
        self._searched = 0
        self._forgiven = False
        head = bytes(data[:end])
        if data is held:
            del held[:end]  # Cheap from the front: a thousand pipelined requests are not copied a thousand times.
        elif end < len(data):
            held += data[end:]
        return head

    def take_all(self) -> bytes:
        """Return what is held, and hold nothing."""
        data = bytes(self.held)
        self.held.clear()
        return data

    def _gather(self, data: bytes | bytearray) -> bytes | bytearray:
        """Return what was held and `data`, without the one empty line that is forgiven (RFC 9112, 2.2)."""
        held = self.held
        if held:
            held += data
        whole = held or data
        if whole.startswith(b"\r\n") and not self._forgiven:
            self._forgiven = True
            self._searched = 0
            whole = whole[2:]
            held.clear()
        return whole
