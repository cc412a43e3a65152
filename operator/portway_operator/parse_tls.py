"""Parsers of values about TLS, as `parse` has them, in nginx's and OpenSSL's spelling."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["ciphers", "protocols"]

_LIST: Final = re.compile(r"[!+@A-Za-z0-9:_=.-]{1,2000}")
_KNOWN: Final = ("TLSv1.2", "TLSv1.3")
_OLD: Final = ("SSLv2", "SSLv3", "TLSv1", "TLSv1.1")


def protocols(text: str) -> tuple[str, ...]:
    """Return the versions of TLS that blanks part; older ones are left out beside newer; raises ValueError."""
    named = text.split()
    if unknown := [name for name in named if name not in (*_KNOWN, *_OLD)]:
        raise ValueError(f"{unknown[0]} is none of {' '.join(_KNOWN)}")
    found = tuple(name for name in _KNOWN if name in named)
    if not found:
        raise ValueError("it names neither TLSv1.2 nor TLSv1.3")
    return found


def ciphers(text: str) -> str:
    """Return a list of ciphers as OpenSSL has it; raises ValueError for what can be none."""
    if not _LIST.fullmatch(text):
        raise ValueError("it is no list of ciphers such as ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384")
    return text
