"""What an endpoint gets in the place of what the client asked for: another path, another Host, more fields."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from portway_proxy.errors import LengthRequired
from portway_proxy.l7.passage import without_alike
from portway_proxy.l7.target import canonical_path
from portway_proxy.l7.template import Template

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage
    from portway_proxy.settings import Timeouts
    from portway_proxy.snapshot import Patience, Policy

__all__ = ["AddFields", "Rewrite", "SetTimeouts", "SpeakOld"]

_GROUP = re.compile(r"\$([0-9])")


class Rewrite:
    """The step that gives the endpoint another path; the query stays.

    `$1` to `$9` in the target are the groups of the pattern that the route's path is, and empty without one.
    """

    __slots__ = ("_pieces", "_query")

    def __init__(self, target: str) -> None:
        path, _, query = target.partition("?")
        self._query = query.encode()
        self._pieces = [
            int(piece) if place % 2 else piece.encode() for place, piece in enumerate(_GROUP.split(path)) if piece
        ]

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return True; raises `BadTarget` where the new path would climb above the root."""
        head = exchange.head
        if head.path == b"*":
            return True
        route = exchange.route
        groups = () if route is None else exchange.client.http.worker.live.table.groups(head.host, route, head.path)
        path = b"".join(
            piece if isinstance(piece, bytes) else _group(groups, piece, head.path) for piece in self._pieces
        )
        # A group may hold dots that become a segment of their own only beside what the target puts around them.
        path = canonical_path(path if path.startswith(b"/") else b"/" + path)
        passage.target = head.target
        query = b"&".join(part for part in (self._query, head.target.partition(b"?")[2]) if part)
        head.target = path + b"?" + query if query else path
        return True


def _group(groups: tuple[bytes, ...], number: int, path: bytes) -> bytes:
    if number == 0:
        return path
    return groups[number - 1] if number <= len(groups) else b""


class AddFields:
    """The step that gives the endpoint another Host and a prefix, and the client more fields."""

    __slots__ = ("_answer", "_connection", "_dropped", "_fields", "_host", "_replaced", "_request")

    def __init__(self, policy: Policy) -> None:
        self._host = Template(policy.host)
        self._fields = f"X-Forwarded-Prefix: {policy.prefix}\r\n".encode() if policy.prefix else b""
        self._connection = f"Connection: {policy.connection}\r\n".encode() if policy.connection else b""
        self._request = [(name.encode(), Template(value)) for name, value in policy.request]
        self._dropped = frozenset(name.lower().encode() for name, _ in policy.request)
        self._answer = b"".join(f"{name}: {value}\r\n".encode() for name, value in policy.answer)
        self._replaced = frozenset(name.lower().encode() for name, _ in policy.answer)
        self._replaced |= {name.encode() for name in policy.hidden}

    @property
    def idle(self) -> bool:
        """Whether it adds nothing."""
        return not (self._host or self._fields or self._connection or self._request or self._replaced)

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return True."""
        passage.host = self._host.fill(exchange)
        passage.fields += self._fields
        if self._connection and not exchange.head.upgrade:
            passage.fields += self._connection
        if self._request:
            # What they say may be what the client said: first of all they are filled in.
            lines = [b"%b: %b\r\n" % (name, said) for name, value in self._request if (said := value.fill(exchange))]
            without_alike(exchange.head, self._dropped)
            passage.fields += b"".join(lines)
        passage.answer += self._answer
        passage.replaced |= self._replaced
        return True


class SpeakOld:
    """The step that asks the endpoint by HTTP/1.0, which has no chunks and switches no protocols."""

    __slots__ = ()

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return True; raises `LengthRequired` for a body whose length nobody knows."""
        head = exchange.head
        if head.chunked:
            raise LengthRequired("an endpoint of HTTP/1.0 takes no body without Content-Length")
        head.upgrade = head.expects = b""
        passage.old = True
        return True


class SetTimeouts:
    """The step that gives the endpoint more time, or less."""

    __slots__ = ("_patience", "_timeouts", "_usual")

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._usual: Timeouts | None = None
        self._timeouts: Timeouts | None = None

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return True."""
        usual = exchange.client.http.timeouts
        if usual is not self._usual:
            self._usual, self._timeouts = usual, self._of(usual)
        passage.timeouts = self._timeouts
        return True

    def _of(self, usual: Timeouts) -> Timeouts:
        asked = self._patience
        read, write = asked.read or usual.read, asked.write or usual.write
        return msgspec.structs.replace(
            usual,
            connect=asked.connect or usual.connect,
            response=asked.read or usual.response,
            read=read,
            write=write,
            tunnel=asked.read or usual.tunnel,
        )
