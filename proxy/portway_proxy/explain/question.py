"""What is asked about: a request as people write it down, and the bytes that a client would send for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Self
from urllib.parse import quote

import msgspec

from portway_proxy.networks import parse_address

__all__ = ["STRANGER", "BadQuestion", "Question"]

STRANGER: Final = "198.51.100.1"
"""Whom a request comes from when nobody says it: an address that is nobody's (RFC 5737)."""

# Beyond what the proxy itself takes, so that it can be seen refusing it.
_LONGEST_URL: Final = 32_768
_MOST_FIELDS: Final = 256
_LONGEST_FIELDS: Final = 131_072

_URL = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*)://)?([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_AUTHORITY = re.compile(r"(\[[^\[\]@]*\]|[^\[\]:@]*)(?::([0-9]{0,5}))?")
_METHOD = re.compile(r"[!-~]{1,64}")
_SCHEMES: Final = {"http": 80, "https": 443, "tcp": 0, "udp": 0}
_UNSENT = re.compile(r"[^!-~]+")
_BREAKS = re.compile(r"[\r\n\0]")


class BadQuestion(ValueError):
    """What is asked about is no request; the message says why, for the one who asked."""


class Question(msgspec.Struct, frozen=True):
    """A request: `host` and `port` are of the URL (0 where it names none), `fields` in the order they are sent.

    `scheme` is `http`, `https`, `tcp` or `udp`; the last two are connections, which have neither target nor fields.
    `client` is the address that connects to the proxy.
    """

    scheme: str
    host: str
    port: int
    target: str = "/"
    method: str = "GET"
    fields: tuple[tuple[str, str], ...] = ()
    client: str = STRANGER

    @classmethod
    def of(cls, url: str, method: str = "GET", fields: Iterable[str] = (), client: str = "") -> Self:
        """Return the question about a request for `url`, with `fields` as `Name: value`; raises `BadQuestion`.

        A URL without a scheme is http's. The part behind `#` stays with the client, and what no URL may hold is sent
        encoded, as browsers do.
        """
        if len(url) > _LONGEST_URL:
            raise BadQuestion(f"a URL of more than {_LONGEST_URL} characters")
        if not _METHOD.fullmatch(method):
            raise BadQuestion(f"{method!r} is no method")
        found = _URL.fullmatch(url)
        scheme = (found[1] or "http").lower() if found else ""
        if found is None or scheme not in _SCHEMES:
            raise BadQuestion(f"{url!r} is no URL of http, https, tcp or udp")
        host, port = _authority(found[2])
        if scheme in ("tcp", "udp") and not port:
            raise BadQuestion(f"{url!r} names no port: {scheme}://HOST:PORT")
        target = found[3] if found[3].startswith("/") else f"/{found[3]}"
        return cls(scheme, host, port, _UNSENT.sub(_quoted, target), method, _fields(list(fields)), _client(client))

    @property
    def secure(self) -> bool:
        """Whether it comes by TLS."""
        return self.scheme == "https"

    @property
    def real_port(self) -> int:
        """The port that the client connects to."""
        return self.port or _SCHEMES[self.scheme]

    @property
    def authority(self) -> str:
        """The host as it stands in a Host field."""
        return self.host if self.port in (0, _SCHEMES[self.scheme]) else f"{self.host}:{self.port}"

    @property
    def asked_host(self) -> str:
        """The Host that the request names: that of the URL, unless its fields say another."""
        return next((value for name, value in self.fields if name.lower() == "host"), self.authority)

    @property
    def name(self) -> str:
        """The name that a TLS client asks for: lower-case, without a dot at its end; empty for an address."""
        address = parse_address(self.host.strip("[]"))
        return "" if address is not None else self.host.lower().removesuffix(".")

    @property
    def data(self) -> bytes:
        """The request's head as a client of HTTP/1.1 sends it."""
        fields = self.fields
        if not any(name.lower() == "host" for name, _ in fields):
            fields = (("Host", self.authority), *fields)
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()

    @property
    def url(self) -> str:
        """The URL in full."""
        place = self.authority if self.scheme in ("http", "https") else f"{self.host}:{self.port}"
        return f"{self.scheme}://{place}{self.target if self.scheme in ('http', 'https') else ''}"


def _authority(text: str) -> tuple[str, int]:
    if "@" in text:
        raise BadQuestion("a URL with a user in it: give that as a field, 'Authorization: Basic ...'")
    found = _AUTHORITY.fullmatch(text)
    if found is None or not found[1] or int(found[2] or 0) > 65535:
        raise BadQuestion(f"{text!r} is no host, or no port")
    host: str = found[1]
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            raise BadQuestion(f"{host!r} is no host") from None
    if _UNSENT.search(host):
        raise BadQuestion(f"{host!r} is no host")
    return host, int(found[2] or 0)


def _fields(lines: Sequence[str]) -> tuple[tuple[str, str], ...]:
    if len(lines) > _MOST_FIELDS or sum(map(len, lines)) > _LONGEST_FIELDS:
        raise BadQuestion(f"more than {_MOST_FIELDS} fields, or {_LONGEST_FIELDS} characters of them")
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        # What ends a line would become another field, or another request.
        if not colon or not name or _BREAKS.search(line):
            raise BadQuestion(f"{line.partition(':')[0]!r} is no field: write 'Name: value'")
        fields.append((name, value.strip(" \t")))
    return tuple(fields)


def _client(text: str) -> str:
    address = parse_address(text or STRANGER)
    if address is None:
        raise BadQuestion(f"{text!r} is no address")
    return str(address)


def _quoted(found: re.Match[str]) -> str:
    return quote(found[0], safe="")
