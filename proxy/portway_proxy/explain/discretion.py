"""Leaves out of what is shown what may be a secret: values of fields and of parameters, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["HIDDEN", "discreet_fields", "discreet_head", "discreet_url"]

HIDDEN: Final = "..."
"""What stands in the place of a value that is not shown."""

_SECRET = re.compile(
    r"auth|cookie|token|secret|passw|pwd|api-?_?key|access-?_?key|session|credential|signature|jwt|client-cert|otp|\bsig\b"
    r"|\bcode\b|\bkey\b|\bsid\b",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"([?&;])([^=&;#?\s]*)=([^&;#\s]*)")
# They hold what everybody may know.
_OPEN: Final = frozenset({":authority", "www-authenticate"})
_OF_URLS: Final = frozenset({"location", "referer", "x-original-url", "x-original-uri", "x-auth-request-redirect"})


def discreet_url(url: str) -> str:
    """Return a URL or a target with the values of parameters left out that are called like a secret."""
    return _PARAMETER.sub(_discreet_parameter, url)


def discreet_fields(fields: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return fields of a head with the values left out that may be secret."""
    return tuple((name, _discreet(name, value)) for name, value in fields)


def discreet_head(head: bytes) -> str:
    """Return a head as text, its lines ended by newlines and without the empty one, and nothing secret in it."""
    first, *lines = head.decode("latin-1").split("\r\n")
    shown = [discreet_url(first)]
    for line in lines:
        name, colon, value = line.partition(": ")
        shown.append(f"{name}: {_discreet(name, value)}" if colon else line)
    return "".join(f"{line}\n" for line in shown if line)


def _discreet(name: str, value: str) -> str:
    lower = name.lower()
    if lower in _OF_URLS:
        return discreet_url(value)
    open_ = lower in _OPEN or lower.startswith("access-control-")
    return HIDDEN if value and not open_ and _SECRET.search(name) else value


def _discreet_parameter(found: re.Match[str]) -> str:
    hidden = HIDDEN if found[3] and _SECRET.search(found[2]) else found[3]
    return f"{found[1]}{found[2]}={hidden}"
