"""What a hostile request is, and what it may lead to.

Sources of the corpus: RFC 9112 and 9110, the http-garden's findings, and the advisories on request smuggling. In every
case `smuggled` marks what an attacker would have run as a request of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["HOST", "SMUGGLED", "Case", "Outcome"]


class Outcome(Enum):
    """What reaches the endpoint."""

    NOTHING = "nothing"
    PART = "the head and a part of the body, never its end"
    ONE = "one request, in clean form"


@dataclass(frozen=True)
class Case:
    """`status` is the first answer's; after it, or after a 400 to what follows, the connection ends."""

    name: str
    data: bytes
    status: int = 400
    outcome: Outcome = Outcome.NOTHING


HOST = b"Host: a\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
