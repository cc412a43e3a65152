"""Leaves out of what is shown what may be a secret: values of fields and of parameters, by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

__all__ = ["HIDDEN", "Hide", "discreet_fields", "discreet_head", "discreet_text", "discreet_url", "secret_name"]

HIDDEN: Final = "..."
"""What stands in the place of a value that is not shown."""

Hide = Callable[[str], str]
"""Returns what stands in the place of a secret."""

_SECRET = re.compile(
    r"auth|cookie|token|secret|passw|pwd|api-?_?key|access-?_?key|session|credential|signature|jwt|client-cert|otp",
    re.IGNORECASE,
)
# What logins and signed URLs call it; no field of a head is called so for a secret.
_OF_LOGINS: Final = frozenset({"code", "key", "sid", "sig", "state"})
_PARAMETER = re.compile(r"([?&;])([^=&;#?\s]*)=([^&;#\s'\"]*)")
_USER = re.compile(r"//([^/@?#\s'\"]+)@")
# Of a field that somebody wrote wrongly the end is where the quotes end.
_FIELD = re.compile(r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-[a-z0-9-]+)(\s*:\s*|\s+)([^'\"]+)", re.IGNORECASE)
# They hold what everybody may know.
_OPEN: Final = frozenset({":authority", "www-authenticate"})
_OF_URLS: Final = frozenset({"location", "referer", "x-original-url", "x-original-uri", "x-auth-request-redirect"})


def _hidden(_value: str) -> str:
    return HIDDEN


def secret_name(name: str) -> bool:
    """Return whether a field of this name may hold a secret."""
    lower = name.lower()
    return not (lower in _OPEN or lower.startswith("access-control-")) and _SECRET.search(name) is not None


def discreet_url(url: str, hide: Hide = _hidden) -> str:
    """Return a URL or a target without the user, and the values of parameters that are called like a secret."""

    def parameter(found: re.Match[str]) -> str:
        secret = _SECRET.search(found[2]) or found[2].lower() in _OF_LOGINS
        return f"{found[1]}{found[2]}={hide(found[3]) if found[3] and secret else found[3]}"

    return _PARAMETER.sub(parameter, _USER.sub(lambda found: f"//{hide(found[1])}@", url))


def discreet_text(text: str) -> str:
    """Return a sentence that quotes what somebody wrote, without what is secret of the URLs and fields in it."""

    def field(found: re.Match[str]) -> str:
        return f"{found[1]}{found[2]}{HIDDEN}" if secret_name(found[1]) else found[0]

    return _FIELD.sub(field, discreet_url(text))


def discreet_fields(fields: Iterable[tuple[str, str]], hide: Hide = _hidden) -> tuple[tuple[str, str], ...]:
    """Return fields of a head with the values left out that may be secret."""
    return tuple((name, _discreet(name, value, hide)) for name, value in fields)


def discreet_head(head: bytes) -> str:
    """Return a head as text, its lines ended by newlines and without the empty one, and nothing secret in it."""
    first, *lines = head.decode("latin-1").split("\r\n")
    shown = [discreet_url(first)]
    for line in lines:
        name, colon, value = line.partition(": ")
        shown.append(f"{name}: {_discreet(name, value, _hidden)}" if colon else line)
    return "".join(f"{line}\n" for line in shown if line)


def _discreet(name: str, value: str, hide: Hide) -> str:
    if name.lower() in _OF_URLS:
        return discreet_url(value, hide)
    return hide(value) if value and secret_name(name) else value
