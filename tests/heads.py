"""Request heads for property tests: sound ones, and ones with something wrong in them."""

from __future__ import annotations

import re

from hypothesis import strategies as st

__all__ = ["REQUEST_HEAD", "first_head", "heads", "spoilt_heads"]

# RFC 9112, 3 and 5, with the obsolete and the lenient left out: field-vchar, SP and HTAB in values, no folding.
REQUEST_HEAD = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e]+ HTTP/1\.[01]\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n"
)
"""What a request head may look like; an oracle that owes nothing to the parser."""

start_lines = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"GET /a//b/../c?d=%zz HTTP/1.1",
        b"POST /a HTTP/1.1",
        b"HEAD /%61 HTTP/1.1",
        b"GET / HTTP/1.0",
        b"POST / HTTP/1.0",
        b"OPTIONS * HTTP/1.1",
        b"GET http://shop.example/a HTTP/1.1",
        b"DELETE /a;b HTTP/1.1",
    ]
)
hosts = st.sampled_from([b"Host: shop.example", b"host:shop.example ", b"HOST:\tshop.example:80"])
fields = st.sampled_from(
    [
        b"Accept: */*",
        b"accept-language:en",
        b"X-Empty:",
        b"X-Empty-Too: \t ",
        b"X-Trailing: a \t",
        b"X-Text: \xe9\xff~",
        b"Cookie: a=b; c=d",
        b"Cookie: e=f",
        b"User-Agent: t/1",
        b"Referer: http://a/",
        b"Content-Length: 5",
        b"Content-Length: 0",
        b"content-length: 007",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding:\tChunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection: X-Text, cookie",
        b"Connection: Upgrade, host, content-length",
        b"Upgrade: websocket",
        b"Upgrade: h2c",
        b"Expect: 100-continue",
        b"Keep-Alive: timeout=5",
        b"TE: trailers",
        b"Trailer: X-Sum",
        b"X-Forwarded-For: 10.0.0.1",
        b"X_Forwarded_For: 10.0.0.1",
        b"X.Real.IP: 10.0.0.1",
        b"Forwarded: for=10.0.0.1",
        b"Proxy: http://a/",
        b"X-Request-ID: one",
        b"X-Request-ID: two words",
        b"Content_Length: 7",
        b"Host: other.example",
    ]
)


def join(start: bytes, host: bytes | None, lines: list[bytes]) -> bytes:
    """Return the head made of these lines."""
    return b"".join(line + b"\r\n" for line in (start, *([] if host is None else [host]), *lines, b""))


heads = st.builds(join, start_lines, hosts, st.lists(fields, max_size=6))
"""Heads in which every line is sound by itself."""

spoilers = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b"\x00",
        b"\x0b",
        b"\x7f",
        b"\x85",
        b":",
        b";",
        b",",
        b"#",
        b"%",
        b"_",
    ]
) | st.binary(min_size=1, max_size=3)


@st.composite
def spoilt_heads(draw: st.DrawFn) -> bytes:
    """Return a head into which up to three bytes or line ends were put, or in whose place they came."""
    data = draw(st.builds(join, start_lines, hosts | st.none(), st.lists(fields, max_size=5)))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(spoilers) + data[place + draw(st.integers(0, 2)) :]
    return data


def first_head(data: bytes) -> bytes:
    """Return `data` up to its first empty line (given one if need be): what a parser gets, whatever follows."""
    data += b"\r\n\r\n"
    return data[: data.index(b"\r\n\r\n") + 4]
