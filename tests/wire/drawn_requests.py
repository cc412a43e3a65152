"""Requests for the test that explain agrees with traffic: sound ones mostly, for what `drawing` draws."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

__all__ = ["CHUNK", "CHUNKED", "PASSWORD", "Asked", "asked"]

CHUNK = 5
CHUNKED = b"%x\r\nabcde\r\n0\r\n\r\n" % CHUNK
PASSWORD = "Authorization: Basic YWRhOm9wZW4gc2VzYW1l"  # Of `drawing.USERS`: ada, open sesame.
_OF_HTTP1 = ("connection:", "transfer-encoding:", "upgrade:")


@dataclass(frozen=True)
class Asked:
    """A request: `name` is the one that is asked for over TLS, None without TLS. `client` is where it comes from."""

    method: str
    target: str
    host: str
    fields: tuple[str, ...]
    client: str
    name: str | None
    body: bytes = b""
    http2: bool = False

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """What HTTP/2 makes of the head."""
        own = [(":method", self.method), (":scheme", "http" if self.name is None else "https")]
        own += [(":authority", self.host), (":path", self.target)]
        pairs = [field.split(": ", 1) for field in self.fields if not field.lower().startswith(_OF_HTTP1)]
        return own + [(name.lower(), value) for name, value in pairs]

    @property
    def payload(self) -> bytes:
        """The body without what frames it."""
        return b"abcde" if self.body == CHUNKED else self.body

    def and_also(self, *fields: str) -> Asked:
        """Return the same request with more fields."""
        return replace(self, fields=(*self.fields, *fields))

    @property
    def data(self) -> bytes:
        """All of it as it is sent."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {self.host}", *self.fields]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + self.body


_PIECES = (
    "/", "//", "/./", "/../", "/%2e%2e/", "%2F", "%2f", "%5c", "\\", ";x=1", "%3B", "%00", "%", "%61", "a", "b", "A",
    "x1", "?", "?x=1", "&y=2", "%2561", "..", "+", "\"", "|",
)  # fmt: skip
_plain = st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/c/d", "/A", "/b/a", "/x1/b", "/plain/x", "/a?x=1", "/zz"])
_odd = st.lists(st.sampled_from(_PIECES), max_size=6).map(lambda parts: "/" + "".join(parts))
_names = ("a.example", "b.a.example", "c.b.a.example", "other.example", "nobody.example")


def _ways(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from([name, name, name, name.upper(), f"{name}:8080", f"{name}."])


_strange = st.sampled_from(["", "127.0.0.1", "[::1]:80", "a..example", "a example", "a.example,b", "-"])
_field = st.sampled_from(
    [
        "X-Canary: always",
        "X-Canary: never",
        "X-Canary: new",
        "X-Canary: beta",
        "Cookie: canary=always",
        "Cookie: user=u1; canary=never",
        PASSWORD,
        "Authorization: Basic YWRhOndyb25n",
        "Authorization: Bearer x",
        "Origin: https://b.example",
        "Origin: https://x.a.example",
        "Origin: https://evil.example",
        "User-Agent: bad",
        "User-Agent: curl/8",
        "Referer: https://evil.example/",
        "X-User: u1",
        "X-Under_score: x",
        "X-Forwarded-For: 10.1.2.3",
        "X-Forwarded-For: 10.1.2.3, 127.0.0.3",
        "X-Client: 2001:db8::7",
        "Forwarded: for=10.1.2.4;proto=https;host=b.a.example",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: b.a.example",
        "X-Forwarded-Port: 8443",
        "X-Forwarded-Prefix: /far",
        "X-Request-ID: own-id",
        "X-Request-ID: not one",
        "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "TE: trailers",
        "Ssl-Client-Verify: SUCCESS",
        "X-Code: 404",
        "X-Original-Uri: /forged",
        "Content-Type: application/grpc",
        "Upgrade: websocket",
    ]
)
_UNWELCOME = ("Expect: miracles", "Host: second.example", f"X-Long: {'x' * 17_000}")
_MALFORMED = ("Transfer-Encoding: gzip, chunked", "Content-Length: 1x", "Bad Name: x")  # Resets in HTTP/2.
_bodies = st.sampled_from(
    [
        ((), b""),
        ((), b""),
        ((), b""),
        (("Content-Length: 0",), b""),
        (("Content-Length: 3",), b"abc"),
        (("Content-Length: 5",), b"abcde"),
        (("Transfer-Encoding: chunked",), CHUNKED),
    ]
)


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    framing, body = draw(_bodies)
    fields = draw(st.lists(_field, max_size=4, unique_by=lambda field: field.partition(":")[0]))
    http2 = draw(st.integers(0, 3)) == 3
    if draw(st.integers(0, 15)) == 15:
        fields.append(draw(st.sampled_from(_UNWELCOME if http2 else _UNWELCOME + _MALFORMED)))
    secure = draw(st.booleans())
    name = draw(st.sampled_from(_names))
    host = draw(_strange) if draw(st.integers(0, 19)) == 19 else draw(_ways(name))
    return Asked(
        draw(st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "TRACE", "PURGE"])),
        draw(st.one_of(_plain, _plain, _plain, _odd)),
        host,
        (
            *fields,
            *framing,
            draw(st.sampled_from(["Connection: close", "Connection: close, X-User", "Connection: close"])),
        ),
        draw(st.sampled_from(["127.0.0.1", "127.0.0.2", "127.0.0.3"])),
        None if not secure else draw(st.sampled_from([name, name, *_names])),
        body,
        http2,
    )
