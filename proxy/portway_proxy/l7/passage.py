"""How an exchange gets through the policy of its route: step by step, and with what changes of request and response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from portway_proxy.l7.rewrite import request_fields, request_head

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from portway_proxy.l7.asker import Asker
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.limits import Limit
    from portway_proxy.l7.mirror import Copy
    from portway_proxy.l7.pages import Pages
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.l7.response import ResponseHead
    from portway_proxy.settings import Timeouts
    from portway_proxy.snapshot import Rate

__all__ = ["Passage", "Step", "timeouts_of", "without", "without_alike"]

_PLAINER = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_.", b"abcdefghijklmnopqrstuvwxyz--")
_WELL = frozenset({200, 201, 204, 206, 301, 302, 303, 304, 307, 308})


class Step(Protocol):
    """One thing that a policy asks for, made once for all requests of a route."""

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return whether the exchange may go on now.

        If not, the step has answered it, or lets it go on later by `flow.go_on`. Raises the `ProxyError` that the
        client gets.
        """


class Passage:
    """One exchange on its way; those of routes without policy have none.

    `host` is what the endpoint gets as Host, where that is not the client's. `fields` are lines for the endpoint,
    `answer` lines for the client, whoever answers, `well` lines for it when all is well (as nginx's add_header sees
    it); each ends in CRLF. An endpoint's own fields that are called as one of `replaced` (lower-case) do not reach the
    client. `edit` makes of each of the others what does. `leaves` are the limits that count the exchange while it is
    under way, each with what it counts it by. `timeouts` are the route's own, where it has any.

    `pages` may answer in the place of an error. Once they do, `instead` is what is asked of them, and `failed` the
    status that they stand for. `target` is the one of the request, where a step has changed that. `copy` gets the
    request's body too. `pace` is that of the response. An `old` endpoint is asked by HTTP/1.0. For a client that is
    `widened` more of the response may wait. `told` makes lines about the exchange for a client that wants to know.
    """

    __slots__ = (
        "_next",
        "_steps",
        "answer",
        "copy",
        "edit",
        "failed",
        "fields",
        "host",
        "instead",
        "leaves",
        "old",
        "pace",
        "pages",
        "replaced",
        "target",
        "timeouts",
        "told",
        "well",
        "widened",
    )

    def __init__(self, steps: tuple[Step, ...], pages: Pages | None = None) -> None:
        self._steps = steps
        self._next = 0
        self.pages = pages
        self.instead: RequestHead | None = None
        self.failed = 0
        self.target = b""
        self.copy: Copy | None = None
        self.pace: Rate | None = None
        self.old = False
        self.widened: Asker | None = None
        self.host = b""
        self.fields = b""
        self.answer = b""
        self.well = b""
        self.edit: Callable[[bytes], bytes] | None = None
        self.replaced: frozenset[bytes] = frozenset()
        self.leaves: list[tuple[Limit, bytes]] = []
        self.timeouts: Timeouts | None = None
        self.told: Callable[[], bytes] | None = None

    @property
    def touches_answer(self) -> bool:
        """Whether the client gets other fields than the endpoint sent."""
        return bool(self.answer or self.well or self.replaced) or self.edit is not None or self.told is not None

    @property
    def touches_request(self) -> bool:
        """Whether the endpoint gets more, or another Host, than the head of the request says."""
        return bool(self.fields or self.host) or self.old

    def request_head(self, head: RequestHead, forwarded: bytes, host: bytes) -> bytes:
        """Return the head that the endpoint gets (`rewrite.request_head`)."""
        whole = request_head(head, forwarded + self.fields, host, self.host)
        return whole.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1) if self.old else whole

    def request_fields(self, head: RequestHead, forwarded: bytes, host: bytes) -> bytes:
        """Return its lines but those that are of this one request (`rewrite.request_fields`)."""
        return request_fields(head, forwarded + self.fields, host, self.host)

    def response(self, head: ResponseHead) -> ResponseHead:
        """Return the head that the client gets for the endpoint's, which stays as it is."""
        return head.alike(self.lines_for_client(head.lines, head.status)) if self.touches_answer else head

    def own_lines(self, status: int) -> bytes:
        """Return the lines that the client gets beside others in an answer with `status`."""
        return self.answer + self.well if self.well and status in _WELL else self.answer

    def lines_for_client(self, lines: list[bytes], status: int) -> list[bytes]:
        """Return the fields that the client gets for those of the endpoint, each ended by CRLF."""
        kept = lines
        if self.replaced:
            kept = [line for line in lines if line[: line.find(b":")].lower() not in self.replaced]
        if self.edit is not None:
            kept = [self.edit(line) for line in kept]
        own = self.own_lines(status)
        if self.told is not None:
            own += self.told()
        return [*kept, own] if own else kept

    def walk(self, exchange: Exchange) -> bool:
        """Take the steps that are left; return whether all are done. Raises what a step raises."""
        steps = self._steps
        while self._next < len(steps):
            step = steps[self._next]
            self._next += 1
            if not step(exchange, self):
                return False
        return True

    def body_ended(self) -> None:
        """Note that the whole body of the request came."""
        if self.copy is not None:
            self.copy.end()

    def leave(self) -> None:
        """Note that the exchange is over."""
        for limit, peer in self.leaves:
            limit.leave(peer)
        self.leaves.clear()
        if self.copy is not None:
            self.copy.leave()
        if self.widened is not None:
            self.widened.squeeze()
        self.told = None


def timeouts_of(exchange: Exchange) -> Timeouts:
    """Return the timeouts that count for an exchange: its route's own, or the proxy's."""
    passage = exchange.passage
    own = None if passage is None else passage.timeouts
    return exchange.client.http.timeouts if own is None else own


def without_alike(head: RequestHead, names: Collection[bytes]) -> None:
    """Take out of a request what an application may take for one of `names` (lower-case), `_` for `-` included."""
    head.lines = [line for line in head.lines if line[: line.find(b":")].translate(_PLAINER) not in names]


def without(head: RequestHead, name: bytes) -> None:
    """Take the fields called `name` (lower-case) out of a request; other heads may share its lines."""
    prefix = name + b":"
    size = len(prefix)
    head.lines = [line for line in head.lines if line[:size].lower() != prefix]
