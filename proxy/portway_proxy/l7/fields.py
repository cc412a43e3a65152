"""What each field of a head means to a proxy: passed on, dropped, or understood.

Names are looked up as they were spelt; each parser remembers the spellings that it has seen (a bounded number), so
that an ordinary field costs one dict look-up.
"""

from __future__ import annotations

import re
from enum import IntEnum

__all__ = [
    "TOKENS",
    "RequestRole",
    "ResponseRole",
    "offers",
    "protocols",
    "request_role",
    "response_role",
    "tokens",
    "unmarked",
    "upgrades",
]


class RequestRole(IntEnum):
    """What a request's field is for us."""

    PASS = 0
    DROP = 1
    HOST = 2
    LENGTH = 3
    CODING = 4
    CONNECTION = 5
    UPGRADE = 6
    EXPECT = 7
    REQUEST_ID = 8
    REFERER = 9
    AGENT = 10
    TRACE_PARENT = 11
    SAID = 12  # By a trusted peer about its client (`identity.SpokenParser`).
    TE = 13
    SINGLE = 14  # Passed on, if it comes once.


class ResponseRole(IntEnum):
    """What a response's field is for us."""

    PASS = 0
    DROP = 1
    LENGTH = 2
    CODING = 3
    CONNECTION = 4
    UPGRADE = 5
    SERVER = 6
    DATE = 7


TOKENS = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PROTOCOL = re.compile(rb"%b(?:/%b)?" % (TOKENS.pattern, TOKENS.pattern))

_REQUEST = {
    b"host": RequestRole.HOST,
    b"content-length": RequestRole.LENGTH,
    b"transfer-encoding": RequestRole.CODING,
    b"connection": RequestRole.CONNECTION,
    b"upgrade": RequestRole.UPGRADE,
    b"expect": RequestRole.EXPECT,
    b"x-request-id": RequestRole.REQUEST_ID,
    b"referer": RequestRole.REFERER,
    b"user-agent": RequestRole.AGENT,
    b"traceparent": RequestRole.TRACE_PARENT,
    # Of two of these one reader takes the first and another the last: who is let in by one must not be another's guest.
    b"authorization": RequestRole.SINGLE,
    b"content-type": RequestRole.SINGLE,
    b"if-modified-since": RequestRole.SINGLE,
    b"if-range": RequestRole.SINGLE,
    b"if-unmodified-since": RequestRole.SINGLE,
    b"origin": RequestRole.SINGLE,
    b"range": RequestRole.SINGLE,
    # Of one connection only (RFC 9110, 7.6.1).
    b"keep-alive": RequestRole.DROP,
    b"proxy-connection": RequestRole.DROP,
    b"te": RequestRole.TE,
    b"trailer": RequestRole.DROP,
    # What a proxy says about the client; nobody else may (`Proxy` becomes HTTP_PROXY in CGI programs).
    b"forwarded": RequestRole.DROP,
    b"proxy": RequestRole.DROP,
    b"x-real-ip": RequestRole.DROP,
    b"x-scheme": RequestRole.DROP,
    b"x-original-forwarded-for": RequestRole.DROP,
    b"x-original-forwarded-host": RequestRole.DROP,
    b"http2-settings": RequestRole.DROP,
    b"ssl-client-cert": RequestRole.DROP,
    b"ssl-client-issuer-dn": RequestRole.DROP,
    b"ssl-client-subject-dn": RequestRole.DROP,
    b"ssl-client-verify": RequestRole.DROP,
}

_RESPONSE = {
    b"content-length": ResponseRole.LENGTH,
    b"transfer-encoding": ResponseRole.CODING,
    b"connection": ResponseRole.CONNECTION,
    b"upgrade": ResponseRole.UPGRADE,
    b"server": ResponseRole.SERVER,
    b"date": ResponseRole.DATE,
    b"keep-alive": ResponseRole.DROP,
    b"proxy-connection": ResponseRole.DROP,
    b"trailer": ResponseRole.DROP,
    # What we say of a response ourselves, to those who may know (`telling`); of a proxy behind us nobody hears it.
    b"x-portway-reason": ResponseRole.DROP,
    b"x-portway-route": ResponseRole.DROP,
    b"x-portway-upstream": ResponseRole.DROP,
    b"x-portway-endpoint": ResponseRole.DROP,
}

# What a name may hold beside letters, digits and hyphens; servers of CGI's family turn all of it into `_`.
_MARKS = b"!#$%&'*+.^_`|~"
_OURS = (b"http/", b"tls/")
_ALIASES = bytes.maketrans(_MARKS, b"-" * len(_MARKS))


def unmarked(name: bytes) -> bytes:
    """Return the name (any case) as servers of CGI's family read it: lower-case, all marks alike."""
    return name.lower().translate(_ALIASES)


def request_role(name: bytes) -> RequestRole:
    """Return what the request field `name` (any case) is for us.

    Fields with `_` are dropped, and so is every spelling with other marks of a field that we manage
    (`X.Forwarded.For`): servers of CGI's family read them all as one name.
    """
    lower = name.lower()
    alias = unmarked(name)
    if alias.startswith(b"x-forwarded-") or b"_" in lower:
        return RequestRole.DROP
    if alias != lower:
        return RequestRole.DROP if alias in _REQUEST else RequestRole.PASS
    return _REQUEST.get(lower, RequestRole.PASS)


def response_role(name: bytes) -> ResponseRole:
    """Return what the response field `name` (any case) is for us."""
    return _RESPONSE.get(name.lower(), ResponseRole.PASS)


def protocols(value: bytes) -> list[bytes]:
    """Return the protocols that the value of an Upgrade field lists; none when it is malformed (RFC 9110, 7.8)."""
    listed = [part.strip(b" \t") for part in value.split(b",")]
    return listed if all(map(_PROTOCOL.fullmatch, listed)) else []


def offers(asked: bytes, taken: bytes) -> bool:
    """Return whether the protocols that an endpoint switched to were asked for, both as Upgrade fields say it."""
    switched = protocols(taken.lower())
    return bool(switched) and set(switched) <= set(protocols(asked.lower()))


def upgrades(value: bytes, method: bytes) -> list[bytes]:
    """Return the protocols of an Upgrade field that an endpoint is asked for.

    Another version of HTTP, or TLS, would end what we understand of the connection. WebSocket begins with GET (RFC
    6455, 4.1); other protocols may begin with any method (RFC 9110, 7.8), as SPDY does with POST.
    """
    asked = []
    for protocol in protocols(value):
        name = protocol.lower()
        if name == b"websocket":
            if method == b"GET":
                asked.append(name)
        elif name != b"h2c" and not name.startswith(_OURS):
            asked.append(protocol)
    return asked


def tokens(value: bytes) -> list[bytes]:
    """Return the lower-case tokens of a comma-separated list such as Connection's."""
    return [token.lower() for token in TOKENS.findall(value)]
