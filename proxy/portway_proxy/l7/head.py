"""What request and response heads have in common: where a head ends, and how llhttp's fields are taken.

llhttp parses; what it tolerates and RFC 9112 does not is refused by the parsers in `request` and `response`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from portway_proxy.errors import BadHead, FieldsTooLarge, TargetTooLong
from portway_proxy.settings import Limits

__all__ = ["DIGITS", "ORDINARY", "FieldParser", "TakeTable", "drop_nominated", "find_end"]

DIGITS = re.compile(rb"[0-9]{1,18}")
"""A Content-Length: `int` alone would take signs, underscores and 10,000 digits."""

ORDINARY = ([b"keep-alive"], [b"close"])
"""The values of Connection that nominate no field."""

TakeTable = Mapping[int, Callable[[Any, bytes, bytes], None]]
"""Role of a field -> method of the parser that takes its name and value."""

_BARE_LF = re.compile(rb"(?<!\r)\n")
_REMEMBERED = 1024  # Spellings of names that a parser remembers before it starts over.
_LONGEST = 64  # Bytes of a name that is remembered, or names alone could take 16 MiB.


def find_end(buffer: bytes | bytearray, seen: int, limits: Limits) -> int:
    """Return the length of the head that begins `buffer`, or 0 when more bytes are needed.

    `seen` bytes were searched before. Raises `TargetTooLong`, `FieldsTooLarge`, or `BadHead` for a line that ends
    without CR, which could otherwise hide the end.
    """
    end = buffer.find(b"\r\n\r\n", max(0, seen - 3))
    if end >= 0 and end + 4 <= limits.head:
        return end + 4
    if end < 0 and _BARE_LF.search(buffer, max(0, seen - 1)):
        raise BadHead("a line of the head ends without CR")
    if len(buffer) > limits.request_line + 1 and buffer.find(b"\r\n", 0, limits.request_line + 2) < 0:
        raise TargetTooLong(f"the request line is longer than {limits.request_line} bytes")
    if end >= 0 or len(buffer) > limits.head:
        raise FieldsTooLarge(f"the head is longer than {limits.head} bytes")
    return 0


class FieldParser:
    """Takes the fields of one head at a time from llhttp.

    `role` says what a name means (0: pass it on, 1: drop it, else understand it), `take` who takes a value that is
    understood. Fields that go on are collected in `_lines`, each ended by CRLF.
    """

    __slots__ = ("_lines", "_nominated", "_role", "_roles", "_strip", "_take")

    def __init__(self, role: Callable[[bytes], int], take: TakeTable) -> None:
        self._role = role
        self._take = take
        self._roles: dict[bytes, int] = {}

    def _begin(self, data: bytes, lines: list[bytes]) -> None:
        self._lines = lines
        self._nominated: list[bytes] = []
        # httptools strips white space before a value, not after it.
        self._strip = data.find(b" \r\n") >= 0 or data.find(b"\t\r\n") >= 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field from llhttp."""
        role = self._roles.get(name)
        if role is None:
            role = self._learn(name)
        if self._strip:
            value = value.rstrip(b" \t")
        if not role:
            self._lines.append(b"%b: %b\r\n" % (name, value))
        elif role > 1:
            self._take[role](self, name, value)

    def _learn(self, name: bytes) -> int:
        role = self._role(name)
        if len(name) <= _LONGEST:
            if len(self._roles) >= _REMEMBERED:
                self._roles.clear()
            self._roles[name] = role
        return role


def drop_nominated(lines: list[bytes], nominated: Collection[bytes]) -> None:
    """Take the fields that a Connection field nominated out of `lines` (RFC 9110, 7.6.1)."""
    # A set: a head has room for 30,000 nominations, and 100 fields to look for among them.
    names = frozenset(nominated)
    lines[:] = [line for line in lines if line[: line.find(b":")].lower() not in names]
