"""What a client gets in the place of an endpoint's cookies and redirects: nginx's proxy_cookie_* and proxy_redirect."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from portway_proxy.l7.template import Template

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage
    from portway_proxy.snapshot import Edits

__all__ = ["EditAnswer"]

_DOMAIN = re.compile(rb"(;[ \t]*domain[ \t]*=[ \t]*)([^;\r\n]*)", re.IGNORECASE)
_PATH = re.compile(rb"(;[ \t]*path[ \t]*=[ \t]*)([^;\r\n]*)", re.IGNORECASE)
_REFRESH = re.compile(rb"(refresh:[^\r\n]*?url=)", re.IGNORECASE)
_LOCATION = re.compile(rb"(location:[ \t]*)", re.IGNORECASE)


class EditAnswer:
    """The step that has cookies get another Domain or Path, and redirects another beginning."""

    __slots__ = ("_domain", "_from", "_path", "_to")

    def __init__(self, edits: Edits) -> None:
        self._domain = _pair(edits.cookie_domain)
        self._path = _pair(edits.cookie_path)
        beginning, to = edits.redirect or ("", "")
        self._from = beginning.encode()
        self._to = Template(to)

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return True."""
        passage.edit = partial(self._edit, self._to.fill(exchange))
        return True

    def _edit(self, to: bytes, line: bytes) -> bytes:
        """Return a line as the client gets it; most are as they were."""
        first = line[:1]
        if first in b"sS" and line[:11].lower() == b"set-cookie:":
            return self._cookie(line)
        if self._from and first in b"lLrR":
            begun = _LOCATION.match(line) or _REFRESH.match(line)
            if begun is not None and line.startswith(self._from, begun.end()):
                return line[: begun.end()] + to + line[begun.end() + len(self._from) :]
        return line

    def _cookie(self, line: bytes) -> bytes:
        if self._domain is not None:
            line = _DOMAIN.sub(partial(_other_domain, *self._domain), line)
        if self._path is not None:
            line = _PATH.sub(partial(_other_path, *self._path), line)
        return line


def _pair(pair: tuple[str, str] | None) -> tuple[bytes, bytes] | None:
    return None if pair is None else (pair[0].encode(), pair[1].encode())


def _other_domain(old: bytes, new: bytes, found: re.Match[bytes]) -> bytes:
    name = found[2].strip(b" \t").lower().lstrip(b".")
    return found[1] + new if name == old.lower().lstrip(b".") else found[0]


def _other_path(old: bytes, new: bytes, found: re.Match[bytes]) -> bytes:
    return found[1] + new + found[2][len(old) :] if found[2].startswith(old) else found[0]
