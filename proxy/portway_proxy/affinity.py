"""The cookie that keeps a client at one endpoint: what it holds, and the field that sets it.

Its value is a keyed hash of the endpoint: nobody without the key can make one, or tell an address from it, and every
worker of every proxy with the same key knows it. There is nothing to keep, so that it survives whatever restarts.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode

from portway_proxy.snapshot import Affinity, Endpoint

__all__ = ["CookieMaker"]

_SIZE = 16  # Bytes of a value before it is text: 128 bits cannot be guessed.


class CookieMaker:
    """Makes the cookies of one upstream."""

    __slots__ = ("_affinity", "_key", "_tail", "_upstream", "name")

    def __init__(self, affinity: Affinity, key: bytes, upstream: str) -> None:
        self.name = affinity.cookie.encode()
        self._affinity = affinity
        self._key = key
        self._upstream = upstream
        attributes = [f"Path={affinity.path}"]
        if affinity.domain:
            attributes.append(f"Domain={affinity.domain}")
        if affinity.ttl:
            attributes.append(f"Max-Age={affinity.ttl}")
        attributes.append("HttpOnly")
        if affinity.same_site:
            attributes.append(f"SameSite={affinity.same_site}")
        self._tail = "; ".join(attributes).encode()

    def value(self, endpoint: Endpoint) -> bytes:
        """Return the value that stands for `endpoint`: 22 letters, digits, `-` and `_`."""
        # A zero byte is in no name and no address: two upstreams never share a value by accident.
        mac = hmac.digest(self._key, f"{self._upstream}\0{endpoint}".encode(), "sha256")
        return urlsafe_b64encode(mac[:_SIZE]).rstrip(b"=")

    def field(self, value: bytes, *, tls: bool) -> bytes:
        """Return the line that sets the cookie to `value`, ended by CRLF; `tls` is how the request came."""
        secure = tls if self._affinity.secure is None else self._affinity.secure
        return b"Set-Cookie: %b=%b; %b%b\r\n" % (self.name, value, self._tail, b"; Secure" if secure else b"")
