"""Reads the users of a Secret for basic authentication: lines of htpasswd, or a key for each user. Quotes no hash."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from portway_operator.objects import Secret

__all__ = ["SecretForm", "Users", "read_users"]

_KEY = "auth"

# A hash costs the proxy as much as its owner says, so there is a most: about a second of one core.
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-3])\$[./A-Za-z0-9]{53}")
_SHA_CRYPT = re.compile(r"\$(?:5|6)\$(?:rounds=([0-9]{1,9})\$)?[^$:\s]{0,16}\$(?:[./A-Za-z0-9]{43}|[./A-Za-z0-9]{86})")
_MOST_ROUNDS = 1_000_000
_OTHERS = re.compile(
    r"\$(?:apr1|1)\$[^$:\s]{0,8}\$[./A-Za-z0-9]{22}"
    r"|\{SHA\}[A-Za-z0-9+/]{27}="
    r"|\{SSHA\}[A-Za-z0-9+/]{32,}={0,2}"
    r"|\{PLAIN\}.*"
    r"|[./A-Za-z0-9]{13}"
)
_USER = re.compile(r"[^:\x00-\x1f\x7f]{1,255}")


class SecretForm(StrEnum):
    """How a Secret holds users."""

    FILE = "auth-file"
    MAP = "auth-map"


@dataclass(frozen=True, slots=True)
class Users:
    """Users and the hashes of their passwords, sorted, and where lines or keys that name none stand."""

    users: tuple[tuple[str, str], ...] = field(repr=False)
    faults: tuple[str, ...] = ()


def read_users(secret: Secret, form: SecretForm) -> Users:
    """Return the users of a Secret. The first line of a user counts, as for nginx."""
    found: dict[str, str] = {}
    faults = []
    for place, user, hashed in _entries(secret, form):
        if _USER.fullmatch(user) and _usable(hashed):
            found.setdefault(user, hashed)
        else:
            faults.append(place)
    return Users(tuple(sorted(found.items())), tuple(faults))


def _entries(secret: Secret, form: SecretForm) -> Iterable[tuple[str, str, str]]:
    """Return place, user and hash of each entry."""
    if form is SecretForm.MAP:
        return ((f"data[{key}]", key, _text(value).strip()) for key, value in sorted(secret.data.items()))
    return _lines(_text(secret.data.get(_KEY, b"")))


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            user, _, rest = entry.partition(":")
            # What follows a second colon is a comment.
            yield f"data[{_KEY}] line {number}", user, rest.partition(":")[0]


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _usable(hashed: str) -> bool:
    rounds = _SHA_CRYPT.fullmatch(hashed)
    if rounds is not None:
        return int(rounds[1] or 0) <= _MOST_ROUNDS
    return bool(_BCRYPT.fullmatch(hashed) or _OTHERS.fullmatch(hashed))
