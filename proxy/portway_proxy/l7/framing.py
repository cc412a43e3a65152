"""Where a body ends: by length, by chunks, or by the end of the connection (RFC 9112, 6).

A framing takes what arrived and hands out the payload in it. Chunks are decoded, so that what goes on is framed anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from portway_proxy.errors import BadChunk
from portway_proxy.settings import Limits

if TYPE_CHECKING:
    from portway_proxy.l7.request import RequestHead

__all__ = [
    "DROPPED",
    "EMPTY",
    "LAST_CHUNK",
    "Chunked",
    "Framing",
    "Length",
    "UntilClose",
    "chunk",
    "framing_of",
    "last_chunk",
]

LAST_CHUNK = b"0\r\n\r\n"
"""The end of a chunked body without trailers."""

# The size, then extensions; 16 digits are 2^64, as in llhttp. Space before the end of the line is refused.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
_LINE = 4096  # One size line with its extensions, or one trailer; hostile-world 1.4.
_EXTENSIONS = 16384  # All size lines beyond their digits, over the whole body: an endless comment is no body.


class Framing(Protocol):
    """The end of one body."""

    done: bool

    @property
    def trailers(self) -> Sequence[bytes]:
        """The fields behind the body, as `Name: value`."""

    def take(self, data: bytes, out: list[bytes]) -> int:
        """Append the payload in `data` to `out` and return how many leading bytes of `data` belong to this body.

        Less than `len(data)` only when the body is `done`.
        """


class Length:
    """A body of a known number of bytes."""

    __slots__ = ("done", "remaining")

    trailers = ()

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0

    def take(self, data: bytes, out: list[bytes]) -> int:
        """Append what belongs to the body to `out`; return how many leading bytes of `data` that is."""
        size = len(data)
        if size < self.remaining:
            self.remaining -= size
            out.append(data)
            return size
        taken = self.remaining
        if taken:
            out.append(data if size == taken else data[:taken])
        self.remaining = 0
        self.done = True
        return taken


EMPTY = Length(0)
"""The framing of a message without a body; it has no state to share by accident."""


class _Dropped:
    """A body that nobody wants any more, and whose end nobody looks for."""

    __slots__ = ()

    done = False
    trailers = ()

    def take(self, data: bytes, out: list[bytes]) -> int:  # noqa: ARG002 - a framing's signature
        """Return how many bytes `data` has: all of them are dropped."""
        return len(data)


DROPPED = _Dropped()
"""The framing of what is left of a body that is dropped."""


class UntilClose:
    """A response body that the end of the connection ends."""

    __slots__ = ("done",)

    trailers = ()

    def __init__(self) -> None:
        self.done = False

    def take(self, data: bytes, out: list[bytes]) -> int:
        """Append all of `data` to `out`."""
        out.append(data)
        return len(data)


class Chunked:
    """A chunked body (RFC 9112, 7.1). Trailers are checked and bounded; whether they go on is not decided here."""

    __slots__ = ("_extensions", "_line", "_remaining", "_step", "_trailers_limit", "_trailers_size", "done", "trailers")

    def __init__(self, limits: Limits) -> None:
        self.done = False
        self._line = b""
        self._remaining = 0
        self._step = self._size
        self._extensions = 0
        self._trailers_size = 0
        self.trailers: list[bytes] = []
        self._trailers_limit = limits.trailers

    def take(self, data: bytes, out: list[bytes]) -> int:
        """Append the payload of the chunks in `data` to `out`; return how many bytes of `data` were used.

        Raises `BadChunk` on anything malformed, and when lines or trailers pass their limits.
        """
        position = 0
        size = len(data)
        while position < size and not self.done:
            if self._remaining:
                end = min(size, position + self._remaining)
                out.append(data[position:end])
                self._remaining -= end - position
                position = end
                if not self._remaining:
                    self._step = self._end_of_chunk
            else:
                position = self._take_line(data, position)
        return position

    def _take_line(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position)
        if end < 0:
            self._line += data[position:]
            self._check_unfinished()
            return len(data)
        line = self._line + data[position:end] if self._line else data[position:end]
        self._line = b""
        if not line.endswith(b"\r"):
            raise BadChunk("a line of the chunked body ends without CR")
        if len(line) > _LINE + 1:
            raise BadChunk("a line of the chunked body is too long")
        self._step(line[:-1])
        return end + 1

    def _check_unfinished(self) -> None:
        line = self._line
        if len(line) > _LINE + 1:  # Its CR may be among them.
            raise BadChunk("a line of the chunked body is too long")
        if b"\r" in line[:-1] or (self._step == self._end_of_chunk and line != b"\r"):
            raise BadChunk("a chunk is not followed by CRLF")

    def _size(self, line: bytes) -> None:
        found = _SIZE_LINE.fullmatch(line)
        if found is None:
            raise BadChunk("the size line of a chunk is malformed")
        self._extensions += len(line) - len(found[1])
        if self._extensions > _EXTENSIONS:
            raise BadChunk("the extensions of the chunks are too long")
        self._remaining = int(found[1], 16)  # Hexadecimal digits alone, as the expression says.
        if not self._remaining:
            self._step = self._trailer

    def _end_of_chunk(self, line: bytes) -> None:
        if line:
            raise BadChunk("a chunk is longer than its size")
        self._step = self._size

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailers_size += len(line)
        if self._trailers_size > self._trailers_limit or _TRAILER.fullmatch(line) is None:
            raise BadChunk("a trailer field is malformed or the trailers are too long")
        self.trailers.append(line)


def framing_of(head: RequestHead, limits: Limits) -> Framing:
    """Return where the body of a request ends."""
    if head.chunked:
        return Chunked(limits)
    return Length(head.length) if head.length else EMPTY


def last_chunk(trailers: bytes) -> bytes:
    """Return the end of a chunked body with `trailers`, each ended by CRLF."""
    return b"0\r\n%b\r\n" % trailers


def chunk(pieces: list[bytes]) -> bytes:
    """Return `pieces` as one chunk; they must not be empty together, which would say the end."""
    payload = b"".join(pieces)
    return b"%x\r\n%b\r\n" % (len(payload), payload)
