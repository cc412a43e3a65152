"""Hostile lengths, codings and chunks, and requests that are clean although they look otherwise."""

from __future__ import annotations

from wire.hostile import HOST, SMUGGLED, Case, Outcome

__all__ = ["BODIES"]


def _lengths(name: str, value: bytes) -> Case:
    data = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length:" + value + b"\r\n\r\nhello" + SMUGGLED
    return Case(f"length {name}", data)


def _codings(name: str, value: bytes, status: int = 400) -> Case:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:" + value + b"\r\n\r\n"
    return Case(f"coding {name}", head + b"0\r\n\r\n" + SMUGGLED, status)


def _framings(name: str, fields: bytes, body: bytes, status: int = 400) -> Case:
    return Case(f"framing {name}", b"POST / HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body, status)


def _chunks(name: str, body: bytes) -> Case:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"
    return Case(f"chunks {name}", head + body, 400, Outcome.PART)


def _clean(name: str, data: bytes) -> Case:
    return Case(f"clean {name}", data, 200, Outcome.ONE)


LENGTHS = [
    *(
        _lengths(name, value)
        for name, value in (
            ("with a plus", b" +5"),
            ("with a minus", b" -5"),
            ("of minus nothing", b" -0"),
            ("with an underscore", b" 0_5"),
            ("in hexadecimal", b" 0x5"),
            ("with a fraction", b" 5.0"),
            ("with an exponent", b" 5e0"),
            ("in words", b" five"),
            ("empty", b""),
            ("of white space", b" \t "),
            ("twice in one field", b" 5, 5"),
            ("twice without a space", b" 5,5"),
            ("twice with a space", b" 5 5"),
            ("with a semicolon", b" 5;"),
            ("in quotes", b' "5"'),
            ("with VT before", b" \x0b5"),
            ("with VT behind", b" 5\x0b"),
            ("with FF before", b" \x0c5"),
            ("with NUL behind", b" 5\x00"),
            ("with 0x1c before", b" \x1c5"),
            ("with NBSP before", b" \xa05"),
            ("with NEL behind", b" 5\x85"),
            ("in full-width digits", " \uff15".encode()),
            ("in arabic digits", " \u0665".encode()),
            ("in superscript", " \u2075".encode()),
            ("of 19 digits", b" 1000000000000000005"),
            ("beyond 64 bits", b" 18446744073709551621"),
            ("of 5,000 digits", b" " + b"0" * 4999 + b"5"),
            ("folded", b"\r\n 5"),
        )
    ),
    _framings("with two equal lengths", b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello" + SMUGGLED),
    _framings("with two lengths", b"Content-Length: 5\r\nContent-Length: 39\r\n", b"hello" + SMUGGLED),
    _framings("with two lengths in other case", b"Content-Length: 0\r\nCONTENT-LENGTH: 39\r\n", SMUGGLED),
    _framings("with a space before the length's colon", b"Content-Length : 5\r\n", b"hello"),
]

CODINGS = [
    # RFC 9112, 6.3: where chunked is not last, nobody knows where the body ends: 400. What we cannot decode: 501 (6.1).
    *(
        _codings(name, value)
        for name, value in (
            ("twice in one field", b" chunked, chunked"),
            ("and identity", b" chunked, identity"),
            ("gzip", b" gzip"),
            ("identity", b" identity"),
            ("of an unknown name", b" xchunked"),
            ("with a letter more", b" chunkedx"),
            ("with a letter less", b" chunke"),
            ("with a parameter", b" chunked;q=1"),
            ("in quotes", b' "chunked"'),
            ("with a comma behind", b" chunked,"),
            ("with a space within", b" chun ked"),
            ("empty", b""),
            ("with a KELVIN SIGN", " chun\u212aed".encode()),
            ("with NBSP before", b" \xa0chunked"),
            ("with VT before", b" \x0bchunked"),
            ("with VT behind", b" chunked\x0b"),
            ("with NUL behind", b" chunked\x00"),
            ("folded", b"\r\n chunked"),
            ("with CR behind", b" chunked\rX: y"),
            ("with LF behind", b" chunked\nX: y"),
        )
    ),
    *(
        _codings(name, value, 501)
        for name, value in (
            ("gzip and", b" gzip, chunked"),
            ("identity and", b" identity, chunked"),
            ("with a comma before", b" ,chunked"),
        )
    ),
]

_TE = b"Transfer-Encoding: chunked\r\n"
FRAMINGS = [
    _framings("CL.TE", b"Content-Length: 44\r\n" + _TE, b"0\r\n\r\n" + SMUGGLED),
    _framings("TE.CL", _TE + b"Content-Length: 4\r\n", b"27\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
    _framings("CL 0 and TE", b"Content-Length: 0\r\n" + _TE, b"0\r\n\r\n" + SMUGGLED),
    _framings("TE twice", _TE + _TE, b"0\r\n\r\n" + SMUGGLED),
    _framings("TE and TE identity", _TE + b"Transfer-Encoding: identity\r\n", b"0\r\n\r\n" + SMUGGLED),
    _framings("TE identity and TE", b"Transfer-Encoding: identity\r\n" + _TE, b"0\r\n\r\n" + SMUGGLED, 501),
    _framings("TE with a space before the colon", b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
    _framings("TE with a tab before the colon", b"Transfer-Encoding\t: chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
    _framings("TE with a NUL in its name", b"Transfer-Encoding\x00: chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
    _framings("TE hidden behind LF", b"X: y\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
    _framings("TE hidden in a fold", b"X: y\r\n Transfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
    _framings("an expectation with a prefix", b"Expect: y 100-continue\r\nContent-Length: 5\r\n", b"hello", 417),
    _framings("an unknown expectation", b"Expect: 200-ok\r\nContent-Length: 5\r\n", b"hello", 417),
    _framings("two expectations", b"Expect: 100-continue, 100-continue\r\nContent-Length: 5\r\n", b"hello", 417),
    Case("framing TE in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\n" + _TE + b"\r\n0\r\n\r\n" + SMUGGLED),
    Case(
        "framing TE in HTTP/1.0 kept alive",
        b"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n" + _TE + b"\r\n0\r\n\r\n" + SMUGGLED,
    ),
]

CHUNKS = [
    *(
        _chunks(name, line + b"hello\r\n0\r\n\r\n" + SMUGGLED)
        for name, line in (
            ("with a plus", b"+5\r\n"),
            ("with a minus", b"-5\r\n"),
            ("with 0x", b"0x5\r\n"),
            ("with an underscore", b"0_5\r\n"),
            ("with a space before", b" 5\r\n"),
            ("with a space behind", b"5 \r\n"),
            ("with a tab behind", b"5\t\r\n"),
            ("with VT behind", b"5\x0b\r\n"),
            ("with NUL behind", b"5\x00\r\n"),
            ("with no size", b"\r\n"),
            ("with an extension and no size", b";x\r\n"),
            ("with a letter", b"g\r\n"),
            ("with a letter behind", b"5g\r\n"),
            ("of 17 digits", b"00000000000000005\r\n"),
            ("beyond 64 bits", b"10000000000000005\r\n"),
            ("with LF alone", b"5\n"),
            ("with CR alone", b"5\rhello\r\n"),
            ("with CR CR LF", b"5\r\r\n"),
            ("with LF in an extension", b"5;x\n"),
            ("with LF behind an extension", b"5;x=y\n"),
            ("with CR in an extension", b"5;x\ry\r\n"),
            ("with NUL in an extension", b"5;\x00\r\n"),
            ("with VT before an extension", b"5\x0b;x\r\n"),
            ("with a space and a letter", b"5 x\r\n"),
            ("with a comma", b"5,5\r\n"),
            ("in arabic digits", "\u0665\r\n".encode()),
            ("with an extension of 5,000 bytes", b"5;" + b"x" * 5000 + b"\r\n"),
        )
    ),
    _chunks("with two more bytes", b"5\r\nhelloXX0\r\n\r\n" + SMUGGLED),
    _chunks("without an end of line behind its data", b"5\r\nhello0\r\n\r\n" + SMUGGLED),
    _chunks("with LF behind its data", b"5\r\nhello\n0\r\n\r\n" + SMUGGLED),
    _chunks("with CR behind its data", b"5\r\nhello\r0\r\n\r\n" + SMUGGLED),
    _chunks("with CR CR LF behind its data", b"5\r\nhello\r\r\n0\r\n\r\n" + SMUGGLED),
    _chunks("longer than their size", b"4\r\nhello\r\n0\r\n\r\n" + SMUGGLED),
    _chunks("with LF behind the last", b"0\n\r\n" + SMUGGLED),
    _chunks("with LF at the very end", b"0\r\n\n" + SMUGGLED),
    _chunks("with CR CR LF at the very end", b"0\r\n\r\r\n" + SMUGGLED),
    _chunks("with a negative last", b"-0\r\n\r\n" + SMUGGLED),
    _chunks("with a trailer without a colon", b"0\r\nX\r\n\r\n" + SMUGGLED),
    _chunks("with a trailer without a name", b"0\r\n: y\r\n\r\n" + SMUGGLED),
    _chunks("with a space before a trailer's colon", b"0\r\nX : y\r\n\r\n" + SMUGGLED),
    _chunks("with a folded trailer", b"0\r\nX: y\r\n z\r\n\r\n" + SMUGGLED),
    _chunks("with LF in a trailer", b"0\r\nX: y\nZ: z\r\n\r\n" + SMUGGLED),
    _chunks("with NUL in a trailer", b"0\r\nX: \x00\r\n\r\n" + SMUGGLED),
    _chunks("with a request as a trailer", b"0\r\n" + SMUGGLED),
    _chunks("with trailers of 20,000 bytes", b"0\r\n" + b"X: y\r\n" * 5000 + b"\r\n" + SMUGGLED),
]

_POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
_BODY = b"Content-Length: %d\r\n\r\n%b" % (len(SMUGGLED), SMUGGLED)
_WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
CLEAN = [
    _clean("a request as a body", _POST + _BODY),
    _clean("a request as the body of a GET", b"GET / HTTP/1.1\r\nHost: a\r\n" + _BODY),
    _clean("a request as the body of a HEAD", b"HEAD / HTTP/1.1\r\nHost: a\r\n" + _BODY),
    _clean("a request as the body of an OPTIONS", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n" + _BODY),
    _clean("a request as a chunk", _POST + _TE + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
    _clean("a request as an extension", _POST + _TE + b"\r\n2;GET /smuggled HTTP/1.1\r\nhi\r\n0\r\n\r\n"),
    _clean("a request behind a trailer", _POST + _TE + b"\r\n0\r\nContent-Length: 5\r\nX: /smuggled\r\n\r\n"),
    _clean("framing in trailers", _POST + _TE + b"\r\n0\r\nTransfer-Encoding: chunked\r\nHost: smuggled\r\n\r\n"),
    _clean("zeros before the last chunk's size", _POST + _TE + b"\r\n2\r\nhi\r\n000\r\n\r\n"),
    _clean("zeros before a length", _POST + b"Content-Length: 002\r\n\r\nhi"),
    _clean("white space around a length", _POST + b"Content-Length: \t 2 \t \r\n\r\nhi"),
    _clean("white space around a coding", _POST + b"Transfer-Encoding: \t chunked \r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    _clean("a coding in capitals", _POST + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    _clean("a nominated length", _POST + b"Connection: content-length\r\n" + _BODY),
    _clean("a nominated coding", _POST + b"Connection: transfer-encoding\r\n" + _TE + b"\r\n0\r\n\r\n"),
    _clean("a nominated host", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n"),
    _clean("a length with an underscore", b"GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 39\r\n\r\n"),
    _clean("a coding with an underscore", b"GET / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n"),
    _clean("a WebSocket with a body", b"GET / HTTP/1.1\r\nHost: a\r\n" + _WEBSOCKET + _BODY),
    _clean(
        "HTTP/2 by upgrade",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    ),
    _clean("another method in a field", b"GET / HTTP/1.1\r\nHost: a\r\nX-HTTP-Method-Override: CONNECT\r\n\r\n"),
    _clean("another path in the query", b"GET /?/../smuggled HTTP/1.1\r\nHost: a\r\n\r\n".replace(b"smuggled", b"x")),
    _clean("an escape of an escape", b"GET /%252e%252e/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    _clean("an expectation and a body that came", _POST + b"Expect: 100-continue\r\n" + _BODY),
    _clean("an absolute target with the same host", b"GET HTTP://A/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    _clean("one empty line in front", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    _clean(
        "a request that closes, and one behind it", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + SMUGGLED
    ),
    _clean("an HTTP/1.0 request, and one behind it", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n" + SMUGGLED),
    _clean("junk behind a body", _POST + b"Content-Length: 5\r\n\r\nhelloX" + SMUGGLED),
    _clean("junk behind the last chunk", _POST + _TE + b"\r\n0\r\n\r\nX" + SMUGGLED),
    _clean("a chunked body behind a length", _POST + b"Content-Length: 2\r\n\r\nhi0\r\n\r\n" + SMUGGLED),
    _clean("an empty line too many behind a body", _POST + b"Content-Length: 2\r\n\r\nhi\r\n\r\n" + SMUGGLED),
    _clean("half a request behind", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.1\r\nX"),
    _clean("a response behind", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
]


BODIES = [*LENGTHS, *CODINGS, *FRAMINGS, *CHUNKS, *CLEAN]
