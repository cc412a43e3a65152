"""Fields behind a chunked body: which of them go on (RFC 9110, 6.5.1 and 7.6.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from portway_proxy.l7.fields import RequestRole, ResponseRole, request_role, response_role, unmarked

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange

__all__ = ["ACCEPTED", "Passing", "for_client", "for_endpoint", "known_for_client", "passing_to_client"]

ACCEPTED = b"TE: trailers\r\n"
"""The line of a request whose client takes trailers, and whose endpoint is told so."""

# What a recipient must know before the body, or would act on as if it stood in the head: controls and conditions of
# the request, credentials, how the response is to be kept. Framing, routing and what is ours have a role in heads.
_BEFORE_THE_BODY = frozenset(
    (
        b"age",
        b"authentication-info",
        b"authorization",
        b"cache-control",
        b"cookie",
        b"date",
        b"expires",
        b"host",
        b"location",
        b"max-forwards",
        b"pragma",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"te",
        b"vary",
        b"via",
        b"warning",
        b"www-authenticate",
    )
)
_FAMILIES = (b"content-", b"if-", b"proxy-")
_DIGEST = b"content-digest"  # Made to be a trailer (RFC 9530, 6.5).


class Passing(NamedTuple):
    """Trailers that go on: each name (lower-case) and its line, ended by CRLF; and all lines together."""

    lines: list[tuple[bytes, bytes]]
    whole: bytes


def for_endpoint(exchange: Exchange, lines: Sequence[bytes]) -> bytes:
    """Return those of the request's trailers that an endpoint gets, each ended by CRLF.

    `lines` are `Name: value` without CRLF. A field that our head holds as our own does not come a second time.
    """
    passage = exchange.passage
    own = b"" if passage is None else b"\r\n" + passage.fields.lower()
    return b"".join(
        line
        for name, line in _passing(lines, lambda name: request_role(name) is RequestRole.PASS)
        if b"\r\n%b:" % name not in own and name not in exchange.head.nominated
    )


def for_client(exchange: Exchange, lines: Sequence[bytes]) -> bytes:
    """Return those of the response's trailers that the client gets, each ended by CRLF: none unless it asked for them.

    `lines` are `Name: value` without CRLF. Fields that the route replaces do not come from the endpoint after all.
    """
    return known_for_client(exchange, passing_to_client(lines))


def known_for_client(exchange: Exchange, passing: Passing) -> bytes:
    """Return what `for_client` does, of trailers that were looked at."""
    if not exchange.client.takes_trailers(exchange.head):
        return b""
    passage = exchange.passage
    replaced = frozenset[bytes]() if passage is None else passage.replaced
    nominated = () if exchange.response is None else exchange.response.nominated
    if not replaced and not nominated:
        return passing.whole
    return b"".join(line for name, line in passing.lines if name not in replaced and name not in nominated)


def passing_to_client(lines: Sequence[bytes]) -> Passing:
    """Return the trailers of a response that a client may get; `lines` are `Name: value` without CRLF."""
    kept = _passing(lines, lambda name: response_role(name) is ResponseRole.PASS)
    return Passing(kept, b"".join(line for _, line in kept))


def _passing(lines: Sequence[bytes], ordinary: Callable[[bytes], bool]) -> list[tuple[bytes, bytes]]:
    """Return the name (lower-case) and the line, written anew, of each field that may stand behind a body."""
    passing = []
    for line in lines:
        name, _, value = line.partition(b":")
        lower = unmarked(name)
        early = lower in _BEFORE_THE_BODY or (lower.startswith(_FAMILIES) and lower != _DIGEST)
        if not early and ordinary(name):
            passing.append((name.lower(), b"%b: %b\r\n" % (name, value.strip(b" \t"))))
    return passing
