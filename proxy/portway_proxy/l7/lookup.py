"""Looks up a field or a cookie among the lines of a head."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["cookie", "field"]


def field(lines: Iterable[bytes], name: bytes) -> bytes | None:
    """Return the value of the first field called `name` (lower-case), or None; `lines` are `Name: value` and CRLF."""
    prefix = name + b":"
    size = len(prefix)
    for line in lines:
        if line[:size].lower() == prefix:
            return line[size + 1 : -2]
    return None


def cookie(lines: Iterable[bytes], name: bytes) -> bytes | None:
    """Return the value of the first cookie called `name`, or None (RFC 6265, 4.2.1)."""
    prefix = name + b"="
    for line in lines:
        if line[:7].lower() == b"cookie:" and prefix in line:
            for pair in line[7:-2].split(b";"):
                pair = pair.strip(b" \t")  # noqa: PLW2901 - it is the pair still
                if pair.startswith(prefix):
                    return pair[len(prefix) :]
    return None
