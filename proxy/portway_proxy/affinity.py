"""The cookie that keeps a client at one endpoint: what it holds, and the field that sets it.

Its value is a keyed hash of the endpoint, or a random word and a keyed hash of that: nobody without the key can make
one, or tell an address from it, and every worker of every proxy with the same key knows it. There is nothing to keep,
so that it survives whatever restarts.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from email.utils import formatdate
from secrets import token_bytes

from portway_proxy.snapshot import Affinity, Endpoint

__all__ = ["CookieMaker"]

_SIZE = 16  # Bytes of a value before it is text: 128 bits cannot be guessed.
_WORD = 22  # Letters of a random word of as many bytes.
# Those that take SameSite=None for Strict, or refuse the cookie (Chromium's list of incompatible clients, shortened).
_MISREADERS = re.compile(
    rb"Chrome/[456][0-9]\."
    rb"|CPU iPhone OS 12|iPad; CPU OS 12"
    rb"|Mac OS X 10_14(?!.*Chrome).*Version/.*Safari"
)


class CookieMaker:
    """Makes the cookies of one upstream."""

    __slots__ = ("_affinity", "_head", "_key", "_tail", "_upstream", "name", "spreads", "stays")

    def __init__(self, affinity: Affinity, key: bytes, upstream: str) -> None:
        self.name = affinity.cookie.encode()
        self.spreads = affinity.spreads
        self.stays = affinity.stays
        self._affinity = affinity
        self._key = key
        self._upstream = upstream
        attributes = [f"Domain={affinity.domain}"] if affinity.domain else []
        if affinity.ttl:
            attributes.append(f"Max-Age={affinity.ttl}")
        attributes.append("HttpOnly")
        self._head = "".join(f"; {one}" for one in attributes).encode()
        self._tail = b"; Partitioned" if affinity.partitioned else b""

    def value(self, endpoint: Endpoint) -> bytes:
        """Return the value that stands for `endpoint`: 22 letters, digits, `-` and `_`."""
        # A zero byte is in no name and no address: two upstreams never share a value by accident.
        return self._sign(str(endpoint).encode())

    def word(self) -> bytes:
        """Return a new value that a consistent hash may be taken of: 44 letters, digits, `-` and `_`."""
        word = urlsafe_b64encode(token_bytes(_SIZE)).rstrip(b"=")
        return word + self._sign(b"\0" + word)

    def made(self, value: bytes) -> bool:
        """Return whether a value is one that `word` returned to somebody."""
        word = value[:_WORD]
        return len(value) == 2 * _WORD and hmac.compare_digest(value[_WORD:], self._sign(b"\0" + word))

    def _sign(self, what: bytes) -> bytes:
        mac = hmac.digest(self._key, b"%b\0%b" % (self._upstream.encode(), what), "sha256")
        return urlsafe_b64encode(mac[:_SIZE]).rstrip(b"=")

    def field(self, value: bytes, *, tls: bool, path: str = "/", agent: bytes = b"", now: float = 0.0) -> bytes:
        """Return the line that sets the cookie to `value`, ended by CRLF.

        `tls` is how the request came, `path` its route's, `agent` the browser that sent it, `now` the seconds since
        the epoch.
        """
        affinity = self._affinity
        secure = tls if affinity.secure is None else affinity.secure
        where = (affinity.path or path).encode()
        line = b"Set-Cookie: %b=%b; Path=%b%b" % (self.name, value, where, self._head)
        if affinity.expires:
            line += b"; Expires=%b" % formatdate(now + affinity.expires, usegmt=True).encode()
        if affinity.same_site and not (affinity.lenient and affinity.same_site == "None" and _MISREADERS.search(agent)):
            line += b"; SameSite=%b" % affinity.same_site.encode()
        return line + (b"; Secure" if secure else b"") + self._tail + b"\r\n"
