"""Hostile responses of endpoints, and what a client may see of each.

`poison` marks what must never reach a client; `said` is what may.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["ANSWERS", "Answer", "Seen"]


class Seen(Enum):
    """What the client sees."""

    BAD_GATEWAY = "502, and nothing of what the endpoint said"
    CUT = "the beginning of a response that visibly does not end"
    WHOLE = "a whole response, and nothing of what came with it"


@dataclass(frozen=True)
class Answer:
    """What an endpoint sends for a request with `method`; with `closes` it ends its connection behind it."""

    name: str
    data: bytes
    seen: Seen = Seen.BAD_GATEWAY
    closes: bool = False
    method: bytes = b"GET"


_POISON = b"Content-Length: 6\r\n\r\npoison"
_OK = b"HTTP/1.1 200 OK\r\n"


def _line(name: str, line: bytes) -> Answer:
    return Answer(f"line {name}", line + b"\r\n" + _POISON)


def _field(name: str, field: bytes) -> Answer:
    return Answer(f"field {name}", _OK + field + b"\r\n" + _POISON)


def _length(name: str, value: bytes) -> Answer:
    return Answer(f"length {name}", _OK + b"Content-Length:" + value + b"\r\n\r\npoison")


def _coding(name: str, value: bytes) -> Answer:
    return Answer(f"coding {name}", _OK + b"Transfer-Encoding:" + value + b"\r\n\r\n6\r\npoison\r\n0\r\n\r\n")


def _framing(name: str, fields: bytes, body: bytes = b"6\r\npoison\r\n0\r\n\r\n") -> Answer:
    return Answer(f"framing {name}", _OK + fields + b"\r\n" + body)


def _chunks(name: str, body: bytes) -> Answer:
    head = _OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsaid\r\n"
    return Answer(f"chunks {name}", head + body, Seen.CUT)


def _whole(name: str, data: bytes, method: bytes = b"GET", *, closes: bool = False) -> Answer:
    return Answer(f"whole {name}", data, Seen.WHOLE, closes, method)


LINES = [
    _line("of HTTP/0.9", b"HTTP/0.9 200 OK"),
    _line("of HTTP/2", b"HTTP/2 200 OK"),
    _line("of HTTP/2.0", b"HTTP/2.0 200 OK"),
    _line("of HTTP/1.2", b"HTTP/1.2 200 OK"),
    _line("of HTTP/1", b"HTTP/1 200 OK"),
    _line("in lower case", b"http/1.1 200 OK"),
    _line("of shoutcast", b"ICY 200 OK"),
    _line("without a protocol", b"200 OK"),
    _line("without a status", b"HTTP/1.1"),
    _line("without a status, with a phrase", b"HTTP/1.1 OK"),
    _line("with two digits", b"HTTP/1.1 20 OK"),
    _line("with four digits", b"HTTP/1.1 2000 OK"),
    _line("with a zero in front", b"HTTP/1.1 020 OK"),
    _line("with three zeros", b"HTTP/1.1 000 OK"),
    _line("with a plus", b"HTTP/1.1 +20 OK"),
    _line("with a fraction", b"HTTP/1.1 200.1 OK"),
    _line("with letters", b"HTTP/1.1 2OO OK"),
    _line("with arabic digits", "HTTP/1.1 \u0662\u0660\u0660 OK".encode()),
    _line("without a space", b"HTTP/1.1200 OK"),
    _line("with two spaces", b"HTTP/1.1  200 OK"),
    _line("with tabs", b"HTTP/1.1\t200\tOK"),
    _line("with a space in front", b" HTTP/1.1 200 OK"),
    _line("with an empty line in front", b"\r\nHTTP/1.1 200 OK"),
    _line("with NUL in the phrase", b"HTTP/1.1 200 O\x00K"),
    _line("with ESC in the phrase", b"HTTP/1.1 200 \x1b[31mOK"),
    _line("with CR in the phrase", b"HTTP/1.1 200 OK\rSet-Cookie: poison"),
    _line("with LF alone", b"HTTP/1.1 200 OK\nSet-Cookie: poison"),
    _line("that is a request", b"GET / HTTP/1.1"),
    _line("that is a field", b"Content-Type: text/plain"),
    Answer("line of SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
    Answer("line of SMTP", b"220 mail.example ESMTP\r\n"),
    Answer("line of Redis", b"-ERR unknown command\r\n"),
    Answer("line of MySQL", b"\x4a\x00\x00\x00\x0a8.0.33\x00"),
    Answer("line of TLS", b"\x15\x03\x01\x00\x02\x02\x46"),
    Answer("line of nothing but a body", b"<html>poison</html>\r\n\r\n"),
    Answer("line of nothing but a body, and the end", b"<html>poison</html>", closes=True),
    Answer("line that does not end", b"HTTP/1.1 200 " + b"x" * 70_000),
]

FIELDS = [
    _field("with a space before the colon", b"X : poison"),
    _field("with a space in its name", b"X Y: poison"),
    _field("without a name", b": poison"),
    _field("without a colon", b"poison"),
    _field("folded", b"X: y\r\n poison"),
    _field("folded by a tab", b"X: y\r\n\tpoison"),
    _field("folded as the first", b" X: poison"),
    _field("with NUL", b"X: poi\x00son"),
    _field("with CR", b"X: y\rSet-Cookie: poison"),
    _field("with LF", b"X: y\nSet-Cookie: poison"),
    _field("with CR CR LF", b"X: poison\r"),
    _field("with ESC", b"X: \x1bpoison"),
    _field("with DEL", b"X: \x7fpoison"),
    _field("with VT", b"X: \x0bpoison"),
    _field("with NUL in its name", b"X\x00Y: poison"),
    _field("with a bracket in its name", b"X[Y]: poison"),
    _field("with a name beyond ASCII", "X-É: poison".encode()),
    _field("number 101", b"\r\n".join(b"X-%d: poison" % number for number in range(101))),
    _field("after 70,000 bytes", b"\r\n".join(b"X-%d: %b" % (number, b"p" * 1000) for number in range(70))),
    Answer("field with LF alone at the end", _OK + b"Content-Length: 6\n\npoison"),
    Answer("field with LF alone throughout", b"HTTP/1.1 200 OK\nContent-Length: 6\n\npoison"),
    Answer("field without end", _OK + b"X: poison\r\n" * 7000),
    Answer("field cut off", _OK + b"Set-Cookie: poi", closes=True),
    Answer("field before the empty line cut off", _OK + b"Content-Length: 0\r\n", closes=True),
]

LENGTHS = [
    _length("with a plus", b" +6"),
    _length("with a minus", b" -6"),
    _length("in hexadecimal", b" 0x6"),
    _length("with an underscore", b" 0_6"),
    _length("twice in one field", b" 6, 6"),
    _length("twice with a space", b" 6 6"),
    _length("empty", b""),
    _length("in words", b" six"),
    _length("with VT", b" \x0b6"),
    _length("with NUL", b" 6\x00"),
    _length("in arabic digits", " \u0666".encode()),
    _length("of 19 digits", b" 1000000000000000006"),
    _length("beyond 64 bits", b" 18446744073709551622"),
    _framing("with two equal lengths", b"Content-Length: 6\r\nContent-Length: 6\r\n", b"poison"),
    _framing("with two lengths", b"Content-Length: 6\r\nContent-Length: 3\r\n", b"poison"),
]

CODINGS = [
    _coding("gzip", b" gzip"),
    _coding("gzip and", b" gzip, chunked"),
    _coding("twice", b" chunked, chunked"),
    _coding("and identity", b" chunked, identity"),
    _coding("identity", b" identity"),
    _coding("of an unknown name", b" xchunked"),
    _coding("with a parameter", b" chunked;q=1"),
    _coding("with VT", b" \x0bchunked"),
    _coding("with a KELVIN SIGN", " chun\u212aed".encode()),
    _coding("empty", b""),
    _framing("with two codings", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    _framing("with length and coding", b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
    _framing("with coding and length", b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n"),
    Answer(
        "framing with a coding in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n"
    ),
    Answer(
        "framing of an upgrade that nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\npoison"
    ),
    Answer("framing of interim responses without end", b"HTTP/1.1 100 Continue\r\n\r\n" * 17 + _OK + _POISON),
]

CHUNKS = [
    _chunks("with a size that is none", b"x\r\npoison\r\n0\r\n\r\n"),
    _chunks("with a negative size", b"-6\r\npoison\r\n0\r\n\r\n"),
    _chunks("with 0x", b"0x6\r\npoison\r\n0\r\n\r\n"),
    _chunks("with a space behind the size", b"6 \r\npoison\r\n0\r\n\r\n"),
    _chunks("with LF alone", b"6\npoison\r\n0\r\n\r\n"),
    _chunks("of 17 digits", b"00000000000000006\r\npoison\r\n0\r\n\r\n"),
    _chunks("with an extension of 5,000 bytes", b"6;" + b"x" * 5000 + b"\r\npoison\r\n0\r\n\r\n"),
    _chunks("with CR in an extension", b"6;x\ry\r\npoison\r\n0\r\n\r\n"),
    _chunks("longer than their size", b"2\r\nyesnot\r\n0\r\n\r\n"),
    _chunks("without an end of line", b"2\r\nok0\r\n\r\n"),
    _chunks("with a negative last", b"-0\r\n\r\n"),
    _chunks("with LF at the end", b"0\r\n\n"),
    _chunks("with a trailer that is none", b"0\r\npoison\r\n\r\n"),
    _chunks("with a trailer without end", b"0\r\n" + b"X: poison\r\n" * 3000),
    Answer("chunks cut off", _OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsaid\r\n", Seen.CUT, closes=True),
    Answer(
        "chunks cut off in the last",
        _OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsaid\r\n0\r\n",
        Seen.CUT,
        closes=True,
    ),
    Answer("a body cut off", _OK + b"Content-Length: 100\r\n\r\nsaid", Seen.CUT, closes=True),
]

WHOLE = [
    _whole("and a second one", _OK + b"Content-Length: 4\r\n\r\nsaid" + _OK + _POISON),
    _whole("and more bytes than its length", _OK + b"Content-Length: 4\r\n\r\nsaidpoison"),
    _whole("and a line end too many", _OK + b"Content-Length: 4\r\n\r\nsaid\r\n"),
    _whole("and bytes behind its last chunk", _OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsaid\r\n0\r\n\r\npoison"),
    _whole("with trailers", _OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsaid\r\n0\r\nSet-Cookie: poison\r\n\r\nx"),
    _whole("with an extension", _OK + b"Transfer-Encoding: chunked\r\n\r\n4;poison\r\nsaid\r\n0;poison\r\n\r\nx"),
    _whole("to HEAD with a body", _OK + _POISON, b"HEAD"),
    _whole("to HEAD with chunks", _OK + b"Transfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n", b"HEAD"),
    _whole("204 with a body", b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison"),
    _whole("204 with chunks", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n"),
    _whole("304 with a body", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison"),
    _whole(
        "with nominated fields", _OK + b"Connection: close, X-Hop\r\nX-Hop: poison\r\nContent-Length: 4\r\n\r\nsaid"
    ),
    _whole(
        "with an upgrade in a 200",
        _OK + b"Connection: upgrade, close\r\nUpgrade: poison\r\nContent-Length: 4\r\n\r\nsaid",
    ),
    _whole(
        "with fields of one connection",
        _OK + b"Keep-Alive: poison\r\nProxy-Connection: poison\r\nTrailer: poison\r\n"
        b"Content-Length: 4\r\nConnection: close\r\n\r\nsaid",
    ),
    _whole("that its connection ends", _OK + b"\r\nsaid", closes=True),
]

ANSWERS = [*LINES, *FIELDS, *LENGTHS, *CODINGS, *CHUNKS, *WHOLE]
