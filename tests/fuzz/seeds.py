"""What fuzzing begins with: the hostile corpora of the wire tests, and the files in `corpus`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fuzz.talk import MARK
from wire.hostile_answers import ANSWERS
from wire.hostile_bodies import BODIES
from wire.hostile_heads import HEADS

__all__ = ["CORPUS", "WORDS", "seeds"]

CORPUS = Path(__file__).with_name("corpus")
"""Inputs worth keeping, a directory for each target; those that ever failed are named after what went wrong."""

WORDS = (
    b"\r\n",
    b"\r\n\r\n",
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"OPTIONS *",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.1 304 Not Modified\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.1 503 Service Unavailable\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b";a=b",
    b"hello",
    b"http://a/",
    b"%2e%2e",
    b"%2F",
    b"%5c",
    b"/../",
    b"..;/",
    b"//",
    b"%61dmin",
    b"admin",
    b"X: y\r\n",
    *(MARK + step for step in (b"C", b"c", b"r", b"s", b"g", b"E", b"e", b"x", b"S", b"G", b"R", b"D", b"W")),
)
"""Words of the language, for a fuzzer to make sentences of."""

_GET = b"CGET / HTTP/1.1\r\nHost: a\r\n\r\n"


def seeds(name: str) -> Iterator[bytes]:
    """Return the inputs that the target called `name` begins with."""
    yield from (path.read_bytes() for path in sorted((CORPUS / name).glob("*")))
    if name == "request":
        yield from (case.data for case in (*HEADS, *BODIES))
    elif name == "response":
        yield from (answer.data for answer in ANSWERS)
    elif name == "chunked":
        bodies = [case.data.partition(b"\r\n\r\n")[2] for case in BODIES] + [
            answer.data.partition(b"\r\n\r\n")[2] for answer in ANSWERS
        ]
        yield from (bytes([size]) + body for body in bodies for size in (1, 7))
    elif name == "target":
        yield from (case.data.split(b" ")[1][1:] for case in HEADS if case.name.startswith("target"))
    else:
        yield from (b"C" + case.data for case in (*HEADS, *BODIES))
        yield from (
            MARK.join((_GET.replace(b"GET", answer.method), b"E" + answer.data, b"e", _GET)) for answer in ANSWERS
        )
